//! Settings from environment variables, read once, every mistake told at once.
//!
//! A role asks for each variable with its default; [`Settings::finish`] then fails with *all* that could not be understood.
//! Where each value came from is kept, for dumps.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// A source of named texts, and what was asked of it.
#[derive(Debug)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The environment.
    Environment,
    /// Nobody set it.
    Default,
}

/// One value that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub name: String,
    /// What it held.
    pub value: String,
    /// What it should hold.
    pub expected: String,
}

/// Every value that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}={:?}: expected {}", problem.name, problem.value, problem.expected)?;
        }
        Ok(())
    }
}

impl Settings {
    /// From the process's environment.
    pub fn from_env() -> Self {
        Self::from_pairs(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// From given pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: pairs.into_iter().collect(), origins: BTreeMap::new(), problems: Vec::new() }
    }

    /// The text, if set; an empty text counts as set.
    pub fn optional(&mut self, name: &'static str) -> Option<String> {
        let value = self.variables.get(name).cloned();
        let origin = if value.is_some() { Origin::Environment } else { Origin::Default };
        self.origins.insert(name, origin);
        value
    }

    /// The text, or a default.
    pub fn text(&mut self, name: &'static str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// Anything with a text form, such as a number or an address. Empty counts as unset.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, default: T, expected: &str) -> T {
        self.parsed_with(name, expected, |text| text.parse().ok()).unwrap_or(default)
    }

    /// `true` or `false` (also 1, 0, yes, no). Empty counts as unset.
    pub fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        self.parsed_with(name, "true or false", parse_bool).unwrap_or(default)
    }

    /// A duration such as `10s` or `1h30m`. Empty counts as unset.
    pub fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        self.optional_duration(name).unwrap_or(default)
    }

    /// A duration, if set.
    pub fn optional_duration(&mut self, name: &'static str) -> Option<Duration> {
        self.parsed_with(name, "a duration such as 10s, 5m or 1h30m", parse_duration)
    }

    /// Texts separated by commas, without the empty ones.
    pub fn list(&mut self, name: &'static str, default: &[&str]) -> Vec<String> {
        match self.optional(name) {
            None => default.iter().map(|&item| item.to_owned()).collect(),
            Some(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        }
    }

    /// What `parse` makes of the text; `None` when unset, empty or not understood (which is noted).
    pub fn parsed_with<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.optional(name).filter(|value| !value.is_empty())?;
        let parsed = parse(value.trim());
        if parsed.is_none() {
            self.problem(name, value, expected);
        }
        parsed
    }

    /// Variables whose name begins so, with that beginning cut off: `XDS_HEADER_…`, `ISTIO_META_…`.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let found = self.variables.iter().filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)));
        found.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Notes a value that makes no sense for a reason only the role knows.
    pub fn problem(&mut self, name: &str, value: impl Into<String>, expected: &str) {
        let problem = Problem { name: name.to_owned(), value: value.into(), expected: expected.to_owned() };
        self.problems.push(problem);
    }

    /// Where each value asked for came from.
    pub fn origins(&self) -> &BTreeMap<&'static str, Origin> {
        &self.origins
    }

    /// Fails with everything that could not be understood.
    pub fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "t" => Some(true),
        "false" | "0" | "no" | "f" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it: numbers with the units `ns`, `us`, `ms`, `s`, `m`, `h` (and `d`), one after the other.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let seconds = match &after[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &after[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10s", Some(10_000))]
    #[case("1h30m", Some(5_400_000))]
    #[case("1.5s", Some(1_500))]
    #[case("100ms", Some(100))]
    #[case("0", Some(0))]
    #[case("", None)]
    #[case("10", None)]
    #[case("s", None)]
    #[case("-1s", None)]
    #[case("1e400h", None)]
    #[case("99999999999999999999h", None)]
    fn durations(#[case] text: &str, #[case] milliseconds: Option<u64>) {
        assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis));
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut settings = settings(&[("A", "maybe"), ("B", "10 parsecs"), ("C", "70000")]);
        settings.boolean("A", false);
        settings.duration("B", Duration::ZERO);
        assert_eq!(settings.parsed("C", 80_u16, "a port"), 80);
        let told = settings.finish().unwrap_err().to_string();
        assert_eq!(
            told,
            r#"A="maybe": expected true or false; B="10 parsecs": expected a duration such as 10s, 5m or 1h30m; C="70000": expected a port"#
        );
    }

    #[test]
    fn values_defaults_and_origins() {
        let mut settings = settings(&[("A", "yes"), ("LIST", "a, b,,"), ("EMPTY", ""), ("H_x", "1")]);
        assert!(settings.boolean("A", false));
        assert!(settings.boolean("EMPTY", true));
        assert_eq!(settings.list("LIST", &[]), ["a", "b"]);
        assert_eq!(settings.text("EMPTY", "default"), "");
        assert_eq!(settings.text("UNSET", "default"), "default");
        assert_eq!(settings.with_prefix("H_"), [("x".to_owned(), "1".to_owned())]);
        assert_eq!(settings.origins()["A"], Origin::Environment);
        assert_eq!(settings.origins()["UNSET"], Origin::Default);
        settings.finish().unwrap();
    }
}
