//! What a pod is captured with: every listening socket that must be open inside its network namespace before it can be
//! served (ztunnel.md §5.3, §5.4). Values in, sockets out; what accepts on them later is not known here.

use crate::sockets::SocketConfig;
use linux::{
    Error,
    netns::NetNs,
    socket::{self, ListenOptions},
};
use model::well_known;
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

/// What of a pod is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Connections, with this many sockets on each port, so that as many threads can accept without sharing one.
    pub connections: Option<usize>,
    /// DNS, on this port.
    pub dns: Option<u16>,
    /// SOCKS5 too, beside each set of the others.
    pub socks: bool,
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Port {
    /// 15001: connections that leave.
    Outbound,
    /// 15006: plaintext that arrives.
    Plaintext,
    /// 15008: tunnels that arrive.
    Tunnels,
    /// 15080: SOCKS5 on localhost.
    Socks,
    /// DNS in datagrams.
    DnsUdp,
    /// DNS in connections.
    DnsTcp,
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    /// What it is for.
    pub port: Port,
    /// The socket, listening, non-blocking.
    pub socket: OwnedFd,
}

/// Everything that a pod needs.
#[derive(Debug)]
pub struct Opened {
    /// Every listening socket.
    pub listeners: Vec<Listener>,
    /// The kernel lets us show the client's address to the application.
    pub original_source: bool,
}

impl Opened {
    /// The same sockets under other descriptors.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let again = |listener: &Listener| Ok(Listener { port: listener.port, socket: listener.socket.try_clone()? });
        let listeners = self.listeners.iter().map(again).collect::<std::io::Result<_>>()?;
        Ok(Self { listeners, original_source: self.original_source })
    }
}

/// Where a pod is served: its network namespace, with what a keeper has opened in it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pod's network namespace.
    pub namespace: NetNs,
    /// What is open already; `None` where whoever serves the pod opens it.
    pub opened: Option<Arc<Opened>>,
}

impl From<NetNs> for Place {
    fn from(namespace: NetNs) -> Self {
        Self { namespace, opened: None }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.namespace == other.namespace
    }
}

/// Opens everything, or nothing.
pub fn open(namespace: &NetNs, config: &SocketConfig, capture: &Capture) -> Result<Opened, Error> {
    let dns = match capture.dns {
        Some(port) => open_dns(namespace, config, port)?,
        None => Vec::new(),
    };
    let sets = match (capture.connections, config.port_reuse) {
        (None, _) => 0,
        // Without overlap only one socket can have the port, so only one thread serves the pod.
        (Some(_), false) => 1,
        (Some(threads), true) => threads.max(1),
    };
    let wanted = config.original_source;
    let attempt = |transparent| {
        let mut all = Vec::new();
        for _ in 0..sets {
            all.extend(open_set(namespace, config, transparent)?);
            if capture.socks {
                all.push(open_socks(namespace, config)?);
            }
        }
        Ok(all)
    };
    let (mut listeners, original_source) = match (wanted, attempt(wanted != Some(false))) {
        (_, Ok(listeners)) => (listeners, wanted != Some(false)),
        (None, Err(error)) if Error::kind(&error) == std::io::ErrorKind::PermissionDenied => {
            tracing::warn!("{error}; applications will see the proxy's address instead of the client's");
            (attempt(false)?, false)
        }
        (_, Err(error)) => return Err(error),
    };
    listeners.extend(dns);
    Ok(Opened { listeners, original_source })
}

fn options(config: &SocketConfig, transparent: bool) -> ListenOptions {
    ListenOptions { transparent, reuse_port: config.port_reuse, mark: config.mark, ..ListenOptions::default() }
}

fn open_set(namespace: &NetNs, config: &SocketConfig, transparent: bool) -> Result<[Listener; 3], Error> {
    let listen = |port, number, transparent| {
        wildcard(namespace, config, number, transparent).map(|socket| Listener { port, socket })
    };
    Ok([
        listen(Port::Tunnels, well_known::HBONE_PORT, transparent)?,
        listen(Port::Plaintext, well_known::INBOUND_PLAINTEXT_PORT, transparent)?,
        listen(Port::Outbound, well_known::OUTBOUND_PORT, false)?,
    ])
}

/// Tunnels alone, for a proxy that serves itself to others.
pub fn open_tunnels(namespace: &NetNs, config: &SocketConfig) -> Result<Listener, Error> {
    let socket = wildcard(namespace, config, well_known::HBONE_PORT, false)?;
    Ok(Listener { port: Port::Tunnels, socket })
}

fn open_socks(namespace: &NetNs, config: &SocketConfig) -> Result<Listener, Error> {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), well_known::SOCKS5_PORT);
    let socket = socket::listen_tcp(namespace, address, &options(config, false))?;
    Ok(Listener { port: Port::Socks, socket: socket.into() })
}

/// Both families where the pod has both.
fn wildcard(namespace: &NetNs, config: &SocketConfig, port: u16, transparent: bool) -> Result<OwnedFd, Error> {
    let options = options(config, transparent);
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    if !config.ipv6 {
        return socket::listen_tcp(namespace, v4, &options).map(Into::into);
    }
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match socket::listen_tcp(namespace, v6, &options) {
        Err(error) if has_no_such_family(&error) => socket::listen_tcp(namespace, v4, &options).map(Into::into),
        outcome => outcome.map(Into::into),
    }
}

fn open_dns(namespace: &NetNs, config: &SocketConfig, port: u16) -> Result<Vec<Listener>, Error> {
    let options = ListenOptions { dual_stack: false, ..options(config, false) };
    let pair = |ip: IpAddr| {
        let address = SocketAddr::new(ip, port);
        let udp = socket::bind_udp(namespace, address, &options)?;
        let tcp = socket::listen_tcp(namespace, address, &options)?;
        Ok([Listener { port: Port::DnsUdp, socket: udp.into() }, Listener { port: Port::DnsTcp, socket: tcp.into() }])
    };
    let mut pairs = Vec::from(pair(IpAddr::V4(Ipv4Addr::LOCALHOST))?);
    if config.ipv6 {
        match pair(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            Ok(sockets) => pairs.extend(sockets),
            Err(error) if has_no_such_family(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pairs)
}

/// The namespace, or the kernel, has no IPv6.
fn has_no_such_family(error: &Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AddrNotAvailable | std::io::ErrorKind::Unsupported)
}
