//! What others may ask the agent: whether it is ready, and what it counted.

use std::sync::Arc;

use http::StatusCode;
use runtime::drain::Watch;
use runtime::http::{self as server, Request, Response};
use runtime::ready::Ready;
use runtime::task;
use telemetry::metrics::{Registry, content_type};

use crate::args::AgentArgs;

/// Answers on both ports until the drain begins.
pub(super) async fn serve(
    args: &AgentArgs,
    ready: Ready,
    registry: Registry,
    drain: &Watch,
) -> Result<(), std::io::Error> {
    let probes = server::bind_wildcard(args.ready_port).await?;
    let probed = move |request: Request| {
        let ready = ready.clone();
        async move {
            match request.uri().path() {
                "/readyz" | "/healthz" => ready.response(),
                _ => server::text(StatusCode::NOT_FOUND, "not found\n"),
            }
        }
    };
    task::spawn("readiness", server::serve(probes, drain.clone(), probed));
    let scrapes = server::bind_wildcard(args.monitoring_port).await?;
    let registry = Arc::new(registry);
    let scraped = move |request: Request| {
        let registry = registry.clone();
        async move { scrape(&registry, &request) }
    };
    task::spawn("metrics", server::serve(scrapes, drain.clone(), scraped));
    Ok(())
}

fn scrape(registry: &Registry, request: &Request) -> Response {
    if request.uri().path() != "/metrics" {
        return server::text(StatusCode::NOT_FOUND, "not found\n");
    }
    let accept = request.headers().get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    server::with_type(StatusCode::OK, content_type(accept), registry.encode())
}
