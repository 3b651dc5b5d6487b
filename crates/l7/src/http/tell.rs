//! What is told of a request when it is over: one line for the log, one count for the metrics; never twice, and also when it was cut.

use super::{
    Shared,
    body::{Body, Count, Counted},
    head::Parsed,
    pool::{Connect, GiveBack},
    service::{Stream, default_route},
};
use crate::balance::Endpoint;
use http::{HeaderMap, Request, Response, Version, header};
use http_body_util::BodyExt;
use model::{NamespacedHostname, Str};
use std::{sync::Arc, time::Duration};
use telemetry::metrics::{
    requests::{Labels, Measured},
    traffic::{Addressed, Party},
};
use tokio::time::Instant;

/// What forwarding found out.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) endpoint: Option<Endpoint>,
    pub(super) service: Option<(NamespacedHostname, u16)>,
    pub(super) first_byte: Option<Duration>,
}

/// One request's record, filled on its way.
#[derive(Debug)]
pub(super) struct Tell {
    shared: Arc<Shared>,
    begun: Instant,
    start: jiff::Timestamp,
    connection: super::Connection,
    method: String,
    path: String,
    authority: String,
    protocol: &'static str,
    grpc: bool,
    request_id: String,
    user_agent: String,
    forwarded_for: String,
    route: Str,
    flags: &'static str,
    details: &'static str,
    said: Said,
    back: Option<GiveBack>,
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.unwrap_or_else(|| "-".to_owned())
}

impl Tell {
    pub(super) fn begin<C: Connect, B>(stream: &Stream<C>, request: &Request<B>) -> Self {
        let protocol = match request.version() {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let content = request.headers().get(header::CONTENT_TYPE);
        Self {
            shared: stream.shared.clone(),
            begun: Instant::now(),
            start: runtime::clock::Clock::system().now(),
            connection: stream.connection.clone(),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            authority: "-".to_owned(),
            protocol,
            grpc: content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")),
            request_id: "-".to_owned(),
            user_agent: "-".to_owned(),
            forwarded_for: "-".to_owned(),
            route: default_route(),
            flags: "-",
            details: "via_upstream",
            said: Said::default(),
            back: None,
        }
    }

    pub(super) fn parsed(&mut self, parsed: &Parsed) {
        self.authority.clone_from(&parsed.authority);
        self.path = parsed.path_and_query();
    }

    pub(super) fn headers(&mut self, headers: &HeaderMap) {
        self.request_id = text(headers, "x-request-id");
        self.user_agent = text(headers, "user-agent");
        self.forwarded_for = text(headers, "x-forwarded-for");
    }

    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }

    pub(super) fn route(&mut self, name: &Str) {
        self.route = name.clone();
    }

    pub(super) fn flag(&mut self, flags: &'static str) {
        if flags != "-" {
            self.flags = flags;
        }
    }

    pub(super) fn details(&mut self, details: &'static str) {
        self.details = details;
    }

    pub(super) fn said(&mut self, said: Said) {
        self.said = said;
    }

    /// Keeps the connection to the endpoint until the response has been read.
    pub(super) fn hold(&mut self, back: Option<GiveBack>) {
        self.back = back;
    }

    /// Tells when the body has been sent, or cut.
    pub(super) fn finish(mut self, response: Response<Body>, received: Count) -> Response<Body> {
        let status = response.status().as_u16();
        let in_head = grpc_status(response.headers());
        let (parts, body) = response.into_parts();
        let sent = Count::default();
        let counted = sent.clone();
        let end = move |trailers: Option<&HeaderMap>| {
            drop(self.back.take());
            let grpc = trailers.and_then(grpc_status).or(in_head).filter(|_| self.grpc);
            self.tell(status, grpc, received.get(), counted.get());
        };
        let body = Counted { body, count: sent, end: Some(end), ended: false };
        Response::from_parts(parts, body.boxed_unsync())
    }

    fn tell(&self, status: u16, grpc_status: Option<u16>, received: u64, sent: u64) {
        let duration = self.begun.elapsed();
        tracing::info!(target: "access", "{}", self.line(status, received, sent, duration));
        let endpoint = self.said.endpoint.as_ref().map(|endpoint| &endpoint.workload);
        let destination = endpoint.map(|workload| Party::of(workload, Some(workload.identity()))).unwrap_or_default();
        let labels = Labels {
            reporter: "waypoint",
            source: self.connection.party.clone(),
            service: self.addressed(),
            destination,
            grpc: self.grpc,
            code: status,
            grpc_status,
            flags: self.flags,
            mutual_tls: self.connection.identity.is_some(),
        };
        let milliseconds = duration.as_secs_f64() * 1e3;
        self.shared.requests.ended(labels, Measured { milliseconds, request_bytes: received, response_bytes: sent });
    }

    /// The service that the request went to, which routes may have changed.
    fn addressed(&self) -> Option<Addressed> {
        let own = self.connection.service.as_ref();
        let went = self.said.service.as_ref().map(|(key, _)| key);
        let key = went.cloned().or_else(|| own.map(|service| service.key()))?;
        let name = key.hostname.split('.').next().unwrap_or_default().into();
        Some(Addressed { hostname: key.hostname, namespace: key.namespace, name })
    }

    fn line(&self, status: u16, received: u64, sent: u64, duration: Duration) -> String {
        let endpoint = self.said.endpoint.as_ref();
        let host = endpoint.map_or_else(|| "-".to_owned(), |one| format!("envoy://connect_originate/{}", one.address));
        let cluster = self.said.service.as_ref();
        let cluster =
            cluster.map_or_else(|| "-".to_owned(), |(key, port)| format!("inbound-vip|{port}|http|{};", key.hostname));
        let service_time = self.said.first_byte.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string());
        let local = self.connection.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        text_line(&[
            &format!("[{:.3}]", self.start),
            &format!("\"{} {} {}\"", self.method, self.path, self.protocol),
            &status.to_string(),
            self.flags,
            self.details,
            "-",
            "\"-\"",
            &received.to_string(),
            &sent.to_string(),
            &duration.as_millis().to_string(),
            &service_time,
            &format!("\"{}\"", self.forwarded_for),
            &format!("\"{}\"", self.user_agent),
            &format!("\"{}\"", self.request_id),
            &format!("\"{}\"", self.authority),
            &format!("\"{host}\""),
            &cluster,
            "-",
            &local,
            &self.connection.source.to_string(),
            "-",
            &self.route,
        ])
    }
}

/// Fields of one line; what a client wrote cannot end it.
pub fn text_line(fields: &[&str]) -> String {
    fields.join(" ").replace(|character: char| character.is_control(), "?")
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
