//! The CONNECT request: its authority and its headers (ztunnel.md §4.2).

use crate::{BadRequest, OpenError, baggage};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use std::{fmt, net::SocketAddr, str::FromStr};

pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const FORWARDED_NETWORK: HeaderName = HeaderName::from_static("x-forwarded-network");

/// Where a tunnel leads: `ip:port`, `[v6]:port` or `hostname:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A workload's or a service's address.
    Address(SocketAddr),
    /// A service's hostname and port.
    Hostname(String, u16),
}

impl Authority {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Hostname(_, port) => *port,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = BadRequest;

    fn from_str(text: &str) -> Result<Self, BadRequest> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(SocketAddr::new(address.ip().to_canonical(), address.port())));
        }
        let bad = || BadRequest::Authority(text.chars().take(256).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
        if host.is_empty() || host.len() > 253 || !host.chars().all(legal) || !port.chars().all(|c| c.is_ascii_digit())
        {
            return Err(bad());
        }
        Ok(Self::Hostname(host.to_ascii_lowercase(), port.parse().map_err(|_| bad())?))
    }
}

/// What a CONNECT asks for and says of the connection inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Where to.
    pub authority: Authority,
    /// Who the source is, as [`crate::Baggage::header`] writes it.
    pub baggage: Option<HeaderValue>,
    /// Address of the client.
    pub forwarded_for: SocketAddr,
    /// Hostname of the service that the client addressed.
    pub forwarded_host: Option<String>,
    /// Trace context, as [`traceparent`] makes it.
    pub traceparent: Option<HeaderValue>,
    /// Own network; only on the inner leg of double HBONE.
    pub forwarded_network: Option<String>,
}

impl ConnectRequest {
    /// The request as HTTP.
    pub(crate) fn to_http(&self) -> Result<Request<()>, OpenError> {
        let refused = |error: &dyn fmt::Display| OpenError::Request(error.to_string());
        let authority = self.authority.to_string();
        let uri = Uri::builder().authority(authority).build().map_err(|e| refused(&e))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        if let Some(baggage) = &self.baggage {
            headers.insert(baggage::HEADER, baggage.clone());
        }
        headers.insert(FORWARDED, HeaderValue::from_str(&self.forwarded()).map_err(|e| refused(&e))?);
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        if let Some(network) = &self.forwarded_network {
            headers.insert(FORWARDED_NETWORK, HeaderValue::from_str(network).map_err(|e| refused(&e))?);
        }
        Ok(request)
    }

    fn forwarded(&self) -> String {
        match &self.forwarded_host {
            Some(host) => format!("for=\"{}\";host={host}", self.forwarded_for),
            None => format!("for=\"{}\"", self.forwarded_for),
        }
    }
}

/// The authority of a request that must be a CONNECT.
pub(crate) fn authority(method: &str, authority: Option<&str>) -> Result<Authority, BadRequest> {
    if method != Method::CONNECT.as_str() {
        return Err(BadRequest::Method(method.to_owned()));
    }
    authority.ok_or_else(|| BadRequest::Authority(String::new()))?.parse()
}

/// A new trace context: `00-<trace>-<span>-00`.
pub fn traceparent() -> HeaderValue {
    let (trace, span): (u128, u64) = (rand::random(), rand::random());
    HeaderValue::from_maybe_shared(format!("00-{trace:032x}-{span:016x}-00"))
        .unwrap_or_else(|_| HeaderValue::from_static("00-00000000000000000000000000000001-0000000000000001-00"))
}

/// The span in a `traceparent` of the one known form; anything else is `None`.
pub fn span_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACEPARENT)?.to_str().ok().filter(|text| text.len() == 55)?;
    let mut parts = text.split('-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    (hex(trace, 32) && hex(span, 16)).then_some(span)
}

/// The service hostname in `forwarded` (RFC 7239, the one element that we write).
pub fn forwarded_host(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(FORWARDED)?.to_str().ok()?;
    let element = text.split(',').next()?;
    let host = element.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.eq_ignore_ascii_case("host").then_some(value.trim().trim_matches('"'))
    })?;
    (!host.is_empty()).then_some(host)
}

/// The network that a request came from, if a gateway was on its way.
pub(crate) fn forwarded_network(headers: &HeaderMap) -> Option<&str> {
    headers.get(FORWARDED_NETWORK)?.to_str().ok().filter(|network| !network.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10.244.1.6:8080", Some("10.244.1.6:8080"))]
    #[case("[fd00::6]:8080", Some("[fd00::6]:8080"))]
    #[case("[::ffff:10.0.0.1]:80", Some("10.0.0.1:80"))]
    #[case("Web.shop.svc.cluster.local:80", Some("web.shop.svc.cluster.local:80"))]
    #[case("web.shop", None)]
    #[case("web.shop:", None)]
    #[case("web.shop:65536", None)]
    #[case("web.shop:+80", None)]
    #[case(":80", None)]
    #[case("user@web:80", None)]
    #[case("fd00::6:80", None)]
    fn authorities(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(text.parse::<Authority>().ok().map(|a| a.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("b7ad6b7169203331"))]
    #[case("0000af7651916cd43dd8448eb211c80319c0b7ad6b7169203331001", None)]
    #[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-1", None)]
    #[case("short", None)]
    fn only_the_known_form_has_a_span(#[case] value: &'static str, #[case] expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(value));
        assert_eq!(span_id(&headers), expected);
    }

    #[test]
    fn a_new_trace_context_is_of_the_known_form() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, traceparent());
        assert!(span_id(&headers).is_some());
    }

    #[rstest]
    #[case("for=\"10.0.0.1:80\";host=web.shop", Some("web.shop"))]
    #[case("for=\"10.0.0.1:80\"", None)]
    #[case("host=\"a.b\"", Some("a.b"))]
    #[case(";;=;host", None)]
    fn forwarded_hosts(#[case] value: &'static str, #[case] expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, HeaderValue::from_static(value));
        assert_eq!(forwarded_host(&headers), expected);
    }
}
