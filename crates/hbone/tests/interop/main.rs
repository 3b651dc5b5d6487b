//! Tunnels with a foreign HTTP/2 in a process of its own, in both directions: python's h2, which the test's set-up installs below the
//! target folder. Without python or its registry the tests say so and check nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hbone::{Baggage, ConnectRequest, Incoming, ServerOptions};
use http::{HeaderMap, StatusCode};
use runtime::drain::Drain;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process,
};

/// A python with h2, when it can be had.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-h2");
        let python = folder.join("bin/python3");
        let succeeds = |command: &mut Command| {
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let has_h2 = || succeeds(Command::new(&python).args(["-c", "import h2"]));
        let install = || {
            succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder))
                && succeeds(Command::new(&python).args(["-m", "pip", "install", "--timeout", "20", "h2==4.4.1"]))
        };
        (has_h2() || (install() && has_h2())).then_some(python)
    });
    if found.is_none() {
        println!("SKIPPED: there is no python with h2 here, and it could not be installed");
    }
    found.as_deref()
}

fn peer(python: &Path, arguments: &[&str]) -> process::Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peer.py");
    let mut command = process::Command::new(python);
    command.arg(script).args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

async fn echo(incoming: Incoming) {
    if incoming.authority().is_err() {
        return incoming.reject(StatusCode::BAD_REQUEST);
    }
    assert_eq!(incoming.baggage().namespace, "shop");
    let (mut read, mut write) = tokio::io::split(incoming.accept(HeaderMap::new()).unwrap());
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_python_client_has_a_tunnel_through_our_server() {
    let Some(python) = python() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = peer(python, &["client", &listener.local_addr().unwrap().to_string()]);
    let (stream, _) = listener.accept().await.unwrap();
    let (_drain, watch) = Drain::new();
    let served = hbone::serve(stream, ServerOptions::default(), watch, echo);
    let (_served, output) = tokio::join!(served, client.wait_with_output());
    let output = output.unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "200 400");
}

#[tokio::test]
async fn our_client_has_a_tunnel_through_a_python_server() {
    let Some(python) = python() else { return };
    let mut server = peer(python, &["server"]);
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
    let port: u16 = said.next_line().await.unwrap().unwrap().parse().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = ConnectRequest {
        authority: "10.0.0.2:8080".parse().unwrap(),
        baggage: Baggage { namespace: "shop".into(), ..Baggage::default() }.header(),
        forwarded_for: "10.0.0.1:4000".parse().unwrap(),
        forwarded_host: None,
        traceparent: Some(hbone::traceparent()),
        forwarded_network: None,
    };
    let opened = hbone::connect_once(stream, &request).await.unwrap();
    assert_eq!(said.next_line().await.unwrap().unwrap(), "10.0.0.2:8080");
    assert_eq!(opened.headers["baggage"], "service.name=python");
    let (mut read, mut write) = tokio::io::split(opened.stream);
    let payload: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let sent = payload.clone();
    let sending = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    sending.await.unwrap();
    assert!(back == payload, "{} bytes came back", back.len());
}
