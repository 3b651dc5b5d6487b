//! Asking a container whether it is well, from the node, as the kubelet does.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;

use api::core::{ContainerPort, HttpGetAction};
use api::{IntOrString, Probe};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use linux::process::Exit;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::node::container::Plan;
use crate::node::probe::{Purpose, Rhythm, Tally};

/// As much of an answer as is told.
const TOLD: usize = 4 * 1024;

/// The container that is asked.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: Option<IpAddr>,
    pub(super) pid: u32,
    pub(super) plan: Arc<Plan>,
    pub(super) ports: Vec<ContainerPort>,
}

/// Asks until nobody wants to hear the verdicts any more.
pub(super) async fn run<F>(probe: Probe, purpose: Purpose, target: Target, tell: impl Fn(bool, String) -> F)
where
    F: Future<Output = bool>,
{
    let rhythm = Rhythm::of(&probe);
    let mut tally = Tally::new(rhythm.clone(), purpose);
    tokio::time::sleep(rhythm.initial_delay).await;
    loop {
        let asked = tokio::time::timeout(rhythm.timeout, ask(&probe, &target)).await;
        let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", rhythm.timeout)));
        let good = answer.is_ok();
        if let Some(verdict) = tally.observe(good)
            && !tell(verdict, answer.err().unwrap_or_default()).await
        {
            return;
        }
        tokio::time::sleep(tally.pause()).await;
    }
}

async fn ask(probe: &Probe, target: &Target) -> Result<(), String> {
    if let Some(get) = &probe.http_get {
        return http_get(get, target.address, &target.ports).await;
    }
    if let Some(socket) = &probe.tcp_socket {
        let address = resolve(&socket.host, &socket.port, target.address, &target.ports)?;
        return TcpStream::connect(address).await.map(drop).map_err(|error| format!("dial tcp {address}: {error}"));
    }
    if let Some(command) = &probe.exec {
        return exec(&target.plan, target.pid, &command.command).await;
    }
    Err("the probe is of a kind that is not asked here: use httpGet, tcpSocket or exec".to_owned())
}

/// A request that is good if it is answered with a status from 200 to 399.
pub(super) async fn http_get(
    get: &HttpGetAction,
    address: Option<IpAddr>,
    ports: &[ContainerPort],
) -> Result<(), String> {
    if get.scheme == "HTTPS" {
        return Err("HTTPS probes are not asked here: probe a plain port, or use tcpSocket".to_owned());
    }
    let address = resolve(&get.host, &get.port, address, ports)?;
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let told = |error: &dyn std::fmt::Display| format!("Get \"http://{address}{path}\": {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| told(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| told(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get(&path).header("user-agent", "kube-probe/1.34").header("accept", "*/*");
    if !get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request = request.header("host", address.to_string());
    }
    for header in &get.http_headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| told(&error))?;
    let response = sender.send_request(request).await.map_err(|error| told(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), TOLD).collect().await;
    connection.abort();
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let problem = format!("HTTP probe failed with statuscode: {} {}", status.as_u16(), body.trim());
    Err(problem.trim_end().to_owned())
}

/// A command in the container that is good if it ends with code 0.
pub(super) async fn exec(plan: &Plan, pid: u32, command: &[String]) -> Result<(), String> {
    let (read, write) = std::io::pipe().map_err(|error| error.to_string())?;
    let again = write.try_clone().map_err(|error| error.to_string())?;
    let child = plan.start_beside(pid, command, (Stdio::null(), write.into(), again.into()));
    let mut child = KillOnDrop(child.map_err(|error| error.to_string())?);
    let output = tokio::net::unix::pipe::Receiver::from_owned_fd(read.into()).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let mut output = output.take(TOLD as u64);
    let (exit, _) = tokio::join!(child.0.wait(), output.read_to_end(&mut text));
    match exit.map_err(|error| error.to_string())? {
        Exit::Code(0) => Ok(()),
        exit => Err(format!("exit code {}: {}", exit.code(), String::from_utf8_lossy(&text).trim())),
    }
}

/// A command that outlives its question would pile up with the next.
struct KillOnDrop(linux::process::Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Err(error) = self.0.signal_group(nix::sys::signal::Signal::SIGKILL) {
            tracing::debug!(%error, "the command has ended");
        }
    }
}

fn resolve(
    host: &str,
    port: &IntOrString,
    address: Option<IpAddr>,
    ports: &[ContainerPort],
) -> Result<SocketAddr, String> {
    let address = match host {
        "" => address.ok_or("the pod has no address yet")?,
        host => host.parse().map_err(|_| format!("host {host:?} is not an address"))?,
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            name.parse().ok().or_else(|| ports.iter().find(|port| port.name == *name).map(|port| port.container_port))
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0);
    Ok(SocketAddr::new(address, number.ok_or_else(|| format!("port {port} is no port of the container"))?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A busy machine is not a wrong answer.
    const PATIENCE: Duration = Duration::from_secs(5);

    #[rstest::rstest]
    #[case("", 80.into(), Ok("10.0.0.1:80"))]
    #[case("127.0.0.1", 80.into(), Ok("127.0.0.1:80"))]
    #[case("", "web".into(), Ok("10.0.0.1:8080"))]
    #[case("", "81".into(), Ok("10.0.0.1:81"))]
    #[case("", "none".into(), Err("port none is no port of the container"))]
    #[case("", 0.into(), Err("port 0 is no port of the container"))]
    fn targets(#[case] host: &str, #[case] port: IntOrString, #[case] expected: Result<&str, &str>) {
        let ports = [ContainerPort { name: "web".to_owned(), container_port: 8080, ..Default::default() }];
        let found = resolve(host, &port, Some("10.0.0.1".parse().unwrap()), &ports);
        assert_eq!(found.map(|address| address.to_string()), expected.map(str::to_owned).map_err(str::to_owned));
    }

    /// Answers one request with a status and gives the request's text.
    async fn answer_once(status: u16) -> (u16, tokio::task::JoinHandle<String>) {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = vec![0; 4096];
            let length = stream.read(&mut text).await.unwrap();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\n\r\nwhy?");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        });
        (port, task)
    }

    #[rstest::rstest]
    #[case(200, Ok(()))]
    #[case(302, Ok(()))]
    #[case(503, Err("HTTP probe failed with statuscode: 503 why?"))]
    #[tokio::test]
    async fn http_answers(#[case] status: u16, #[case] expected: Result<(), &str>) {
        let (port, request) = answer_once(status).await;
        let get = HttpGetAction { path: "ok".to_owned(), port: i32::from(port).into(), ..Default::default() };
        let asked = http_get(&get, Some("127.0.0.1".parse().unwrap()), &[]);
        let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap();
        assert_eq!(answer, expected.map_err(str::to_owned));
        let request = request.await.unwrap();
        assert!(request.starts_with("GET /ok HTTP/1.1") && request.contains("user-agent: kube-probe/"), "{request}");
    }
}
