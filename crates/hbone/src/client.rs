//! The client's end of one connection that carries tunnels, by either framing.

use crate::{ConnectRequest, Engine, OpenError, TunnelStream, Windows, carrier::Carrier, own::OwnClient, reference};
use http::HeaderMap;

/// A tunnel that was opened.
#[derive(Debug)]
pub struct Opened<P = ()> {
    /// The connection inside.
    pub stream: TunnelStream,
    /// Headers of the 200, such as the destination's baggage.
    pub headers: HeaderMap,
    /// What is known of the connection's other end.
    pub peer: P,
}

/// Why a connection did not open a tunnel.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The peer never handled the request: another connection may.
    Unsent,
    /// It is not to be repeated.
    Final(OpenError),
}

/// One HTTP/2 connection; its task runs until the last handle and the last stream are gone.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    Own(OwnClient),
    Reference(reference::Client),
}

impl Client {
    /// Speaks HTTP/2 over `carrier`; `max_streams` is assumed until the peer says otherwise. A carrier that brings its keys
    /// needs our own framing.
    pub(crate) async fn handshake(
        engine: Engine,
        carrier: Carrier,
        windows: Windows,
        max_streams: usize,
    ) -> Result<Self, OpenError> {
        if engine == Engine::Own || carrier.records.is_some() {
            return Ok(Self::Own(OwnClient::start(carrier, windows, max_streams)));
        }
        Ok(Self::Reference(reference::Client::handshake(carrier.io, windows, max_streams).await?))
    }

    /// Whether the connection cannot carry new streams any more.
    pub(crate) fn is_ended(&self) -> bool {
        match self {
            Self::Own(client) => client.is_ended(),
            Self::Reference(client) => client.is_ended(),
        }
    }

    /// Streams that the peer allows at a time.
    pub(crate) fn max_streams(&self) -> usize {
        match self {
            Self::Own(client) => client.max_streams(),
            Self::Reference(client) => client.max_streams(),
        }
    }

    /// Cuts the connection and everything in it.
    pub(crate) fn abort(&self) {
        match self {
            Self::Own(client) => client.abort(),
            Self::Reference(client) => client.abort(),
        }
    }

    /// Opens a tunnel.
    pub(crate) async fn open(&self, request: &ConnectRequest) -> Result<Opened, Refusal> {
        match self {
            Self::Own(client) => client.open(request).await,
            Self::Reference(client) => client.open(request).await,
        }
    }
}

/// Opens a tunnel over `carrier`, which carries nothing else: the inner leg of double HBONE (ztunnel.md §4.8).
pub async fn connect_once(carrier: impl Into<Carrier>, request: &ConnectRequest) -> Result<Opened, OpenError> {
    let client = Client::handshake(Engine::default(), carrier.into(), Windows::default(), 1).await?;
    let opened = client.open(request).await.map_err(|refusal| match refusal {
        Refusal::Unsent => OpenError::Http2("the peer closed the connection".to_owned()),
        Refusal::Final(error) => error,
    })?;
    let stream = opened.stream.with_place(client);
    Ok(Opened { stream, headers: opened.headers, peer: () })
}
