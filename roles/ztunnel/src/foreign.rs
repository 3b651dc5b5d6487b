//! Every parser of bytes that strangers write, each as a function that takes them and never fails but by its answer.

use crate::{dns, socks, state};
use model::Mesh;

/// A DNS query, answered over an empty mesh.
pub fn dns_query(bytes: &[u8]) {
    dns::try_query(&Mesh::new(), bytes);
}

/// A message of the node agent with this many descriptors; whether it was understood.
pub fn zds_message(bytes: &[u8], descriptors: usize) -> bool {
    inpod::message::decode(bytes, vec![(); descriptors]).is_ok()
}

/// A document of local resources; whether it was understood.
pub fn local_document(text: &str) -> bool {
    state::read_local(text).is_ok()
}

/// What a SOCKS client says; whether it asks for a connection.
pub fn socks(bytes: &[u8]) -> bool {
    socks::try_conversation(bytes)
}
