//! What a rule or a backend does to requests and responses besides choosing where they go.

use super::rule::{Backend, duration, texts};
use crate::{
    config::BadResource,
    text::{TextMatch, compile},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use model::Str;
use proto::l7 as wire;
use regex::Regex;
use std::time::Duration;

/// Every filter of one rule or backend.
#[derive(Debug, Default)]
pub struct Filters {
    /// Edits of the request's headers, in order.
    pub request: Vec<HeaderEdit>,
    /// Edits of the response's headers, in order.
    pub response: Vec<HeaderEdit>,
    /// Another place for the client to ask.
    pub redirect: Option<Redirect>,
    /// Another host or path for the backend.
    pub rewrite: Option<Rewrite>,
    /// Copies of the request for others.
    pub mirrors: Vec<Mirror>,
    /// Which other sites may use this one.
    pub cors: Option<Cors>,
    /// An answer without a backend.
    pub direct: Option<Direct>,
}

/// Sets, then adds, then removes.
#[derive(Debug)]
pub struct HeaderEdit {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// A redirection.
#[derive(Debug)]
pub struct Redirect {
    /// Scheme; the request's when absent.
    pub scheme: Option<Str>,
    /// Host; the request's when absent.
    pub host: Option<Str>,
    /// Path; the request's when absent.
    pub path: Option<PathEdit>,
    /// Port.
    pub port: Option<u16>,
    /// Status.
    pub status: u16,
    /// The request's own port is kept where nothing else is said.
    pub keep_port: bool,
}

/// A rewriting.
#[derive(Debug)]
pub struct Rewrite {
    /// Host.
    pub host: Option<HeaderValue>,
    /// Path.
    pub path: Option<PathEdit>,
}

/// Another path.
#[derive(Debug)]
pub enum PathEdit {
    /// This one.
    Full(Str),
    /// This instead of the prefix that matched.
    Prefix(Str),
    /// What a pattern makes of it.
    Pattern(Regex, Str),
}

/// A copy of the request for another backend, whose answer nobody reads.
#[derive(Debug)]
pub struct Mirror {
    /// Who gets it.
    pub backend: Backend,
    /// Share of the requests; `None`: all.
    pub share: Option<(u32, u32)>,
}

/// Which other sites may use this one.
#[derive(Debug)]
pub struct Cors {
    /// Origins.
    pub origins: Vec<TextMatch>,
    /// Methods.
    pub methods: Vec<Str>,
    /// Request headers.
    pub headers: Vec<Str>,
    /// Response headers that may be read.
    pub expose: Vec<Str>,
    /// How long the answer holds.
    pub max_age: Option<Duration>,
    /// With cookies and the like.
    pub credentials: bool,
}

/// An answer without a backend.
#[derive(Debug, Clone)]
pub struct Direct {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: Bytes,
}

impl Filters {
    /// Filters ready for use.
    pub fn new(wire: &[wire::Filter]) -> Result<Self, BadResource> {
        use wire::filter::Kind;
        let mut filters = Self::default();
        for filter in wire {
            let Some(kind) = &filter.kind else { return Err(BadResource::new("a filter of an unknown kind")) };
            match kind {
                Kind::RequestHeaders(edit) => filters.request.push(HeaderEdit::new(edit)?),
                Kind::ResponseHeaders(edit) => filters.response.push(HeaderEdit::new(edit)?),
                Kind::Redirect(redirect) => filters.redirect = Some(Redirect::new(redirect)?),
                Kind::Rewrite(rewrite) => filters.rewrite = Some(Rewrite::new(rewrite)?),
                Kind::Mirror(mirror) => filters.mirrors.push(Mirror::new(mirror)?),
                Kind::Cors(cors) => filters.cors = Some(Cors::new(cors)?),
                Kind::Direct(direct) => {
                    filters.direct =
                        Some(Direct { status: status(direct.status, 200)?, body: direct.body.clone().into() });
                }
            }
        }
        Ok(filters)
    }
}

impl HeaderEdit {
    fn new(wire: &wire::HeaderEdit) -> Result<Self, BadResource> {
        let pairs = |list: &[wire::Header]| -> Result<Vec<_>, BadResource> {
            list.iter().map(|header| Ok((name(&header.name)?, value(&header.value)?))).collect()
        };
        let remove = wire.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        Ok(Self { set: pairs(&wire.set)?, add: pairs(&wire.add)?, remove })
    }

    /// Carries it out. `Host` is no header of ours: whoever writes it means the authority, which is another filter's.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            match headers.get_mut(name) {
                // One line with all values, as proxies have always added them.
                Some(held) => *held = joined(held, value),
                None => {
                    headers.insert(name, value.clone());
                }
            }
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn joined(held: &HeaderValue, value: &HeaderValue) -> HeaderValue {
    let bytes = [held.as_bytes(), b",", value.as_bytes()].concat();
    // Two values and a comma are a value.
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| value.clone())
}

impl Redirect {
    fn new(wire: &wire::Redirect) -> Result<Self, BadResource> {
        let text = |text: &str| (!text.is_empty()).then(|| Str::from(text));
        Ok(Self {
            scheme: text(&wire.scheme),
            host: text(&wire.host),
            path: wire.path.as_ref().map(PathEdit::new).transpose()?,
            port: u16::try_from(wire.port).ok().filter(|port| *port != 0),
            status: status(wire.status, 302)?,
            keep_port: wire.keep_port,
        })
    }
}

impl Rewrite {
    fn new(wire: &wire::Rewrite) -> Result<Self, BadResource> {
        let host = (!wire.host.is_empty()).then(|| value(&wire.host)).transpose()?;
        Ok(Self { host, path: wire.path.as_ref().map(PathEdit::new).transpose()? })
    }
}

impl PathEdit {
    fn new(wire: &wire::PathRewrite) -> Result<Self, BadResource> {
        use wire::path_rewrite::How;
        Ok(match &wire.how {
            Some(How::Full(path)) => Self::Full(path.as_str().into()),
            Some(How::Prefix(prefix)) => Self::Prefix(prefix.as_str().into()),
            Some(How::Regex(regex)) => {
                // `\1` is a group there and `${1}` here; a dollar sign there is only itself.
                let dollars = regex.substitution.replace('$', "$$");
                let substitution = compile(r"\\(\d+)", false)?.replace_all(&dollars, "$${$1}").into_owned();
                Self::Pattern(compile(&regex.pattern, false)?, substitution.into())
            }
            None => return Err(BadResource::new("a path rewriting of an unknown kind")),
        })
    }

    /// The new path; `prefix` is the length of the prefix that the rule matched.
    pub fn apply(&self, path: &str, prefix: usize) -> String {
        match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix(new) => {
                let rest = path.get(prefix..).unwrap_or_default().trim_start_matches('/');
                match (new.trim_end_matches('/'), rest) {
                    ("", rest) => format!("/{rest}"),
                    (new, "") => new.to_owned(),
                    (new, rest) => format!("{new}/{rest}"),
                }
            }
            Self::Pattern(pattern, substitution) => pattern.replace_all(path, &**substitution).into_owned(),
        }
    }
}

