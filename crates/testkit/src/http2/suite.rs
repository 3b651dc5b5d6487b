//! Holds a server against the table of [`cases`](super::cases).

use super::{
    Frame,
    cases::{Case, Reaction, Stage, Target},
    code, flag, hpack, kind,
    peer::{Event, Peer},
};
use anyhow::{Result, anyhow, bail};
use tokio::io::{AsyncRead, AsyncWrite};

/// Sent after a case's bytes: its answer says that they have been read.
const FENCE: [u8; 8] = *b"fence\0\0\0";
/// A stream that no case uses.
const AFTERWARDS: u32 = 0x7fff_0001;

/// What a server did.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    /// What was sent has been read.
    fenced: bool,
    ended: bool,
    /// Another tunnel was opened afterwards, or there was no room for one.
    serves: bool,
}

/// How exactly a server must name an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// As the clause does.
    Exact,
    /// PROTOCOL_ERROR stands for any other; the `h2` crate knows few others.
    Generic,
    /// The same, and the end may come without GOAWAY: over TCP what is still unread takes it along.
    OrCut,
}

/// Sends one case over a fresh connection; an error says what came instead of what is right.
pub async fn check<IO>(io: IO, case: &Case, target: &Target, codes: Codes) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let case = &allowing(case, codes);
    let mut peer = Peer::new(io);
    reach(&mut peer, case.stage, target).await?;
    peer.send(&case.bytes).await;
    peer.send(&Frame::ping(FENCE).bytes()).await;
    let mut seen = Seen::default();
    let done = |seen: &Seen| seen.ended || seen.fenced && case.right.iter().any(|right| seen.shows(right));
    while !done(&seen) && seen.next(&mut peer).await {}
    if !seen.ended {
        afterwards(&mut peer, &mut seen, target).await;
    }
    if !case.right.iter().any(|right| seen.is(right)) {
        bail!("{}, {}: right is {:?}, but {}", case.clause, case.what, case.right, seen.told());
    }
    if !seen.ended && !seen.serves && case.clause != "6.8" {
        bail!("{}, {}: the connection serves no more: {}", case.clause, case.what, seen.told());
    }
    Ok(())
}

fn allowing(case: &Case, codes: Codes) -> Case {
    let mut case = case.clone();
    if codes == Codes::OrCut && case.right.iter().any(|right| matches!(right, Reaction::Close(_))) {
        case.right.push(Reaction::End);
    }
    if codes != Codes::Exact {
        let generic = case.right.iter().filter_map(|right| match right {
            Reaction::Close(_) => Some(Reaction::Close(code::PROTOCOL_ERROR)),
            Reaction::Reset(stream, _) => Some(Reaction::Reset(*stream, code::PROTOCOL_ERROR)),
            _ => None,
        });
        case.right.extend(generic.collect::<Vec<_>>());
    }
    case
}

/// Brings a connection to where a case begins; bytes of stream 1 that came on the way.
async fn reach<IO>(peer: &mut Peer<IO>, stage: Stage, target: &Target) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    if stage == Stage::Raw {
        return Ok(());
    }
    peer.greet(&[]).await?;
    let end = |authority: &str| {
        Frame::headers(1, hpack::Block::connect(authority)).with_flags(flag::END_HEADERS | flag::END_STREAM).bytes()
    };
    match stage {
        Stage::Raw | Stage::Greeted => {}
        Stage::Tunnel => accepted(peer.connect(1, &target.echo).await?)?,
        Stage::HalfClosed => {
            peer.send(&end(&target.hold)).await;
            peer.until("an answer", |event| event.status(1).is_some()).await?;
        }
        Stage::Closed => {
            peer.send(&end(&target.echo)).await;
            peer.until("the end of stream 1", ends_stream_1).await?;
        }
        Stage::Reset => {
            accepted(peer.connect(1, &target.echo).await?)?;
            peer.send(&Frame::reset(1, code::CANCEL).bytes()).await;
        }
    }
    Ok(())
}

