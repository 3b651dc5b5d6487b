//! The server: what it is made from, how it listens, and the way of a request through HTTP.

use crate::api::Api;
use crate::authn::{KeyError, Signer, User};
use crate::bootstrap;
use crate::dispatch::{self, Head, Plan};
use crate::lifecycle;
use crate::proxy;
use crate::request::query::Query;
use crate::request::route::Route;
use crate::status::Status;
use crate::store::{Attention, Disk, DurabilityError, Store};
use crate::verbs::{Body, Reply};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::https::{self, ClientCertificates, ServerSettings, ServerTls, ServerTlsError};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Larger bodies are refused.
const LARGEST_BODY: usize = 3 * 1024 * 1024;
/// A client has this long for its headers, and for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// More connections wait.
const MOST_CONNECTIONS: usize = 8192;
/// What open connections get when the server ends.
const LAST_SECONDS: Duration = Duration::from_secs(2);

/// The body of a response.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Where objects live.
#[derive(Clone, Debug, Default)]
pub enum Storage {
    /// Objects end with the process.
    #[default]
    Memory,
    /// Objects live in one file under this folder.
    Directory(PathBuf),
}

/// Key and certificates of the listener, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// The authority whose client certificates name users and groups.
    pub client_ca: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What a server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where objects live.
    pub storage: Storage,
    /// Key and certificates; plain HTTP without them, for tests on loopback alone.
    pub tls: Option<Tls>,
    /// The P-256 key that signs service-account tokens, as PEM; a new one when absent.
    pub token_key: Option<String>,
    /// The issuer named in those tokens.
    pub issuer: String,
    /// A bearer token that stands for an administrator.
    pub admin_token: Option<String>,
    /// The range that ClusterIPs are taken from.
    pub service_range: ipnet::Ipv4Net,
    /// The address that the `kubernetes` service leads to.
    pub advertise: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            storage: Storage::Memory,
            tls: None,
            token_key: None,
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            admin_token: None,
            service_range: ipnet::Ipv4Net::new_assert([10, 96, 0, 0].into(), 16),
            advertise: None,
        }
    }
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Storage(#[from] DurabilityError),
    /// The key for tokens cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
    /// What every cluster starts with could not be made.
    #[error("putting the first objects in place: {0}")]
    Bootstrap(String),
    /// A socket cannot be used.
    #[error("listening on {address}: {source}; is another server there?")]
    Listen {
        /// Which one.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The API server.
#[derive(Debug)]
pub struct Server {
    api: Arc<Api>,
    tls: Option<ServerTls>,
    attention: Mutex<Option<mpsc::UnboundedReceiver<Attention>>>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Opens the store and puts in place what every cluster has from the start.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        let (store, attention) = match &config.storage {
            Storage::Memory => Store::open(None)?,
            Storage::Directory(folder) => Store::open(Some(Box::new(Disk::open(folder)?)))?,
        };
        let signer = Signer::new(config.token_key.as_deref(), &config.issuer)?;
        let api = Arc::new(Api::new(store, signer, config.admin_token, config.service_range));
        bootstrap::prepare(&api, config.advertise).map_err(|status| Error::Bootstrap(status.to_string()))?;
        let tls = config.tls.map(|tls| {
            ServerTls::new(&ServerSettings {
                chain: tls.certificate,
                key: tls.key,
                clients: ClientCertificates::Optional(tls.client_ca),
                protocols: vec!["h2", "http/1.1"],
                post_quantum_only: false,
            })
        });
        Ok(Arc::new(Self {
            api,
            tls: tls.transpose()?,
            attention: Mutex::new(Some(attention)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        }))
    }

    /// Answers on these listeners until `shutdown` resolves.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let end = CancellationToken::new();
        let tasks = tokio_util::task::TaskTracker::new();
        if let Some(inbox) = self.attention.lock().take() {
            tasks.spawn(end.clone().run_until_cancelled_owned(lifecycle::run(Arc::clone(&self.api), inbox)));
        }
        for listener in listeners {
            let address = listener.local_addr().map_or_else(|_| "a socket".to_owned(), |address| address.to_string());
            let failed = |source| Error::Listen { address: address.clone(), source };
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            tracing::info!(address, "the API is served");
            tasks.spawn(Arc::clone(&self).accept(listener, end.clone(), tasks.clone()));
        }
        shutdown.await;
        end.cancel();
        tasks.close();
        tokio::time::timeout(LAST_SECONDS, tasks.wait()).await.ok();
        Ok(())
    }

    async fn accept(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        end: CancellationToken,
        tasks: tokio_util::task::TaskTracker,
    ) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let stream = tokio::select! {
                () = end.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            stream.set_nodelay(true).ok();
            let (server, end) = (Arc::clone(&self), end.clone());
            tasks.spawn(async move {
                server.connection(stream, end).await;
                drop(permit);
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: tokio::net::TcpStream, end: CancellationToken) {
        let Some(tls) = &self.tls else { return Arc::clone(&self).exchange(stream, None, end).await };
        match tls.accept(stream).await {
            Ok(stream) => {
                let user = https::client_subject(&stream).and_then(dispatch::certificate_user);
                Arc::clone(&self).exchange(stream, user, end).await;
            }
            Err(error) => tracing::debug!(%error, "a client did not finish its TLS handshake"),
        }
    }

    async fn exchange<IO>(self: Arc<Self>, stream: IO, user: Option<User>, end: CancellationToken)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let (server, user) = (Arc::clone(&self), user.clone());
            async move { Ok::<_, Infallible>(server.answer(request, user).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1024);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = end.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LAST_SECONDS / 2, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, user: Option<User>) -> Response<ReplyBody> {
        let head = head(request.uri(), request.method(), request.headers(), user);
        match dispatch::plan(&self.api, &head) {
            Ok(Plan::Node(destination)) => match proxy::forward(&destination, &mut request).await {
                Ok(response) => response,
                Err(status) => refused(&head, &status),
            },
            Ok(Plan::Reply(reply)) => self.response(reply),
            Ok(Plan::Answer(job)) => {
                let body = Limited::new(request.into_body(), LARGEST_BODY).collect();
                match tokio::time::timeout(READ_TIMEOUT, body).await {
                    Ok(Ok(body)) => self.run(&head, *job, body.to_bytes()).await,
                    Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                        refused(&head, &Status::too_large(LARGEST_BODY))
                    }
                    Ok(Err(error)) => refused(&head, &Status::bad_request(format!("reading the body: {error}"))),
                    Err(_) => refused(&head, &Status::new(408, "Timeout", "the body did not arrive in time")),
                }
            }
            Err(status) => refused(&head, &status),
        }
    }

    async fn run(&self, head: &Head, job: dispatch::Job, body: Bytes) -> Response<ReplyBody> {
        let outcome = if job.writes() {
            let api = Arc::clone(&self.api);
            // A write may wait for the disk.
            let task = tokio::task::spawn_blocking(move || job.run(&api, body));
            task.await.unwrap_or_else(|error| Err(Status::internal(error)))
        } else {
            job.run(&self.api, body)
        };
        match outcome {
            Ok(reply) => self.response(reply),
            Err(status) => refused(head, &status),
        }
    }

    fn response(&self, reply: Reply) -> Response<ReplyBody> {
        let (media, body) = match reply.body {
            Body::Json(value) => ("application/json", full(value.to_string())),
            Body::Typed(media, value) => (media, full(value.to_string())),
            Body::Text(text) => ("text/plain; charset=utf-8", full(text)),
            Body::Raw(media, bytes) => (media, full(bytes)),
            Body::Watch(watcher) => {
                let api = Arc::clone(&self.api);
                let pieces = stream::unfold((watcher, api), async |(mut watcher, api)| {
                    let piece = watcher.next(&api).await?;
                    Some((Ok(Frame::data(piece)), (watcher, api)))
                });
                ("application/json", StreamBody::new(pieces).boxed_unsync())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(reply.code).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        for warning in reply.warnings.iter().take(32) {
            let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect();
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
                headers.append(WARNING, value);
            }
        }
        response
    }
}

/// The parts of a request that decide what happens to it.
fn head(uri: &http::Uri, method: &http::Method, headers: &HeaderMap, certificate: Option<User>) -> Head {
    let query = Query::parse(uri.query().unwrap_or_default());
    Head { route: Route::parse(method, uri.path(), &query), query, headers: headers.clone(), certificate }
}

fn full(text: impl Into<Bytes>) -> ReplyBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn refused(head: &Head, status: &Status) -> Response<ReplyBody> {
    dispatch::log_refusal(head, status);
    let mut response = Response::new(full(status.json().to_string()));
    *response.status_mut() = http::StatusCode::from_u16(status.code()).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.code() == 429 {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
