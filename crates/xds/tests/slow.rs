//! Proxies that do not keep up: one that takes nothing is hung up on, and meanwhile holds up nobody and costs one response.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use hyper_util::rt::TokioIo;
use model::Str;
use proto::{
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    type_url::{ADDRESS, AUTHORIZATION},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Extensions, Status, Streaming, metadata::MetadataMap, transport::Endpoint};
use xds::server::{Catalog, Clients, Event, Gate, Hangup, Resource, Server, Settings};

/// Lets everybody in, and notes who was hung up on.
struct Open {
    hangup: Hangup,
    timed_out: Arc<watch::Sender<u32>>,
}

impl Gate for Open {
    type Caller = &'static str;

    async fn authenticate(&self, _: &MetadataMap, _: &Extensions) -> Result<&'static str, Status> {
        Ok("anybody")
    }

    fn admit(&self, _: &&'static str, _: &Node) -> Result<(), Status> {
        Ok(())
    }

    fn may_debug(&self, _: &&'static str) -> Result<(), Status> {
        Ok(())
    }

    fn hangup(&self, _: &Extensions) -> Option<Hangup> {
        Some(self.hangup.clone())
    }

    fn observe(&self, event: Event<'_>) {
        if matches!(event, Event::TimedOut) {
            self.timed_out.send_modify(|count| *count += 1);
        }
    }
}

struct World {
    catalog: Catalog,
    clients: Clients,
    hangup: Hangup,
    timed_out: Arc<watch::Sender<u32>>,
    connections: mpsc::UnboundedSender<io::Result<DuplexStream>>,
}

fn world(settings: Settings) -> World {
    let catalog = Catalog::new(&[ADDRESS, AUTHORIZATION]);
    catalog.publish(AUTHORIZATION, []);
    let (clients, hangup, timed_out) = (Clients::default(), Hangup::default(), Arc::new(watch::Sender::new(0)));
    let gate = Open { hangup: hangup.clone(), timed_out: Arc::clone(&timed_out) };
    let server = Server::new(catalog.snapshots(), gate, clients.clone(), settings);
    let (connections, incoming) = mpsc::unbounded_channel();
    let incoming = UnboundedReceiverStream::new(incoming);
    tokio::spawn(tonic::transport::Server::builder().add_service(server.into_service()).serve_with_incoming(incoming));
    World { catalog, clients, hangup, timed_out, connections }
}

/// A proxy's stream, and the way to ask on it.
type Proxy = (mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

impl World {
    fn publish(&self, name: &str, bytes: usize) {
        let resource = Resource::new(name, vec![7; bytes]);
        self.catalog.publish(ADDRESS, [(Str::from(name), Some(resource))]);
    }

    async fn proxy(&self) -> Proxy {
        let connections = self.connections.clone();
        let connector = tower::service_fn(move |_| {
            let (near, far) = tokio::io::duplex(1 << 16);
            let sent = connections.send(Ok(far)).map_err(|_| io::Error::other("the server is gone"));
            async move { sent.map(|()| TokioIo::new(near)) }
        });
        let channel = Endpoint::from_static("http://control-plane").connect_with_connector(connector).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 28);
        let (requests, outgoing) = mpsc::channel(4);
        let node = Some(Node { id: "a~b~c~d".to_owned(), ..Node::default() });
        requests
            .send(DeltaDiscoveryRequest { node, type_url: ADDRESS.to_owned(), ..Default::default() })
            .await
            .unwrap();
        let answers = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        (requests, answers)
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_nothing_is_hung_up_on() {
    let world = world(Settings::default());
    world.publish("large", 16 << 20);
    let (_requests, _unread) = world.proxy().await;
    tokio::time::timeout(Duration::from_secs(120), world.hangup.hung_up()).await.unwrap();
    assert_eq!(*world.timed_out.borrow(), 1);
    // Its session, and all that waited for it, is gone.
    tokio::time::timeout(Duration::from_secs(5), async {
        while !world.clients.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_nothing_holds_up_no_small_change_to_others() {
    // Room for one large response at a time, so the second proxy would wait for the first if small ones needed room.
    let world = world(Settings { room: 1 << 20, ..Settings::default() });
    world.publish("small", 100);
    let (_other_requests, mut other) = world.proxy().await;
    assert_eq!(other.message().await.unwrap().unwrap().resources.len(), 1);
    // What takes nothing is stuck with everything, which is large by now for it alone: the other asks for less.
    world.publish("large", 16 << 20);
    let (_requests, _unread) = world.proxy().await;
    let large = tokio::time::timeout(Duration::from_secs(120), other.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(large.resources[0].name, "large");
    world.publish("later", 100);
    let later = tokio::time::timeout(Duration::from_secs(1), other.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(later.resources[0].name, "later");
}

#[tokio::test(start_paused = true)]
async fn a_slow_proxy_skips_the_states_in_between() {
    let world = world(Settings::default());
    world.publish("a", 100);
    let (_requests, mut answers) = world.proxy().await;
    answers.message().await.unwrap().unwrap();
    for round in 1..=200 {
        world.publish("a", 100_000 + round);
        tokio::task::yield_now().await;
    }
    let (mut received, mut last) = (0, 0);
    while last != 100_200 {
        let answer = answers.message().await.unwrap().unwrap();
        last = answer.resources[0].resource.as_ref().unwrap().value.len();
        received += 1;
    }
    assert!(received < 100, "{received} of 200 states were sent one by one");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_asks_without_end_is_slowed_down() {
    let world = world(Settings { requests_per_second: 100, ..Settings::default() });
    world.publish("a", 100);
    let (requests, mut answers) = world.proxy().await;
    answers.message().await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();
    for number in 0..1000 {
        let request = DeltaDiscoveryRequest {
            type_url: ADDRESS.to_owned(),
            resource_names_subscribe: vec![format!("garbage-{number}")],
            ..Default::default()
        };
        requests.send(request).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.removed_resources, [format!("garbage-{number}")]);
    }
    // Two hundred at once, then a hundred per second.
    let took = begun.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(10)).contains(&took), "{took:?}");
}
