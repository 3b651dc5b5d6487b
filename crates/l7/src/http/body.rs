//! Bodies on their way: streamed frame by frame, counted, trailers kept, never held as a whole unless they are small and may be
//! needed again.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

pub(super) use hyper::body::Incoming;

/// What goes wrong with a body.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Any body.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The largest body that is held so that it can be sent again.
const HELD: u64 = 64 << 10;

/// A body that is there already.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A request's body: one that can be sent again, or one that cannot.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Held.
    Held(Bytes),
    /// Streamed, until it was handed over.
    Stream(Option<Body>),
}

impl Outgoing {
    /// Holds a small body of known length, if `wanted`; streams any other.
    pub(super) async fn new(body: Incoming, wanted: bool, count: Count) -> Result<Self, BodyError> {
        if body.is_end_stream() {
            return Ok(Self::Held(Bytes::new()));
        }
        if wanted && body.size_hint().exact().is_some_and(|length| length <= HELD) {
            let bytes = body.collect().await?.to_bytes();
            count.add(bytes.len() as u64);
            return Ok(Self::Held(bytes));
        }
        let counted = Counted { body, count, end: None::<fn(Option<&HeaderMap>)>, ended: false };
        Ok(Self::Stream(Some(counted.map_err(Into::into).boxed_unsync())))
    }

    /// Whether it could be sent once more.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Stream(Some(_)))
    }

    /// Whether a copy can be made.
    pub(super) fn held(&self) -> Option<&Bytes> {
        match self {
            Self::Held(bytes) => Some(bytes),
            Self::Stream(_) => None,
        }
    }

    /// The body for one attempt.
    pub(super) fn take(&mut self) -> Option<Body> {
        match self {
            Self::Held(bytes) => Some(full(bytes.clone())),
            Self::Stream(body) => body.take(),
        }
    }

    /// Gives back what no attempt used.
    pub(super) fn restore(&mut self, body: Body) {
        if let Self::Stream(held @ None) = self {
            *held = Some(body);
        }
    }
}

/// Bytes that passed.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Count {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A body that counts what passes, and tells when it is over: with its trailers, or with nothing when it was cut.
pub(super) struct Counted<B, E: FnOnce(Option<&HeaderMap>)> {
    pub(super) body: B,
    pub(super) count: Count,
    pub(super) end: Option<E>,
    pub(super) ended: bool,
}

impl<B, E: FnOnce(Option<&HeaderMap>)> Counted<B, E> {
    fn over(&mut self, trailers: Option<&HeaderMap>) {
        self.ended = true;
        if let Some(end) = self.end.take() {
            end(trailers);
        }
    }
}

impl<B, E: FnOnce(Option<&HeaderMap>)> Drop for Counted<B, E> {
    fn drop(&mut self) {
        self.over(None);
    }
}

impl<B, E> http_body::Body for Counted<B, E>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    E: FnOnce(Option<&HeaderMap>) + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.count.add(data.len() as u64);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.over(Some(trailers));
                }
            }
            Some(Err(_)) => {}
            None => self.over(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
