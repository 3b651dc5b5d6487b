//! Asking pods: a request from one, its log, a page of its proxy.

use anyhow::{Context, Result, anyhow, bail};
use api::{Pod, Resource};
use cluster::{Client, Output, Scope};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// One HTTP request from a pod, by the demo application in it.
pub(super) async fn request(client: &Client, namespace: &str, pod: &str, url: &str) -> Result<Output> {
    let command = ["ambit", "app", "client", "--url", url, "--count", "1"];
    Ok(client.run(namespace, pod, &command).await?)
}

/// A TCP connection that a pod holds open, with a heartbeat line for each echo.
#[derive(Debug)]
pub(super) struct Held {
    lines: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Held {
    pub(super) async fn open(client: &Client, namespace: &str, pod: &str, target: &str) -> Result<Self> {
        let words = ["ambit", "app", "client", "--tcp", target, "--hold", "--interval", "50ms"];
        let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut process = client.exec(namespace, pod, None, &command).await?;
        let (send, lines) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            // The whole process moves in here: dropping any of it ends the command.
            let mut output = BufReader::new(&mut process.output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                if send.send(line).is_err() {
                    return;
                }
            }
            let _ended = process.finish().await;
        });
        let mut held = Self { lines };
        held.heartbeat().await.context("the connection did not come up")?;
        Ok(held)
    }

    /// Waits for a heartbeat that comes after now; an error when the connection has been cut.
    pub(super) async fn heartbeat(&mut self) -> Result<String> {
        let mut last = None;
        while let Ok(line) = self.lines.try_recv() {
            last = Some(line);
        }
        if let Some(closed) = last.filter(|line| line.starts_with("closed")) {
            bail!("{closed}");
        }
        match tokio::time::timeout(Duration::from_secs(5), self.lines.recv()).await {
            Ok(Some(line)) if !line.starts_with("closed") => Ok(line),
            Ok(Some(line)) => Err(anyhow!(line)),
            Ok(None) => Err(anyhow!("the client has ended")),
            Err(_) => Err(anyhow!("no heartbeat for 5 s")),
        }
    }

    /// Waits until the connection is cut; the client's line about it.
    pub(super) async fn closed(&mut self, within: Duration) -> Option<String> {
        tokio::time::timeout(within, async {
            while let Some(line) = self.lines.recv().await {
                if line.starts_with("closed") {
                    return Some(line);
                }
            }
            None
        })
        .await
        .ok()
        .flatten()
    }
}

/// The name of the node proxy's pod on a node.
pub(super) async fn proxy_on(client: &Client, node: &str) -> Result<String> {
    let scope = Scope::namespace("istio-system").labels("app=ztunnel").fields(format!("spec.nodeName={node}"));
    let pods: Vec<Pod> = client.list(&scope).await?;
    pods.first().map(|pod| pod.name().to_owned()).ok_or_else(|| anyhow!("no node proxy runs on {node}"))
}

/// Lines of all node proxies' access logs that hold every one of `words`.
pub(super) async fn access_lines(client: &Client, words: &[&str]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for node in ["n1", "n2"] {
        let pod = proxy_on(client, node).await?;
        let log = client.log("istio-system", &pod).await?;
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        found.extend(lines.map(|line| (node.to_owned(), line.to_owned())));
    }
    Ok(found)
}

/// A page of a pod, through the API server.
pub(super) async fn page(client: &Client, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
    let mut stream = client.port_forward(namespace, pod, port).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.with_context(|| format!("reading {path} of {namespace}/{pod}:{port}"))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
