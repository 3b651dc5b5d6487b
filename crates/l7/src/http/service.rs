//! One client's stream: a server of whatever HTTP it speaks, and each request's way through it.

use super::{
    Connection, Shared,
    body::{Body, BodyError, Count, Incoming, full},
    forward::{Attempted, Sending},
    head::{self, Parsed},
    outcome,
    pool::{Connect, Pool},
    sniff::Spoken,
    tell::{Said, Tell},
};
use crate::{
    authz::{self, Verdict},
    config::Config,
    path::Normalization,
    route::{
        Head,
        plan::{self, Forward, Plan, Reply},
        rule::Abort,
    },
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use model::{NamespacedHostname, Str};
use parking_lot::Mutex;
use rand::RngExt as _;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// Headers of one request.
const MAX_HEADERS: usize = 128;
/// Bytes of the headers of one request.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Time for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that the requests of one stream share.
pub(super) struct Stream<C> {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool<C>>,
    pub(super) connection: Connection,
    pub(super) service: Option<NamespacedHostname>,
    pub(super) spoken: Spoken,
    /// The policies that cover this stream, with the snapshot that said so.
    policies: Mutex<Option<(Arc<Config>, Vec<Arc<authz::Policy>>)>>,
}

/// Serves one stream until its client closes it or `draining` is done and open requests have ended.
pub async fn serve<C: Connect, IO>(
    shared: Arc<Shared>,
    pool: Arc<Pool<C>>,
    connection: Connection,
    spoken: Spoken,
    io: IO,
    draining: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = connection.key();
    let stream = Arc::new(Stream { shared, pool, connection, service, spoken, policies: Mutex::default() });
    let handler = service_fn(move |request| {
        let stream = stream.clone();
        async move { Ok::<_, Infallible>(stream.handle(request).await) }
    });
    let io = TokioIo::new(io);
    let mut draining = std::pin::pin!(draining);
    if spoken == Spoken::Http2 {
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(64 << 10)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .serve_connection(io, handler);
        let mut served = std::pin::pin!(served);
        tokio::select! {
            ended = &mut served => return note(ended),
            () = &mut draining => served.as_mut().graceful_shutdown(),
        }
        return note(served.await);
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(io, handler)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    tokio::select! {
        ended = &mut served => return note(ended),
        () = &mut draining => served.as_mut().graceful_shutdown(),
    }
    note(served.await);
}

fn note(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!("HTTP with the client ended: {error}");
    }
}

/// A number below another.
pub(super) fn random(below: u64) -> u64 {
    rand::rng().random_range(0..below.max(1))
}

impl<C: Connect> Stream<C> {
    async fn handle(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Body> {
        let config = self.shared.config.load_full();
        let mut tell = Tell::begin(&self, &request);
        let parsed = match head::parse(&request, Normalization::Base) {
            Ok(parsed) => parsed,
            Err(error) => {
                tracing::debug!(source = %self.connection.source, "request refused: {error}");
                return self.reply(Reply::text(400, "", "-", "bad_request"), tell, Count::default());
            }
        };
        tell.parsed(&parsed);
        head::distrust(request.headers_mut());
        identify(request.headers_mut());
        tell.headers(request.headers());
        let received = Count::default();
        let verdict = self.judge(&config, &parsed, &request);
        if verdict != Verdict::Allow {
            let reply = Reply::text(403, "RBAC: access denied", "-", verdict.details());
            return self.reply(reply, tell, received);
        }
        let plan = match self.plan(&config, &parsed, &request, &mut tell).await {
            Ok(plan) => plan,
            Err(reply) => return self.reply(reply, tell, received),
        };
        let cors = plan.as_ref().and_then(|plan| {
            let origin = request.headers().get(header::ORIGIN)?.clone();
            plan.rule.filters.cors.is_some().then_some((plan.rule.clone(), origin))
        });
        let sending = Sending { stream: &self, config: &config, parsed: &parsed, plan: plan.as_ref() };
        let Attempted { mut response, said, back } = match sending.run(request, &received).await {
            Ok(attempted) => attempted,
            Err((reply, said)) => {
                tell.said(said);
                return self.reply(reply, tell, received);
            }
        };
        if let Some(plan) = &plan {
            plan.response_edits().for_each(|edit| edit.apply(response.headers_mut()));
        }
        if let Some((rule, origin)) = cors
            && let Some(cors) = &rule.filters.cors
        {
            cors.respond(&origin, response.headers_mut());
        }
        self.finish(response, said, back, tell, received)
    }

    fn judge(&self, config: &Arc<Config>, parsed: &Parsed, request: &Request<Incoming>) -> Verdict {
        let policies = {
            let mut held = self.policies.lock();
            match &*held {
                Some((of, policies)) if Arc::ptr_eq(of, config) => policies.clone(),
                _ => {
                    let here = self.shared.here(self.service.as_ref());
                    let covering: Vec<_> = config.policies(&here).into_iter().cloned().collect();
                    *held = Some((config.clone(), covering.clone()));
                    covering
                }
            }
        };
        if policies.is_empty() {
            return Verdict::Allow;
        }
        let connection = &self.connection;
        let http = authz::Http {
            method: &parsed.method,
            authority: &parsed.authority,
            path: &parsed.path,
            headers: request.headers(),
            claims: None,
        };
        let asked = authz::Request {
            peer: connection.identity.as_ref(),
            source: connection.source.ip(),
            remote: connection.source.ip(),
            destination: connection.address.map(|address| address.ip()),
            port: connection.port,
            server_name: None,
            http: Some(http),
        };
        let policies: Vec<&Arc<authz::Policy>> = policies.iter().collect();
        authz::decide(&policies, &asked)
    }

    /// What routes say; `None` where nobody wrote one: the request goes to the service as it is.
    async fn plan(
        &self,
        config: &Config,
        parsed: &Parsed,
        request: &Request<Incoming>,
        tell: &mut Tell,
    ) -> Result<Option<Forward>, Reply> {
        let namespace = self.connection.identity.as_ref().map(|peer| &*peer.namespace);
        let head = Head {
            method: &parsed.method,
            scheme: "http",
            authority: &parsed.authority,
            port: self.connection.port,
            path: &parsed.path,
            query: parsed.query.as_deref(),
            headers: request.headers(),
            source_namespace: namespace,
        };
        let of_service = self.service.as_ref().and_then(|service| config.service_routes(service));
        let gateway = (self.shared.namespace.clone(), self.shared.gateway.clone());
        // Only what is addressed to a service follows routes.
        let of_gateway = self.service.as_ref().and_then(|_| config.gateway_routes(&gateway));
        let own = of_service.and_then(|routes| routes.table(namespace, head.port));
        let selected = match own {
            Some(table) => table.select(&head).ok_or_else(Reply::no_route)?,
            None => match of_gateway.and_then(|table| table.select(&head)) {
                Some(selected) => selected,
                None => return Ok(None),
            },
        };
        tell.route(&selected.rule.name);
        let (delay, abort) = plan::fault(&selected.rule, random);
        if let Some(delay) = delay {
            tell.flag("DI");
            tokio::time::sleep(delay).await;
        }
        if let Some(abort) = abort {
            return Err(aborted(abort));
        }
        match plan::plan(&selected, &head, random) {
            Plan::Reply(reply) => Err(reply),
            Plan::Forward(forward) => Ok(Some(forward)),
        }
    }

    /// An answer of our own.
    fn reply(&self, reply: Reply, tell: Tell, received: Count) -> Response<Body> {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = reply.headers;
        let mut tell = tell;
        tell.flag(reply.flags);
        tell.details(reply.details);
        if tell.is_grpc() && reply.status != 200 {
            outcome::grpc_reply(&mut response, reply.status, &reply.body);
        } else {
            *response.body_mut() = full(reply.body);
        }
        response.headers_mut().insert(header::SERVER, HeaderValue::from_static("istio-envoy"));
        tell.finish(response, received)
    }

    fn finish(
        &self,
        mut response: Response<Body>,
        said: Said,
        back: Option<super::pool::GiveBack>,
        mut tell: Tell,
        received: Count,
    ) -> Response<Body> {
        response.headers_mut().insert(header::SERVER, HeaderValue::from_static("istio-envoy"));
        let time = said.first_byte.map_or(0, |time| time.as_millis());
        if let Ok(time) = HeaderValue::try_from(time.to_string()) {
            response.headers_mut().insert("x-envoy-upstream-service-time", time);
        }
        tell.said(said);
        tell.hold(back);
        tell.finish(response, received)
    }
}

/// A request without an id gets one, so that its logs can be found.
fn identify(headers: &mut http::HeaderMap) {
    if !headers.contains_key("x-request-id") {
        let id: u128 = rand::rng().random();
        let text = format!("{id:032x}");
        let dashed = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-");
        if let Ok(value) = HeaderValue::try_from(dashed) {
            headers.insert("x-request-id", value);
        }
    }
}

fn aborted(abort: Abort) -> Reply {
    match abort {
        Abort::Http(status) => Reply::text(status, "fault filter abort", "FI", "fault_filter_abort"),
        Abort::Grpc(status) => {
            let mut reply = Reply::text(200, "", "FI", "fault_filter_abort");
            reply.headers.insert("grpc-status", status.into());
            reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            reply
        }
    }
}

/// The error type of bodies, named for those who box them.
pub(super) type Failure = BodyError;

/// A route's name where there is none.
pub(super) fn default_route() -> Str {
    "default".into()
}
