//! The client's end of a connection of the `h2` crate.

use super::stream::ReferenceStream;
use crate::{
    ConnectRequest, OpenError, Opened, TunnelStream, Windows,
    client::Refusal,
    liveness::{self, LastRead, Noted},
};
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

const MAX_HEADER_BYTES: u32 = 16 << 10;

/// One HTTP/2 connection; its task runs until the last handle and the last stream are gone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    ended: AtomicBool,
    abort: Notify,
}

impl Client {
    /// Speaks HTTP/2 over `io`; `max_streams` is assumed until the peer says otherwise.
    pub(crate) async fn handshake<IO>(io: IO, windows: Windows, max_streams: usize) -> Result<Self, OpenError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let last_read = LastRead::new();
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .max_frame_size(windows.frame)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_send_buffer_size(windows.stream as usize)
            .initial_max_send_streams(max_streams)
            .enable_push(false)
            .handshake(Noted::new(io, last_read.clone()))
            .await
            .map_err(|error| OpenError::Http2(error.to_string()))?;
        let state = Arc::new(State::default());
        runtime::task::spawn("hbone client connection", drive(connection, last_read, Arc::clone(&state)));
        Ok(Self { send, state })
    }

    /// Whether the connection cannot carry new streams any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
    }

    /// Streams that the peer allows at a time.
    pub(crate) fn max_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Cuts the connection and everything in it.
    pub(crate) fn abort(&self) {
        self.state.abort.notify_one();
    }

    /// Opens a tunnel. `Err(Ok(_))` says that the connection was dead before the request left it: safe to repeat.
    pub(crate) async fn open(&self, request: &ConnectRequest) -> Result<Opened, Refusal> {
        let request = request.to_http().map_err(Refusal::Final)?;
        let mut send = self.send.clone().ready().await.map_err(|_| self.dead())?;
        let (response, body) = send.send_request(request, false).map_err(|_| self.dead())?;
        let response = response.await.map_err(|error| {
            // A stream above GOAWAY's last id was never looked at (RFC 9113 §6.8), nor was a refused one (§8.7).
            if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) {
                return self.dead();
            }
            Refusal::Final(OpenError::Http2(error.to_string()))
        })?;
        let (head, recv) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(Refusal::Final(OpenError::Status(head.status.as_u16())));
        }
        Ok(Opened {
            stream: TunnelStream::reference(ReferenceStream::new(body, recv)),
            headers: head.headers,
            peer: (),
        })
    }

    fn dead(&self) -> Refusal {
        self.state.ended.store(true, Ordering::Release);
        Refusal::Unsent
    }
}

async fn drive<IO>(mut connection: Connection<Noted<IO>, Bytes>, last_read: LastRead, state: Arc<State>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let pings = connection.ping_pong();
    let silence = async {
        match pings {
            Some(pings) => liveness::watch(pings, last_read).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "tunnel connection ended");
        },
        () = silence => tracing::debug!("tunnel connection dropped: the peer is silent"),
        () = state.abort.notified() => {}
    }
    state.ended.store(true, Ordering::Release);
}
