//! Whether a request is one that a rule means.

use super::Head;
use crate::{
    config::BadResource,
    text::{TextMatch, whole},
};
use http::HeaderName;
use model::Str;
use proto::l7 as wire;
use regex::Regex;
use std::{borrow::Cow, cmp::Reverse};

/// And-ed parts of one match.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) path: Path,
    headers: Vec<(HeaderName, TextMatch, bool)>,
    queries: Vec<(Str, TextMatch, bool)>,
    method: Option<TextMatch>,
    authority: Option<TextMatch>,
    scheme: Option<TextMatch>,
    port: Option<u16>,
    source_namespace: Option<Str>,
}

/// How a path is compared.
#[derive(Debug)]
pub(super) enum Path {
    Any,
    Exact(Str),
    /// Whole segments, without a slash at the end.
    Segments(Str),
    Text(Str),
    Pattern(Regex),
    /// Of the others, without regard to case.
    Caseless(Box<Self>),
}

/// The order of matches within one host: what comes first, wins.
pub(super) type Rank = (u8, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>);

impl Matcher {
    pub(super) fn any() -> Self {
        Self {
            path: Path::Any,
            headers: Vec::new(),
            queries: Vec::new(),
            method: None,
            authority: None,
            scheme: None,
            port: None,
            source_namespace: None,
        }
    }

    pub(super) fn new(wire: &wire::Match) -> Result<Self, BadResource> {
        let name = |text: &str| {
            HeaderName::try_from(text).map_err(|_| BadResource::new(format!("{text:?} is not the name of a header")))
        };
        let nothing = wire::StringMatch::default();
        let value = |named: &wire::NamedMatch| TextMatch::new(named.value.as_ref().unwrap_or(&nothing));
        let text = |text: &Option<wire::StringMatch>| text.as_ref().map(TextMatch::new).transpose();
        let mut headers: Vec<(HeaderName, TextMatch, bool)> = Vec::new();
        for header in &wire.headers {
            let name = name(&header.name)?;
            // Of several matches of one name only the first counts.
            if headers.iter().all(|(known, ..)| *known != name) {
                headers.push((name, value(header)?, header.invert));
            }
        }
        let mut queries: Vec<(Str, TextMatch, bool)> = Vec::new();
        for query in &wire.queries {
            if queries.iter().all(|(known, ..)| **known != *query.name) {
                queries.push((query.name.as_str().into(), value(query)?, query.invert));
            }
        }
        Ok(Self {
            path: wire.path.as_ref().map(Path::new).transpose()?.unwrap_or(Path::Any),
            headers,
            queries,
            method: text(&wire.method)?,
            authority: text(&wire.authority)?,
            scheme: text(&wire.scheme)?,
            port: u16::try_from(wire.port).ok().filter(|port| *port != 0),
            source_namespace: (!wire.source_namespace.is_empty()).then(|| wire.source_namespace.as_str().into()),
        })
    }

    pub(super) fn rank(&self) -> Rank {
        let (kind, length) = self.path.rank();
        (
            kind,
            Reverse(length),
            Reverse(self.method.is_some()),
            Reverse(self.headers.len()),
            Reverse(self.queries.len()),
        )
    }

    pub(super) fn matches(&self, head: &Head<'_>) -> bool {
        let told = |text: &Option<TextMatch>, value: &str| text.as_ref().is_none_or(|text| text.matches(value));
        self.path.matches(head.path)
            && told(&self.method, head.method)
            && told(&self.authority, head.authority)
            && told(&self.scheme, head.scheme)
            && self.port.is_none_or(|port| port == head.port)
            && self.source_namespace.as_deref().is_none_or(|wanted| head.source_namespace == Some(wanted))
            && self
                .headers
                .iter()
                .all(|(name, text, invert)| header(head, name).is_some_and(|value| text.matches(&value)) != *invert)
            && self.queries.iter().all(|(name, text, invert)| {
                query(head.query.unwrap_or_default(), name).is_some_and(|value| text.matches(value)) != *invert
            })
    }
}

/// Every value of a header in one text.
fn header<'a>(head: &Head<'a>, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let first = values.next()?;
    match values.next() {
        None => Some(Cow::Borrowed(first)),
        Some(second) => {
            let rest: String = values.flat_map(|value| [",", value]).collect();
            Some(Cow::Owned(format!("{first},{second}{rest}")))
        }
    }
}

/// The first value of a parameter.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

impl Path {
    fn new(wire: &wire::PathMatch) -> Result<Self, BadResource> {
        use wire::path_match::How;
        let path = match &wire.how {
            None => return Ok(Self::Any),
            Some(How::Regex(pattern)) => return Ok(Self::Pattern(whole(pattern, wire.ignore_case)?)),
            Some(How::Exact(path)) => Self::Exact(path.as_str().into()),
            Some(How::Prefix(prefix)) => match prefix.trim_end_matches('/') {
                "" => Self::Any,
                prefix => Self::Segments(prefix.into()),
            },
            Some(How::TextPrefix(prefix)) => Self::Text(prefix.as_str().into()),
        };
        Ok(if wire.ignore_case { Self::Caseless(Box::new(path)) } else { path })
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(path) => (0, path.len()),
            // A prefix counts with the slash that it ends in.
            Self::Segments(prefix) => (1, prefix.len() + 1),
            Self::Text(prefix) => (1, prefix.len()),
            Self::Any => (1, 1),
            Self::Pattern(pattern) => (2, pattern.as_str().len()),
            Self::Caseless(path) => path.rank(),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => path == &**wanted,
            Self::Segments(prefix) => is_within(path, prefix),
            Self::Text(prefix) => path.starts_with(&**prefix),
            Self::Pattern(pattern) => pattern.is_match(path),
            Self::Caseless(wanted) => {
                let path = path.to_ascii_lowercase();
                match &**wanted {
                    Self::Exact(wanted) => path.eq_ignore_ascii_case(wanted),
                    Self::Segments(prefix) => is_within(&path, &prefix.to_ascii_lowercase()),
                    Self::Text(prefix) => path.starts_with(&prefix.to_ascii_lowercase()),
                    other => other.matches(&path),
                }
            }
        }
    }

    /// Bytes of a path that a prefix match takes: what a rewriting of the prefix replaces.
    pub(super) fn prefix(&self) -> usize {
        match self {
            Self::Exact(text) | Self::Segments(text) | Self::Text(text) => text.len(),
            Self::Any | Self::Pattern(_) => 0,
            Self::Caseless(path) => path.prefix(),
        }
    }
}

fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
