//! Requests: only CONNECT is served, and what HTTP forbids is refused (RFC 9113 §8).

use super::{Case, Stage::*, Target, answered, malformed, reset, row};
use crate::http2::{
    Frame,
    code::{PROTOCOL_ERROR, STREAM_CLOSED},
    flag,
    hpack::{AUTHORITY, Block, METHOD, PATH, SCHEME, STATUS},
};

pub(super) fn rows(target: &Target) -> Vec<Case> {
    [methods(target), authorities(target), pseudo(target), fields(target), connected(target)].concat()
}

fn request(clause: &'static str, what: &str, block: Block, right: Vec<super::Reaction>) -> Case {
    row(clause, what, Greeted, Frame::headers(1, block).bytes(), right)
}

fn get(target: &Target) -> Block {
    // Static entries: GET, http, /.
    Block::new().indexed(METHOD).indexed(SCHEME).indexed(PATH).field(AUTHORITY, &target.echo)
}

fn methods(target: &Target) -> Vec<Case> {
    let with =
        |method: &str| Block::new().field(METHOD, method).indexed(SCHEME).indexed(PATH).field(AUTHORITY, &target.echo);
    let bare = |method: &str| Block::new().field(METHOD, method).field(AUTHORITY, &target.echo);
    let ended = |block: Block, right| {
        let frame = Frame::headers(1, block).with_flags(flag::END_HEADERS | flag::END_STREAM);
        row("8.5", "CONNECT that ends at once", Greeted, frame.bytes(), right)
    };
    let protocol = target.connect().indexed(SCHEME).indexed(PATH).field(":protocol", "websocket");
    vec![
        request("8.5", "CONNECT", target.connect(), answered(1, 200)),
        ended(target.connect(), answered(1, 200)),
        request("8.5", "GET", get(target), answered(1, 400)),
        request("8.5", "POST", with("POST"), answered(1, 400)),
        request("8.5", "OPTIONS", with("OPTIONS"), answered(1, 400)),
        request("8.5", "a method nobody knows", with("BREW"), answered(1, 400)),
        request("8.5", "connect in small letters", bare("connect"), malformed(1)),
        request("8.3.1", "a method that is no token", with("GE T"), malformed(1)),
        request("8.3.1", "a method without a letter", with(""), malformed(1)),
        request("8.5", "the CONNECT of RFC 8441, which was not offered", protocol, malformed(1)),
    ]
}

fn authorities(target: &Target) -> Vec<Case> {
    let bad = [
        ("without a letter", ""),
        ("without a port", "10.0.0.2"),
        ("with an empty port", "10.0.0.2:"),
        ("with a port beyond 65,535", "10.0.0.2:65536"),
        ("with a negative port", "10.0.0.2:-1"),
        ("with a port in letters", "10.0.0.2:http"),
        ("with a user", "user@10.0.0.2:8080"),
        ("with a path", "10.0.0.2:8080/x"),
        ("with a scheme", "http://10.0.0.2:8080"),
        ("with a fragment", "10.0.0.2:8080#x"),
        ("with a space", "10.0.0.2 :8080"),
        ("with a tab", "10.0.0.2\t:8080"),
        ("of a port alone", ":8080"),
        ("with an open bracket", "[fd00::1:8080"),
        ("with brackets around nothing", "[]:8080"),
        ("with a zone", "[fe80::1%eth0]:8080"),
        ("of IPv6 without brackets", "fd00::1:8080"),
        ("with a percent sign", "10.0.0.2%00:8080"),
        ("with two ports", "10.0.0.2:8080:8080"),
        ("with letters beyond ASCII", "wéb.shop:8080"),
    ];
    let mut rows: Vec<Case> = bad
        .map(|(what, authority)| {
            request("8.5", &format!("an authority {what}"), Block::connect(authority), malformed(1))
        })
        .into();
    rows.push(request("8.5", "CONNECT to nowhere", Block::new().field(METHOD, "CONNECT"), malformed(1)));
    let host = Block::new().field(METHOD, "CONNECT").field("host", &target.echo);
    rows.push(request("8.5", "CONNECT to a host header", host, malformed(1)));
    let long = Block::connect(&format!("{}:80", "a".repeat(5_000)));
    rows.push(request("8.5", "an authority of 5,000 letters", long, malformed(1)));
    rows
}

