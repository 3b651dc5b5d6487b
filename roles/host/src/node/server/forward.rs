//! Port-forward: connections into a pod on the channels of a WebSocket, a data and an error channel for each port.
//!
//! Not served yet is the other form, SPDY inside a WebSocket, which kubectl 1.31 and later speak.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use linux::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::route::Target;
use super::socket::{self, Receiver, Sender};
use super::{Reply, text};
use crate::node::context::Context;

const PROTOCOLS: [&str; 2] = ["v4.channel.k8s.io", "portforward.k8s.io"];

/// Ports of one request.
const MOST_PORTS: usize = 64;

pub(super) fn answer(
    context: &Arc<Context>,
    request: http::Request<Incoming>,
    target: &Target,
    ports: Vec<u16>,
) -> Reply {
    if ports.is_empty() {
        // kubectl names its ports inside SPDY streams, which it carries over a WebSocket.
        let problem = "kubectl port-forward speaks SPDY, which is not served here yet: use kubectl exec, or a client \
                       that forwards over WebSocket channels (v4.channel.k8s.io)";
        return text(StatusCode::NOT_IMPLEMENTED, problem);
    }
    if ports.len() > MOST_PORTS {
        return text(StatusCode::BAD_REQUEST, format!("at most {MOST_PORTS} ports are forwarded at a time"));
    }
    let Some(pod) = context.running.find(&target.namespace, &target.pod) else {
        return text(
            StatusCode::NOT_FOUND,
            format!("pod {}/{} does not run on this node", target.namespace, target.pod),
        );
    };
    socket::accept(request, &PROTOCOLS, move |_, sender, receiver| async move {
        converse(pod.network, &ports, &sender, receiver).await;
        sender.close().await;
    })
}

/// The data channel of the port at this place in the request; its error channel is the next.
fn data_channel(place: usize) -> u8 {
    u8::try_from(place * 2).unwrap_or(u8::MAX - 1)
}

async fn converse(network: Option<NetNs>, ports: &[u16], sender: &Sender, mut receiver: Receiver) {
    let mut writers: Vec<Option<OwnedWriteHalf>> = Vec::new();
    let mut readers = tokio::task::JoinSet::new();
    for (place, port) in ports.iter().enumerate() {
        let channel = data_channel(place);
        // Both channels begin with the port that they are for.
        sender.send(channel, &port.to_le_bytes()).await;
        sender.send(channel + 1, &port.to_le_bytes()).await;
        match connect(network.as_ref(), *port).await {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                writers.push(Some(write));
                let sender = sender.clone();
                readers.spawn(async move { copy(read, channel, &sender).await });
            }
            Err(error) => {
                sender.send(channel + 1, format!("cannot connect to port {port} of the pod: {error}").as_bytes()).await;
                writers.push(None);
            }
        }
    }
    let written = async {
        while let Some((channel, bytes)) = receiver.receive().await {
            let Some(slot) = writers.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0) else { continue };
            if let Some(writer) = slot
                && writer.write_all(&bytes).await.is_err()
            {
                *slot = None;
            }
        }
    };
    tokio::select! {
        () = written => {}
        () = async { while readers.join_next().await.is_some() {} } => {}
    }
}

async fn copy(mut from: tokio::net::tcp::OwnedReadHalf, channel: u8, sender: &Sender) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || !sender.send(channel, &buffer[..length]).await {
            return;
        }
    }
}

/// Connects to the pod's own loopback: the socket is made inside its namespace and stays there.
async fn connect(network: Option<&NetNs>, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = match network {
        Some(network) => network.run(tokio::net::TcpSocket::new_v4)??,
        None => tokio::net::TcpSocket::new_v4()?,
    };
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_in_pairs() {
        assert_eq!([0, 1, 2].map(data_channel), [0, 2, 4]);
    }
}
