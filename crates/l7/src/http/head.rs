//! A request's head in the form in which it is judged, routed and sent on, and what is taken out of heads on the way.

use crate::path::{self, Normalization};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{self, CONNECTION, HOST},
};

/// Why a request is refused before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHead {
    #[error("the request names no host, or two different ones")]
    Host,
    #[error("the path cannot be used")]
    Path,
    #[error("this method is not served")]
    Method,
}

/// The parts that decisions are made by.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

impl Parsed {
    /// The path and the query, as they are sent on.
    pub(super) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Reads a head. One host, one path form, no CONNECT.
pub(super) fn parse<B>(request: &Request<B>, how: Normalization) -> Result<Parsed, BadHead> {
    if request.method() == http::Method::CONNECT {
        return Err(BadHead::Method);
    }
    let authority = authority(request)?;
    let path = path::normalize(request.uri().path(), how).map_err(|_| BadHead::Path)?.into_owned();
    let query = request.uri().query().map(str::to_owned);
    Ok(Parsed { method: request.method().as_str().to_owned(), authority, path, query })
}

fn authority<B>(request: &Request<B>) -> Result<String, BadHead> {
    let mut lines = request.headers().get_all(HOST).iter();
    let host = lines.next().map(|value| value.to_str().map_err(|_| BadHead::Host)).transpose()?;
    if lines.next().is_some() {
        return Err(BadHead::Host);
    }
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let text = match (target, host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => return Err(BadHead::Host),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) if request.version() == Version::HTTP_10 => "",
        (None, None) => return Err(BadHead::Host),
    };
    let legal =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']' | b'*');
    if text.len() > 255 || !text.bytes().all(legal) {
        return Err(BadHead::Host);
    }
    Ok(text.to_ascii_lowercase())
}

/// Headers that are a client's own word about itself and nobody else's.
const FORGED: [&str; 4] =
    ["x-forwarded-client-cert", "x-envoy-original-path", "x-envoy-attempt-count", "x-envoy-upstream-service-time"];

/// The protocol that a client wants to change to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks = asks.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let wanted = headers.get(header::UPGRADE).filter(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(b"h2c"));
    if asks { wanted.cloned() } else { None }
}

/// Takes out what concerns one connection only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::try_from(token.trim()).ok())
        // A client must not make us drop what it does not own.
        .filter(|name| *name != HOST && *name != header::AUTHORIZATION && *name != header::COOKIE)
        .collect();
    let trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes out what a client may not say.
pub(super) fn distrust(headers: &mut HeaderMap) {
    for name in FORGED {
        headers.remove(name);
    }
}

/// The URI of an outgoing request: its path alone for HTTP/1, all of it for HTTP/2.
pub(super) fn target(http2: bool, authority: &str, path_and_query: &str) -> Result<Uri, http::Error> {
    if !http2 {
        return Ok(path_and_query.parse()?);
    }
    let authority = if authority.is_empty() { "localhost" } else { authority };
    Uri::builder().scheme("http").authority(authority).path_and_query(path_and_query).build()
}
