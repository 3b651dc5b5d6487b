//! HTTP connections to endpoints, kept for the next request: HTTP/1 ones by whoever used them last, HTTP/2 ones shared.

use super::body::{Body, Incoming};
use crate::balance::Endpoint;
use http::{Request, Response};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// How long an unused connection is kept when nobody says otherwise.
const IDLE: Duration = Duration::from_secs(60);
/// Unused HTTP/1 connections to one endpoint.
const MAX_IDLE: usize = 256;
/// How long a connection may take to be free again after its response.
const FREEING: Duration = Duration::from_secs(5);

/// Makes byte streams to endpoints, secured as the mesh asks.
pub trait Connect: Send + Sync + 'static {
    /// The stream.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects, within a deadline of its own or the given one.
    fn connect(
        &self,
        endpoint: &Endpoint,
        within: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Io, String>> + Send;
}

/// Whether an endpoint is spoken to in HTTP/2.
pub(super) type IsHttp2 = bool;

type Key = (model::Str, SocketAddr);
type Http1 = http1::SendRequest<Body>;
type Http2 = http2::SendRequest<Body>;

#[derive(Debug)]
struct Kept {
    sender: Http1,
    since: Instant,
}

#[derive(Debug, Default)]
struct Connections {
    http1: HashMap<Key, Vec<Kept>>,
    http2: HashMap<Key, Http2>,
}

/// The connections of one thread.
#[derive(Debug)]
pub struct Pool<C> {
    connect: C,
    connections: Arc<Mutex<Connections>>,
}

/// A connection for one request.
#[derive(Debug)]
pub(super) enum Lease {
    /// HTTP/1, alone.
    Http1(Http1, Return, bool),
    /// HTTP/2, with others.
    Http2(Http2, bool),
}

/// Gives an HTTP/1 connection back when its response has been read.
#[derive(Debug)]
pub(super) struct Return {
    key: Key,
    connections: Arc<Mutex<Connections>>,
}

/// Why a request has no response.
#[derive(Debug)]
pub(super) enum SendError {
    /// It never left: the connection was dead. The request is given back.
    Unsent(Box<Request<Body>>),
    /// It may have been seen.
    Lost(hyper::Error),
}

impl<C: Connect> Pool<C> {
    /// An empty pool.
    pub fn new(connect: C) -> Self {
        Self { connect, connections: Arc::default() }
    }

    /// A connection to an endpoint: a kept one unless `fresh`, else a new one.
    pub(super) async fn lease(
        &self,
        endpoint: &Endpoint,
        http2: IsHttp2,
        fresh: bool,
        within: Option<Duration>,
    ) -> Result<Lease, String> {
        let key = (endpoint.workload.uid.clone(), endpoint.address);
        if !fresh && let Some(kept) = self.kept(&key, http2) {
            return Ok(kept);
        }
        let io = TokioIo::new(self.connect.connect(endpoint, within).await?);
        let failed = |error: hyper::Error| format!("speaking HTTP to {}: {error}", endpoint.address);
        if http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(16 << 20)
                .handshake(io)
                .await
                .map_err(failed)?;
            runtime::task::spawn("http2 to endpoint", async move { drop(connection.await) });
            self.connections.lock().http2.insert(key, sender.clone());
            return Ok(Lease::Http2(sender, false));
        }
        let (sender, connection) = http1::Builder::new().handshake(io).await.map_err(failed)?;
        runtime::task::spawn("http1 to endpoint", async move { drop(connection.with_upgrades().await) });
        Ok(Lease::Http1(sender, Return { key, connections: self.connections.clone() }, false))
    }

    fn kept(&self, key: &Key, http2: IsHttp2) -> Option<Lease> {
        let mut connections = self.connections.lock();
        if http2 {
            let sender = connections.http2.get(key)?.clone();
            if !sender.is_closed() {
                return Some(Lease::Http2(sender, true));
            }
            connections.http2.remove(key);
            return None;
        }
        let kept = connections.http1.get_mut(key)?;
        let found = loop {
            let last = kept.pop()?;
            if last.since.elapsed() < IDLE && last.sender.is_ready() {
                break last.sender;
            }
        };
        Some(Lease::Http1(found, Return { key: key.clone(), connections: self.connections.clone() }, true))
    }

    /// Lets go of what nobody has used for a while.
    pub fn sweep(&self) {
        let mut connections = self.connections.lock();
        connections.http1.retain(|_, kept| {
            kept.retain(|one| one.since.elapsed() < IDLE && !one.sender.is_closed());
            !kept.is_empty()
        });
        connections.http2.retain(|_, sender| !sender.is_closed());
    }
}

impl Lease {
    /// Whether it served before: a failure may only mean that the endpoint had closed it.
    pub(super) fn is_used(&self) -> bool {
        matches!(self, Self::Http1(_, _, true) | Self::Http2(_, true))
    }

    /// Sends a request. The way back of the connection comes with the response.
    pub(super) async fn send(
        self,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Option<GiveBack>), SendError> {
        match self {
            Self::Http1(mut sender, back, _) => match sender.try_send_request(request).await {
                Ok(response) => Ok((response, Some(GiveBack { sender: Some(sender), back }))),
                Err(mut error) => Err(unsent(error.take_message(), error.into_error())),
            },
            Self::Http2(mut sender, _) => match sender.try_send_request(request).await {
                Ok(response) => Ok((response, None)),
                Err(mut error) => Err(unsent(error.take_message(), error.into_error())),
            },
        }
    }
}

fn unsent(message: Option<Request<Body>>, error: hyper::Error) -> SendError {
    match message {
        Some(request) => SendError::Unsent(Box::new(request)),
        None => SendError::Lost(error),
    }
}

/// A used connection; dropped when the response is over.
#[derive(Debug)]
pub(super) struct GiveBack {
    sender: Option<Http1>,
    back: Return,
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        if sender.is_ready() {
            return self.back.keep(sender);
        }
        if sender.is_closed() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let back = Return { key: self.back.key.clone(), connections: self.back.connections.clone() };
        runtime::task::spawn("http1 connection comes free", async move {
            let mut sender = sender;
            if matches!(tokio::time::timeout(FREEING, sender.ready()).await, Ok(Ok(()))) {
                back.keep(sender);
            }
        });
    }
}

impl Return {
    fn keep(&self, sender: Http1) {
        let mut connections = self.connections.lock();
        let kept = connections.http1.entry(self.key.clone()).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(Kept { sender, since: Instant::now() });
        }
    }
}
