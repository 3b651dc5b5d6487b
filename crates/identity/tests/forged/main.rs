//! Forged and foreign certificates against real handshakes, in both directions (threats A3 and A4, reliability R33): a client that
//! shows one must not be let in, and a server that shows one must not be talked to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authority;
mod chains;
mod leaves;
mod names;
mod rogue;

use authority::{Authority, Shown, WEB};
use identity::WorkloadCertificate;
use model::Identity;
use std::collections::BTreeSet;

/// One forgery: what is wrong with it, and how it is made.
type Forgery = (String, Box<dyn Fn(&Authority) -> Shown>);

fn forgeries() -> Vec<Forgery> {
    [names::forgeries(), leaves::forgeries(), chains::forgeries()].into_iter().flatten().collect()
}

/// Whether our side accepts what a peer shows: as a client, and as the server that we expect.
async fn accepted(ours: &WorkloadCertificate, shown: &Shown) -> [bool; 2] {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(rogue::client(far, rogue::Rogue::new(shown)));
    let as_client = ours.accept(near).await;
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(rogue::server(far, rogue::Rogue::new(shown)));
    let expected: [Identity; 1] = [WEB.parse().unwrap()];
    let as_server = ours.connect(&expected, near).await;
    [as_client.is_ok(), as_server.is_ok()]
}

#[tokio::test]
async fn what_is_genuine_is_accepted_both_ways() {
    let authority = Authority::new();
    let ours = authority.ours();
    assert_eq!(accepted(&ours, &authority.leaf(|_| ())).await, [true; 2]);
    assert_eq!(accepted(&ours, &chains::through_an_intermediate(&authority)).await, [true; 2]);
}

#[tokio::test]
async fn no_forgery_is_accepted_in_either_direction() {
    let authority = Authority::new();
    let ours = authority.ours();
    let forgeries = forgeries();
    let different: BTreeSet<&str> = forgeries.iter().map(|(what, _)| &**what).collect();
    assert!(different.len() == forgeries.len() && different.len() >= 60, "{}", different.len());
    let mut let_in = Vec::new();
    for (what, forge) in &forgeries {
        let outcome = accepted(&ours, &forge(&authority)).await;
        if outcome != [false; 2] {
            let_in.push(format!("{what}: as client {}, as server {}", outcome[0], outcome[1]));
        }
    }
    assert!(let_in.is_empty(), "{} of {} were accepted:\n{}", let_in.len(), forgeries.len(), let_in.join("\n"));
}
