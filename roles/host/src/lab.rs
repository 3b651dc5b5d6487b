//! Tests of the pod network and of service routing against the real kernel: a node and its pods as namespaces.
//! They need root, say so when they have to be skipped, and leave nothing behind: the namespaces have no names.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use linux::netlink::{Netlink, VethEnd};
use linux::netns::NetNs;

use crate::cni;
use crate::node;
use crate::service::routing::{Frontend, Protocol, Routing};
use crate::service::ruleset;

/// A busy machine is not a broken one.
const PATIENCE: Duration = Duration::from_secs(5);

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 5);

/// A node with an interface to the outside, and a folder for its addresses.
struct Lab {
    node: NetNs,
    folder: tempfile::TempDir,
    _outside: NetNs,
}

struct Pod {
    name: &'static str,
    namespace: NetNs,
    address: Ipv4Addr,
}

impl Lab {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: this test makes network namespaces and needs root");
            return None;
        }
        let (node, outside) = (NetNs::new_anonymous().unwrap(), NetNs::new_anonymous().unwrap());
        let mut netlink = Netlink::open(&node).unwrap();
        let (here, there) = (VethEnd { name: "eth0", mac: None }, VethEnd { name: "out0", mac: None });
        let index = netlink.create_veth(&here, &there, &outside, 1500).unwrap();
        netlink.add_address(index, format!("{NODE}/16").parse().unwrap()).unwrap();
        netlink.set_up(index).unwrap();
        let mut far = Netlink::open(&outside).unwrap();
        let out = far.link("out0").unwrap().index;
        far.set_up(out).unwrap();
        node.run(|| node::network::set_up(index, NODE, "10.96.0.0/16".parse().unwrap())).unwrap().unwrap();
        Some(Self { node, folder: tempfile::tempdir().unwrap(), _outside: outside })
    }

    /// Asks the plugin, inside the node as a runtime does.
    fn plugin(
        &self,
        command: &str,
        container: &str,
        namespace: Option<&Path>,
    ) -> Result<Option<serde_json::Value>, cni::Error> {
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "lab", "type": crate::CNI_PLUGIN,
            "podRange": "10.244.1.0/24", "dataDir": self.folder.path(),
        });
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_CONTAINERID" => Some(container.to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_NETNS" => namespace.map(|path| path.display().to_string()),
            _ => None,
        };
        self.node.run(|| cni::answer(variable, config.to_string().as_bytes())).unwrap()
    }

    fn pod(&self, name: &'static str) -> Pod {
        let namespace = NetNs::new_anonymous().unwrap();
        let path = path(&namespace);
        let result = self.plugin("ADD", name, Some(&path)).unwrap().unwrap();
        let Some(IpAddr::V4(address)) = cni::result_addresses(&result).into_iter().next() else {
            panic!("no address in {result}");
        };
        Pod { name, namespace, address }
    }

    fn route(&self, backends: &[(&Pod, u16)]) {
        let frontend = |protocol| Frontend { address: SERVICE, protocol, port: 80 };
        let backends: std::collections::BTreeSet<_> = backends.iter().map(|(pod, port)| (pod.address, *port)).collect();
        let frontends = [Protocol::Tcp, Protocol::Udp].map(|protocol| (frontend(protocol), backends.clone()));
        let routing = Routing { frontends: frontends.into() };
        self.node.run(|| ruleset::apply(&routing, NODE)).unwrap().unwrap();
    }
}

/// A path of a namespace that has no name.
fn path(namespace: &NetNs) -> std::path::PathBuf {
    use std::os::fd::{AsFd, AsRawFd};
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd()).into()
}

impl Pod {
    /// Answers one connection with the peer's address.
    fn serve(&self) -> std::thread::JoinHandle<()> {
        let listener = self.namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))).unwrap().unwrap();
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
        })
    }

    /// What the other end says.
    fn ask(&self, to: (Ipv4Addr, u16)) -> std::io::Result<String> {
        let connect = || TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE);
        let mut stream = self.namespace.run(connect).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

#[test]
fn pods_of_one_node_reach_each_other_by_their_own_addresses() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.pod("one"), lab.pod("two"));
    assert_ne!(one.address, two.address);
    let server = two.serve();
    assert_eq!(one.ask((two.address, 8080)).unwrap(), one.address.to_string());
    server.join().unwrap();
}

#[test]
fn a_pod_is_checked_and_taken_down_as_often_as_asked() {
    let Some(lab) = Lab::new() else { return };
    let pod = lab.pod("one");
    let path = path(&pod.namespace);
    lab.plugin("CHECK", pod.name, Some(&path)).unwrap();
    lab.plugin("DEL", pod.name, None).unwrap();
    lab.plugin("DEL", pod.name, None).unwrap();
    assert!(lab.plugin("CHECK", pod.name, Some(&path)).is_err());
    let links = Netlink::open(&lab.node).unwrap().links().unwrap();
    assert!(links.iter().all(|link| !link.name.starts_with("veth")), "{links:?}");
}

#[test]
fn a_failed_set_up_gives_its_address_back() {
    let Some(lab) = Lab::new() else { return };
    assert!(lab.plugin("ADD", "one", Some(Path::new("/proc/self/ns/mnt"))).is_err());
    let held = std::fs::read_dir(lab.folder.path()).unwrap().flatten();
    let addresses = held.filter(|entry| entry.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(addresses.count(), 0);
}

#[test]
fn a_service_leads_to_its_backend_and_back_to_the_pod_itself() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.pod("one"), lab.pod("two"));
    lab.route(&[(&two, 8080)]);
    let server = two.serve();
    assert_eq!(one.ask((SERVICE, 80)).unwrap(), one.address.to_string(), "the source is kept");
    server.join().unwrap();
    let server = two.serve();
    assert_eq!(two.ask((SERVICE, 80)).unwrap(), NODE.to_string(), "a pod that reaches itself needs another source");
    server.join().unwrap();
}

#[test]
fn the_nodes_own_processes_reach_services() {
    let Some(lab) = Lab::new() else { return };
    let pod = lab.pod("one");
    lab.route(&[(&pod, 8080)]);
    let server = pod.serve();
    let node = Pod { name: "node", namespace: lab.node, address: NODE };
    assert_eq!(node.ask((SERVICE, 80)).unwrap(), NODE.to_string());
    server.join().unwrap();
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let Some(lab) = Lab::new() else { return };
    let pod = lab.pod("one");
    lab.route(&[]);
    let node = Pod { name: "node", namespace: lab.node, address: NODE };
    for client in [&pod, &node] {
        let error = client.ask((SERVICE, 80)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "from {}", client.name);
    }
}

#[test]
fn datagrams_are_routed_both_ways() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.pod("one"), lab.pod("two"));
    lab.route(&[(&two, 5353)]);
    let socket = |pod: &Pod, port| {
        let socket = pod.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (client, server) = (socket(&one, 0), socket(&two, 5353));
    client.send_to(b"question", (SERVICE, 80)).unwrap();
    let mut buffer = [0; 32];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(from.ip(), IpAddr::V4(one.address));
    server.send_to(b"answer", from).unwrap();
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (b"answer".as_slice(), SocketAddr::from((SERVICE, 80))));
}
