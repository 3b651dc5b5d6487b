//! What telemetry is told of a connection: the access record and the metric labels, from what is known of its two ends
//! (ztunnel.md §11.2, §11.3). Pure.

use crate::route::{Route, Tunnel};
use hbone::{Authority, Baggage};
use model::{Identity, Service, Str, Workload};
use std::net::SocketAddr;
use telemetry::{
    access::{Direction, End, Record},
    metrics::traffic::{Addressed, Labels, Party},
};

fn known(text: &str) -> Option<Str> {
    (!text.is_empty()).then(|| text.into())
}

fn end(workload: &Workload, identity: Option<Identity>) -> End {
    let name = [&workload.name, &workload.canonical_name].into_iter().find(|name| !name.is_empty());
    End {
        workload: name.cloned(),
        namespace: known(&workload.namespace),
        identity,
        cluster: known(&workload.cluster_id),
    }
}

fn addressed(service: &Service) -> Addressed {
    Addressed { hostname: service.hostname.clone(), namespace: service.namespace.clone(), name: service.name.clone() }
}

/// A connection that leaves the local workload.
pub(crate) fn outbound(
    workload: &Workload,
    identity: &Identity,
    route: &Route,
    source: SocketAddr,
    hop: SocketAddr,
) -> (Record, Labels) {
    let authority = match &route.tunnel {
        Tunnel::Plain => None,
        Tunnel::Hbone { authority, .. } | Tunnel::DoubleHbone { authority, .. } => Some(authority),
    };
    let proven = authority.is_some().then(|| identity.clone());
    let far = route.workload.as_deref();
    let far_identity = far.map(Workload::identity);
    let record = Record {
        source_address: source,
        source: end(workload, proven.clone()),
        destination_address: hop,
        hbone_address: authority.map(text),
        service: route.service.as_ref().map(|service| service.hostname.clone()),
        destination: far.map(|far| end(far, far_identity.clone().filter(|_| authority.is_some()))).unwrap_or_default(),
        direction: Direction::Outbound,
    };
    let labels = Labels {
        direction: Direction::Outbound,
        source: Party::of(workload, proven),
        service: route.service.as_deref().map(addressed),
        destination: far.map(|far| Party::of(far, far_identity)).unwrap_or_default(),
        mutual_tls: authority.is_some(),
    };
    (record, labels)
}

/// The workload behind a network's gateway, as it proves and says itself.
#[derive(Debug)]
pub(crate) struct Behind {
    /// Proven by certificate.
    pub identity: Option<Identity>,
    /// Said in its answer.
    pub baggage: Baggage,
}

/// Names the workload behind the gateway as the destination, instead of the gateway.
pub(crate) fn arrived_at(record: &mut Record, labels: &mut Labels, behind: &Behind) {
    record.destination = said_end(&behind.baggage, behind.identity.as_ref());
    labels.destination = said_party(&behind.baggage, behind.identity.as_ref());
}

