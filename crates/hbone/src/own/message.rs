//! What a header block says: a request or a response, and whether it may be said so (RFC 9113 §8).

use super::hpack;
use crate::{ConnectRequest, baggage, headers};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a field costs beside its bytes in a list's size (§10.5.1).
const OVERHEAD: usize = 32;
/// Fields that belong to HTTP/1 (§8.2.2).
const HOP_BY_HOP: [&[u8]; 5] = [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];
/// Names that need not be made anew for each request.
static KNOWN: [HeaderName; 4] = [baggage::HEADER, headers::FORWARDED, headers::TRACEPARENT, headers::FORWARDED_NETWORK];

/// A header list while it is being decoded.
#[derive(Debug)]
pub(super) struct Message {
    method: Option<String>,
    authority: Option<String>,
    scheme: bool,
    path: bool,
    status: Option<u16>,
    headers: HeaderMap,
    /// A field that is no pseudo-header was seen.
    regular: bool,
    malformed: bool,
    /// How much more may come.
    room: usize,
    oversized: bool,
}

/// A request that is well formed, whatever it asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub method: String,
    pub authority: Option<String>,
    pub headers: HeaderMap,
}

/// Why a header list is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    Malformed,
    TooLarge,
}

impl Message {
    /// Takes up to `limit` bytes, as lists are measured.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            method: None,
            authority: None,
            scheme: false,
            path: false,
            status: None,
            headers: HeaderMap::new(),
            regular: false,
            malformed: false,
            room: limit,
            oversized: false,
        }
    }

    /// Takes one field.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.oversized |= size > self.room;
        if self.oversized || self.malformed {
            return;
        }
        self.room -= size;
        let taken = if name.first() == Some(&b':') { self.pseudo(name, value) } else { self.regular(name, value) };
        self.malformed = taken.is_none();
    }

    /// `None` if the field makes the message malformed.
    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if self.regular {
            return None;
        }
        let text = || std::str::from_utf8(value).ok().map(str::to_owned);
        match name {
            b":method" if self.method.is_none() => self.method = Some(text()?),
            b":authority" if self.authority.is_none() => self.authority = Some(text()?),
            b":scheme" if !self.scheme => self.scheme = true,
            b":path" if !self.path && !value.is_empty() => self.path = true,
            b":status" if self.status.is_none() && value.len() == 3 => {
                self.status = Some(text()?.parse().ok().filter(|status| (100..1000).contains(status))?);
            }
            _ => return None,
        }
        Some(())
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.regular = true;
        let padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        let upper = name.iter().any(u8::is_ascii_uppercase);
        if upper || HOP_BY_HOP.contains(&name) || padded(value.first()) || padded(value.last()) {
            return None;
        }
        if name == b"te" && value != b"trailers" {
            return None;
        }
        let known = KNOWN.iter().find(|known| known.as_str().as_bytes() == name).cloned();
        let name = known.map_or_else(|| HeaderName::from_bytes(name).ok(), Some)?;
        self.headers.append(name, HeaderValue::from_bytes(value).ok()?);
        Some(())
    }

    fn judged(&self) -> Result<(), Rejected> {
        match (self.malformed, self.oversized) {
            (true, _) => Err(Rejected::Malformed),
            (_, true) => Err(Rejected::TooLarge),
            _ => Ok(()),
        }
    }

    /// As a request. That an authority is missing is left to who answers it.
    pub(super) fn into_request(self) -> Result<Request, Rejected> {
        self.judged()?;
        let method = self.method.filter(|method| !method.is_empty()).ok_or(Rejected::Malformed)?;
        let connect = method == "CONNECT";
        if self.status.is_some() || self.scheme == connect || self.path == connect {
            return Err(Rejected::Malformed);
        }
        Ok(Request { method, authority: self.authority, headers: self.headers })
    }

    /// As a response.
    pub(super) fn into_response(self) -> Result<(u16, HeaderMap), Rejected> {
        self.judged()?;
        let request = self.method.is_some() || self.authority.is_some() || self.scheme || self.path;
        let status = self.status.filter(|_| !request).ok_or(Rejected::Malformed)?;
        Ok((status, self.headers))
    }
}

/// The header block of a CONNECT.
pub(super) fn request(out: &mut Vec<u8>, request: &ConnectRequest) {
    use std::io::Write as _;
    hpack::write_connect(out, &request.authority.to_string());
    if let Some(baggage) = &request.baggage {
        hpack::write_field(out, b"baggage", baggage.as_bytes());
    }
    let mut forwarded = Vec::with_capacity(64);
    // Writing to a vector cannot fail.
    let _written = write!(forwarded, "for=\"{}\"", request.forwarded_for);
    if let Some(host) = &request.forwarded_host {
        let _written = write!(forwarded, ";host={host}");
    }
    hpack::write_field(out, b"forwarded", &forwarded);
    if let Some(traceparent) = &request.traceparent {
        hpack::write_field(out, b"traceparent", traceparent.as_bytes());
    }
    if let Some(network) = &request.forwarded_network {
        hpack::write_field(out, b"x-forwarded-network", network.as_bytes());
    }
}

/// The header block of an answer.
pub(super) fn response(out: &mut Vec<u8>, status: u16, headers: &HeaderMap) {
    hpack::write_status(out, status);
    for (name, value) in headers {
        hpack::write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn message(fields: &[(&str, &str)]) -> Message {
        let mut message = Message::new(200);
        fields.iter().for_each(|(name, value)| message.field(name.as_bytes(), value.as_bytes()));
        message
    }

    const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];

    #[rstest]
    #[case(&CONNECT, Ok("CONNECT"))]
    #[case(&[(":method", "CONNECT")], Ok("CONNECT"))]
    #[case(&[(":method", "GET"), (":scheme", "https"), (":path", "/")], Ok("GET"))]
    #[case(&[(":method", "GET"), (":scheme", "https")], Err(Rejected::Malformed))]
    #[case(&[(":method", "GET"), (":scheme", "https"), (":path", "")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), (":path", "/")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), (":protocol", "websocket")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), (":method", "CONNECT")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), (":status", "200")], Err(Rejected::Malformed))]
    #[case(&[("a", "b"), (":method", "CONNECT")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("Upper", "b")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("connection", "close")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("te", "gzip")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("te", "trailers")], Ok("CONNECT"))]
    #[case(&[(":method", "CONNECT"), ("a", " padded")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("a", "new\nline")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("", "nameless")], Err(Rejected::Malformed))]
    #[case(&[(":method", "CONNECT"), ("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")], Err(Rejected::TooLarge))]
    #[case(&[], Err(Rejected::Malformed))]
    fn requests(#[case] fields: &[(&str, &str)], #[case] expected: Result<&str, Rejected>) {
        assert_eq!(message(fields).into_request().map(|request| request.method).as_deref().map_err(|e| *e), expected);
    }

    #[rstest]
    #[case(&[(":status", "200"), ("baggage", "a=b")], Ok(200))]
    #[case(&[(":status", "20")], Err(Rejected::Malformed))]
    #[case(&[(":status", "0x1")], Err(Rejected::Malformed))]
    #[case(&[(":status", "099")], Err(Rejected::Malformed))]
    #[case(&[(":status", "200"), (":path", "/")], Err(Rejected::Malformed))]
    #[case(&[("a", "b")], Err(Rejected::Malformed))]
    fn responses(#[case] fields: &[(&str, &str)], #[case] expected: Result<u16, Rejected>) {
        assert_eq!(message(fields).into_response().map(|(status, _)| status), expected);
    }
}
