//! The HTTP side of `app serve`: an echo, health, and answers that are slow, wrong or large on request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::ServeArgs;
use super::whoami::{Server, plain};

const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);

pub(super) async fn serve(listener: TcpListener, server: Arc<Server>, args: ServeArgs) {
    let echo = Arc::new(Echo { server, args, started: Instant::now() });
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                println!("http accept error=\"{error}\"");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let local = stream.local_addr().unwrap_or(peer);
        let echo = echo.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| {
                let echo = echo.clone();
                async move { Ok::<_, Infallible>(echo.answer(plain(peer), local, request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                println!("http peer={} error=\"{error}\"", plain(peer));
            }
        });
    }
}

/// One HTTP echo and its misbehaviour.
struct Echo {
    server: Arc<Server>,
    args: ServeArgs,
    started: Instant,
}

impl Echo {
    async fn answer(&self, peer: SocketAddr, local: SocketAddr, request: Request<Incoming>) -> Response<Answer> {
        let (parts, _) = request.into_parts();
        let ready = self.started.elapsed() >= self.args.ready_after;
        let (wait, status, body) = match decide(&parts.uri, ready) {
            Plan::Health(status) => (Duration::ZERO, status, Answer::text(format!("{status}\n"))),
            Plan::Bad(problem) => (Duration::ZERO, StatusCode::BAD_REQUEST, Answer::text(problem)),
            Plan::Bytes(count) => (self.args.delay, self.status(StatusCode::OK), Answer::filler(count)),
            Plan::Echo { wait, status } => {
                let text = self.server.describe(peer, local, &parts);
                (self.args.delay + wait, self.status(status), Answer::text(text))
            }
        };
        tokio::time::sleep(wait).await;
        println!("http peer={peer} method={} path={} status={}", parts.method, parts.uri, status.as_u16());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    }

    /// `--fail` overrides every status but those of health checks.
    fn status(&self, asked: StatusCode) -> StatusCode {
        self.args.fail.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(asked)
    }
}

/// What a request's address asks for.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Health(StatusCode),
    Bytes(u64),
    Echo { wait: Duration, status: StatusCode },
    Bad(String),
}

fn decide(uri: &http::Uri, ready: bool) -> Plan {
    let parameter = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let number = |name: &str, default: u64| parameter(name).map_or(Ok(default), str::parse::<u64>);
    let echo = |wait, status| Plan::Echo { wait, status };
    match uri.path() {
        "/healthz" | "/readyz" if ready => Plan::Health(StatusCode::OK),
        "/healthz" | "/readyz" => Plan::Health(StatusCode::SERVICE_UNAVAILABLE),
        "/slow" => match number("ms", 1_000) {
            Ok(millis) => echo(Duration::from_millis(millis), StatusCode::OK),
            Err(_) => Plan::Bad("ms must be a number, as in /slow?ms=250\n".to_owned()),
        },
        "/fail" => match number("code", 500).map(|code| u16::try_from(code).map(StatusCode::from_u16)) {
            Ok(Ok(Ok(status))) => echo(Duration::ZERO, status),
            _ => Plan::Bad("code must be an HTTP status, as in /fail?code=503\n".to_owned()),
        },
        "/bytes" => match number("n", 1_024) {
            Ok(count) => Plan::Bytes(count),
            Err(_) => Plan::Bad("n must be a number, as in /bytes?n=1048576\n".to_owned()),
        },
        _ => echo(Duration::ZERO, StatusCode::OK),
    }
}

/// A body: a text, or so many bytes of filler without holding them.
struct Answer {
    text: Bytes,
    filler: u64,
}

impl Answer {
    fn text(text: String) -> Self {
        Self { text: text.into(), filler: 0 }
    }

    fn filler(count: u64) -> Self {
        Self { text: Bytes::new(), filler: count }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if !this.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.text)))));
        }
        if this.filler == 0 {
            return Poll::Ready(None);
        }
        let size = this.filler.min(CHUNK.len() as u64);
        this.filler -= size;
        let size = usize::try_from(size).unwrap_or(CHUNK.len());
        Poll::Ready(Some(Ok(Frame::data(CHUNK.slice(..size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.filler == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.filler + self.text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(millis: u64, status: u16) -> Plan {
        Plan::Echo { wait: Duration::from_millis(millis), status: StatusCode::from_u16(status).unwrap() }
    }

    #[rstest::rstest]
    #[case("/", true, echo(0, 200))]
    #[case("/any/path?ms=5", true, echo(0, 200))]
    #[case("/slow?ms=250", true, echo(250, 200))]
    #[case("/slow", true, echo(1_000, 200))]
    #[case("/fail?code=503", true, echo(0, 503))]
    #[case("/fail", true, echo(0, 500))]
    #[case("/bytes?a=1&n=7", true, Plan::Bytes(7))]
    #[case("/healthz", true, Plan::Health(StatusCode::OK))]
    #[case("/healthz", false, Plan::Health(StatusCode::SERVICE_UNAVAILABLE))]
    fn plans(#[case] uri: &str, #[case] ready: bool, #[case] plan: Plan) {
        assert_eq!(decide(&uri.parse().unwrap(), ready), plan);
    }

    #[rstest::rstest]
    #[case("/slow?ms=soon")]
    #[case("/fail?code=9999999")]
    #[case("/fail?code=7")]
    #[case("/bytes?n=-1")]
    fn bad_parameters_are_named(#[case] uri: &str) {
        assert!(matches!(decide(&uri.parse().unwrap(), true), Plan::Bad(_)));
    }

    #[tokio::test]
    async fn filler_is_as_long_as_asked() {
        use http_body_util::BodyExt;
        let body = Answer::filler(40_000).collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 40_000);
    }
}
