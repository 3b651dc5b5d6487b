//! The server under test, with two applications: one that echoes, and one that never ends.

use hbone::{Engine, Incoming, ServerOptions};
use http::{HeaderMap, StatusCode};
use runtime::drain::Drain;
use testkit::http2::cases::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ECHO: &str = "10.0.0.2:8080";
const HOLD: &str = "10.0.0.2:8081";

/// Where its applications are.
pub(crate) fn target() -> Target {
    Target { echo: ECHO.to_owned(), hold: HOLD.to_owned() }
}

/// A connection to a fresh server.
pub(crate) fn dial(engine: Engine) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let options = ServerOptions { engine, ..ServerOptions::default() };
    tokio::spawn(async move {
        let (_drain, watch) = Drain::new();
        let _ended = hbone::serve(theirs, options, watch, application).await;
    });
    ours
}

async fn application(incoming: Incoming) {
    let Ok(authority) = incoming.authority() else { return incoming.reject(StatusCode::BAD_REQUEST) };
    let authority = authority.to_string();
    if authority != ECHO && authority != HOLD {
        return incoming.reject(StatusCode::BAD_REQUEST);
    }
    let Ok(mut stream) = incoming.accept(HeaderMap::new()) else { return };
    if authority == HOLD {
        let _read = stream.read_to_end(&mut Vec::new()).await;
        return std::future::pending().await;
    }
    let (mut read, mut write) = tokio::io::split(stream);
    let _copied = tokio::io::copy(&mut read, &mut write).await;
    let _ended = write.shutdown().await;
}
