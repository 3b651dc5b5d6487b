//! Streams that are not HTTP: judged once, by what policies can see of them, then carried to one endpoint byte by byte.

use crate::{dialer::Dialer, proxy::Proxy};
use l7::{
    authz::{self, Verdict},
    balance::{Endpoint, Wish},
    destination::TrafficPolicy,
    http::Connection,
};
use model::{Reason, Workload};
use rand::RngExt as _;
use std::{net::SocketAddr, sync::Arc};
use telemetry::{
    access::{Direction, End, Outcome, Record},
    metrics::traffic::{Addressed, Labels, Party},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

/// Carries one stream; its end is logged and counted.
pub(crate) async fn carry<IO>(proxy: &Proxy, dialer: &Dialer, connection: &Connection, mut client: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    let endpoint = match judge(proxy, connection) {
        Verdict::Allow => choose(proxy, connection).ok_or(Reason::NoHealthyUpstream),
        Verdict::Denied(policy) => Err(Reason::PolicyDenied(format!("explicitly denied by: {policy}"))),
        Verdict::NotAllowed => Err(Reason::PolicyDenied("allow policies exist, but none allowed".to_owned())),
    };
    let workload = endpoint.as_ref().ok().map(|endpoint| endpoint.workload.clone());
    let open = proxy.traffic.series(labels(connection, workload.as_deref())).open();
    let record = record(connection, endpoint.as_ref().ok());
    let (reason, received, sent) = match endpoint {
        Err(reason) => (reason, 0, 0),
        Ok(endpoint) => match dialer.open(&endpoint, Some(connection.source)).await {
            Err(error) => (error.into(), 0, 0),
            Ok(mut server) => {
                let _busy = endpoint.health.begin();
                match tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    Ok((received, sent)) => (Reason::Complete, received, sent),
                    Err(_) => (Reason::Reset, 0, 0),
                }
            }
        },
    };
    open.received(received);
    open.sent(sent);
    open.end(&reason);
    record.ended(&Outcome { sent, received, duration: begun.elapsed(), reason });
}

fn judge(proxy: &Proxy, connection: &Connection) -> Verdict {
    let config = proxy.shared.config.load();
    let service = connection.key();
    let policies = config.policies(&proxy.shared.here(service.as_ref()));
    let asked = authz::Request {
        peer: connection.identity.as_ref(),
        source: connection.source.ip(),
        remote: connection.source.ip(),
        destination: connection.address.map(|address| address.ip()),
        port: connection.port,
        server_name: None,
        http: None,
    };
    authz::decide(&policies, &asked)
}

fn choose(proxy: &Proxy, connection: &Connection) -> Option<Endpoint> {
    if let Some(endpoint) = &connection.workload {
        return Some(endpoint.clone());
    }
    let service = connection.key()?;
    let config = proxy.shared.config.load();
    let snapshot = proxy.shared.mesh.load();
    let (mesh, generation) = &**snapshot;
    let set = proxy.shared.sets.get(mesh, *generation, (&service, connection.port), None);
    let policy = config.destination(&service).map(|destination| destination.policy(connection.port, None).clone());
    let policy: TrafficPolicy = policy.unwrap_or_default();
    let original = connection.address.map(|address| address.ip());
    let wish = Wish { policy: &policy, hash: None, tried: &[], original, now: Instant::now() };
    set.choose(&wish, |below| rand::rng().random_range(0..below)).cloned()
}

fn labels(connection: &Connection, destination: Option<&Workload>) -> Labels {
    let service = connection.service.as_ref().map(|service| Addressed {
        hostname: service.hostname.clone(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
    });
    Labels {
        direction: Direction::Inbound,
        source: connection.party.clone(),
        service,
        destination: destination.map(|one| Party::of(one, Some(one.identity()))).unwrap_or_default(),
        mutual_tls: connection.identity.is_some(),
    }
}

fn record(connection: &Connection, endpoint: Option<&Endpoint>) -> Record {
    let end = |workload: &Arc<Workload>| End {
        workload: Some(workload.name.clone()),
        namespace: Some(workload.namespace.clone()),
        identity: Some(workload.identity()),
        cluster: Some(workload.cluster_id.clone()),
    };
    let nowhere = SocketAddr::from(([0, 0, 0, 0], connection.port));
    Record {
        source_address: connection.source,
        source: End {
            workload: connection.party.workload.clone(),
            namespace: connection.party.namespace.clone(),
            identity: connection.identity.clone(),
            cluster: connection.party.cluster.clone(),
        },
        destination_address: endpoint.map(|one| one.address).or(connection.address).unwrap_or(nowhere),
        hbone_address: connection.address.map(|address| address.to_string().into()),
        service: connection.service.as_ref().map(|service| service.hostname.clone()),
        destination: endpoint.map(|one| end(&one.workload)).unwrap_or_default(),
        direction: Direction::Inbound,
    }
}
