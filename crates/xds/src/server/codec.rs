//! How messages of the delta stream are written and read: responses without a copy of their resources.

use super::{Clients, Push};
use bytes::Buf;
use prost::Message;
use proto::discovery::DeltaDiscoveryRequest;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The codec of the delta stream, which notes how large requests are.
#[derive(Debug, Clone)]
pub(super) struct DeltaCodec(pub(super) Clients);

impl Codec for DeltaCodec {
    type Encode = Push;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DeltaCodec {
    type Item = Push;
    type Error = Status;

    fn encode(&mut self, push: Push, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(push.encoded_len());
        push.encode(buffer);
        Ok(())
    }
}

impl Decoder for DeltaCodec {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        self.0.received(buffer.remaining());
        let request = DeltaDiscoveryRequest::decode(buffer);
        request.map(Some).map_err(|error| Status::invalid_argument(format!("the request cannot be read: {error}")))
    }
}
