//! The node's rules: what its own processes send to enrolled pods comes from the probe address.

use cni::HostRules;
use linux::nft::{self, Family};
use linux::socket::ConnectOptions;

use crate::lab::{self, Lab, POD, PROBE_V4, PROBE_V6, at, listen, reach};

fn rules(lab: &Lab) -> HostRules {
    HostRules { ns: lab.node.clone(), probe_v4: PROBE_V4.parse().unwrap(), probe_v6: PROBE_V6.parse().unwrap() }
}

async fn source_seen(lab: &Lab, pod: &str, port: u16) -> String {
    let application = listen(&lab.pod, port);
    let _client = reach(&lab.node, at(pod, port), &ConnectOptions::default()).await.unwrap();
    let (_, from) = application.accept().await.unwrap();
    from.ip().to_canonical().to_string()
}

#[tokio::test]
async fn only_enrolled_pods_see_the_probe_address() {
    if !lab::may() {
        return;
    }
    let lab = Lab::new();
    let host = rules(&lab);
    host.reset(&[]).unwrap();
    assert_eq!(source_seen(&lab, POD[0], 8080).await, lab::NODE[0]);
    for pod in POD {
        host.add(pod.parse().unwrap(), "uid-1").unwrap();
        host.add(pod.parse().unwrap(), "uid-1").unwrap();
    }
    assert_eq!(source_seen(&lab, POD[0], 8081).await, PROBE_V4);
    assert_eq!(source_seen(&lab, POD[1], 8081).await, PROBE_V6);
    host.remove(POD[0].parse().unwrap(), "uid-0").unwrap();
    assert_eq!(source_seen(&lab, POD[0], 8082).await, PROBE_V4, "another pod's removal changes nothing");
    host.add(POD[0].parse().unwrap(), "uid-2").unwrap();
    host.remove(POD[0].parse().unwrap(), "uid-1").unwrap();
    assert_eq!(source_seen(&lab, POD[0], 8083).await, PROBE_V4, "the address is a new pod's");
    host.remove(POD[0].parse().unwrap(), "uid-2").unwrap();
    assert_eq!(source_seen(&lab, POD[0], 8084).await, lab::NODE[0]);
}

#[test]
fn a_restart_keeps_what_is_right_and_drops_what_is_not() {
    if !lab::may() {
        return;
    }
    let lab = Lab::new();
    let host = rules(&lab);
    let pod = |ip: &str| (ip.parse().unwrap(), format!("uid of {ip}"));
    host.reset(&[pod("10.9.0.2"), pod("10.9.0.3")]).unwrap();
    host.reset(&[pod("10.9.0.3"), pod("fd09::3")]).unwrap();
    let read = nft::read(&lab.node, Family::Inet, "istio-ambient-nat").unwrap().unwrap();
    insta::assert_snapshot!(read.to_string());
    host.uninstall().unwrap();
    assert_eq!(nft::tables(&lab.node).unwrap(), []);
}
