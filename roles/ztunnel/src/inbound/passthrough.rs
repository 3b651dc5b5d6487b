//! Plaintext captured on 15006: judged without an identity, then carried to the application as it is.

use super::{application, target};
use crate::{
    connections::{Judged, Shown},
    flow::{self, Beginning, Session, abort},
    pod::Shard,
    policy, telling,
};
use authz::Verdict;
use model::{NetworkAddress, Reason, Workload};
use std::{net::SocketAddr, sync::Arc};
use telemetry::access::Direction;
use tokio::{net::TcpStream, time::Instant};

/// Handles one captured connection.
pub(crate) async fn handle(shard: Arc<Shard>, client: TcpStream, source: SocketAddr) {
    let since = Instant::now();
    let destination = match linux::socket::original_dst(&client) {
        Ok(destination) => destination,
        Err(error) => {
            tracing::debug!(%source, "the connection ended before its destination was known: {error}");
            return;
        }
    };
    let proxy = &shard.pod.proxy;
    let fail = |local: Option<&Workload>, reason| {
        flow::fail_early(&proxy.metrics.traffic, Direction::Inbound, source, destination, local, reason);
    };
    if proxy.config.illegal_ports().contains(&destination.port()) {
        return fail(None, Reason::SelfCall);
    }
    let Some(workload) = proxy.state.await_local_workload(&shard.pod.info).await else {
        return fail(None, Reason::WorkloadUnknown);
    };
    let session = begin(&shard, &workload, source, destination, since);
    let carried = carry(&shard, &session, source, destination, &client);
    let reason = tokio::select! {
        biased;
        reason = session.cut() => reason,
        reason = shard.pod.ended() => reason,
        reason = carried => reason,
    };
    session.finish(reason);
}

fn judged(source: SocketAddr, destination: SocketAddr) -> Judged {
    Judged { peer: None, source, destination }
}

fn begin(shard: &Shard, workload: &Workload, source: SocketAddr, destination: SocketAddr, since: Instant) -> Session {
    let proxy = &shard.pod.proxy;
    let mesh = proxy.state.mesh();
    let network = proxy.config.network.clone();
    let client = mesh.workload_by_address(&NetworkAddress { network, address: source.ip() });
    let client = client.map_or(telling::Client::Unknown, |client| telling::Client::Workload(client));
    let service = target::addressed_service(&mesh, workload, None, destination.port());
    let (record, labels) = telling::inbound(workload, client, None, service.as_deref(), source, (destination, None));
    let shown = Shown {
        direction: Direction::Inbound,
        source,
        original: None,
        actual: destination.to_string(),
        protocol: "TCP",
    };
    let judged = Some(judged(source, destination));
    let beginning = Beginning { record, labels, shown, judged, since };
    Session::begin(&proxy.metrics.traffic, &shard.connections, beginning)
}

async fn carry(
    shard: &Shard,
    session: &Session,
    source: SocketAddr,
    destination: SocketAddr,
    client: &TcpStream,
) -> Reason {
    let pod = &shard.pod;
    let verbose = pod.proxy.config.policy_info_logging;
    let connection = judged(source, destination);
    if let Verdict::Deny(denial) = policy::admit(&pod.proxy.state, &pod.info, &connection, verbose).await {
        abort(client);
        return Reason::PolicyDenied(denial.to_string());
    }
    match application::connect(pod, source, destination).await {
        Ok(application) => session.relay_sockets(None, client, &application).await,
        Err(reason) => {
            abort(client);
            reason
        }
    }
}
