//! Asking a name server from within the pod, so that the cluster's rules for the pod apply. The query goes on as it came,
//! under another id; the answer comes back as it is.

use super::server::Protocol;
use crate::pod::Pod;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{self, Instant},
};

/// How long one name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Rounds over all name servers.
const ATTEMPTS: usize = 2;
/// Shortest message: its header.
const HEADER: usize = 12;

/// Why a query got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("/etc/resolv.conf names no name server")]
    NoServers,
    #[error("{server}: {source}")]
    Server { server: SocketAddr, source: io::Error },
}

/// Asks one name server after the other.
pub(super) async fn ask(
    pod: &Pod,
    protocol: Protocol,
    query: &[u8],
    labels: &[&str; 4],
) -> Result<Vec<u8>, ForwardError> {
    let metrics = &pod.proxy.metrics.dns;
    let mut last = ForwardError::NoServers;
    let servers = &pod.proxy.resolver.servers;
    for server in servers.iter().copied().cycle().take(servers.len() * ATTEMPTS) {
        metrics.upstream_requests.add(labels);
        let begun = Instant::now();
        let asking = async {
            match protocol {
                Protocol::Udp => ask_udp(pod, server, query).await,
                Protocol::Tcp => ask_tcp(pod, server, query).await,
            }
        };
        match time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(bytes) => {
                metrics.upstream_answered(labels, begun.elapsed());
                return Ok(bytes);
            }
            Err(source) => {
                metrics.upstream_failures.add(labels);
                last = ForwardError::Server { server, source };
            }
        }
    }
    Err(last)
}

async fn ask_udp(pod: &Pod, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = pod.sockets.udp(server.is_ipv6()).await.map_err(io::Error::other)?;
    // Connected, so that the kernel drops what comes from elsewhere.
    socket.connect(server).await?;
    let id: u16 = rand::random();
    socket.send(&with_id(query, id)).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer(&buffer[..length], id, query) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(pod: &Pod, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let connected = pod.sockets.connect(server, None).await;
    let mut stream = connected.map_err(io::Error::other)?;
    let id: u16 = rand::random();
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &with_id(query, id)].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, id, query).ok_or_else(|| io::Error::other("the answer belongs to another question"))
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(field) = message.get_mut(..2) {
        field.copy_from_slice(&id.to_be_bytes());
    }
    message
}

/// The answer for the client, if `message` answers our question: the client's id, recursion offered, no authority of ours.
fn answer(message: &[u8], id: u16, query: &[u8]) -> Option<Vec<u8>> {
    if message.len() < HEADER || query.len() < HEADER || message[..2] != id.to_be_bytes() || message[2] & 0x80 == 0 {
        return None;
    }
    let mut message = with_id(message, u16::from_be_bytes([query[0], query[1]]));
    message[2] &= !0x04;
    message[3] |= 0x80;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_ours_by_its_id_and_reaches_the_client_under_the_clients() {
        let query = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let reply = [0x12, 0x34, 0x84, 0x03, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&reply, 0x1235, &query), None, "another id");
        assert_eq!(answer(&query, 7, &query), None, "a question");
        assert_eq!(answer(&reply[..11], 0x1234, &query), None, "cut");
        let answer = answer(&reply, 0x1234, &query).unwrap();
        assert_eq!(answer[..4], [0, 7, 0x80, 0x83]);
    }
}
