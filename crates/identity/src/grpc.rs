//! The road to the control plane: gRPC over HTTP/2 over TLS, with the mesh's root and a bearer token (ztunnel.md §1.1).
//!
//! A [`Channel`] is a tonic service that connects when first used and again after a connection ended. What can change on disk
//! is read when it is needed: roots for each connection, the token for each request. Retrying and waiting are the caller's.

mod connect;
mod root;
mod token;

pub use root::{RootError, RootSource};
pub use token::{TokenError, TokenSource};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header::AUTHORIZATION, uri};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use parking_lot::Mutex;
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::body::Body;

/// How to reach a control plane.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// `https://host:port`; without a scheme https is meant.
    pub address: String,
    /// Which roots its certificate must lead to.
    pub root: RootSource,
    /// Another name its certificate may carry (ALT_XDS_HOSTNAME, ALT_CA_HOSTNAME).
    pub alternative_hostname: Option<String>,
    /// Our token.
    pub token: TokenSource,
    /// What is sent with every request, such as `clusterid`.
    pub headers: HeaderMap,
}

/// Why a request did not reach the control plane.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// The address is not one.
    #[error("{address:?} is not an address of a control plane: {reason}; write https://host:port")]
    Address {
        /// The setting.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The host is neither a name nor an address.
    #[error("{0:?} is not a name that a certificate can carry")]
    BadName(String),
    /// The roots cannot be had.
    #[error(transparent)]
    Root(Arc<RootError>),
    /// The token cannot be had.
    #[error(transparent)]
    Token(Arc<TokenError>),
    /// The TLS settings cannot be used.
    #[error("preparing TLS towards {address}: {reason}")]
    Tls {
        /// Whom to.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection failed.
    #[error("{doing} to the control plane at {address}: {reason}")]
    Connection {
        /// Whom to.
        address: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        reason: Arc<io::Error>,
    },
    /// The request failed on an open connection.
    #[error("request to the control plane at {address}: {reason}")]
    Request {
        /// Whom to.
        address: String,
        /// Why it failed.
        reason: Arc<hyper::Error>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    authority: String,
    host: String,
    port: u16,
}

type Connecting = Shared<BoxFuture<'static, Result<SendRequest<Body>, ChannelError>>>;

/// A connection to the control plane that renews itself; clones share it.
#[derive(Clone)]
pub struct Channel {
    options: Arc<ChannelOptions>,
    endpoint: Arc<Endpoint>,
    connection: Arc<Mutex<Option<Connecting>>>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel that connects when first used.
    pub fn new(options: ChannelOptions) -> Result<Self, ChannelError> {
        let endpoint = Arc::new(endpoint(&options.address)?);
        Ok(Self { options: Arc::new(options), endpoint, connection: Arc::default() })
    }

    /// `host:port` that is connected to.
    pub fn address(&self) -> &str {
        &self.endpoint.authority
    }

    /// Forgets the open connection; requests that run on it finish, the next one connects with the roots of then.
    pub fn reconnect(&self) {
        *self.connection.lock() = None;
    }

    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, ChannelError> {
        let token = self.options.token.header().await.map_err(|error| ChannelError::Token(Arc::new(error)))?;
        for (name, value) in &self.options.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        *request.uri_mut() = self.endpoint.absolute(request.uri());
        let mut sender = self.sender().await?;
        sender.send_request(request).await.map_err(|reason| self.failed(reason))
    }

    /// An open connection: the present one, or a new one if that has ended.
    async fn sender(&self) -> Result<SendRequest<Body>, ChannelError> {
        match self.open_sender().await {
            // It ended since it was last used; the second one is new.
            Err(ChannelError::Request { .. }) => self.open_sender().await,
            other => other,
        }
    }

    async fn open_sender(&self) -> Result<SendRequest<Body>, ChannelError> {
        let connecting = self.connecting();
        let opened = async {
            let mut sender = connecting.clone().await?;
            sender.ready().await.map_err(|reason| self.failed(reason))?;
            Ok(sender)
        };
        let opened = opened.await;
        if opened.is_err() {
            self.forget(&connecting);
        }
        opened
    }

    /// The attempt under way or done; at most one at a time, shared by all who wait.
    fn connecting(&self) -> Connecting {
        let mut connection = self.connection.lock();
        connection
            .get_or_insert_with(|| {
                let (options, endpoint) = (self.options.clone(), self.endpoint.clone());
                async move { connect::connect(&options, &endpoint).await }.boxed().shared()
            })
            .clone()
    }

    fn forget(&self, attempt: &Connecting) {
        let mut connection = self.connection.lock();
        if connection.as_ref().is_some_and(|present| present.ptr_eq(attempt)) {
            *connection = None;
        }
    }

    fn failed(&self, reason: hyper::Error) -> ChannelError {
        ChannelError::Request { address: self.endpoint.authority.clone(), reason: Arc::new(reason) }
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = ChannelError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        // Connecting belongs to the request, so that its error does too.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().send(request).boxed()
    }
}

impl From<RootError> for ChannelError {
    fn from(error: RootError) -> Self {
        Self::Root(Arc::new(error))
    }
}

impl Endpoint {
    /// The request's path at this endpoint.
    fn absolute(&self, request: &Uri) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTPS);
        parts.authority = self.authority.parse().ok();
        parts.path_and_query = request.path_and_query().cloned();
        Uri::from_parts(parts).unwrap_or_else(|_| request.clone())
    }
}

/// Takes an address apart; the port is 443 unless given.
fn endpoint(address: &str) -> Result<Endpoint, ChannelError> {
    let bad = |reason| ChannelError::Address { address: address.to_owned(), reason };
    let full = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let uri: Uri = full.parse().map_err(|_| bad("it is not a URI"))?;
    if uri.scheme() != Some(&uri::Scheme::HTTPS) {
        return Err(bad("only https is spoken"));
    }
    let authority =
        uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(|| bad("it has no host"))?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("it has a path"));
    }
    let port = authority.port_u16().unwrap_or(443);
    let host = authority.host();
    let authority = format!("{host}:{port}");
    Ok(Endpoint { authority, host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
}

/// Headers from settings such as `XDS_HEADER_<name>`; names and values must be legal.
pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