fn accepted(status: u16) -> Result<()> {
    if status == 200 { Ok(()) } else { Err(anyhow!("the tunnel that the case needs was answered with {status}")) }
}

fn ends_stream_1(event: &Event) -> bool {
    match event {
        Event::Frame(frame) => frame.stream == 1 && frame.kind == kind::DATA && frame.has(flag::END_STREAM),
        Event::Answer(1, _, last) => *last,
        _ => false,
    }
}

/// Whatever the case was, the connection goes on to serve.
async fn afterwards<IO>(peer: &mut Peer<IO>, seen: &mut Seen, target: &Target)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    peer.send(&Frame::headers(AFTERWARDS, hpack::Block::connect(&target.echo)).bytes()).await;
    while !seen.ended && !seen.serves && seen.next(peer).await {
        seen.serves = seen.shows(&Reaction::Answer(AFTERWARDS, 200))
            || seen.shows(&Reaction::Reset(AFTERWARDS, code::REFUSED_STREAM));
    }
}

impl Seen {
    /// Waits for one thing more; `false` when nothing comes.
    async fn next<IO>(&mut self, peer: &mut Peer<IO>) -> bool
    where
        IO: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Some(event) = peer.next().await else { return false };
        match &event {
            Event::End => self.ended = true,
            Event::Frame(frame) if frame.kind == kind::PING && frame.has(flag::ACK) => {
                self.fenced |= frame.payload == FENCE;
            }
            _ => {}
        }
        self.events.push(event);
        true
    }

    fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.events.iter().filter_map(|event| match event {
            Event::Frame(frame) => Some(frame),
            _ => None,
        })
    }

    fn goaway(&self) -> Option<u32> {
        self.frames().filter(|frame| frame.kind == kind::GOAWAY).filter_map(Frame::code).last()
    }

    fn reset_of(&self, stream: u32) -> Option<u32> {
        self.frames().find(|frame| frame.kind == kind::RST_STREAM && frame.stream == stream).and_then(Frame::code)
    }

    fn data(&self) -> usize {
        let of_stream_1 = self.frames().filter(|frame| frame.kind == kind::DATA && frame.stream == 1);
        of_stream_1.map(|frame| frame.payload.len()).sum()
    }

    /// Whether a reaction has been seen so far.
    fn shows(&self, reaction: &Reaction) -> bool {
        match *reaction {
            Reaction::Close(code) => self.ended && self.goaway() == Some(code),
            Reaction::End => self.ended && self.goaway().is_none(),
            Reaction::Reset(stream, code) => self.reset_of(stream) == Some(code),
            Reaction::Answer(stream, status) => self.events.iter().any(|event| event.status(stream) == Some(status)),
            Reaction::Data(length) => self.data() == length,
            Reaction::Ignore => self.fenced,
        }
    }

    /// Whether a reaction is what was seen, and nothing worse.
    fn is(&self, reaction: &Reaction) -> bool {
        let calm = !self.ended && self.goaway().is_none();
        self.shows(reaction)
            && match *reaction {
                Reaction::Close(_) | Reaction::End => true,
                Reaction::Reset(..) => calm,
                Reaction::Answer(stream, _) => calm && self.reset_of(stream).unwrap_or_default() == code::NO_ERROR,
                Reaction::Data(_) | Reaction::Ignore => calm && self.reset_of(1).is_none(),
            }
    }

    fn told(&self) -> String {
        let mut told: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Frame(frame) => frame.code().map(|code| match frame.kind {
                    kind::GOAWAY => format!("GOAWAY {code}"),
                    _ => format!("RST_STREAM {code} of {}", frame.stream),
                }),
                Event::Answer(stream, ..) => {
                    Some(format!("status {} on {stream}", event.status(*stream).unwrap_or_default()))
                }
                Event::End => Some("the end".to_owned()),
            })
            .collect();
        told.push(format!("{} bytes", self.data()));
        if self.fenced {
            told.push("all of it read".to_owned());
        }
        told.join(", ")
    }
}
