//! Moves DNS messages: UDP and TCP in, upstream out for names that are not the cluster's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::{Outcome, Responder, reply};

/// Questions that are worked on at a time; more wait in the socket.
const AT_ONCE: usize = 512;

/// Connections at a time.
const CONNECTIONS: usize = 256;

/// Wait for one upstream server before the next is asked.
const UPSTREAM_TIME: Duration = Duration::from_secs(2);

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// What fits into an answer over UDP without EDNS.
const PLAIN_SIZE: usize = 512;

/// The sockets of the server.
pub(super) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Listens on both transports.
pub(super) async fn bind(port: u16) -> Result<Sockets, String> {
    let said = |error: io::Error| format!("cannot listen on port {port}: {error}; choose another with --port");
    let address = (std::net::Ipv4Addr::UNSPECIFIED, port);
    Ok(Sockets {
        udp: UdpSocket::bind(address).await.map_err(said)?,
        tcp: TcpListener::bind(address).await.map_err(said)?,
    })
}

/// Answers until dropped.
pub(super) async fn serve(sockets: Sockets, responder: Arc<Responder>, upstream: Arc<[SocketAddr]>) {
    tokio::join!(
        serve_udp(sockets.udp, responder.clone(), upstream.clone()),
        serve_tcp(sockets.tcp, responder, upstream)
    );
}

async fn serve_udp(socket: UdpSocket, responder: Arc<Responder>, upstream: Arc<[SocketAddr]>) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut buffer = [0; 4096];
    loop {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "nothing received");
                continue;
            }
        };
        let message = buffer[..length].to_vec();
        let (socket, responder, upstream) = (socket.clone(), responder.clone(), upstream.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&message, &responder, &upstream, false).await
                && let Err(error) = socket.send_to(&answer, peer).await
            {
                tracing::debug!(%error, %peer, "answer not sent");
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, responder: Arc<Responder>, upstream: Arc<[SocketAddr]>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "dns connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (responder, upstream) = (responder.clone(), upstream.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &responder, &upstream).await {
                tracing::debug!(%error, "dns connection ended");
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, responder: &Responder, upstream: &[SocketAddr]) -> io::Result<()> {
    loop {
        let message = match tokio::time::timeout(SILENCE, read(&mut stream)).await {
            Ok(Ok(message)) => message,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        match answer(&message, responder, upstream, true).await {
            Some(answer) => write(&mut stream, &answer).await?,
            None => return Ok(()),
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// The bytes to send back, if any.
async fn answer(message: &[u8], responder: &Responder, upstream: &[SocketAddr], tcp: bool) -> Option<Vec<u8>> {
    let answer = match responder.respond(message) {
        Outcome::Answer(answer) => answer,
        Outcome::Ignore => return None,
        Outcome::Forward => match forward(message, upstream, tcp).await {
            Some(answer) => return Some(answer),
            None => reply(&Message::from_vec(message).ok()?, ResponseCode::ServFail),
        },
    };
    let bytes = answer.to_vec().ok()?;
    if !tcp && bytes.len() > size_limit(message) { answer.truncate().to_vec().ok() } else { Some(bytes) }
}

/// The longest answer over UDP that the asker takes.
fn size_limit(message: &[u8]) -> usize {
    let request = Message::from_vec(message).ok();
    request.map_or(PLAIN_SIZE, |request| usize::from(request.max_payload()).clamp(PLAIN_SIZE, 1232))
}

/// Hands the question on as it is, to the first upstream server that answers.
async fn forward(message: &[u8], upstream: &[SocketAddr], tcp: bool) -> Option<Vec<u8>> {
    for server in upstream {
        let asked = async { if tcp { ask_tcp(message, *server).await } else { ask_udp(message, *server).await } };
        match tokio::time::timeout(UPSTREAM_TIME, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%error, %server, "upstream server does not answer"),
            Err(_) => tracing::debug!(%server, "upstream server does not answer in time"),
        }
    }
    None
}

async fn ask_udp(message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody else's answer has another number.
        if buffer.get(..2) == message.get(..2) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(message: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, message).await?;
    read(&mut stream).await
}
