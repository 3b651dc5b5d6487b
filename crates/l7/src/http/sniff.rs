//! What a client speaks, told by its first bytes: HTTP/1, HTTP/2, or something that is only carried.

use bytes::{Buf, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is waited for: WebDAV's are the longest in use.
const MAX_METHOD: usize = 18;
/// How long a silent client is taken for one that waits for the server to speak.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Bytes.
    Other,
}

/// Reads as much as it takes to tell, and gives a stream that still has it.
pub async fn sniff<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<(Spoken, Prefixed<IO>)> {
    let mut read = BytesMut::with_capacity(64);
    let telling = async {
        loop {
            if let Some(spoken) = tell(&read) {
                return Ok::<_, io::Error>(spoken);
            }
            if io.read_buf(&mut read).await? == 0 {
                return Ok(Spoken::Other);
            }
        }
    };
    let spoken = match tokio::time::timeout(PATIENCE, telling).await {
        Ok(told) => told?,
        Err(_) => Spoken::Other,
    };
    Ok((spoken, Prefixed { read: read.freeze(), io }))
}

/// `None` while more is needed.
fn tell(read: &[u8]) -> Option<Spoken> {
    let common = read.len().min(PREFACE.len());
    if read[..common] == PREFACE[..common] {
        return (read.len() >= PREFACE.len()).then_some(Spoken::Http2);
    }
    let is_token = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    match read.iter().position(|byte| !is_token(byte)) {
        Some(end) if end > 0 && read[end] == b' ' => match read.get(end + 1) {
            Some(b'/' | b'*' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'[') => Some(Spoken::Http1),
            Some(_) => Some(Spoken::Other),
            None => None,
        },
        Some(_) => Some(Spoken::Other),
        None => (read.len() > MAX_METHOD).then_some(Spoken::Other),
    }
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub struct Prefixed<IO> {
    read: Bytes,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"GET / HTTP/1.1\r\n", Some(Spoken::Http1))]
    #[case(b"GE", None)]
    #[case(b"PR", None)]
    #[case(b"PROPFIND /", Some(Spoken::Http1))]
    #[case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None)]
    #[case(PREFACE, Some(Spoken::Http2))]
    #[case(b"M-SEARCH * HTTP/1.1", Some(Spoken::Http1))]
    #[case(b"\x16\x03\x01", Some(Spoken::Other))]
    #[case(b"SSH-2.0-x", Some(Spoken::Other))]
    #[case(b"AAAAAAAAAAAAAAAAAAAAAAAA", Some(Spoken::Other))]
    #[case(b"", None)]
    fn first_bytes(#[case] read: &[u8], #[case] expected: Option<Spoken>) {
        assert_eq!(tell(read), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_the_server_is_only_carried() {
        let (near, _silent) = tokio::io::duplex(64);
        assert_eq!(sniff(near).await.unwrap().0, Spoken::Other);
    }
}
