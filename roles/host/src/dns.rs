//! `host dns`: the cluster DNS of pods outside the mesh.
//!
//! [`zone`] is what the cluster's names mean, decided from services and slices; [`answer`] turns a question into an
//! answer or a decision to ask upstream; [`server`] moves the messages over UDP and TCP. Names are those of the
//! Kubernetes DNS specification 1.1 for services, headless endpoints and ports; there are no reverse lookups.

mod answer;
mod server;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{EndpointSlice, Service};
use cluster::{Client, Scope, Source, Store};
use http::StatusCode;
use parking_lot::RwLock;
use runtime::ready::Ready;
use runtime::{Shutdown, Threads};

use crate::AnyError;
use answer::Responder;
use zone::Zone;

/// Where the cluster DNS listens and whom it asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port of DNS, over UDP and TCP
    #[arg(long, default_value_t = 53)]
    port: u16,
    /// Port of readiness (GET /ready) and health (GET /health)
    #[arg(long, default_value_t = 8181)]
    ready_port: u16,
    /// Domain of cluster names
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Server for all other names; by default those of /etc/resolv.conf
    #[arg(long)]
    upstream: Vec<SocketAddr>,
    /// How to reach the API; by default as any client does
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// Answers until told to stop.
pub(crate) fn main(args: Args) -> Result<(), AnyError> {
    let _log = telemetry::log::init_from_env()?;
    runtime::run("dns", Threads::Many(2), |shutdown| run(args, shutdown))
}

async fn run(args: Args, shutdown: Shutdown) -> Result<(), AnyError> {
    let source = match args.kubeconfig {
        Some(path) => Source::Kubeconfig { path: Some(path), context: None },
        None => Source::Infer,
    };
    let client = Client::connect(&source).await?;
    let upstream = if args.upstream.is_empty() {
        upstream(&tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default())
    } else {
        args.upstream
    };
    let zone = Arc::new(RwLock::new(Arc::new(Zone::default())));
    let ready = Ready::new();
    let seen = ready.block("services");
    let sockets = server::bind(args.port).await?;
    let responder = Arc::new(Responder::new(&args.cluster_domain, zone.clone())?);
    tracing::info!(port = args.port, ?upstream, "cluster dns listens");
    runtime::task::spawn("dns", server::serve(sockets, responder, Arc::from(upstream)));
    runtime::task::spawn("dns names", follow(client, zone, seen));
    let listener = runtime::http::bind_wildcard(args.ready_port).await?;
    let (_drain, watch) = runtime::drain::Drain::new();
    runtime::task::spawn(
        "dns readiness",
        runtime::http::serve(listener, watch, move |request| {
            let answer = match request.uri().path() {
                "/ready" => ready.response(),
                "/health" => runtime::http::text(StatusCode::OK, "OK\n"),
                _ => runtime::http::text(StatusCode::NOT_FOUND, "not found\n"),
            };
            std::future::ready(answer)
        }),
    );
    shutdown.triggered().await;
    Ok(())
}

/// The servers of a `resolv.conf`.
fn upstream(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_whitespace);
    let servers = words.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten());
    servers.filter_map(|server| Some(SocketAddr::new(server.parse::<IpAddr>().ok()?, 53))).collect()
}

/// How long to gather changes before building the zone again.
const GATHER: Duration = Duration::from_millis(20);

async fn follow(client: Client, zone: Arc<RwLock<Arc<Zone>>>, seen: runtime::ready::Block) {
    let services: Store<Service> = client.watch(Scope::all());
    let slices: Store<EndpointSlice> = client.watch(Scope::all());
    services.synced().await;
    slices.synced().await;
    let (mut service_version, mut slice_version) = (services.version(), slices.version());
    let mut seen = Some(seen);
    loop {
        service_version.mark_unchanged();
        slice_version.mark_unchanged();
        let (all_services, all_slices) = (services.list(), slices.list());
        let built = Zone::build(all_services.iter().map(AsRef::as_ref), all_slices.iter().map(AsRef::as_ref));
        *zone.write() = Arc::new(built);
        drop(seen.take());
        tokio::select! {
            _ = service_version.changed() => {}
            _ = slice_version.changed() => {}
        }
        tokio::time::sleep(GATHER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_servers_are_the_resolvers() {
        let text = "# x\nnameserver 192.0.2.1\nsearch a\nnameserver nonsense\nnameserver 2001:db8::1\n";
        let servers: Vec<String> = upstream(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
