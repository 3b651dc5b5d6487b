//! `app sink`: the other end of `app load`, on one thread and with as little work per byte as possible.
//!
//! A connection that begins with a zero byte is drained and, when it ends, told how many bytes arrived (eight bytes, big-endian).
//! Any other is taken for HTTP/1.1 requests without a body, each of which gets the same answer.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where to listen.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Port of both kinds of traffic
    #[arg(long, default_value_t = 9100)]
    port: u16,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Longest request head.
const HEAD_LIMIT: usize = 4096;
const DRAIN: usize = 256 * 1024;

pub(super) fn main(args: &Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let thread = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread.block_on(async {
        let listener = super::listen(args.port).await?;
        println!("listening port={}", args.port);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            () = serve(listener) => {}
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

pub(super) async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    // How a connection ends is the load maker's to tell.
                    let _told_there = converse(stream).await;
                });
            }
            Err(error) => {
                println!("accept error=\"{error}\"");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; HEAD_LIMIT];
    match stream.read(&mut buffer).await? {
        0 => Ok(()),
        count if buffer[0] == 0 => drain(stream, count as u64).await,
        count => answer(stream, buffer, count).await,
    }
}

async fn drain(mut stream: TcpStream, mut total: u64) -> io::Result<()> {
    let mut buffer = vec![0; DRAIN];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => total += count as u64,
        }
    }
    stream.write_u64(total).await?;
    stream.shutdown().await
}

async fn answer(mut stream: TcpStream, mut buffer: Vec<u8>, mut filled: usize) -> io::Result<()> {
    loop {
        while let Some(head) = take_head(&buffer[..filled]) {
            stream.write_all(ANSWER).await?;
            if head.last {
                return stream.shutdown().await;
            }
            buffer.copy_within(head.length..filled, 0);
            filled -= head.length;
        }
        if filled == buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request longer than is taken"));
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            count => filled += count,
        }
    }
}

/// A complete request head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    /// The client wants the connection closed after the answer.
    last: bool,
}

fn take_head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let closes = |line: &[u8]| line.trim_ascii().eq_ignore_ascii_case(b"connection: close");
    Some(Head { length: end + 4, last: bytes[..end].split(|byte| *byte == b'\n').any(closes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("GET / HTTP/1.1\r\n", None)]
    #[case("GET / HTTP/1.1\r\n\r\nGET", Some((18, false)))]
    #[case("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", Some((37, true)))]
    #[case("GET /connection: close HTTP/1.1\r\n\r\n", Some((35, false)))]
    fn heads(#[case] bytes: &str, #[case] head: Option<(usize, bool)>) {
        assert_eq!(take_head(bytes.as_bytes()), head.map(|(length, last)| Head { length, last }));
    }
}
