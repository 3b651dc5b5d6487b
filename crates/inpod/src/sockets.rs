//! Where sockets inside a pod come from: every connection and every datagram that a proxy sends as a pod starts here.
//!
//! Options that take rights are set when a socket is made; connecting and binding take none.

use crate::{stock::Stock, words::Kind};
use linux::{
    Error,
    netns::NetNs,
    socket::{self, Keepalive, ListenOptions, Outgoing},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpStream, UdpSocket};

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How sockets in the pods are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketConfig {
    /// Mark of every packet; a proxy in the pod's own place may have none.
    pub mark: Option<u32>,
    /// Listeners may overlap with another proxy's.
    pub port_reuse: bool,
    /// Keep the client's address towards the application; `None`: if possible.
    pub original_source: Option<bool>,
    /// Listeners are made for IPv6 too.
    pub ipv6: bool,
    /// TCP keepalive.
    pub keepalive: bool,
    /// Idle time before the first probe.
    pub keepalive_time: Duration,
    /// Time between probes.
    pub keepalive_interval: Duration,
    /// Probes before giving up.
    pub keepalive_retries: u32,
    /// Unacknowledged data closes the connection after the keepalive's whole time.
    pub user_timeout: bool,
}

impl SocketConfig {
    /// The keepalive of connections made and accepted.
    pub fn probes(&self) -> Option<Keepalive> {
        self.keepalive.then_some(Keepalive {
            time: self.keepalive_time,
            interval: self.keepalive_interval,
            retries: self.keepalive_retries,
        })
    }

    fn outgoing(&self, v6: bool, any_source: bool) -> Outgoing {
        let probing = self.keepalive_time + self.keepalive_interval * self.keepalive_retries;
        Outgoing {
            v6,
            any_source,
            mark: self.mark,
            keepalive: self.probes(),
            user_timeout: self.user_timeout.then_some(probing),
        }
    }
}

/// Makes sockets of one kind inside `namespace`, entering it once.
pub fn open(namespace: &NetNs, config: &SocketConfig, kind: Kind, count: usize) -> Result<Vec<OwnedFd>, Error> {
    let make = || match kind {
        Kind::Tcp { v6, any_source } => config.outgoing(v6, any_source).open(None),
        Kind::Udp { v6 } => {
            let options = ListenOptions { mark: config.mark, dual_stack: false, ..ListenOptions::default() };
            let any: SocketAddr = if v6 { ([0u16; 8], 0).into() } else { ([0; 4], 0).into() };
            socket::bind_udp(None, any, &options).map(Into::into)
        }
    };
    namespace.run(|| (0..count).map(|_| make()).collect())?
}

/// Sockets inside one pod.
#[derive(Debug)]
pub enum Sockets {
    /// This process makes them itself, by entering the namespace.
    Own(NetNs, SocketConfig),
    /// The keeper makes them.
    Kept(Arc<Stock>),
}

impl Sockets {
    /// Sockets that this process makes itself, by entering `namespace`.
    pub fn own(namespace: NetNs, config: SocketConfig) -> Self {
        Self::Own(namespace, config)
    }

    /// Connects from within the pod; as `source` if that is given, which need not be the pod's address.
    pub async fn connect(&self, destination: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Error> {
        let kind = Kind::Tcp { v6: destination.is_ipv6(), any_source: source.is_some() };
        socket::connect_prepared(self.take(kind).await?, source, destination, CONNECT_TIMEOUT).await
    }

    /// A UDP socket within the pod, on a port of the kernel's choice.
    pub async fn udp(&self, v6: bool) -> Result<UdpSocket, Error> {
        let socket = self.take(Kind::Udp { v6 }).await?;
        UdpSocket::from_std(socket.into()).map_err(|error| Error::new("watch a UDP socket of a pod", error))
    }

    async fn take(&self, kind: Kind) -> Result<OwnedFd, Error> {
        match self {
            Self::Own(namespace, config) => {
                let made = open(namespace, config, kind, 1)?.pop();
                made.ok_or_else(|| Error::new("make a socket in a pod", std::io::ErrorKind::NotFound))
            }
            Self::Kept(stock) => stock.take(kind).await,
        }
    }
}
