//! The addresses of a name, for clients that gave us a name instead of asking for addresses themselves.

use super::{
    answer::{self, Decision},
    forward,
    server::{self, Protocol},
};
use crate::pod::Pod;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use std::{net::IpAddr, str::FromStr};

/// The addresses of one family that a name means to a pod: the mesh's answer, or else a name server's. None when neither has any.
pub(crate) async fn lookup(pod: &Pod, name: &str, v6: bool) -> Vec<IpAddr> {
    let Some(query) = query(name, v6) else { return Vec::new() };
    let Some(workload) = pod.proxy.state.await_local_workload(&pod.info).await else { return Vec::new() };
    match server::decide(pod, &workload, &query) {
        Decision::Reply(reply) => reply.addresses,
        Decision::Ignore => Vec::new(),
        Decision::Forward(question) => {
            let labels = server::labels(&workload, Protocol::Udp, &question);
            match forward::ask(pod, Protocol::Udp, &query, &labels.each_ref().map(String::as_str)).await {
                Ok(bytes) => addresses(&bytes),
                Err(error) => {
                    tracing::debug!(name, "asking for the addresses of a name: {error}");
                    Vec::new()
                }
            }
        }
    }
}

fn query(name: &str, v6: bool) -> Option<Vec<u8>> {
    let mut name = Name::from_str(name).ok()?;
    name.set_fqdn(true);
    let kind = if v6 { RecordType::AAAA } else { RecordType::A };
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().ok().filter(|bytes| bytes.len() <= usize::from(answer::MIN_PAYLOAD))
}

fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let Ok(message) = Message::from_vec(message) else { return Vec::new() };
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}
