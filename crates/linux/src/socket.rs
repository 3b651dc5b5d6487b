//! Sockets made inside a given network namespace, with the options that transparent proxying needs.
//! Listening sockets come back as std sockets, non-blocking, ready for a tokio runtime; outgoing ones as connected
//! [`tokio::net::TcpStream`]s. Retries and choosing among addresses are left to the caller.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::error::{Doing, Error, Result};
use crate::netns::NetNs;

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Accept connections to addresses that are not this machine's (IP_TRANSPARENT).
    pub transparent: bool,
    /// Let several sockets listen on the same port (SO_REUSEPORT).
    pub reuse_port: bool,
    /// The packet mark of everything sent from the socket and of connections accepted on it.
    pub mark: Option<u32>,
    /// How many connections may wait to be accepted.
    pub backlog: i32,
    /// For an IPv6 address: serve IPv4 as well.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { transparent: false, reuse_port: false, mark: None, backlog: 1024, dual_stack: true }
    }
}

/// Listens for TCP connections at `addr` inside `ns`.
pub fn listen_tcp(ns: &NetNs, addr: SocketAddr, options: &ListenOptions) -> Result<std::net::TcpListener> {
    let bound = ns.run(|| {
        let socket = bind(addr, Type::STREAM, Protocol::TCP, options)?;
        socket.listen(options.backlog)?;
        Ok::<_, io::Error>(socket.into())
    })?;
    bound.doing(|| format!("listen on {addr} (tcp) in {}", ns.id()))
}

/// Binds a UDP socket at `addr` inside `ns`, or where this thread is.
pub fn bind_udp<'a>(
    ns: impl Into<Option<&'a NetNs>>,
    addr: SocketAddr,
    options: &ListenOptions,
) -> Result<std::net::UdpSocket> {
    let ns = ns.into();
    let bound = match ns {
        Some(ns) => ns.run(|| bind(addr, Type::DGRAM, Protocol::UDP, options))?,
        None => bind(addr, Type::DGRAM, Protocol::UDP, options),
    };
    bound.map(Into::into).doing(|| match ns {
        Some(ns) => format!("bind {addr} (udp) in {}", ns.id()),
        None => format!("bind {addr} (udp)"),
    })
}

fn bind(addr: SocketAddr, kind: Type, protocol: Protocol, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    if options.transparent {
        set_transparent(&socket, addr.is_ipv6())?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// How often an idle connection is probed, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub time: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(180), interval: Duration::from_secs(180), retries: 9 }
    }
}

/// How to connect.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// The packet mark of everything sent.
    pub mark: Option<u32>,
    /// The address to come from; it need not be this machine's (IP_TRANSPARENT). The kernel picks the port.
    pub source: Option<IpAddr>,
    /// Keepalive probes; none when absent.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// Connects to `destination` from inside `ns` (or from where this thread is), giving up after `timeout`.
/// Refusals come back with the kernel's error number; running out of time as [`io::ErrorKind::TimedOut`].
pub async fn connect(
    ns: Option<&NetNs>,
    destination: SocketAddr,
    options: &ConnectOptions,
    timeout: Duration,
) -> Result<TcpStream> {
    let outgoing = Outgoing {
        v6: destination.is_ipv6(),
        any_source: options.source.is_some(),
        mark: options.mark,
        keepalive: options.keepalive,
        user_timeout: options.user_timeout,
    };
    let socket = outgoing.open(ns)?;
    connect_prepared(socket, options.source, destination, timeout).await
}

/// A TCP socket that is to be connected later, by whoever holds it: everything that takes rights is done when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outgoing {
    /// Its family.
    pub v6: bool,
    /// It may come from an address that is not this machine's (IP_TRANSPARENT).
    pub any_source: bool,
    /// The packet mark of everything sent.
    pub mark: Option<u32>,
    /// Keepalive probes; none when absent.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

impl Outgoing {
    /// Makes the socket inside `ns`, or where this thread is.
    pub fn open(&self, ns: Option<&NetNs>) -> Result<OwnedFd> {
        let opened = match ns {
            Some(ns) => ns.run(|| self.make())?,
            None => self.make(),
        };
        opened.map(Into::into).doing(|| match ns {
            Some(ns) => format!("make a socket in {}", ns.id()),
            None => "make a socket".to_owned(),
        })
    }

    fn make(&self) -> io::Result<Socket> {
        let domain = if self.v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if self.any_source {
            set_transparent(&socket, self.v6)?;
            if self.v6 {
                socket.set_freebind_v6(true)?
            } else {
                socket.set_freebind_v4(true)?
            }
            // The port is chosen at connect, when the whole four-tuple is known: 28 000 connections to one place, not in all.
            set_option(&socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        }
        tune(&socket, self.keepalive, self.user_timeout)?;
        Ok(socket)
    }
}

/// Connects a socket of [`Outgoing`] to `destination`, as `source` if that is given, giving up after `timeout`.
pub async fn connect_prepared(
    socket: OwnedFd,
    source: Option<IpAddr>,
    destination: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream> {
    let doing = || format!("connect to {destination}");
    let socket = Socket::from(socket);
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).doing(doing)?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    match tokio::time::timeout(timeout, socket.connect(destination)).await {
        Ok(connected) => connected.doing(doing),
        Err(_) => {
            Err(Error::new(doing(), io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout:?}"))))
        }
    }
}

/// Sends small writes at once, and probes idle connections: for connections accepted as well as made.
pub fn tune<S: AsFd>(stream: &S, keepalive: Option<Keepalive>, user_timeout: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = keepalive {
        let probes = TcpKeepalive::new().with_time(keepalive.time).with_interval(keepalive.interval);
        socket.set_tcp_keepalive(&probes.with_retries(keepalive.retries))?;
    }
    match user_timeout {
        Some(limit) => socket.set_tcp_user_timeout(Some(limit)),
        None => Ok(()),
    }
}

fn set_transparent(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 {
        socket.set_ip_transparent_v6(true)?;
    }
    // A dual-stack socket needs both.
    match socket.set_ip_transparent_v4(true) {
        Err(error) if !v6 => Err(error),
        _ => Ok(()),
    }
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a live c_int and its size is passed along; the kernel only reads it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends what a connection sends.
pub fn shutdown_write<S: AsFd>(stream: &S) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Where an accepted connection was going before it was redirected here; its local address when it was not.
pub fn original_dst<S: AsFd>(stream: &S) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let v4 = local.ip().to_canonical().is_ipv4();
    let asked = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Not redirected, or no connection tracking here: the connection came for the local address itself.
    let found = asked.ok().and_then(|address| address.as_socket()).unwrap_or(local);
    Ok(SocketAddr::new(found.ip().to_canonical(), found.port()))
}

/// Raises the limit of open files as far as allowed and returns it.
pub fn raise_open_files() -> Result<u64> {
    let doing = || "raise the limit of open files";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(doing)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(doing)?;
    }
    Ok(hard)
}
