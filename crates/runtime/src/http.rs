//! The small HTTP/1.1 server behind admin, metrics and readiness ports.
//!
//! Given a listener and a function from request to response, [`serve`] answers until told to drain. It is not for traffic:
//! headers must arrive within two seconds, connections are few, bodies are read whole and up to a limit.

use crate::{drain, task};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, io::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Time for a request's headers to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections at a time; the next one waits in the listener's queue.
const MAX_CONNECTIONS: usize = 256;
/// Bytes of headers.
const MAX_HEADERS: usize = 64 * 1024;
/// Bodies shorter than this are not worth compressing.
const COMPRESS_FROM: usize = 1024;
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request; handlers see its body as `Incoming`, pure routing functions take any.
pub type Request<B = Incoming> = http::Request<B>;
/// A response, complete in memory.
pub type Response = http::Response<Full<Bytes>>;

/// A plain text response.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// A JSON response from text that is JSON already.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with_type(status, "application/json", body)
}

/// A response of any type.
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// `body` with gzip if the client accepts it and it is worth it.
pub fn compressed(headers: &HeaderMap, content_type: &'static str, body: Vec<u8>) -> Response {
    let packed = (body.len() >= COMPRESS_FROM && accepts_gzip(headers)).then(|| gzip(&body)).flatten();
    let Some(packed) = packed else { return with_type(StatusCode::OK, content_type, body) };
    let mut response = with_type(StatusCode::OK, content_type, packed);
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// Whether `Accept-Encoding` names gzip with a weight above zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip") || coding == "*");
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        named && !refused
    })
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).ok()
}

/// A request's body, if it is no longer than `limit`.
pub async fn read_body(request: Request, limit: usize) -> Result<Bytes, Response> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            Err(text(StatusCode::BAD_REQUEST, format!("reading the request's body (at most {limit} bytes): {error}\n")))
        }
    }
}

/// One `key=value` of the query, with `+` and `%xx` decoded; `Some("")` when the key stands alone.
pub fn query(uri: &http::Uri, key: &str) -> Option<String> {
    uri.query()?.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == key).then(|| percent_decode(value))
    })
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Binds a port on every interface, both families where the machine has IPv6.
pub async fn bind_wildcard(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("listening on port {port}: {error}")))
}

/// Binds a port on 127.0.0.1, and on ::1 where the machine has it.
pub async fn bind_localhost(port: u16) -> io::Result<Vec<TcpListener>> {
    let v4 = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening on 127.0.0.1:{port}: {error}")))?;
    let port = v4.local_addr()?.port();
    let v6 = TcpListener::bind(("::1", port)).await.ok();
    Ok(std::iter::once(v4).chain(v6).collect())
}

/// Who asks: an extension of every request that [`serve`] hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves until the drain begins, then finishes open requests. Spawn it with [`task::spawn`].
pub async fn serve<H, F>(listener: TcpListener, drain: drain::Watch, handler: H)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let handler = Arc::new(handler);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, peer) = tokio::select! {
            biased;
            () = drain.draining() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("accepting on {:?}: {error}", listener.local_addr());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (drain, handler) = (drain.clone(), handler.clone());
        task::spawn("http connection", async move {
            drain.until_forced(connection(stream, peer, &drain, handler)).await;
            drop(permit);
        });
    }
}

async fn connection<H, F>(stream: TcpStream, peer: SocketAddr, drain: &drain::Watch, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let service = service_fn(move |mut request: Request| {
        request.extensions_mut().insert(Peer(peer));
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, "http connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[rstest]
    #[case("gzip", true)]
    #[case("br, GZIP;q=0.5", true)]
    #[case("*", true)]
    #[case("gzip;q=0", false)]
    #[case("br", false)]
    fn reads_accept_encoding(#[case] value: &str, #[case] accepted: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        assert_eq!(accepts_gzip(&headers), accepted);
    }

    #[rstest]
    #[case("/?level=a%3A%20b+c&reset", "level", Some("a: b c"))]
    #[case("/?level=a%3A%20b+c&reset", "reset", Some(""))]
    #[case("/?level=100%", "level", Some("100%"))]
    #[case("/", "level", None)]
    fn reads_the_query(#[case] uri: &str, #[case] key: &str, #[case] value: Option<&str>) {
        assert_eq!(query(&uri.parse().unwrap(), key).as_deref(), value);
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_stops_when_drained() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, watch) = drain::Drain::new();
        let server = tokio::spawn(serve(listener, watch, |request| async move {
            text(StatusCode::OK, format!("{} {}\n", request.method(), request.uri().path()))
        }));
        let answer = ask(address, "GET /here HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nGET /here\n"), "{answer}");
        assert_eq!(drain.finish(Duration::from_secs(5)).await, drain::Outcome::Finished);
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
