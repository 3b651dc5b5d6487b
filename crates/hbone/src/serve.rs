//! The server's end: one connection, many CONNECT requests.

use crate::{
    Authority, BadRequest, Baggage, ServeError, TunnelStream, Windows, headers,
    liveness::{self, LastRead, Noted},
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode, request};
use runtime::drain;
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

const MAX_HEADER_BYTES: u32 = 64 << 10;
const MAX_SEND_BUFFER: usize = 400 << 10;
/// How long the GOAWAY of a forced end may take to leave.
const FAREWELL: Duration = Duration::from_millis(200);

/// Limits of a served connection.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Windows and frames.
    pub windows: Windows,
    /// Streams at a time.
    pub max_streams: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { windows: Windows::default(), max_streams: 200 }
    }
}

/// One request, to be accepted or rejected; dropping it resets the stream.
#[derive(Debug)]
pub struct Incoming {
    head: request::Parts,
    recv: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Incoming {
    /// Where the client wants to go, if the request is a proper CONNECT.
    pub fn authority(&self) -> Result<Authority, BadRequest> {
        headers::authority(&self.head)
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// What the client says of itself.
    pub fn baggage(&self) -> Baggage {
        Baggage::from_headers(&self.head.headers)
    }

    /// The network that the request came from, when a gateway was on its way.
    pub fn forwarded_network(&self) -> Option<&str> {
        headers::forwarded_network(&self.head.headers)
    }

    /// Answers 200 with `headers` and opens the tunnel.
    pub fn accept(mut self, headers: HeaderMap) -> io::Result<TunnelStream> {
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        let send = self.respond.send_response(response, false).map_err(io::Error::other)?;
        Ok(TunnelStream::new(send, self.recv))
    }

    /// Answers with `status` and nothing else.
    pub fn reject(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        // A client that has gone needs no answer.
        let _sent = self.respond.send_response(response, true);
    }
}

/// Serves `io` until the peer closes it, or until `drain` and every open stream has ended. Each request runs `handler`
/// in a task of its own.
pub async fn serve<IO, H, F>(io: IO, options: ServerOptions, drain: drain::Watch, handler: H) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Incoming) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let last_read = LastRead::new();
    let mut connection = h2::server::Builder::new()
        .initial_window_size(options.windows.stream)
        .initial_connection_window_size(options.windows.connection)
        .max_frame_size(options.windows.frame)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_concurrent_streams(options.max_streams)
        .handshake(Noted::new(io, last_read.clone()))
        .await?;
    let pings = connection.ping_pong();
    let silence = async {
        match pings {
            Some(pings) => liveness::watch(pings, last_read).await,
            None => std::future::pending().await,
        }
    };
    let mut silence = std::pin::pin!(silence);
    let mut draining = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(request) => {
                    let (request, respond) = request?;
                    let (head, recv) = request.into_parts();
                    runtime::task::spawn("hbone stream", handler(Incoming { head, recv, respond }));
                }
            },
            () = &mut silence => return Err(ServeError::Silent(liveness::INTERVAL + liveness::PATIENCE)),
            () = drain.draining(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = drain.forced() => {
                connection.abrupt_shutdown(h2::Reason::NO_ERROR);
                let flushed = std::future::poll_fn(|cx| connection.poll_closed(cx));
                let _gone = tokio::time::timeout(FAREWELL, flushed).await;
                return Ok(());
            }
        }
    }
}
