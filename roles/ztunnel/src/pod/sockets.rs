//! The sockets of one pod: everything that must be opened inside its network namespace before it can be served
//! (ztunnel.md §5.3, §5.4). Values in, sockets out; what listens on them later is not known here.

use crate::config::Config;
use linux::{
    Error,
    netns::NetNs,
    socket::{self, ListenOptions},
};
use model::well_known;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// Everything that a pod needs.
#[derive(Debug)]
pub(crate) struct Opened {
    /// One set per thread.
    pub listeners: Vec<Listeners>,
    /// One pair per address family; none when DNS is not captured.
    pub dns: Vec<DnsSockets>,
    /// The kernel lets us show the client's address to the application.
    pub original_source: bool,
}

/// Capture ports, for one thread.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// 15001.
    pub outbound: TcpListener,
    /// 15006.
    pub plaintext: TcpListener,
    /// 15008.
    pub tunnels: TcpListener,
}

/// DNS on one loopback address.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    /// Datagrams.
    pub udp: UdpSocket,
    /// Connections.
    pub tcp: TcpListener,
}

/// Opens everything, or nothing.
pub(crate) fn open(namespace: &NetNs, config: &Config, threads: usize) -> Result<Opened, Error> {
    let dns = if config.dns.enabled { open_dns(namespace, config)? } else { Vec::new() };
    let sets = match (config.proxy, config.sockets.port_reuse) {
        // Only DNS is wanted.
        (false, _) => 0,
        // Without overlap only one socket can have the port, so only one thread serves the pod.
        (true, false) => 1,
        (true, true) => threads.max(1),
    };
    let wanted = config.sockets.original_source;
    let attempt =
        |transparent| (0..sets).map(|_| open_set(namespace, config, transparent)).collect::<Result<Vec<_>, _>>();
    let (listeners, original_source) = match (wanted, attempt(wanted != Some(false))) {
        (_, Ok(listeners)) => (listeners, wanted != Some(false)),
        (None, Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            tracing::warn!("{error}; applications will see the proxy's address instead of the client's");
            (attempt(false)?, false)
        }
        (_, Err(error)) => return Err(error),
    };
    Ok(Opened { listeners, dns, original_source })
}

fn options(config: &Config, transparent: bool) -> ListenOptions {
    ListenOptions {
        transparent,
        reuse_port: config.sockets.port_reuse,
        mark: Some(config.sockets.mark),
        ..ListenOptions::default()
    }
}

fn open_set(namespace: &NetNs, config: &Config, transparent: bool) -> Result<Listeners, Error> {
    let listen = |port, transparent| wildcard(namespace, config, port, transparent);
    Ok(Listeners {
        tunnels: listen(well_known::HBONE_PORT, transparent)?,
        plaintext: listen(well_known::INBOUND_PLAINTEXT_PORT, transparent)?,
        outbound: listen(well_known::OUTBOUND_PORT, false)?,
    })
}

/// Both families where the pod has both.
fn wildcard(namespace: &NetNs, config: &Config, port: u16, transparent: bool) -> Result<TcpListener, Error> {
    let options = options(config, transparent);
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    if !config.sockets.ipv6 {
        return socket::listen_tcp(namespace, v4, &options);
    }
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match socket::listen_tcp(namespace, v6, &options) {
        Err(error) if has_no_such_family(&error) => socket::listen_tcp(namespace, v4, &options),
        outcome => outcome,
    }
}

fn open_dns(namespace: &NetNs, config: &Config) -> Result<Vec<DnsSockets>, Error> {
    let options = ListenOptions { dual_stack: false, ..options(config, false) };
    let pair = |ip: IpAddr| {
        let address = SocketAddr::new(ip, config.dns.port);
        let udp = socket::bind_udp(namespace, address, &options)?;
        Ok(DnsSockets { udp, tcp: socket::listen_tcp(namespace, address, &options)? })
    };
    let mut pairs = vec![pair(IpAddr::V4(Ipv4Addr::LOCALHOST))?];
    if config.sockets.ipv6 {
        match pair(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            Ok(sockets) => pairs.push(sockets),
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
