//! Comparing one text: exactly, by its ends, by a pattern of the whole. Patterns run in linear time and have a bounded size.

use model::Str;
use proto::l7 as wire;
use regex::{Regex, RegexBuilder};

/// The largest compiled pattern: a route's author cannot make the proxy hold more.
const PATTERN_BYTES: usize = 256 << 10;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {why}")]
pub struct BadPattern {
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// One way to compare a text.
#[derive(Debug, Clone)]
pub struct TextMatch {
    how: How,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum How {
    Exact(Str),
    Prefix(Str),
    Suffix(Str),
    Pattern(Regex),
    Present,
}

impl TextMatch {
    /// Equal to `text`.
    pub fn exact(text: &str) -> Self {
        Self { how: How::Exact(text.into()), ignore_case: false }
    }

    /// What the wire says; a match that says nothing matches what is there.
    pub fn new(wire: &wire::StringMatch) -> Result<Self, BadPattern> {
        use wire::string_match::How as Wire;
        let ignore_case = wire.ignore_case;
        let how = match &wire.how {
            Some(Wire::Exact(text)) => How::Exact(text.as_str().into()),
            Some(Wire::Prefix(text)) => How::Prefix(text.as_str().into()),
            Some(Wire::Suffix(text)) => How::Suffix(text.as_str().into()),
            Some(Wire::Regex(pattern)) => How::Pattern(whole(pattern, ignore_case)?),
            Some(Wire::Present(_)) | None => How::Present,
        };
        Ok(Self { how, ignore_case })
    }

    /// `x`, `x*`, `*x` or `*`, as policies write texts.
    pub fn wildcard(text: &str) -> Self {
        let how = if text == "*" {
            How::Present
        } else if let Some(suffix) = text.strip_prefix('*') {
            How::Suffix(suffix.into())
        } else if let Some(prefix) = text.strip_suffix('*') {
            How::Prefix(prefix.into())
        } else {
            How::Exact(text.into())
        };
        Self { how, ignore_case: false }
    }

    /// The same without regard to ASCII case.
    #[must_use]
    pub fn ignoring_case(mut self) -> Self {
        self.ignore_case = true;
        self
    }

    /// Whether it is the one of several that says most: equality.
    pub fn is_exact(&self) -> bool {
        matches!(self.how, How::Exact(_))
    }

    /// Whether a text that is there matches.
    pub fn matches(&self, text: &str) -> bool {
        let equal = |part: &str, other: &str| match self.ignore_case {
            true => part.eq_ignore_ascii_case(other),
            false => part == other,
        };
        match &self.how {
            How::Exact(wanted) => equal(text, wanted),
            How::Prefix(wanted) => text.get(..wanted.len()).is_some_and(|part| equal(part, wanted)),
            How::Suffix(wanted) => {
                let cut = text.len().checked_sub(wanted.len());
                cut.and_then(|cut| text.get(cut..)).is_some_and(|part| equal(part, wanted))
            }
            How::Pattern(pattern) => pattern.is_match(text),
            How::Present => !text.is_empty(),
        }
    }
}

/// A pattern that must match the whole of a text.
pub fn whole(pattern: &str, ignore_case: bool) -> Result<Regex, BadPattern> {
    // Compiled alone first: a stray parenthesis must not close our own group.
    compile(pattern, ignore_case)?;
    compile(&format!("^(?:{pattern})$"), ignore_case)
}

/// A pattern that may match anywhere.
pub fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, BadPattern> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(PATTERN_BYTES).case_insensitive(ignore_case);
    builder.build().map_err(|error| BadPattern { pattern: pattern.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("web", "web", true)]
    #[case("web", "webs", false)]
    #[case("we*", "web", true)]
    #[case("we*", "w", false)]
    #[case("*eb", "web", true)]
    #[case("*eb", "b", false)]
    #[case("*", "x", true)]
    #[case("*", "", false)]
    fn wildcards(#[case] written: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(TextMatch::wildcard(written).matches(text), expected);
    }

    #[rstest]
    #[case("a|b", "b", true)]
    #[case("a|b", "ab", false)]
    #[case("/v[0-9]+", "/v12", true)]
    #[case("/v[0-9]+", "/v12/x", false)]
    fn patterns_match_the_whole(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(whole(pattern, false).unwrap().is_match(text), expected);
    }

    #[rstest]
    #[case::open("(")]
    #[case::closing("a)(?:b")]
    #[case::huge("(a{1000}){1000}")]
    fn bad_patterns_are_refused(#[case] pattern: &str) {
        assert!(whole(pattern, false).is_err());
    }
}
