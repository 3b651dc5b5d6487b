//! A client that writes whatever it is told and reads frames as they come.

use super::{Frame, flag, hpack, kind};
use anyhow::{Result, anyhow, bail};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
    time,
};

/// How long anything may be waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A frame that is none of the following.
    Frame(Frame),
    /// An answer: its stream, its fields, and whether it is the last of the stream.
    Answer(u32, Vec<hpack::Field>, bool),
    /// The end of the connection, in order or not.
    End,
}

impl Event {
    /// The status of an answer on a stream.
    pub fn status(&self, stream: u32) -> Option<u16> {
        match self {
            Self::Answer(of, fields, _) if *of == stream => {
                fields.iter().find(|(name, _)| name == ":status").and_then(|(_, value)| value.parse().ok())
            }
            _ => None,
        }
    }
}

/// A client's end of a connection.
#[derive(Debug)]
pub struct Peer<IO> {
    write: WriteHalf<IO>,
    reading: JoinHandle<()>,
    frames: mpsc::UnboundedReceiver<Frame>,
    decoder: hpack::Decoder,
    ended: bool,
    goaway: Option<u32>,
}

impl<IO: AsyncRead + AsyncWrite + Send + 'static> Peer<IO> {
    /// Nothing is written yet; reading begins.
    pub fn new(io: IO) -> Self {
        let (read, write) = tokio::io::split(io);
        let (found, frames) = mpsc::unbounded_channel();
        let reading = tokio::spawn(read_frames(read, found));
        Self { write, reading, frames, decoder: hpack::Decoder::default(), ended: false, goaway: None }
    }

    /// Says hello with these settings, and answers the server's hello.
    pub async fn greet(&mut self, settings: &[(u16, u32)]) -> Result<()> {
        self.send(super::PREFACE).await;
        self.send(&Frame::settings(settings).bytes()).await;
        self.until("SETTINGS", |event| matches!(event, Event::Frame(frame) if frame.kind == kind::SETTINGS)).await?;
        self.send(&Frame::settings_ack().bytes()).await;
        Ok(())
    }

    /// Asks for a tunnel; the status of the answer.
    pub async fn connect(&mut self, stream: u32, authority: &str) -> Result<u16> {
        self.send(&Frame::headers(stream, hpack::Block::connect(authority)).bytes()).await;
        let answer = self.until("an answer", |event| event.status(stream).is_some()).await?;
        answer.status(stream).ok_or_else(|| anyhow!("an answer without status"))
    }

    /// Writes bytes. A server that no longer listens shows in what is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        // In pieces no larger than a pipe, so that a peer that stopped reading is noticed.
        let _gone = time::timeout(PATIENCE, async {
            self.write.write_all(bytes).await?;
            self.write.flush().await
        })
        .await;
    }

    /// Ends what we write.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    /// What comes next, if something does.
    pub async fn next(&mut self) -> Option<Event> {
        let received = time::timeout(PATIENCE, self.frames.recv()).await.ok()?;
        Some(self.take(received))
    }

    /// What has come already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.frames.try_recv() {
            Ok(frame) => Some(self.take(Some(frame))),
            Err(mpsc::error::TryRecvError::Disconnected) => Some(self.take(None)),
            Err(mpsc::error::TryRecvError::Empty) => None,
        }
    }

    /// Whether the end has come.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The code of a GOAWAY that has come.
    pub fn goaway(&self) -> Option<u32> {
        self.goaway
    }

    fn take(&mut self, received: Option<Frame>) -> Event {
        let Some(frame) = received else {
            self.ended = true;
            return Event::End;
        };
        if frame.kind == kind::GOAWAY {
            self.goaway = frame.code();
        }
        if frame.kind != kind::HEADERS {
            return Event::Frame(frame);
        }
        match self.decoder.decode(&frame.payload) {
            Ok(fields) => Event::Answer(frame.stream, fields, frame.has(flag::END_STREAM)),
            Err(_) => Event::Frame(frame),
        }
    }

    /// Passes over what comes until it is what is looked for.
    pub async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Result<Event> {
        loop {
            match self.next().await {
                Some(event) if wanted(&event) => return Ok(event),
                Some(Event::End) => bail!("the connection ended before {what}"),
                Some(_) => {}
                None => bail!("no {what} within {PATIENCE:?}"),
            }
        }
    }
}

impl<IO> Drop for Peer<IO> {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read_frames<IO: AsyncRead>(mut read: ReadHalf<IO>, found: mpsc::UnboundedSender<Frame>) {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    // An error is an end like any other; what was read before it counts.
    while let Ok(length @ 1..) = read.read(&mut chunk).await {
        buffer.extend(&chunk[..length]);
        while let Some(frame) = Frame::take(&mut buffer) {
            if found.send(frame).is_err() {
                return;
            }
        }
    }
}
