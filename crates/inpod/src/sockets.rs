//! Where sockets inside a pod come from: every connection and every datagram that a proxy sends as a pod starts here.
//!
//! Options that take rights are set when a socket is made; connecting and binding take none.

use linux::{
    Error,
    netns::NetNs,
    socket::{self, Keepalive, ListenOptions, Outgoing},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
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

/// Sockets inside one pod.
#[derive(Debug)]
pub struct Sockets {
    namespace: NetNs,
    config: SocketConfig,
}

impl Sockets {
    /// Sockets that this process makes itself, by entering `namespace`.
    pub fn own(namespace: NetNs, config: SocketConfig) -> Self {
        Self { namespace, config }
    }

    /// Connects from within the pod; as `source` if that is given, which need not be the pod's address.
    pub async fn connect(&self, destination: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Error> {
        let outgoing = self.config.outgoing(destination.is_ipv6(), source.is_some());
        let socket = outgoing.open(Some(&self.namespace))?;
        socket::connect_prepared(socket, source, destination, CONNECT_TIMEOUT).await
    }

    /// A UDP socket within the pod, on a port of the kernel's choice.
    pub async fn udp(&self, v6: bool) -> Result<UdpSocket, Error> {
        let options = ListenOptions { mark: self.config.mark, dual_stack: false, ..ListenOptions::default() };
        let any: SocketAddr = if v6 { ([0u16; 8], 0).into() } else { ([0; 4], 0).into() };
        let socket = socket::bind_udp(&self.namespace, any, &options)?;
        UdpSocket::from_std(socket).map_err(|error| Error::new("watch a UDP socket of a pod", error))
    }
}
