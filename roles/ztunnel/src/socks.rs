//! SOCKS5 in a pod (ztunnel.md §10): for applications that name their destination instead of being captured.
//!
//! Version 5, no authentication, CONNECT. The client is told of success only when bytes can flow; a name with several addresses
//! is tried address by address. Way, policy, tunnel and record are those of every connection that leaves the pod.

use crate::{dns, flow::abort, outbound, pod::Shard};
use model::Reason;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{self, Instant},
};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// What a client is answered (RFC 1928 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Succeeded = 0,
    GeneralFailure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Where a client wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Address(SocketAddr),
    Name(String, u16),
}

/// Why a request is not one.
#[derive(Debug)]
enum Bad {
    /// The client cannot be answered.
    Gone(io::Error),
    /// No method that we speak.
    Method,
    /// The client is told this.
    Request(Code),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Handles one client.
pub(crate) async fn handle(shard: Arc<Shard>, mut client: TcpStream, source: SocketAddr) {
    let since = Instant::now();
    let conversation = async {
        greet(&mut client).await?;
        request(&mut client).await
    };
    let wanted = match time::timeout(PATIENCE, conversation).await {
        Ok(Ok(wanted)) => wanted,
        Ok(Err(bad)) => return refuse(&mut client, bad).await,
        Err(_) => return abort(&client),
    };
    let addresses = match wanted {
        Wanted::Address(address) => vec![address],
        Wanted::Name(name, port) => {
            let found = dns::lookup(&shard.pod, &name, source.is_ipv6()).await;
            found.into_iter().take(MAX_ADDRESSES).map(|address| SocketAddr::new(address, port)).collect()
        }
    };
    let mut failure = Code::HostUnreachable;
    for destination in addresses {
        match outbound::connect(&shard, source, destination, since).await {
            Ok(connected) => {
                if client.write_all(&reply(Code::Succeeded)).await.is_ok() {
                    connected.carry(&shard, client).await;
                }
                return;
            }
            Err(reason) => failure = code(&reason),
        }
    }
    refuse(&mut client, Bad::Request(failure)).await;
}

async fn refuse(client: &mut TcpStream, bad: Bad) {
    let answer = match bad {
        Bad::Gone(error) => return tracing::debug!("a SOCKS client went before it was served: {error}"),
        Bad::Method => vec![VERSION, NO_METHOD],
        Bad::Request(code) => reply(code).to_vec(),
    };
    // The client may have gone meanwhile.
    let _told = client.write_all(&answer).await;
    let _ended = client.shutdown().await;
}

/// The bound address is nobody's business: unspecified, as upstream sends it.
fn reply(code: Code) -> [u8; 10] {
    [VERSION, code as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// The code that comes nearest to why a connection failed.
fn code(reason: &Reason) -> Code {
    match reason {
        Reason::PolicyDenied(_) | Reason::TunnelRefused(401) | Reason::SelfCall => Code::NotAllowed,
        Reason::NoHealthyUpstream | Reason::WaypointUnknown(_) | Reason::DnsFailed(_) | Reason::HboneTimeout(_) => {
            Code::HostUnreachable
        }
        Reason::GatewayUnknown(_) => Code::NetworkUnreachable,
        Reason::ConnectFailed(why) if why.contains("refused") => Code::Refused,
        Reason::ConnectFailed(why) if why.contains("Network is unreachable") => Code::NetworkUnreachable,
        Reason::ConnectFailed(why) if why.contains("No route") || why.contains("timed out") => Code::HostUnreachable,
        _ => Code::GeneralFailure,
    }
}

/// Reads the client's methods and takes ours.
async fn greet<IO: AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut IO) -> Result<(), Bad> {
    methods(client).await?;
    Ok(client.write_all(&[VERSION, NO_AUTHENTICATION]).await?)
}

async fn methods<R: AsyncRead + Unpin>(client: &mut R) -> Result<(), Bad> {
    if client.read_u8().await? != VERSION {
        return Err(Bad::Method);
    }
    let mut methods = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut methods).await?;
    if methods.contains(&NO_AUTHENTICATION) { Ok(()) } else { Err(Bad::Method) }
}

async fn request<R: AsyncRead + Unpin>(client: &mut R) -> Result<Wanted, Bad> {
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let [version, command, _reserved, kind] = head;
    if version != VERSION {
        return Err(Bad::Request(Code::GeneralFailure));
    }
    let wanted = match kind {
        1 => Err(IpAddr::from(Ipv4Addr::from_bits(client.read_u32().await?))),
        4 => Err(IpAddr::from(Ipv6Addr::from_bits(client.read_u128().await?)).to_canonical()),
        3 => {
            let mut name = vec![0; usize::from(client.read_u8().await?)];
            client.read_exact(&mut name).await?;
            Ok(String::from_utf8(name).map_err(|_| Bad::Request(Code::HostUnreachable))?)
        }
        _ => return Err(Bad::Request(Code::AddressNotSupported)),
    };
    let port = client.read_u16().await?;
    if command != CONNECT {
        return Err(Bad::Request(Code::CommandNotSupported));
    }
    match wanted {
        Err(address) => Ok(Wanted::Address(SocketAddr::new(address, port))),
        // Some clients write addresses as names.
        Ok(name) => Ok(match name.parse::<IpAddr>() {
            Ok(address) => Wanted::Address(SocketAddr::new(address, port)),
            Err(_) => Wanted::Name(name, port),
        }),
    }
}

/// A client's whole conversation as far as it is read from `bytes`; whether it asks for a connection.
pub(crate) fn try_conversation(bytes: &[u8]) -> bool {
    use futures_util::FutureExt;
    let mut reader = bytes;
    let conversation = async {
        methods(&mut reader).await?;
        request(&mut reader).await
    };
    // Memory is never waited for.
    conversation.now_or_never().is_some_and(|outcome| outcome.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CONNECT_V4: &[u8] = &[5, 1, 0, 1, 10, 0, 0, 1, 0, 80];

    #[rstest]
    #[case::v4(CONNECT_V4, "10.0.0.1:80")]
    #[case::v6(&[5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0], "[fd00::1]:256")]
    #[case::mapped(&[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1, 0, 80], "10.0.0.1:80")]
    #[case::name(b"\x05\x01\x00\x03\x08web.shop\x00\x50", "web.shop 80")]
    #[case::address_as_name(b"\x05\x01\x00\x03\x0810.0.0.1\x00\x50", "10.0.0.1:80")]
    #[case::bind(&[5, 2, 0, 1, 10, 0, 0, 1, 0, 80], "CommandNotSupported")]
    #[case::udp(&[5, 3, 0, 1, 10, 0, 0, 1, 0, 80], "CommandNotSupported")]
    #[case::kind(&[5, 1, 0, 2, 10, 0, 0, 1, 0, 80], "AddressNotSupported")]
    #[case::version(&[4, 1, 0, 1, 10, 0, 0, 1, 0, 80], "GeneralFailure")]
    #[case::no_text(b"\x05\x01\x00\x03\x01\xff\x00\x50", "HostUnreachable")]
    #[case::cut(&CONNECT_V4[..9], "gone")]
    #[tokio::test]
    async fn requests(#[case] bytes: &[u8], #[case] expected: &str) {
        let mut reader = bytes;
        let text = match request(&mut reader).await {
            Ok(Wanted::Address(address)) => address.to_string(),
            Ok(Wanted::Name(name, port)) => format!("{name} {port}"),
            Err(Bad::Request(code)) => format!("{code:?}"),
            Err(Bad::Gone(_)) => "gone".to_owned(),
            Err(Bad::Method) => "method".to_owned(),
        };
        assert_eq!(text, expected);
    }

    #[rstest]
    #[case(&[5, 1, 0], true)]
    #[case(&[5, 2, 2, 0], true)]
    #[case(&[5, 1, 2], false)]
    #[case(&[5, 0], false)]
    #[case(&[4, 1, 0], false)]
    #[tokio::test]
    async fn only_without_authentication(#[case] bytes: &[u8], #[case] taken: bool) {
        let mut reader = bytes;
        assert_eq!(methods(&mut reader).await.is_ok(), taken);
    }

    #[rstest]
    #[case(Reason::PolicyDenied(String::new()), Code::NotAllowed)]
    #[case(Reason::TunnelRefused(401), Code::NotAllowed)]
    #[case(Reason::TunnelRefused(503), Code::GeneralFailure)]
    #[case(Reason::NoHealthyUpstream, Code::HostUnreachable)]
    #[case(Reason::ConnectFailed("Connection refused (os error 111)".to_owned()), Code::Refused)]
    #[case(Reason::ConnectFailed("Network is unreachable".to_owned()), Code::NetworkUnreachable)]
    fn failures_have_their_codes(#[case] reason: Reason, #[case] expected: Code) {
        assert_eq!(code(&reason), expected);
    }
}