impl Mirror {
    fn new(wire: &wire::Mirror) -> Result<Self, BadResource> {
        let backend = wire.backend.as_ref().ok_or_else(|| BadResource::new("a mirror without a backend"))?;
        let share = (wire.denominator > 0).then_some((wire.numerator, wire.denominator));
        Ok(Self { backend: Backend::new(backend)?, share })
    }
}

impl Cors {
    fn new(wire: &wire::Cors) -> Result<Self, BadResource> {
        let list = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
        Ok(Self {
            origins: texts(&wire.origins)?,
            methods: list(&wire.methods),
            headers: list(&wire.headers),
            expose: list(&wire.expose),
            max_age: duration(wire.max_age.as_ref()),
            credentials: wire.credentials,
        })
    }
}

fn name(text: &str) -> Result<HeaderName, BadResource> {
    HeaderName::try_from(text).map_err(|_| BadResource::new(format!("{text:?} is not the name of a header")))
}

fn value(text: &str) -> Result<HeaderValue, BadResource> {
    HeaderValue::try_from(text).map_err(|_| BadResource::new(format!("{text:?} cannot stand in a header")))
}

fn status(status: u32, default: u16) -> Result<u16, BadResource> {
    match u16::try_from(status) {
        Ok(0) => Ok(default),
        Ok(status @ 200..=599) => Ok(status),
        _ => Err(BadResource::new(format!("{status} is not a status to answer with"))),
    }
}
