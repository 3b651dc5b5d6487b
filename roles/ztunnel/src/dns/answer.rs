//! From the bytes of a query to the bytes of an answer, or to the wish to ask elsewhere. Pure: foreign bytes in,
//! nothing but values out, so that it can be fed garbage.

use super::names::{self, Asker};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use model::{Mesh, Str};
use std::net::IpAddr;

/// Seconds that an answer may be kept.
const TTL: u32 = 30;
/// What fits into a datagram when the client does not say more.
pub(crate) const MIN_PAYLOAD: u16 = 512;
/// Shortest message: its header.
const HEADER: usize = 12;

/// What became of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send this back.
    Reply(Reply),
    /// Ask a name server; this is the question.
    Forward(Question),
    /// Say nothing: there is not even a header to answer to.
    Ignore,
}

/// An answer made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// The question, if one could be read.
    pub question: Option<Question>,
    /// The service that it meant.
    pub service: Option<Str>,
    /// In the words of the log.
    pub result: &'static str,
    /// The addresses given.
    pub addresses: Vec<IpAddr>,
}

/// A question as logs and metrics name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Lower case, no final dot.
    pub name: String,
    /// `a`, `aaaa`, …
    pub kind: String,
    /// Bytes that the client takes in one datagram.
    pub payload: u16,
}

/// Decides a query. `shuffle` brings the addresses into another order, in place.
pub(crate) fn decide(
    mesh: &Mesh,
    asker: Asker<'_>,
    ipv6: bool,
    query: &[u8],
    shuffle: impl FnOnce(&mut [IpAddr]),
) -> Decision {
    if query.len() < HEADER {
        return Decision::Ignore;
    }
    let Ok(message) = Message::from_vec(query) else { return refuse(query, ResponseCode::FormErr) };
    if message.metadata.message_type == MessageType::Response {
        return refuse(query, ResponseCode::FormErr);
    }
    if message.metadata.op_code != OpCode::Query {
        return refuse(query, ResponseCode::NotImp);
    }
    let [asked] = &message.queries[..] else { return refuse(query, ResponseCode::FormErr) };
    let question = Question {
        name: asked.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned(),
        kind: asked.query_type().to_string().to_ascii_lowercase(),
        payload: message.max_payload().max(MIN_PAYLOAD),
    };
    let v6 = match asked.query_type() {
        RecordType::A => false,
        RecordType::AAAA => true,
        _ => return Decision::Forward(question),
    };
    let Some(found) = names::find(mesh, asker, &question.name) else { return Decision::Forward(question) };
    let mut addresses = if v6 && !ipv6 { Vec::new() } else { names::addresses(mesh, asker, &found, v6) };
    shuffle(&mut addresses);
    let records = records(asked.name(), found.alias.as_deref(), &addresses);
    let Some(bytes) = records.and_then(|records| respond(&message, ResponseCode::NoError, records)) else {
        return refuse(query, ResponseCode::ServFail);
    };
    Decision::Reply(Reply {
        bytes,
        question: Some(question),
        service: Some(found.service.hostname.clone()),
        result: if addresses.is_empty() { "service does not support this record type" } else { "success" },
        addresses,
    })
}

/// The answer to a query that got none from elsewhere, or may not be asked at all.
pub(crate) fn refusal(query: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    if query.len() < HEADER {
        return None;
    }
    if let Ok(message) = Message::from_vec(query)
        && message.metadata.message_type == MessageType::Query
    {
        return respond(&message, code, Vec::new());
    }
    // Only the header can be trusted to be one: the answer is a header of the same id and opcode.
    let id = u16::from_be_bytes([query[0], query[1]]);
    let op_code = OpCode::from_u8(query[2] >> 3 & 0x0f);
    Message::error_msg(id, op_code, code).to_vec().ok()
}

fn refuse(query: &[u8], code: ResponseCode) -> Decision {
    let reply = |bytes| Reply { bytes, question: None, service: None, result: "no records", addresses: Vec::new() };
    refusal(query, code).map_or(Decision::Ignore, |bytes| Decision::Reply(reply(bytes)))
}

/// The answer section: an alias if there is one, then the addresses under the name it leads to.
fn records(asked: &Name, alias: Option<&str>, addresses: &[IpAddr]) -> Option<Vec<Record>> {
    let mut records = Vec::with_capacity(addresses.len() + 1);
    let mut owner = asked.clone();
    if let Some(alias) = alias {
        owner = Name::from_ascii(format!("{alias}.")).ok()?;
        records.push(Record::from_rdata(asked.clone(), TTL, RData::CNAME(rdata::CNAME(owner.clone()))));
    }
    records.extend(addresses.iter().map(|address| {
        let data = match address {
            IpAddr::V4(address) => RData::A(rdata::A(*address)),
            IpAddr::V6(address) => RData::AAAA(rdata::AAAA(*address)),
        };
        Record::from_rdata(owner.clone(), TTL, data)
    }));
    Some(records)
}

fn respond(query: &Message, code: ResponseCode, answers: Vec<Record>) -> Option<Vec<u8>> {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.response_code = code;
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.authoritative = code == ResponseCode::NoError;
    message.queries.clone_from(&query.queries);
    message.answers = answers;
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(asked.max_payload().max(MIN_PAYLOAD));
        message.edns = Some(edns);
    }
    message.to_vec().ok()
}

/// An answer cut to what a datagram may carry: only the question with the mark that there is more.
pub(crate) fn fit(reply: Vec<u8>, payload: u16) -> Vec<u8> {
    if reply.len() <= usize::from(payload) {
        return reply;
    }
    match Message::from_vec(&reply) {
        Ok(message) => message.truncate().to_vec().unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
