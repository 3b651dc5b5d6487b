//! Client and server of this crate over a real HTTP/2 connection in memory.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use hyper_util::rt::TokioIo;
use model::{Str, Workload};
use parking_lot::Mutex;
use prost::Message;
use proto::{core::Node, discovery, type_url};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tonic::{
    Extensions, Status,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use xds::{
    client::{Batch, Change, Client, Config, Handle, Rejection, Sink},
    server::{Clients, Collection, Gate, Resource, Server, Settings, Snapshot},
    wds::{Address, encode_address},
};

struct Open;

impl Gate for Open {
    type Caller = &'static str;

    async fn authenticate(&self, _: &MetadataMap, _: &Extensions) -> Result<&'static str, Status> {
        Ok("anybody")
    }

    fn admit(&self, _: &&'static str, node: &Node) -> Result<(), Status> {
        if node.id == "stranger" { Err(Status::permission_denied("strangers stay outside")) } else { Ok(()) }
    }

    fn may_debug(&self, _: &&'static str) -> Result<(), Status> {
        Ok(())
    }
}

/// Uids of everything held, told at every change.
#[derive(Clone)]
struct Held {
    names: Arc<Mutex<BTreeSet<Str>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Sink for Held {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        if let Batch::Addresses(changes) = batch {
            let mut names = self.names.lock();
            for change in changes {
                match change {
                    Change::Upsert(address) => names.insert(address.name()),
                    Change::Remove(name) => names.remove(&name),
                };
            }
        }
        self.changed.send_modify(|count| *count += 1);
        Vec::new()
    }
}

