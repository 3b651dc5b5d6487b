//! WebSockets with Kubernetes' channel protocols: every message begins with the number of its channel.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::{Reply, text};

/// Largest message that is taken.
const LARGEST: usize = 1024 * 1024;

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// The sending side; clones share it.
#[derive(Clone)]
pub(super) struct Sender(Arc<Mutex<SplitSink<Stream, Message>>>);

/// The receiving side.
pub(super) struct Receiver(SplitStream<Stream>);

/// Answers a handshake with the first of `protocols` that the client offers, and runs `conversation` over the socket.
pub(super) fn accept<F>(
    mut request: http::Request<Incoming>,
    protocols: &[&'static str],
    conversation: impl FnOnce(&'static str, Sender, Receiver) -> F + Send + 'static,
) -> Reply
where
    F: Future<Output = ()> + Send + 'static,
{
    let (accept, protocol) = match handshake(request.headers(), protocols) {
        Ok(agreed) => agreed,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    runtime::task::spawn("kubelet stream", async move {
        match upgrade.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
                let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                let (sink, stream) = stream.split();
                conversation(protocol, Sender(Arc::new(Mutex::new(sink))), Receiver(stream)).await;
            }
            Err(error) => tracing::debug!(%error, "stream not upgraded"),
        }
    });
    let mut reply = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    reply
}

fn handshake(headers: &HeaderMap, protocols: &[&'static str]) -> Result<(HeaderValue, &'static str), String> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") {
        let asked = if upgrade.is_empty() { "none".to_owned() } else { upgrade.to_owned() };
        return Err(format!(
            "this needs a WebSocket, not an upgrade to {asked}; use a client of Kubernetes 1.31 or later"
        ));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or("the handshake has no Sec-WebSocket-Key")?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|error| error.to_string())?;
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offers.flat_map(|value| value.split(',')).map(str::trim).collect();
    let protocol = protocols.iter().find(|protocol| offered.contains(*protocol));
    protocol
        .map(|protocol| (accept, *protocol))
        .ok_or_else(|| format!("none of the protocols {offered:?} is spoken here; use one of {protocols:?}"))
}

impl Sender {
    /// Sends bytes on a channel; whether they went out.
    pub(super) async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.0.lock().await.send(Message::Binary(message.into())).await.is_ok()
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        let mut sink = self.0.lock().await;
        // Without a code kubectl takes the end for a failure.
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if let Err(error) = sink.send(Message::Close(Some(goodbye))).await {
            tracing::trace!(%error, "the client has left already");
        }
        drop(sink.close().await);
    }
}

impl Receiver {
    /// The next message: its channel and bytes; none when the client has left.
    pub(super) async fn receive(&mut self) -> Option<(u8, Bytes)> {
        loop {
            let bytes = match self.0.next().await?.ok()? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => return None,
                _ => continue,
            };
            if let Some(channel) = bytes.first().copied() {
                return Some((channel, bytes.slice(1..)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_newest_common_protocol_is_agreed() {
        let headers = headers(&[
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
        ]);
        let (accept, protocol) = handshake(&headers, &["v5.channel.k8s.io", "v4.channel.k8s.io"]).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(protocol, "v5.channel.k8s.io");
    }

    #[rstest::rstest]
    #[case::no_upgrade(&[], "upgrade to none")]
    #[case::spdy(&[("upgrade", "SPDY/3.1")], "upgrade to SPDY/3.1")]
    #[case::no_key(&[("upgrade", "websocket")], "Sec-WebSocket-Key")]
    #[case::no_protocol(&[("upgrade", "websocket"), ("sec-websocket-key", "x")], "none of the protocols")]
    fn refusals(#[case] pairs: &[(&'static str, &'static str)], #[case] problem: &str) {
        let error = handshake(&headers(pairs), &["v4.channel.k8s.io"]).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}
