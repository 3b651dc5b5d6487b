//! What policies can ask about, and how the answers are compared.

use super::{Claims, Request};
use crate::text::{TextMatch, whole};
use http::HeaderName;
use ipnet::IpNet;
use regex::Regex;
use std::net::IpAddr;

/// Something to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Principal,
    RequestPrincipal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    SourceIp,
    RemoteIp,
    DestinationIp,
    Port,
    ServerName,
    Host,
    Method,
    Path,
    Header(HeaderName),
    Audience,
    Presenter,
    Claim(Vec<String>),
}

impl Attribute {
    /// The attribute of a `when` key.
    pub(super) fn named(key: &str) -> Option<Self> {
        Some(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::Namespace,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            "source.principal" => Self::Principal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Audience,
            "request.auth.presenter" => Self::Presenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::Port,
            "connection.sni" => Self::ServerName,
            _ => {
                if let Some(rest) = key.strip_prefix("request.headers") {
                    let [name] = brackets(rest)?.try_into().ok()?;
                    return Some(Self::Header(HeaderName::try_from(name).ok()?));
                }
                Self::Claim(brackets(key.strip_prefix("request.auth.claims")?)?)
            }
        })
    }

    /// Whether only HTTP has it.
    fn is_http(&self) -> bool {
        !matches!(
            self,
            Self::Principal
                | Self::Namespace
                | Self::ServiceAccount
                | Self::TrustDomain
                | Self::SourceIp
                | Self::DestinationIp
                | Self::Port
                | Self::ServerName
        )
    }

    /// Every text that the request has for it; none if it has not.
    fn texts(&self, request: &Request<'_>) -> Vec<String> {
        let one = |text: Option<&str>| text.map(str::to_owned).into_iter().collect();
        let peer = request.peer;
        let claims = request.http.and_then(|http| http.claims);
        match self {
            Self::Principal => {
                peer.map(|peer| peer.to_string().trim_start_matches("spiffe://").to_owned()).into_iter().collect()
            }
            Self::Namespace => one(peer.map(|peer| &*peer.namespace)),
            Self::ServiceAccount => {
                peer.map(|peer| format!("{}/{}", peer.namespace, peer.service_account)).into_iter().collect()
            }
            Self::TrustDomain => one(peer.map(|peer| &*peer.trust_domain)),
            Self::ServerName => one(request.server_name),
            Self::Method => one(request.http.map(|http| http.method)),
            Self::Path => one(request.http.map(|http| http.path)),
            // With and without the port: a rule for a host means it on every port.
            Self::Host => request.http.map_or_else(Vec::new, |http| {
                vec![http.authority.to_owned(), crate::route::host(http.authority).to_owned()]
            }),
            Self::Header(name) => request.http.map_or_else(Vec::new, |http| header(http.headers, name)),
            Self::RequestPrincipal => one(claims.map(|claims| claims.principal.as_str())),
            Self::Audience => claims.map(|claims| claims.audiences.clone()).unwrap_or_default(),
            Self::Presenter => one(claims.and_then(|claims| claims.presenter.as_deref())),
            Self::Claim(path) => claims.map(|claims| claim(claims, path)).unwrap_or_default(),
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp | Self::Port => Vec::new(),
        }
    }

    fn address(&self, request: &Request<'_>) -> Option<IpAddr> {
        match self {
            Self::SourceIp => Some(request.source),
            Self::RemoteIp => Some(request.remote),
            Self::DestinationIp => request.destination,
            _ => None,
        }
    }
}

/// Each line, and all lines together as most backends read them.
fn header(headers: &http::HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines: Vec<String> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    let together = (lines.len() > 1).then(|| lines.join(","));
    lines.into_iter().chain(together).collect()
}

/// The texts at a path of names within the claims; a text of several words is also each word.
fn claim(claims: &Claims, path: &[String]) -> Vec<String> {
    let found = path.iter().try_fold(&claims.all, |value, name| value.get(name));
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(flag) => Some(flag.to_string()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match found {
        Some(serde_json::Value::Array(list)) => list.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// `[a][b]` as names.
fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<String> = inner.split("][").map(str::to_owned).collect();
    names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']'])).then_some(names)
}

/// An attribute, what it must be one of, and what it must be none of.
#[derive(Debug)]
pub(super) struct Clause {
    attribute: Attribute,
    values: Option<Values>,
    not_values: Option<Values>,
}

/// Alternatives.
#[derive(Debug)]
pub(super) enum Values {
    Texts(Vec<TextMatch>),
    Paths(Vec<PathValue>),
    Ranges(Vec<IpNet>),
    Ports(Vec<u16>),
}

#[derive(Debug)]
pub(super) enum PathValue {
    Text(TextMatch),
    Template(Regex),
}

impl Clause {
    /// `None` if a value cannot be read.
    pub(super) fn new(attribute: Attribute, values: &[String], not_values: &[String]) -> Option<Self> {
        let read = |list: &[String]| -> Option<Option<Values>> {
            if list.is_empty() { Some(None) } else { Values::new(&attribute, list).map(Some) }
        };
        let (values, not_values) = (read(values)?, read(not_values)?);
        Some(Self { attribute, values, not_values })
    }

    pub(super) fn matches(&self, request: &Request<'_>, denies: bool) -> bool {
        if request.http.is_none() && self.attribute.is_http() {
            return denies;
        }
        let fits = |values: &Values| values.fit(&self.attribute, request);
        self.values.as_ref().is_none_or(fits) && !self.not_values.as_ref().is_some_and(fits)
    }
}

impl Values {
    fn new(attribute: &Attribute, list: &[String]) -> Option<Self> {
        let texts = || list.iter().map(|text| TextMatch::wildcard(text));
        Some(match attribute {
            Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => {
                let range = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
                Self::Ranges(list.iter().map(range).collect::<Option<_>>()?)
            }
            Attribute::Port => Self::Ports(list.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?),
            Attribute::Path => Self::Paths(list.iter().map(|text| PathValue::new(text)).collect::<Option<_>>()?),
            Attribute::Host => Self::Texts(texts().map(TextMatch::ignoring_case).collect()),
            _ => Self::Texts(texts().collect()),
        })
    }

    /// Service accounts in full: the policy's namespace is the default.
    pub(super) fn accounts(list: &[String], namespace: &str) -> Vec<String> {
        let full = |name: &String| if name.contains('/') { name.clone() } else { format!("{namespace}/{name}") };
        list.iter().map(full).collect()
    }

    fn fit(&self, attribute: &Attribute, request: &Request<'_>) -> bool {
        match self {
            Self::Ranges(ranges) => {
                attribute.address(request).is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
            }
            Self::Ports(ports) => ports.contains(&request.port),
            Self::Texts(texts) => {
                attribute.texts(request).iter().any(|value| texts.iter().any(|text| text.matches(value)))
            }
            Self::Paths(paths) => {
                attribute.texts(request).iter().any(|value| paths.iter().any(|path| path.matches(value)))
            }
        }
    }
}

impl PathValue {
    fn new(text: &str) -> Option<Self> {
        if !text.contains(['{', '}']) {
            return Some(Self::Text(TextMatch::wildcard(text)));
        }
        let pattern = regex::escape(text).replace(r"\{\*\*\}", ".*").replace(r"\{\*\}", "[^/]+");
        if pattern.contains(['{', '}']) {
            return None;
        }
        whole(&pattern, false).ok().map(Self::Template)
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path),
            Self::Template(pattern) => pattern.is_match(path),
        }
    }
}
