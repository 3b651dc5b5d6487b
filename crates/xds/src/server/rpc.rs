//! The service's two methods on the wire, by hand because the delta stream has a codec of its own.

use super::{Gate, Server, codec::DeltaCodec, flow::Outgoing};
use crate::MAX_REQUEST_BYTES;
use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse};
use std::{convert::Infallible, pin::Pin, sync::Arc};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::{Body, BoxFuture, Context, Poll, Service, StdError, http},
    server::{Grpc, NamedService, StreamingService},
};

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const STATE_OF_THE_WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// The service as a part of a tonic server.
#[derive(Debug)]
pub struct Rpc<G>(Arc<Server<G>>);

impl<G> Rpc<G> {
    pub(super) fn new(server: Server<G>) -> Self {
        Self(Arc::new(server))
    }
}

impl<G> Clone for Rpc<G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<G> NamedService for Rpc<G> {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

/// Answers of the stream that only debug requests use.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

struct Delta<G>(Arc<Server<G>>);

impl<G: Gate> StreamingService<DeltaDiscoveryRequest> for Delta<G> {
    type Response = super::Push;
    type ResponseStream = Outgoing;
    type Future = BoxFuture<Response<Outgoing>, Status>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move { server.delta(request).await })
    }
}

struct StateOfTheWorld<G>(Arc<Server<G>>);

impl<G: Gate> StreamingService<DiscoveryRequest> for StateOfTheWorld<G> {
    type Response = DiscoveryResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move { server.debug(request).await })
    }
}

impl<G, B> Service<http::Request<B>> for Rpc<G>
where
    G: Gate,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match request.uri().path() {
                DELTA => {
                    let mut grpc =
                        Grpc::new(DeltaCodec(server.clients().clone())).max_decoding_message_size(MAX_REQUEST_BYTES);
                    let response = grpc.streaming(Delta(server), request).await;
                    response.map(|body| tonic::body::Body::new(InPieces { body, rest: Bytes::new() }))
                }
                STATE_OF_THE_WORLD => {
                    let mut grpc = Grpc::new(tonic_prost::ProstCodec::default());
                    grpc.streaming(StateOfTheWorld(server), request).await
                }
                _ => Status::unimplemented("there is no such method").into_http(),
            })
        })
    }
}

/// Bytes that the transport takes at a time.
const PIECE: usize = 64 << 10;

/// A body that gives large messages piece by piece. The transport takes a piece when it has room for it, so what it has not taken is
/// what the proxy has not, and the next message is made only then.
struct InPieces {
    body: tonic::body::Body,
    rest: Bytes,
}

impl Body for InPieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}
