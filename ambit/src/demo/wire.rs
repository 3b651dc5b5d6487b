//! What is read from a link: which text can be seen in the clear, and which TLS was spoken on the HBONE port.
//!
//! Pure over TCP segments; taking them off the link is `linux::packet`'s part.

use model::well_known::HBONE_PORT;

/// One TCP segment seen on the link.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) payload: Vec<u8>,
}

/// What a stretch of the link showed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Segments that carried bytes.
    pub(crate) segments: usize,
    /// The line around the marker, as anyone on the link could read it.
    pub(crate) clear_text: Option<String>,
    /// Version that a server chose on port 15008, such as `TLS 1.3`.
    pub(crate) tls: Option<&'static str>,
    /// Encrypted records on port 15008.
    pub(crate) encrypted_records: usize,
}

/// Reads `segments` for `marker`, a text that only our own request holds.
pub(crate) fn read(segments: &[Segment], marker: &str) -> Seen {
    let mut seen = Seen::default();
    for segment in segments.iter().filter(|s| !s.payload.is_empty()) {
        seen.segments += 1;
        if seen.clear_text.is_none() {
            seen.clear_text = line_with(&segment.payload, marker);
        }
        if segment.source_port == HBONE_PORT || segment.destination_port == HBONE_PORT {
            match segment.payload.first() {
                Some(22) => seen.tls = seen.tls.or_else(|| chosen_version(&segment.payload)),
                Some(23) => seen.encrypted_records += 1,
                _ => {}
            }
        }
    }
    seen
}

/// The line of `payload` that holds `marker`, made printable.
fn line_with(payload: &[u8], marker: &str) -> Option<String> {
    let at = payload.windows(marker.len()).position(|window| window == marker.as_bytes())?;
    let start = payload[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let end = payload[at..].iter().position(|b| matches!(b, b'\r' | b'\n')).map_or(payload.len(), |n| at + n);
    let line: String =
        payload[start..end].iter().map(|b| if b.is_ascii_graphic() { *b as char } else { ' ' }).collect();
    Some(line.trim().to_owned())
}

/// The version in a ServerHello (RFC 8446 §4.1.3, §4.2.1): the `supported_versions` extension, else the legacy field.
fn chosen_version(record: &[u8]) -> Option<&'static str> {
    const SERVER_HELLO: u8 = 2;
    const SUPPORTED_VERSIONS: u16 = 43;
    let hello = record.get(5..)?;
    if *hello.first()? != SERVER_HELLO {
        return None;
    }
    let legacy = u16::from_be_bytes([*hello.get(4)?, *hello.get(5)?]);
    // type and length, version, random, session id, cipher suite, compression
    let session = usize::from(*hello.get(38)?);
    let mut at = 39 + session + 2 + 1 + 2;
    while let (Some(kind), Some(length)) = (be16(hello, at), be16(hello, at + 2)) {
        if kind == SUPPORTED_VERSIONS {
            return version_name(be16(hello, at + 4)?);
        }
        at += 4 + usize::from(length);
    }
    version_name(legacy)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn version_name(version: u16) -> Option<&'static str> {
    match version {
        0x0304 => Some("TLS 1.3"),
        0x0303 => Some("TLS 1.2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(port: u16, payload: &[u8]) -> Segment {
        Segment { source_port: port, destination_port: 40000, payload: payload.to_vec() }
    }

    #[test]
    fn a_request_in_the_clear_is_quoted() {
        let seen = read(&[segment(8080, b"GET /canary-7 HTTP/1.1\r\nhost: server\r\n\r\n")], "canary-7");
        assert_eq!(seen.clear_text.as_deref(), Some("GET /canary-7 HTTP/1.1"));
        assert_eq!(seen.tls, None);
    }

    #[test]
    fn the_version_is_the_one_the_server_chose() {
        let mut hello = vec![22, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0x13, 0x02, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
        let seen = read(&[segment(15008, &hello), segment(15008, &[23, 3, 3, 0, 1, 9])], "canary");
        assert_eq!((seen.tls, seen.encrypted_records, seen.clear_text), (Some("TLS 1.3"), 1, None));
    }

    #[test]
    fn cut_off_records_are_no_evidence() {
        for length in 0..48 {
            let mut hello = vec![22, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3];
            hello.resize(11 + 32 + 4, 0);
            hello.truncate(length);
            assert_eq!(read(&[segment(15008, &hello)], "canary").tls.filter(|t| *t == "TLS 1.3"), None);
        }
    }
}
