//! The server's end of a connection of the `h2` crate.

use super::stream::ReferenceStream;
use crate::{
    Incoming, ServeError, ServerOptions,
    liveness::{self, LastRead, Noted},
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};
use runtime::drain;
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

const MAX_HEADER_BYTES: u32 = 64 << 10;
const MAX_SEND_BUFFER: usize = 400 << 10;
/// How long the GOAWAY of a forced end may take to leave.
const FAREWELL: Duration = Duration::from_millis(200);

/// The answering half of a request; dropping it resets the stream.
#[derive(Debug)]
pub(crate) struct ReferenceIncoming {
    recv: RecvStream,
    respond: SendResponse<Bytes>,
}

impl ReferenceIncoming {
    /// Returns when nobody waits for an answer any more.
    pub(crate) async fn cancelled(&mut self) {
        let _why = std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }

    /// Answers 200 with `headers` and opens the tunnel.
    pub(crate) fn accept(mut self, headers: HeaderMap) -> io::Result<ReferenceStream> {
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        let send = self.respond.send_response(response, false).map_err(io::Error::other)?;
        Ok(ReferenceStream::new(send, self.recv))
    }

    /// Answers with `status` and nothing else.
    pub(crate) fn reject(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        // A client that has gone needs no answer.
        let _sent = self.respond.send_response(response, true);
    }
}

/// Serves `io` until the peer closes it, or until `drain` and every open stream has ended.
pub(crate) async fn serve<IO, H, F>(
    io: IO,
    options: ServerOptions,
    drain: drain::Watch,
    handler: H,
) -> Result<(), ServeError>
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
        .await
        .map_err(failed)?;
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
                    let (request, respond) = request.map_err(failed)?;
                    let (head, recv) = request.into_parts();
                    let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
                    let respond = ReferenceIncoming { recv, respond };
                    let incoming = Incoming::reference(head.method.to_string(), authority, head.headers, respond);
                    runtime::task::spawn("hbone stream", handler(incoming));
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

fn failed(error: h2::Error) -> ServeError {
    ServeError::Http2(error.to_string())
}
