//! Proxies that take what they are sent, acknowledge it and keep nothing: five hundred of them must fit beside what is measured.

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use proto::{core::Node, discovery::DeltaDiscoveryRequest, type_url::ADDRESS};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::mpsc;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Endpoint,
};
use xds::server::Catalog;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Longer than anything that is measured.
const PATIENCE: Duration = Duration::from_secs(120);

/// A response, resources unread.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// Requests are bytes, so that all proxies share one.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        let length = buffer.remaining();
        Answer::decode(buffer.copy_to_bytes(length)).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Name and version of everything there is.
pub(super) fn versions(catalog: &Catalog) -> Vec<(String, String)> {
    let snapshot = catalog.snapshots().borrow().clone();
    let collection = snapshot.as_ref().and_then(|snapshot| snapshot.get(ADDRESS));
    let resources = collection.into_iter().flat_map(|collection| collection.iter());
    resources.map(|resource| (resource.name.to_string(), format!("{:016x}", resource.version))).collect()
}

/// A first request of a proxy that holds this.
pub(super) fn first_request(held: Option<Vec<(String, String)>>) -> Bytes {
    let node = Node {
        id: "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local".to_owned(),
        ..Node::default()
    };
    let request = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: ADDRESS.to_owned(),
        initial_resource_versions: held.unwrap_or_default().into_iter().collect(),
        ..DeltaDiscoveryRequest::default()
    };
    request.encode_to_vec().into()
}

/// One connected proxy.
struct Proxy {
    requests: mpsc::Sender<Bytes>,
    answers: Streaming<Answer>,
}

impl Proxy {
    async fn connect(address: SocketAddr, first: Bytes) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(1 << 30);
        grpc.ready().await?;
        let (requests, outgoing) = mpsc::channel(4);
        requests.send(first).await?;
        let outgoing = Request::new(tokio_stream::wrappers::ReceiverStream::new(outgoing));
        let answers = grpc.streaming(outgoing, PathAndQuery::from_static(DELTA), Raw).await?.into_inner();
        Ok(Self { requests, answers })
    }

    /// The next response, acknowledged.
    async fn next(&mut self) -> Result<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.context("nothing came")??;
        let answer = answer.context("the stream has ended")?;
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: ADDRESS.to_owned(),
            response_nonce: answer.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(acknowledgement.encode_to_vec().into()).await?;
        Ok(answer)
    }
}

/// Connected proxies.
pub(super) struct Proxies(Vec<Proxy>);

impl Proxies {
    /// Connects so many at once.
    pub(super) async fn connect(address: SocketAddr, count: usize, first: &Bytes) -> Result<Self> {
        let all: FuturesUnordered<_> = (0..count).map(|_| Proxy::connect(address, first.clone())).collect();
        let connected: Vec<Result<Proxy>> = all.collect().await;
        connected.into_iter().collect::<Result<_>>().map(Self)
    }

    /// Waits for the first response of each; how many resources came in all.
    pub(super) async fn first(&mut self) -> Result<usize> {
        let all: FuturesUnordered<_> = self.0.iter_mut().map(Proxy::next).collect();
        let answers: Vec<Result<Answer>> = all.collect().await;
        answers.into_iter().map(|answer| Ok(answer?.resources.len())).sum()
    }

    /// Waits for one response of each that has a resource.
    pub(super) async fn all_told(&mut self) -> Result<()> {
        if self.first().await? < self.0.len() {
            bail!("a response came without a resource");
        }
        Ok(())
    }

    /// Takes responses until each has had a resource with this in it.
    pub(super) async fn until_named(&mut self, name: &str) -> Result<()> {
        let holds = |answer: &Answer| {
            answer.resources.iter().any(|bytes| bytes.windows(name.len()).any(|part| part == name.as_bytes()))
        };
        let all: FuturesUnordered<_> = self
            .0
            .iter_mut()
            .map(|proxy| async move {
                while !holds(&proxy.next().await?) {}
                Ok(())
            })
            .collect();
        let results: Vec<Result<()>> = all.collect().await;
        results.into_iter().collect()
    }
}
