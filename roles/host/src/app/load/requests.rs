//! Small HTTP requests, on connections that stay open or on a new one each.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Histogram, Tally, open};

const KEEP: &[u8] = b"GET / HTTP/1.1\r\nhost: sink\r\n\r\n";
const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nhost: sink\r\nconnection: close\r\n\r\n";
/// Longest answer that is taken.
const LIMIT: usize = 4096;
/// Pause after a connection that failed, so that a refusing peer is not asked in a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(1);

/// One request after the other on each connection. The first of each is not counted: it opens the way.
pub(super) async fn keep_alive(target: SocketAddr, connections: u16, duration: Duration) -> io::Result<Tally> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = open(target).await?;
        exchange(&mut stream, KEEP, &mut [0; LIMIT]).await?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let mut asking: JoinSet<_> = streams.into_iter().map(|stream| ask(stream, begun + duration)).collect();
    let mut tally = Tally::default();
    while let Some(latencies) = asking.join_next().await {
        tally.add(&latencies.map_err(io::Error::other)??);
    }
    tally.elapsed = begun.elapsed();
    Ok(tally)
}

/// A connection, a request, its answer and the end, again and again; failures are counted and followed by another try.
pub(super) async fn connect(target: SocketAddr, connections: u16, duration: Duration) -> io::Result<Tally> {
    once(target).await?;
    let begun = Instant::now();
    let mut asking: JoinSet<_> = (0..connections).map(|_| ask_anew(target, begun + duration)).collect();
    let mut tally = Tally::default();
    while let Some(done) = asking.join_next().await {
        let (latencies, errors) = done.map_err(io::Error::other)?;
        tally.add(&latencies);
        tally.errors += errors;
    }
    tally.elapsed = begun.elapsed();
    Ok(tally)
}

impl Tally {
    fn add(&mut self, latencies: &Latencies) {
        self.operations += latencies.count;
        self.latencies.merge(&latencies.histogram);
    }
}

/// The latencies of one task.
#[derive(Debug, Default)]
struct Latencies {
    count: u64,
    histogram: Histogram,
}

impl Latencies {
    fn record(&mut self, latency: Duration) {
        self.count += 1;
        self.histogram.record(latency);
    }
}

async fn ask(mut stream: TcpStream, until: Instant) -> io::Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut buffer = [0; LIMIT];
    let mut begun = Instant::now();
    while begun < until {
        exchange(&mut stream, KEEP, &mut buffer).await?;
        let ended = Instant::now();
        latencies.record(ended - begun);
        begun = ended;
    }
    Ok(latencies)
}

async fn ask_anew(target: SocketAddr, until: Instant) -> (Latencies, u64) {
    let (mut latencies, mut errors) = (Latencies::default(), 0);
    loop {
        let begun = Instant::now();
        if begun >= until {
            return (latencies, errors);
        }
        match once(target).await {
            Ok(()) => latencies.record(begun.elapsed()),
            Err(_) => {
                errors += 1;
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// The sink closes first, so that no port of this side waits for stragglers.
async fn once(target: SocketAddr) -> io::Result<()> {
    let mut stream = open(target).await?;
    let mut buffer = [0; LIMIT];
    exchange(&mut stream, CLOSE, &mut buffer).await?;
    match stream.read(&mut buffer).await? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the last answer")),
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8; LIMIT]) -> io::Result<()> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        match answer_length(&buffer[..filled])? {
            Some(length) if length == filled => return Ok(()),
            Some(length) if length < filled || length > LIMIT => return Err(wrong("an answer of another length")),
            _ => {}
        }
    }
}

/// How long the answer is that begins here, once its head is complete.
fn answer_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() < LIMIT { Ok(None) } else { Err(wrong("a head without an end")) };
    };
    let text = str::from_utf8(&bytes[..head]).map_err(|_| wrong("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    if !lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 200")) {
        return Err(wrong("an answer other than 200"));
    }
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    let length: usize =
        length.and_then(|value| value.parse().ok()).ok_or_else(|| wrong("an answer without a length"))?;
    Ok(length.checked_add(head + 4))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Some(40))]
    #[case("HTTP/1.1 200 OK\r\nContent-Length:0\r\n\r\n", Some(37))]
    #[case("HTTP/1.1 200 OK\r\ncontent-le", None)]
    fn lengths(#[case] bytes: &str, #[case] length: Option<usize>) {
        assert_eq!(answer_length(bytes.as_bytes()).unwrap(), length);
    }

    #[rstest::rstest]
    #[case("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")]
    #[case("HTTP/1.1 200 OK\r\n\r\n")]
    #[case("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n")]
    fn what_is_no_good_answer_fails(#[case] bytes: &str) {
        assert!(answer_length(bytes.as_bytes()).is_err());
    }
}
