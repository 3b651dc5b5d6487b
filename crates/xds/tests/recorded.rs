//! The client against upstream's recorded conversation: asked the same, answered the same, and everything that upstream's
//! control plane sends is understood.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use proto::{
    core::Node,
    discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    type_url,
};
use std::collections::BTreeMap;
use xds::client::{Batch, Change, Config, Rejection, Sink, State};

const CONVERSATION: &str = include_str!("recorded/xds-requests.txt");
const ADDRESSES: &[u8] = include_bytes!("recorded/delta-address.bin");
const POLICIES: &[u8] = include_bytes!("recorded/delta-authorization.bin");

/// One recorded request: how it begins on the wire, and how it reads.
struct Recorded {
    bytes: Vec<u8>,
    text: &'static str,
}

/// The requests of one connection, in order.
fn connection(number: usize) -> Vec<Recorded> {
    let mark = format!("== connection {number}: ");
    let parts = CONVERSATION.split("\n== ").filter_map(|part| part.strip_prefix(&mark[3..]));
    let recorded = |part: &'static str| {
        let (head, text) = part.split_once('\n').unwrap();
        let hex = head.split_once("hex ").unwrap().1.trim_end_matches([')', '.', '…']);
        let digits: Vec<char> = hex.chars().take_while(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        Recorded { bytes: digits.chunks_exact(2).map(byte).collect(), text }
    };
    parts.map(recorded).collect()
}

/// What a request tells of resources that are held: name and version.
fn versions(text: &str) -> BTreeMap<&str, &str> {
    let entries = text.split("\n5 {\n").skip(1);
    entries
        .map(|entry| {
            let value = |line: &str| line.find('"').unwrap() + 1;
            let mut lines = entry.lines();
            let name = lines.next().unwrap();
            let version = lines.next().filter(|line| line.trim_start().starts_with("2:"));
            let name = &name[value(name)..name.len() - 1];
            (name, version.map_or("", |line| &line[value(line)..line.len() - 1]))
        })
        .collect()
}

/// Counts what it is given, and takes everything.
#[derive(Default)]
struct Taken {
    upserts: usize,
}

impl Sink for Taken {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        self.upserts += match batch {
            Batch::Addresses(list) => list.iter().filter(|change| matches!(change, Change::Upsert(_))).count(),
            Batch::Authorizations(list) => list.iter().filter(|change| matches!(change, Change::Upsert(_))).count(),
        };
        Vec::new()
    }
}

fn node() -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [
        ("INSTANCE_IPS", "172.30.1.1"),
        ("NAME", "ztunnel-a"),
        ("NAMESPACE", "istio-system"),
        ("NODE_NAME", "node-a1"),
    ];
    Node {
        id: "ztunnel~172.30.1.1~ztunnel-a.istio-system~istio-system.svc.cluster.local".to_owned(),
        metadata: Some(Struct { fields: fields.map(|(name, value)| (name.to_owned(), text(value))).into() }),
        ..Node::default()
    }
}

/// Ours begins on the wire as the recorded one does.
fn same_bytes(ours: &DeltaDiscoveryRequest, recorded: &Recorded) {
    let bytes = ours.encode_to_vec();
    assert!(recorded.bytes.len() >= 60, "too little was recorded: {}", recorded.text);
    assert_eq!(bytes[..recorded.bytes.len().min(bytes.len())], recorded.bytes[..], "{}", recorded.text);
}

#[test]
fn the_client_asks_and_answers_as_recorded() {
    let (mut state, mut taken) = (State::new(Config::new(node())), Taken::default());
    let first = connection(1);
    for (ours, recorded) in state.open().iter().zip(&first) {
        same_bytes(ours, recorded);
    }
    let addresses = DeltaDiscoveryResponse::decode(ADDRESSES).unwrap();
    let policies = DeltaDiscoveryResponse::decode(POLICIES).unwrap();
    let sent = (addresses.resources.len(), policies.resources.len());
    let replies = [addresses, policies].map(|response| state.receive(response, &mut taken));
    for (reply, recorded) in replies.iter().zip(&first[2..]) {
        assert!(reply.accepted, "{:?}", reply.request.error_detail);
        same_bytes(&reply.request, recorded);
    }
    assert_eq!(taken.upserts, sent.0 + sent.1, "everything that upstream sends is understood");
    assert!(state.is_synced());

    // A resource that cannot be read is refused by its name; the recorded refusal names the same one.
    let name = "Kubernetes//Pod/shop/broken";
    let body = prost_types::Any { type_url: type_url::ADDRESS.to_owned(), value: vec![0x0a, 0xff] };
    let broken = Resource { name: name.to_owned(), resource: Some(body), ..Resource::default() };
    let response = DeltaDiscoveryResponse {
        type_url: type_url::ADDRESS.to_owned(),
        nonce: "nonce-bad".to_owned(),
        resources: vec![broken],
        ..DeltaDiscoveryResponse::default()
    };
    let refusal = state.receive(response, &mut taken).request;
    let refused = &first[4];
    let error = refusal.error_detail.as_ref().unwrap();
    assert_eq!((error.code, &*refusal.response_nonce), (0, "nonce-bad"));
    let begins = format!("{name}: decode: ");
    assert!(error.message.starts_with(&begins) && refused.text.contains(&begins), "{}", error.message);

    // The next stream says what is held, as recorded, and not what was refused.
    let again = connection(2);
    for (ours, recorded) in state.open().iter().zip(&again) {
        let held: BTreeMap<_, _> =
            ours.initial_resource_versions.iter().map(|(name, version)| (&**name, &**version)).collect();
        assert_eq!(held, versions(recorded.text));
        assert!(!held.contains_key(name) && (!held.is_empty() || ours.type_url != type_url::ADDRESS));
    }
}
