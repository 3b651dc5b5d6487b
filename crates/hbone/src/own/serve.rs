//! The server's end: one connection, many requests.

use super::{
    driver::{self, Driver},
    entry::{Answer, remember},
    error::Ended,
    link::{Arrived, Link, Side},
    message::Request,
    stream::OwnStream,
};
use crate::{
    Incoming, ServeError, ServerOptions,
    carrier::Carrier,
    liveness::{INTERVAL, PATIENCE},
};
use http::HeaderMap;
use runtime::drain;
use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll};

const OK: u16 = 200;

/// The answering half of a request.
#[derive(Debug)]
pub(crate) struct OwnIncoming(OwnStream);

impl OwnIncoming {
    /// Opens the tunnel.
    pub(crate) fn accept(self, headers: &HeaderMap) -> io::Result<OwnStream> {
        self.answer(OK, headers, false)?;
        Ok(self.0)
    }

    /// Says no. A client that has gone needs no answer.
    pub(crate) fn reject(self, status: u16) {
        let _gone = self.answer(status, &HeaderMap::new(), true);
    }

    /// Returns when nobody waits for an answer any more.
    pub(crate) async fn cancelled(&self) {
        let OwnStream { link, id } = &self.0;
        poll_fn(|cx| {
            let mut state = link.lock();
            let over = state.ended.is_some();
            match state.streams.get_mut(id) {
                Some(stream) if stream.stopped.is_none() && !over => {
                    remember(&mut stream.reader, cx);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    fn answer(&self, status: u16, headers: &HeaderMap, end: bool) -> io::Result<()> {
        let OwnStream { link, id } = &self.0;
        let mut state = link.lock();
        if let Some(ended) = &state.ended {
            return Err(ended.as_io());
        }
        let stream = state.streams.get_mut(id).filter(|stream| !stream.is_closed());
        stream.ok_or(io::ErrorKind::ConnectionReset)?.answer = Answer::Given(status, HeaderMap::new());
        state.respond(*id, status, headers, end);
        Ok(())
    }
}

/// Something that the serving loop has to do.
enum Event {
    Ended(Ended),
    Requests(Vec<Arrived>),
}

/// Serves a carrier until the peer closes it, or until `drain` and every open stream has ended.
pub(crate) async fn serve<H, F>(
    carrier: Carrier,
    options: ServerOptions,
    drain: drain::Watch,
    handler: H,
) -> Result<(), ServeError>
where
    H: Fn(Incoming) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let max_streams = usize::try_from(options.max_streams).unwrap_or(usize::MAX);
    let link = Arc::new(Link::new(Side::Server, options.windows, max_streams));
    let mut driver = Driver::new(carrier, Arc::clone(&link), Side::Server, options.windows.frame);
    let (mut draining, mut forced) = (pin!(drain.draining()), pin!(drain.forced()));
    let (mut leaving, mut cut) = (false, false);
    // Requests may arrive together with the end of the connection, and come first.
    let mut over = None;
    loop {
        let event = tokio::select! {
            biased;
            event = poll_fn(|cx| {
                if let Poll::Ready(ended) = driver.poll(cx) {
                    over = Some(ended);
                }
                let mut state = link.lock();
                if leaving && state.farewell_heard {
                    driver::say_farewell(&mut state);
                }
                if !state.arrived.is_empty() {
                    return Poll::Ready(Event::Requests(state.arrived.drain(..).collect()));
                }
                over.take().map_or(Poll::Pending, |ended| Poll::Ready(Event::Ended(ended)))
            }) => event,
            () = &mut draining, if !leaving => {
                leaving = true;
                driver::begin_farewell(&mut link.lock());
                continue;
            }
            () = &mut forced, if !cut => {
                cut = true;
                link.lock().cut = true;
                continue;
            }
        };
        match event {
            Event::Requests(requests) => {
                for Arrived { id, request } in requests {
                    let respond = OwnIncoming(OwnStream { link: Arc::clone(&link), id });
                    let Request { method, authority, headers } = request;
                    runtime::task::spawn("hbone stream", handler(Incoming::own(method, authority, headers, respond)));
                }
            }
            Event::Ended(Ended::Closed | Ended::Cut) => return Ok(()),
            Event::Ended(Ended::Silent) => return Err(ServeError::Silent(INTERVAL + PATIENCE)),
            Event::Ended(ended) => return Err(ServeError::Http2(ended.to_string())),
        }
    }
}
