//! What comes from programs of the same node, and from its links.

use crate::text;
use cni::Call;
use linux::packet::Frame;
use rand::{RngExt, SeedableRng, rngs::StdRng};

#[test]
fn plugin_calls() {
    let document =
        br#"{"cniVersion":"1.0.0","name":"k8s","type":"istio-cni","prevResult":{"cniVersion":"1.0.0","ips":[]}}"#;
    fuzz::run("plugin_calls", &[document], |bytes| {
        for command in ["ADD", "DEL", "CHECK", "VERSION"] {
            let call =
                Call { command: command.to_owned(), netns: text(bytes), args: text(bytes), document: text(bytes) };
            let (printed, _) = cni::answer(&call, |_, _| Ok(()));
            assert!(printed.is_empty() || serde_json::from_str::<serde_json::Value>(&printed).is_ok(), "{printed}");
        }
    });
}

#[test]
fn frames() {
    let mut frame = vec![0; 14];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame.extend([0x45, 0, 0, 41, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x1f, 0x90, 0x3a, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0, b'x']);
    fuzz::run("frames", &[&frame], |bytes| {
        let frame = Frame { bytes: bytes.to_vec() };
        if let Some(segment) = frame.segment() {
            segment.looks_like_tls();
        }
    });
}

#[test]
fn dns_queries() {
    let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x03web\x04shop\x00\x00\x01\x00\x01");
    fuzz::run("dns_queries", &[&query], ztunnel::foreign::dns_query);
}

/// Packets that nobody meant: the header of a query, and noise behind it.
fn malformed_packets(count: u32) {
    let mut random = StdRng::seed_from_u64(53);
    let mut packet = Vec::new();
    for _ in 0..count {
        packet.clear();
        packet.extend([0, 7, 1, 0, 0, random.random_range(0..=3), 0, random.random_range(0..=2), 0, 0, 0, 0]);
        let noise = random.random_range(0..=300);
        packet.extend(std::iter::repeat_with(|| random.random::<u8>()).take(noise));
        // Labels, pointers and ends where the noise would seldom have them.
        for at in (12..packet.len()).step_by(7) {
            packet[at] = [0, 3, 63, 0xc0, 0xff, random.random()][random.random_range(0..6)];
        }
        ztunnel::foreign::dns_query(&packet);
    }
}

#[test]
fn malformed_dns_packets_are_survived() {
    malformed_packets(50_000);
}

#[test]
#[ignore = "a million packets; run by hand"]
fn a_million_malformed_dns_packets_are_survived() {
    malformed_packets(1_000_000);
}

#[test]
fn zds_messages() {
    fuzz::run("zds_messages", &[b"\x0a\x10\x0a\x03uid\x12\x09\x0a\x03web\x12\x02ns"], |bytes| {
        let _ = ztunnel::foreign::zds_message(bytes, 1);
    });
}

#[test]
fn socks_conversations() {
    let by_name = b"\x05\x01\x00\x05\x01\x00\x03\x08web.shop\x00\x50".to_vec();
    let by_address = b"\x05\x02\x00\x02\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50".to_vec();
    fuzz::run("socks", &[&by_name, &by_address], |bytes| {
        ztunnel::foreign::socks(bytes);
    });
}
