//! The server's end: one connection, many CONNECT requests, by either framing.

use crate::{
    Authority, BadRequest, Baggage, Engine, ServeError, TunnelStream, Windows,
    carrier::Carrier,
    headers,
    own::{self, OwnIncoming},
    reference::{self, ReferenceIncoming},
};
use http::{HeaderMap, StatusCode};
use runtime::drain;
use std::io;

/// Limits of a served connection.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// What does the framing.
    pub engine: Engine,
    /// Windows and frames.
    pub windows: Windows,
    /// Streams at a time.
    pub max_streams: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { engine: Engine::default(), windows: Windows::default(), max_streams: 200 }
    }
}

/// One request, to be accepted or rejected; dropping it resets the stream.
#[derive(Debug)]
pub struct Incoming {
    method: String,
    authority: Option<String>,
    headers: HeaderMap,
    respond: Respond,
}

#[derive(Debug)]
enum Respond {
    Own(OwnIncoming),
    Reference(ReferenceIncoming),
}

impl Incoming {
    pub(crate) fn own(method: String, authority: Option<String>, headers: HeaderMap, respond: OwnIncoming) -> Self {
        Self { method, authority, headers, respond: Respond::Own(respond) }
    }

    pub(crate) fn reference(
        method: String,
        authority: Option<String>,
        headers: HeaderMap,
        respond: ReferenceIncoming,
    ) -> Self {
        Self { method, authority, headers, respond: Respond::Reference(respond) }
    }

    /// Where the client wants to go, if the request is a proper CONNECT.
    pub fn authority(&self) -> Result<Authority, BadRequest> {
        headers::authority(&self.method, self.authority.as_deref())
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What the client says of itself.
    pub fn baggage(&self) -> Baggage {
        Baggage::from_headers(&self.headers)
    }

    /// The network that the request came from, when a gateway was on its way.
    pub fn forwarded_network(&self) -> Option<&str> {
        headers::forwarded_network(&self.headers)
    }

    /// Returns when nobody waits for an answer any more: the client has given up, or its connection has ended.
    pub async fn cancelled(&mut self) {
        match &mut self.respond {
            Respond::Own(respond) => respond.cancelled().await,
            Respond::Reference(respond) => respond.cancelled().await,
        }
    }

    /// Answers 200 with `headers` and opens the tunnel.
    pub fn accept(self, headers: HeaderMap) -> io::Result<TunnelStream> {
        match self.respond {
            Respond::Own(respond) => respond.accept(&headers).map(TunnelStream::own),
            Respond::Reference(respond) => respond.accept(headers).map(TunnelStream::reference),
        }
    }

    /// Answers with `status` and nothing else.
    pub fn reject(self, status: StatusCode) {
        match self.respond {
            Respond::Own(respond) => respond.reject(status.as_u16()),
            Respond::Reference(respond) => respond.reject(status),
        }
    }
}

/// Serves `carrier` until the peer closes it, or until `drain` and every open stream has ended. Each request runs `handler`
/// in a task of its own. A carrier that brings its keys needs our own framing.
pub async fn serve<H, F>(
    carrier: impl Into<Carrier>,
    options: ServerOptions,
    drain: drain::Watch,
    handler: H,
) -> Result<(), ServeError>
where
    H: Fn(Incoming) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let carrier = carrier.into();
    if options.engine == Engine::Own || carrier.records.is_some() {
        own::serve(carrier, options, drain, handler).await
    } else {
        reference::serve(carrier.io, options, drain, handler).await
    }
}
