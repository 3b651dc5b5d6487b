//! Pages over HTTP: readiness, metrics, version, debug pages (control-plane A12).

use super::{Authenticator, caller::Caller, debug::Debug};
use http::{Method, StatusCode};
use runtime::{
    http::{Peer, Request, Response, json, text, with_type},
    ready::Ready,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use telemetry::metrics::{PLAIN_TEXT, Registry, control::Control};
use tonic::{Extensions, metadata::MetadataMap};

/// Proxies that were once counted by type; their series fall to zero when they are gone.
const TYPES: [&str; 3] = ["ztunnel", "waypoint", "router"];

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Whether proxies may come.
    pub ready: Ready,
    /// Debug pages.
    pub debug: Debug,
    /// Who asks.
    pub authenticator: Arc<Authenticator>,
    /// Metrics.
    pub metrics: Control,
    /// Metrics, to be encoded.
    pub registry: Arc<Registry>,
    /// Version of this program.
    pub version: &'static str,
    /// Revision of this control plane.
    pub revision: String,
}

impl Pages {
    /// The page at a path.
    pub async fn respond<B>(&self, request: Request<B>) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        }
        let (parts, _) = request.into_parts();
        match parts.uri.path() {
            "/ready" => self.ready.response(),
            "/metrics" => self.scrape(),
            "/version" => value(&self.build_info()),
            path if path == "/debug" || path.starts_with("/debug/") => self.debug_page(&parts).await,
            _ => text(StatusCode::NOT_FOUND, "there is no such page; see /debug/list\n"),
        }
    }

    /// Debug pages name every workload: the pod itself may read them, others prove who they are.
    async fn debug_page(&self, request: &http::request::Parts) -> Response {
        let path = request.uri.path();
        let name = path.strip_prefix("/debug").unwrap_or(path).trim_matches('/');
        if !is_local(request) {
            match self.authenticate(request).await {
                Ok(caller) => {
                    if let Err(reason) = self.debug.allow(&caller, name) {
                        return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
                    }
                }
                Err(refusal) => return refusal,
            }
        }
        match self.debug.page(name, request.uri.query().unwrap_or_default()).await {
            Some(page) => value(&page),
            None => text(StatusCode::NOT_FOUND, format!("there is no debug page {name:?} here; see /debug/list\n")),
        }
    }

    async fn authenticate(&self, request: &http::request::Parts) -> Result<Caller, Response> {
        let metadata = MetadataMap::from_headers(request.headers.clone());
        self.authenticator.authenticate(&metadata, &Extensions::default()).await.map_err(|_| {
            let hint = "debug pages are served to the pod itself (kubectl port-forward) or with a bearer token\n";
            text(StatusCode::UNAUTHORIZED, hint)
        })
    }

    fn scrape(&self) -> Response {
        let mut connected: BTreeMap<&str, i64> = TYPES.iter().map(|kind| (*kind, 0)).collect();
        let clients = self.debug.clients.list();
        for (_, status) in &clients {
            let kind = status.node.id.split('~').next().unwrap_or_default();
            // What a client calls itself is not a label: one that invents names would fill the memory.
            let known = TYPES.iter().find(|known| **known == kind).copied().unwrap_or("other");
            *connected.entry(known).or_default() += 1;
        }
        for (kind, count) in connected {
            self.metrics.xds.clients.set(&[self.version, kind], count);
        }
        let largest = i64::try_from(self.debug.clients.largest_request()).unwrap_or(i64::MAX);
        self.metrics.xds.largest_request.set(&[], largest);
        with_type(StatusCode::OK, PLAIN_TEXT, self.metrics.scrape(&self.registry))
    }

    fn build_info(&self) -> Value {
        json!({
            "version": self.version, "revision": self.revision, "golang_version": "", "status": "Clean", "tag": self.version,
        })
    }
}

fn is_local(request: &http::request::Parts) -> bool {
    request.extensions.get::<Peer>().is_some_and(|peer| peer.0.ip().to_canonical().is_loopback())
}

fn value(value: &Value) -> Response {
    json(StatusCode::OK, format!("{value:#}\n"))
}
