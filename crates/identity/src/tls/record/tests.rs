//! Records between two ends, and with rustls at one of them.

use super::*;
use crate::{
    certificate::WorkloadCertificate,
    issuer::{Issuer, KeyKind},
    source::IssuerSource,
    tls::sealed::Sealed,
};
use model::Identity;
use runtime::clock::Clock;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn certificates() -> (WorkloadCertificate, WorkloadCertificate) {
    let clock = Clock::system();
    let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
    let source = IssuerSource::new(Arc::new(issuer), Duration::from_secs(3_600), clock);
    let certificate = |account| source.certificate(&Identity::new("cluster.local", "shop", account).unwrap()).unwrap();
    (certificate("web"), certificate("db"))
}

async fn met() -> (Sealed<DuplexStream>, Sealed<DuplexStream>) {
    let (web, db) = certificates();
    let (near, far) = tokio::io::duplex(64 << 10);
    let expected = [db.identity().clone()];
    let (client, server) = tokio::join!(web.connect_sealed(&expected, near), db.accept_sealed(far));
    (client.unwrap(), server.unwrap())
}

fn sealed(records: &mut Records, text: &[u8]) -> Vec<u8> {
    let mut record = [&[0; HEADER], text, &[0; TRAILER]].concat();
    records.seal(&mut record).unwrap();
    record
}

fn opened(records: &mut Records, mut record: Vec<u8>) -> Result<Vec<u8>, RecordError> {
    assert_eq!(Records::record_length(&record), Ok(Some(record.len())));
    match records.open(&mut record)? {
        Content::Data(length) => Ok(record[HEADER..HEADER + length].to_vec()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_one_seals_the_other_opens() {
    let (mut client, mut server) = met().await;
    for text in [&b"hello"[..], &[7; MAX_PLAINTEXT], b""] {
        let record = sealed(&mut client.records, text);
        assert_eq!(opened(&mut server.records, record).unwrap(), text);
        let record = sealed(&mut server.records, text);
        assert_eq!(opened(&mut client.records, record).unwrap(), text);
    }
}

#[tokio::test]
async fn a_changed_a_repeated_and_a_misplaced_record_are_refused() {
    let (mut client, mut server) = met().await;
    let first = sealed(&mut client.records, b"first");
    let second = sealed(&mut client.records, b"second");
    let mut changed = first.clone();
    changed[HEADER] ^= 1;
    assert_eq!(opened(&mut server.records, changed), Err(RecordError::Forged));
    // Each attempt counts as a record, so nothing fits any more: the connection is over anyway.
    assert_eq!(opened(&mut server.records, first), Err(RecordError::Forged));
    assert_eq!(opened(&mut client.records, second), Err(RecordError::Forged));
}

#[tokio::test]
async fn keys_change_on_either_side_and_on_request() {
    let (mut client, mut server) = met().await;
    for round in 0..3 {
        client.records.renew_key();
        let mut update = client.records.key_update().unwrap().unwrap();
        assert_eq!(server.records.open(&mut update), Ok(Content::Nothing), "round {round}");
        assert_eq!(client.records.key_update(), Ok(None));
        let record = sealed(&mut client.records, b"after");
        assert_eq!(opened(&mut server.records, record).unwrap(), b"after");
        let record = sealed(&mut server.records, b"back");
        assert_eq!(opened(&mut client.records, record).unwrap(), b"back");
    }
}

#[tokio::test]
async fn a_peer_that_only_changes_keys_is_dropped() {
    let (mut client, mut server) = met().await;
    let outcome = (0..100).try_for_each(|_| {
        client.records.renew_key();
        let mut update = client.records.key_update().unwrap().unwrap();
        server.records.open(&mut update).map(drop)
    });
    assert_eq!(outcome, Err(RecordError::TooManyUpdates));
}

#[tokio::test]
async fn rustls_updates_our_key_and_is_answered_with_a_new_one() {
    let (web, db) = certificates();
    let (near, far) = tokio::io::duplex(64 << 10);
    let expected = [db.identity().clone()];
    let (client, server) = tokio::join!(web.connect(&expected, near), db.accept_sealed(far));
    let (mut client, mut server) = (client.unwrap().0, server.unwrap());
    client.get_mut().1.refresh_traffic_keys().unwrap();
    client.write_all(b"with the new key").await.unwrap();
    client.flush().await.unwrap();
    let mut received = server.early;
    let mut texts = Vec::new();
    while texts.is_empty() {
        server.io.read_buf(&mut received).await.unwrap();
        while let Some(length) = Records::record_length(&received).unwrap().filter(|length| *length <= received.len()) {
            let mut record: Vec<u8> = received.drain(..length).collect();
            if let Content::Data(length) = server.records.open(&mut record).unwrap() {
                texts.extend_from_slice(&record[HEADER..HEADER + length]);
            }
        }
    }
    assert_eq!(texts, b"with the new key");
    let update = server.records.key_update().unwrap().expect("rustls asks for our key in return");
    server.io.write_all(&update).await.unwrap();
    server.io.write_all(&sealed(&mut server.records, b"answer")).await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn an_end_is_told() {
    let (mut client, mut server) = met().await;
    let mut notify = client.records.close_notify().unwrap();
    assert_eq!(server.records.open(&mut notify), Ok(Content::Closed));
}

#[rstest::rstest]
#[case(&[], Ok(None))]
#[case(&[23, 3, 3, 0], Ok(None))]
#[case(&[23, 3, 3, 0, 17], Ok(Some(22)))]
#[case(&[23, 3, 3, 0, 16], Err(RecordError::Malformed))]
#[case(&[23, 3, 3, 0x41, 0], Ok(Some(MAX_RECORD)))]
#[case(&[23, 3, 3, 0x41, 1], Err(RecordError::Malformed))]
#[case(&[22, 3, 3, 0, 40], Err(RecordError::Malformed))]
#[case(b"GET / HTTP/1.1", Err(RecordError::Malformed))]
fn lengths(#[case] bytes: &[u8], #[case] expected: Result<Option<usize>, RecordError>) {
    assert_eq!(Records::record_length(bytes), expected);
}
