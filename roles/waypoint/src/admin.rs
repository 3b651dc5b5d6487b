//! The pages for people and scrapers: metrics on two ports, the configuration on localhost.

use crate::proxy::Proxy;
use http::StatusCode;
use runtime::{
    BoxError, drain,
    http::{self as pages, Request, Response},
    ready::{self, Ready},
    task,
};
use std::sync::Arc;
use telemetry::metrics::{self, Registry};

/// The port that Envoy's metrics are scraped from.
const ENVOY_METRICS_PORT: u16 = 15090;

/// Opens all of them.
pub(crate) async fn serve(
    proxy: &Arc<Proxy>,
    registry: Registry,
    ready: &Ready,
    watch: &drain::Watch,
) -> Result<(), BoxError> {
    let registry = Arc::new(registry);
    for port in [model::well_known::STATS_PORT, ENVOY_METRICS_PORT] {
        let registry = registry.clone();
        let handler = move |request: Request| std::future::ready(stats(&registry, &request));
        task::spawn("metrics", pages::serve(pages::bind_wildcard(port).await?, watch.clone(), handler));
    }
    let state = ready.clone();
    let handler = move |request: Request| std::future::ready(ready::routes(&state, &request));
    let listener = pages::bind_wildcard(model::well_known::READINESS_PORT).await?;
    task::spawn("readiness", pages::serve(listener, watch.clone(), handler));
    for listener in pages::bind_localhost(model::well_known::ADMIN_PORT).await? {
        let (proxy, registry, ready) = (proxy.clone(), registry.clone(), ready.clone());
        let handler = move |request: Request| std::future::ready(admin(&proxy, &registry, &ready, &request));
        task::spawn("admin", pages::serve(listener, watch.clone(), handler));
    }
    Ok(())
}

fn stats<B>(registry: &Registry, request: &Request<B>) -> Response {
    match request.uri().path() {
        "/stats/prometheus" | "/metrics" => {
            let accept = request.headers().get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
            pages::compressed(request.headers(), metrics::content_type(accept), registry.encode().into())
        }
        _ => pages::text(StatusCode::NOT_FOUND, "not found; metrics are at /stats/prometheus\n"),
    }
}

fn admin<B>(proxy: &Proxy, registry: &Registry, ready: &Ready, request: &Request<B>) -> Response {
    match request.uri().path() {
        "/config_dump" => pages::json(StatusCode::OK, dump(proxy).to_string()),
        "/ready" => ready.response(),
        "/stats/prometheus" => stats(registry, request),
        _ => pages::text(StatusCode::NOT_FOUND, "not found; there are /config_dump, /ready and /stats/prometheus\n"),
    }
}

fn dump(proxy: &Proxy) -> serde_json::Value {
    let config = proxy.shared.config.load();
    let mut resources: Vec<String> = config.names().map(|(kind, name)| format!("{kind} {name}")).collect();
    resources.sort();
    let snapshot = proxy.shared.mesh.load();
    let certificates: serde_json::Map<_, _> = proxy
        .certificates
        .dump()
        .into_iter()
        .map(|(identity, state)| (identity.to_string(), format!("{state}").into()))
        .map(|(name, state): (String, serde_json::Value)| {
            (name, state.as_str().unwrap_or_default().split(':').next().into())
        })
        .collect();
    serde_json::json!({
        "gateway": {"namespace": &*proxy.shared.namespace, "name": &*proxy.shared.gateway},
        "identity": proxy.config.identity.to_string(),
        "services": snapshot.0.service_count(),
        "workloads": snapshot.0.workload_count(),
        "resources": resources,
        "certificates": certificates,
    })
}
