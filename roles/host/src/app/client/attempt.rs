//! One request of `app client`, over HTTP or TCP, on a new connection or on the one that is kept.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Args;
use crate::app::whoami::field;

/// Largest body that is read; `/bytes` can send more than anyone wants to hold.
const BODY_LIMIT: usize = 256 * 1024 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The HTTP status; none for TCP.
    pub(super) status: Option<u16>,
    /// The pod that answered, as it says.
    pub(super) server: String,
    /// Our address as the server saw it.
    pub(super) peer: String,
    /// The first line of what came back.
    pub(super) text: String,
}

impl Answer {
    pub(super) fn good(&self) -> bool {
        self.status.is_none_or(|status| (200..400).contains(&status))
    }
}

/// Who is asked, with the connection that is kept between requests if one is.
pub(super) struct Target<'a> {
    args: &'a Args,
    http: Option<SendRequest<Full<Bytes>>>,
    tcp: Option<BufReader<TcpStream>>,
}

impl<'a> Target<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        Self { args, http: None, tcp: None }
    }

    /// Drops a kept connection, whose state is unknown after a timeout.
    pub(super) fn forget(&mut self) {
        self.http = None;
        self.tcp = None;
    }

    pub(super) async fn ask(&mut self) -> Result<Answer, String> {
        let outcome = match (&self.args.url, &self.args.tcp) {
            (Some(url), _) => self.ask_http(url).await,
            (None, Some(address)) => self.ask_tcp(address).await,
            (None, None) => Err("neither --url nor --tcp was given".to_owned()),
        };
        if outcome.is_err() || !self.args.keep_alive {
            self.forget();
        }
        outcome
    }

    async fn ask_http(&mut self, url: &http::Uri) -> Result<Answer, String> {
        let authority = url.authority().ok_or("the address has no host; write http://host:port/path")?.clone();
        if url.scheme_str() != Some("http") {
            return Err("only http:// addresses can be asked".to_owned());
        }
        let mut sender = match self.http.take() {
            Some(sender) if sender.is_ready() => sender,
            _ => connect_http(&authority).await?,
        };
        let body = self.args.body.clone().unwrap_or_default();
        let method = if self.args.body.is_some() { http::Method::POST } else { http::Method::GET };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = http::Request::builder().method(method).uri(path).header("host", authority.as_str());
        for (name, value) in &self.args.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| with_cause(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
        let body = body.map_err(|error| format!("the body broke off: {error}"))?.to_bytes();
        self.http = Some(sender);
        let text = String::from_utf8_lossy(&body[..body.len().min(64 * 1024)]);
        let get = |name| field(&text, name).unwrap_or("-").to_owned();
        let first = text.lines().next().unwrap_or_default().chars().take(80).collect();
        Ok(Answer { status: Some(status), server: get("pod"), peer: get("peer"), text: first })
    }

    async fn ask_tcp(&mut self, address: &str) -> Result<Answer, String> {
        let mut stream = match self.tcp.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(address).await?),
        };
        let line = self.args.body.as_deref().unwrap_or("ping");
        let answer = exchange(&mut stream, line).await?;
        self.tcp = Some(stream);
        Ok(parse(&answer))
    }
}

/// Sends a line and reads the one that answers it.
pub(super) async fn exchange(stream: &mut BufReader<TcpStream>, line: &str) -> Result<String, String> {
    let broken = |error: std::io::Error| error.to_string();
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    loop {
        answer.clear();
        if (&mut *stream).take(128 * 1024).read_line(&mut answer).await.map_err(broken)? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        // A server that speaks first sends a greeting before the answer.
        if !answer.starts_with("hello ") {
            return Ok(answer);
        }
    }
}

/// Reads `pod=… peer=… echo=…`.
fn parse(answer: &str) -> Answer {
    let value = |name: &str| {
        let words = answer.split_whitespace();
        words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let dash = || "-".to_owned();
    let text = answer.split_once("echo=").map_or(answer, |(_, text)| text).trim_end().chars().take(80).collect();
    Answer { status: None, server: value("pod").unwrap_or_else(dash), peer: value("peer").unwrap_or_else(dash), text }
}

pub(super) async fn connect(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

async fn connect_http(authority: &http::uri::Authority) -> Result<SendRequest<Full<Bytes>>, String> {
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = connect(&address).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| with_cause(&error))?;
    // Its error is seen by the request that it fails.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn with_cause(error: &hyper::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("pod=a-1 peer=10.0.0.1:5 echo=ping pong\n", "a-1", "10.0.0.1:5", "ping pong")]
    #[case("something else\n", "-", "-", "something else")]
    fn tcp_answers(#[case] line: &str, #[case] server: &str, #[case] peer: &str, #[case] text: &str) {
        let expected = Answer { status: None, server: server.into(), peer: peer.into(), text: text.into() };
        assert_eq!(parse(line), expected);
    }
}