fn pseudo(target: &Target) -> Vec<Case> {
    let connect = || target.connect();
    vec![
        request("8.5", "CONNECT with a scheme", connect().indexed(SCHEME), malformed(1)),
        request("8.5", "CONNECT with a path", connect().indexed(PATH), malformed(1)),
        request("8.5", "CONNECT with scheme and path", connect().indexed(SCHEME).indexed(PATH), malformed(1)),
        request("8.3", "an unknown pseudo-field", connect().field(":verb", "x"), malformed(1)),
        request("8.3", "a pseudo-field of answers", connect().indexed(STATUS), malformed(1)),
        request(
            "8.3",
            "a pseudo-field after a field",
            Block::new().field(METHOD, "CONNECT").field("a", "b").field(AUTHORITY, &target.echo),
            malformed(1),
        ),
        request("8.3.1", "the method twice", connect().field(METHOD, "CONNECT"), malformed(1)),
        request("8.3.1", "the authority twice", connect().field(AUTHORITY, &target.echo), malformed(1)),
        request(
            "8.3.1",
            "GET without a method",
            Block::new().indexed(SCHEME).indexed(PATH).field(AUTHORITY, "a"),
            malformed(1),
        ),
        request(
            "8.3.1",
            "GET without a scheme",
            Block::new().indexed(METHOD).indexed(PATH).field(AUTHORITY, "a"),
            malformed(1),
        ),
        request(
            "8.3.1",
            "GET without a path",
            Block::new().indexed(METHOD).indexed(SCHEME).field(AUTHORITY, "a"),
            malformed(1),
        ),
        request("8.3.1", "a block of nothing", Block::new(), malformed(1)),
        request("8.3.1", "fields without a pseudo-field", Block::new().field("a", "b"), malformed(1)),
    ]
}

fn fields(target: &Target) -> Vec<Case> {
    let with = |name: &str, value: &[u8]| target.connect().field(name, value);
    let bad: [(&str, &str, &str, &[u8]); 20] = [
        ("8.2.1", "a name in capitals", "X-Forwarded", b"a"),
        ("8.2.1", "a name with one capital", "baggagE", b"a"),
        ("8.2.1", "a name with a space", "bag gage", b"a"),
        ("8.2.1", "a name with a line end", "bag\ngage", b"a"),
        ("8.2.1", "a name with a NUL", "bag\0gage", b"a"),
        ("8.2.1", "a name with a colon", "bag:gage", b"a"),
        ("8.2.1", "a name of DEL", "\x7f", b"a"),
        ("8.2.1", "a name of nothing", "", b"a"),
        ("8.2.1", "a value with a NUL", "baggage", b"a\0b"),
        ("8.2.1", "a value with CR", "baggage", b"a\rb"),
        ("8.2.1", "a value with LF", "baggage", b"a\nb"),
        ("8.2.1", "a value with CR LF and another field", "baggage", b"a\r\nforwarded: for=1.2.3.4"),
        ("8.2.1", "a value that begins with a space", "baggage", b" a"),
        ("8.2.1", "a value that ends with a tab", "baggage", b"a\t"),
        ("8.2.2", "connection", "connection", b"close"),
        ("8.2.2", "keep-alive", "keep-alive", b"timeout=5"),
        ("8.2.2", "proxy-connection", "proxy-connection", b"keep-alive"),
        ("8.2.2", "transfer-encoding", "transfer-encoding", b"chunked"),
        ("8.2.2", "upgrade", "upgrade", b"h2c"),
        ("8.2.2", "te of anything but trailers", "te", b"gzip"),
    ];
    let mut rows: Vec<Case> =
        bad.map(|(clause, what, name, value)| request(clause, what, with(name, value), malformed(1))).into();
    let good: [(&str, &str, &[u8]); 8] = [
        ("te of trailers", "te", b"trailers"),
        ("a value of nothing", "baggage", b""),
        ("a value with bytes beyond ASCII", "baggage", b"k8s.namespace.name=\xff\xfe"),
        ("baggage that is none", "baggage", b"=,;,==,a=b=c,\x20,k8s.pod.name"),
        ("forwarded that is none", "forwarded", b"for=;host==;;\"\","),
        ("a traceparent that is none", "traceparent", b"00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-0"),
        ("a network from a peer that is no gateway", "x-forwarded-network", b"elsewhere"),
        ("a baggage of 16,000 bytes", "baggage", &[b'a'; 16_000]),
    ];
    rows.extend(good.map(|(what, name, value)| request("8.2.1", what, with(name, value), answered(1, 200))));
    let repeated = (0..20).fold(target.connect(), |block, _| block.field("baggage", "k8s.pod.name=a"));
    rows.push(request("8.2", "one field twenty times", repeated, answered(1, 200)));
    rows
}

/// A tunnel carries DATA and nothing else (§8.5).
fn connected(target: &Target) -> Vec<Case> {
    let trailers = |block: Block, flags| Frame::headers(1, block).with_flags(flag::END_HEADERS | flags).bytes();
    let wrong = || [malformed(1), reset(1, STREAM_CLOSED)].concat();
    vec![
        row("8.5", "a second HEADERS in a tunnel", Tunnel, trailers(target.connect(), 0), wrong()),
        row("8.5", "fields in the middle of a tunnel", Tunnel, trailers(Block::new().field("a", "b"), 0), wrong()),
        row(
            "8.1",
            "trailers with a pseudo-field",
            Tunnel,
            trailers(Block::new().indexed(PATH), flag::END_STREAM),
            wrong(),
        ),
        row(
            "8.1",
            "trailers that do not end the stream",
            Tunnel,
            trailers(Block::new().field("x-checksum", "1"), 0),
            reset(1, PROTOCOL_ERROR),
        ),
    ]
}