impl Held {
    fn new() -> Self {
        Self { names: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    async fn until(&self, expected: &[&str]) {
        let expected: BTreeSet<Str> = expected.iter().map(|&name| name.into()).collect();
        let mut changed = self.changed.subscribe();
        let wait = changed.wait_for(|_| *self.names.lock() == expected);
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("in time").expect("alive");
    }
}

fn resource(name: &str, address: &str) -> (Str, Option<Resource>) {
    let workload = Workload { uid: name.into(), addresses: vec![address.parse().unwrap()], ..Workload::default() };
    let body = encode_address(&Address::Workload(Box::new(workload))).encode_to_vec();
    let resource = Resource { aliases: vec![format!("/{address}").into()], ..Resource::new(name, body) };
    (name.into(), Some(resource))
}

fn publish(snapshots: &watch::Sender<Option<Arc<Snapshot>>>, addresses: &Collection) {
    let types = [(type_url::ADDRESS, addresses.clone()), (type_url::AUTHORIZATION, Collection::default())];
    snapshots.send_replace(Some(Arc::new(Snapshot::new(types))));
}

struct World {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    clients: Clients,
    connections: mpsc::UnboundedSender<io::Result<tokio::io::DuplexStream>>,
}

fn serve(max_stream_age: Option<Duration>) -> World {
    let (snapshots, seen) = watch::channel(None);
    let (connections, incoming) = mpsc::unbounded_channel();
    let clients = Clients::default();
    let settings = Settings { identifier: "test".to_owned(), max_stream_age, ..Settings::default() };
    let server = Server::new(seen, Open, clients.clone(), settings);
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
    tokio::spawn(tonic::transport::Server::builder().add_service(server.into_service()).serve_with_incoming(incoming));
    World { snapshots, clients, connections }
}

impl World {
    async fn channel(
        connections: mpsc::UnboundedSender<io::Result<tokio::io::DuplexStream>>,
    ) -> Result<Channel, String> {
        let connector = tower::service_fn(move |_| {
            let (near, far) = tokio::io::duplex(1 << 16);
            let sent = connections.send(Ok(far)).map_err(|_| io::Error::other("the server is gone"));
            async move { sent.map(|()| TokioIo::new(near)) }
        });
        let endpoint = Endpoint::from_static("http://control-plane");
        endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())
    }

    fn connect(&self, config: Config, sink: Held) -> Handle {
        let (client, handle) = Client::new(config, sink);
        let connections = self.connections.clone();
        tokio::spawn(client.run(move || Self::channel(connections.clone())));
        handle
    }
}

fn node(id: &str) -> Node {
    Node { id: id.to_owned(), ..Node::default() }
}

#[tokio::test]
async fn a_client_follows_a_server_that_was_not_ready() {
    let world = serve(None);
    let held = Held::new();
    let mut handle = world.connect(Config::new(node("a")), held.clone());
    assert!(!*handle.synced.borrow());
    let one = Collection::default().with([resource("p1", "10.0.0.1"), resource("p2", "10.0.0.2")]);
    publish(&world.snapshots, &one);
    held.until(&["p1", "p2"]).await;
    handle.synced.wait_for(|synced| *synced).await.unwrap();
    publish(&world.snapshots, &one.with([("p1".into(), None), resource("p3", "10.0.0.3")]));
    held.until(&["p2", "p3"]).await;
    let connected = world.clients.list();
    assert_eq!(connected.len(), 1);
    assert_eq!(connected[0].1.node.id, "a");
}

#[tokio::test]
async fn streams_that_end_by_age_are_resumed_without_loss() {
    let world = serve(Some(Duration::from_millis(50)));
    let one = Collection::default().with([resource("p1", "10.0.0.1")]);
    publish(&world.snapshots, &one);
    let held = Held::new();
    world.connect(Config::new(node("a")), held.clone());
    held.until(&["p1"]).await;
    // Changes come at whichever moment of the short streams.
    let mut collection = one;
    let mut expected = vec!["p1".to_owned()];
    for number in 2..20 {
        let name = format!("p{number}");
        collection = collection.with([resource(&name, &format!("10.0.0.{number}"))]);
        publish(&world.snapshots, &collection);
        expected.push(name);
        held.until(&expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn a_client_on_demand_holds_what_it_asked_for() {
    let world = serve(None);
    publish(&world.snapshots, &Collection::default().with([resource("p1", "10.0.0.1"), resource("p2", "10.0.0.2")]));
    let held = Held::new();
    let handle = world.connect(Config { on_demand: true, ..Config::new(node("a")) }, held.clone());
    handle.demand.fetch("/10.0.0.2").await.unwrap();
    held.until(&["p2"]).await;
    handle.demand.fetch("/10.9.9.9").await.unwrap();
    let (first, second) = tokio::join!(handle.demand.fetch("p1"), handle.demand.fetch("p1"));
    assert_eq!((first, second), (Ok(()), Ok(())));
    held.until(&["p1", "p2"]).await;
}

#[tokio::test]
async fn a_refused_node_and_a_nameless_one_are_told_so() {
    let world = serve(None);
    publish(&world.snapshots, &Collection::default());
    for (id, code) in [("stranger", tonic::Code::PermissionDenied), ("", tonic::Code::InvalidArgument)] {
        let channel = World::channel(world.connections.clone()).await.unwrap();
        let mut client = discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(channel);
        let request = discovery::DeltaDiscoveryRequest {
            node: Some(node(id)),
            type_url: type_url::ADDRESS.to_owned(),
            ..Default::default()
        };
        let refused = client.delta_aggregated_resources(tokio_stream::iter([request])).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
}

#[tokio::test]
async fn who_is_connected_is_told_as_state_of_the_world() {
    let world = serve(None);
    publish(&world.snapshots, &Collection::default());
    let held = Held::new();
    let mut handle = world.connect(Config::new(node("ztunnel~10.0.0.1~ztunnel-a.istio-system~x")), held);
    handle.synced.wait_for(|synced| *synced).await.unwrap();
    let channel = World::channel(world.connections.clone()).await.unwrap();
    let mut client = discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(channel);
    let request = discovery::DiscoveryRequest { type_url: "istio.io/debug/syncz".to_owned(), ..Default::default() };
    let (requests, outgoing) = mpsc::channel(1);
    requests.send(request).await.unwrap();
    let answer = client.stream_aggregated_resources(tokio_stream::wrappers::ReceiverStream::new(outgoing)).await;
    let response = answer.unwrap().into_inner().message().await.unwrap().unwrap();
    let config = proto::csds::ClientConfig::decode(response.resources[0].value.as_slice()).unwrap();
    assert_eq!(config.node.unwrap().id, "ztunnel-a.istio-system");
    assert_eq!(config.generic_xds_configs.len(), 2);
    assert_eq!(response.control_plane.unwrap().identifier, "test");
}
