//! The client's end: opening streams on a connection that a task of its own drives.

use super::{
    driver::Driver,
    entry::{Answer, remember},
    frame::flag,
    link::{Link, Side, State},
    message,
    stream::OwnStream,
};
use crate::{ConnectRequest, OpenError, Opened, TunnelStream, Windows, carrier::Carrier, client::Refusal};
use http::HeaderMap;
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

/// Ids that are left for one connection before another is made.
const LAST_ID: u32 = (1 << 31) - 3;
const OK: u16 = 200;

/// A handle on one connection, which ends with its last handle and its last stream.
#[derive(Debug)]
pub(crate) struct OwnClient {
    link: Arc<Link>,
}

impl Clone for OwnClient {
    fn clone(&self) -> Self {
        self.link.lock().handles += 1;
        Self { link: Arc::clone(&self.link) }
    }
}

impl Drop for OwnClient {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.handles -= 1;
        if state.handles == 0 {
            state.wake_driver();
        }
    }
}

impl OwnClient {
    /// Speaks HTTP/2 over a carrier; `max_streams` is assumed until the peer says otherwise.
    pub(crate) fn start(carrier: Carrier, windows: Windows, max_streams: usize) -> Self {
        let link = Arc::new(Link::new(Side::Client, windows, max_streams));
        link.lock().handles = 1;
        let mut driver = Driver::new(carrier, Arc::clone(&link), Side::Client, windows.frame);
        runtime::task::spawn("hbone client connection", async move {
            let ended = poll_fn(|cx| driver.poll(cx)).await;
            tracing::debug!(%ended, "tunnel connection ended");
        });
        Self { link }
    }

    pub(crate) fn is_ended(&self) -> bool {
        let state = self.link.lock();
        state.ended.is_some() || state.going || state.peer_goes.is_some() || state.next > LAST_ID
    }

    pub(crate) fn max_streams(&self) -> usize {
        self.link.lock().peer.max_streams
    }

    pub(crate) fn abort(&self) {
        let mut state = self.link.lock();
        state.cut = true;
        state.wake_driver();
    }

    /// Opens a tunnel.
    pub(crate) async fn open(&self, request: &ConnectRequest) -> Result<Opened, Refusal> {
        if self.is_ended() {
            return Err(Refusal::Unsent);
        }
        let stream = self.ask(request);
        let (status, headers) = poll_fn(|cx| answer(&stream, cx)).await?;
        if status != OK {
            return Err(Refusal::Final(OpenError::Status(status)));
        }
        Ok(Opened { stream: TunnelStream::own(stream), headers, peer: () })
    }

    fn ask(&self, request: &ConnectRequest) -> OwnStream {
        let mut block = Vec::with_capacity(512);
        message::request(&mut block, request);
        let mut state = self.link.lock();
        let id = state.next;
        state.next += 2;
        state.insert(id);
        state.headers(id, flag::END_HEADERS, &block);
        state.wake_driver();
        OwnStream { link: Arc::clone(&self.link), id }
    }
}

/// The peer's answer to a request.
fn answer(stream: &OwnStream, cx: &Context<'_>) -> Poll<Result<(u16, HeaderMap), Refusal>> {
    let mut state = stream.link.lock();
    let state: &mut State = &mut state;
    let Some(entry) = state.streams.get_mut(&stream.id) else { return Poll::Ready(Err(Refusal::Unsent)) };
    if let Answer::Given(status, headers) = &mut entry.answer {
        return Poll::Ready(Ok((*status, std::mem::take(headers))));
    }
    if matches!(entry.answer, Answer::Unhandled) {
        // The peer wants no more streams here.
        state.going = true;
        return Poll::Ready(Err(Refusal::Unsent));
    }
    if let Some(code) = entry.stopped {
        let what = format!("the peer reset the request with HTTP/2 error code {}", code.0);
        return Poll::Ready(Err(Refusal::Final(OpenError::Http2(what))));
    }
    if let Some(ended) = &state.ended {
        return Poll::Ready(Err(Refusal::Final(OpenError::Http2(ended.to_string()))));
    }
    remember(&mut entry.reader, cx);
    Poll::Pending
}