/// Who the client of an inbound connection is, as far as it can be known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client<'a> {
    /// The mesh knows the address.
    Workload(&'a Workload),
    /// Only what the client's proxy says of it.
    Said(&'a Baggage),
    /// Nobody knows.
    Unknown,
}

/// A connection that comes to the local workload. `peer` is proven by certificate; `authority` is absent in plaintext.
pub(crate) fn inbound(
    workload: &Workload,
    client: Client<'_>,
    peer: Option<&Identity>,
    service: Option<&Service>,
    source: SocketAddr,
    (destination, authority): (SocketAddr, Option<&Authority>),
) -> (Record, Labels) {
    let own = workload.identity();
    let (source_end, source_party) = match client {
        Client::Workload(client) => (end(client, peer.cloned()), Party::of(client, peer.cloned())),
        Client::Said(baggage) => (said_end(baggage, peer), said_party(baggage, peer)),
        Client::Unknown => {
            (End { identity: peer.cloned(), ..End::default() }, Party { principal: peer.cloned(), ..Party::default() })
        }
    };
    let record = Record {
        source_address: source,
        source: source_end,
        destination_address: destination,
        hbone_address: authority.map(text),
        service: service.map(|service| service.hostname.clone()),
        destination: end(workload, authority.is_some().then(|| own.clone())),
        direction: Direction::Inbound,
    };
    let labels = Labels {
        direction: Direction::Inbound,
        source: source_party,
        service: service.map(addressed),
        destination: Party::of(workload, Some(own)),
        mutual_tls: authority.is_some(),
    };
    (record, labels)
}

fn text(authority: &Authority) -> Str {
    authority.to_string().into()
}

/// Baggage names controllers, not pods; the canonical service is the better name when there is one.
fn said_end(baggage: &Baggage, peer: Option<&Identity>) -> End {
    End {
        workload: known(&baggage.service).or_else(|| known(&baggage.workload_name)),
        namespace: known(&baggage.namespace),
        identity: peer.cloned(),
        cluster: known(&baggage.cluster),
    }
}

fn said_party(baggage: &Baggage, peer: Option<&Identity>) -> Party {
    Party {
        workload: known(&baggage.workload_name),
        canonical_service: known(&baggage.service),
        canonical_revision: known(&baggage.version),
        namespace: known(&baggage.namespace),
        principal: peer.cloned(),
        app: known(&baggage.workload_name),
        cluster: known(&baggage.cluster),
        region: known(&baggage.region),
        zone: known(&baggage.zone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Hop;
    use std::sync::Arc;

    /// A pod of the recorded walk.
    fn pod(name: &str, account: &str) -> Workload {
        Workload {
            name: name.into(),
            namespace: "shop".into(),
            service_account: account.into(),
            workload_name: account.into(),
            canonical_name: account.into(),
            canonical_revision: "v1".into(),
            ..Workload::default()
        }
    }

    fn web() -> Service {
        Service {
            name: "web".into(),
            namespace: "shop".into(),
            hostname: "web.shop.svc.cluster.local".into(),
            ..Service::default()
        }
    }

    fn route(tunnel: Tunnel) -> Route {
        Route {
            hop: Hop::Address("10.244.1.6:15008".parse().unwrap()),
            tunnel,
            workload: Some(Arc::new(pod("web-57794d7bfc-zkpk5", "web"))),
            service: Some(Arc::new(web())),
        }
    }

    /// `src=workload/identity dst=workload/identity at address/hbone service`, what matters of a record.
    fn text(record: &Record) -> String {
        let end = |end: &End| {
            let account = end.identity.as_ref().map_or("-", |identity| &identity.service_account);
            format!("{}/{account}", end.workload.as_deref().unwrap_or("-"))
        };
        format!(
            "src={} dst={} at {}/{} {}",
            end(&record.source),
            end(&record.destination),
            record.destination_address,
            record.hbone_address.as_deref().unwrap_or("-"),
            record.service.as_deref().unwrap_or("-"),
        )
    }

    #[test]
    fn a_tunnelled_connection_is_told_as_recorded() {
        let client = pod("client", "client");
        let authority: Authority = "10.244.1.6:8080".parse().unwrap();
        let tunnel = Tunnel::Hbone { authority: authority.clone(), expected: Vec::new() };
        let (source, hop) = ("10.244.1.7:45114".parse().unwrap(), "10.244.1.6:15008".parse().unwrap());
        let (record, labels) = outbound(&client, &client.identity(), &route(tunnel), source, hop);
        let expected = "src=client/client dst=web-57794d7bfc-zkpk5/web at 10.244.1.6:15008/10.244.1.6:8080 \
                        web.shop.svc.cluster.local";
        assert_eq!(text(&record), expected);
        assert!(labels.mutual_tls && labels.source.principal.is_some() && labels.destination.principal.is_some());

        let server = pod("web-57794d7bfc-zkpk5", "web");
        let (record, _) = inbound(
            &server,
            Client::Workload(&client),
            Some(&client.identity()),
            Some(&web()),
            source,
            (hop, Some(&authority)),
        );
        assert_eq!(text(&record), expected);
    }

    #[test]
    fn plaintext_proves_nobody() {
        let client = pod("client", "client");
        let source = "10.244.1.7:45114".parse().unwrap();
        let address = "10.244.1.6:8080".parse().unwrap();
        let (record, labels) = outbound(&client, &client.identity(), &route(Tunnel::Plain), source, address);
        assert_eq!(
            text(&record),
            "src=client/- dst=web-57794d7bfc-zkpk5/- at 10.244.1.6:8080/- web.shop.svc.cluster.local"
        );
        assert!(!labels.mutual_tls && labels.source.principal.is_none() && labels.destination.principal.is_some());
        let server = pod("web-57794d7bfc-zkpk5", "web");
        let (record, _) = inbound(&server, Client::Unknown, None, None, source, (address, None));
        assert_eq!(text(&record), "src=-/- dst=web-57794d7bfc-zkpk5/- at 10.244.1.6:8080/- -");
    }

    #[test]
    fn baggage_speaks_for_a_client_that_the_mesh_does_not_know() {
        let baggage = Baggage {
            workload_name: "deploy".to_owned(),
            service: "canonical".to_owned(),
            namespace: "far".to_owned(),
            ..Baggage::default()
        };
        let peer = "spiffe://cluster.local/ns/far/sa/account".parse().unwrap();
        let (source, address) = ("10.9.0.1:1".parse().unwrap(), "10.244.1.6:8080".parse().unwrap());
        let server = pod("server", "web");
        let (record, labels) = inbound(&server, Client::Said(&baggage), Some(&peer), None, source, (address, None));
        assert_eq!(record.source.workload.as_deref(), Some("canonical"));
        assert_eq!(labels.source.app.as_deref(), Some("deploy"));
        assert_eq!(labels.source.principal, Some(peer));
    }
}
