//! Asking the agent, over its unix socket, without a runtime: the plugin lives for one question.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::events::{Added, EVENTS_SOCKET, MESHED_NAMESPACES};

/// The kubelet waits much longer, but a pod that cannot be enrolled in this time is better tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of an answer.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Tells the agent about a pod, and waits until the pod is enrolled or needs not be.
pub(super) fn agent(run_dir: &Path, added: &Added) -> Result<(), String> {
    let socket = run_dir.join(EVENTS_SOCKET);
    let stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(error) => return without_agent(run_dir, &added.pod_namespace, &error),
    };
    match exchange(stream, added) {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(format!("the node agent answered {status}: {}", body.trim())),
        Err(error) => Err(format!("asking the node agent at {}: {error}; it may be restarting", socket.display())),
    }
}

/// The agent is away. A pod of a namespace in the mesh has to wait for it; others need not.
fn without_agent(run_dir: &Path, namespace: &str, error: &io::Error) -> Result<(), String> {
    let listed = std::fs::read_to_string(run_dir.join(MESHED_NAMESPACES)).unwrap_or_default();
    if listed.lines().any(|meshed| meshed == namespace) {
        return Err(format!(
            "namespace {namespace} is in the mesh, but the node agent does not answer ({error}); \
             see the pods of the DaemonSet istio-cni-node"
        ));
    }
    eprintln!(
        "istio-cni: the node agent does not answer ({error}); namespace {namespace} is not in the mesh, going on"
    );
    Ok(())
}

fn exchange(mut stream: UnixStream, added: &Added) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let body = serde_json::to_string(added)?;
    write!(
        stream,
        "POST /cmdadd HTTP/1.1\r\nHost: istio-cni\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    read(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is not HTTP"))
}

/// Status and body of an answer that ends with the connection.
fn read(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some((200, "")))]
    #[case("HTTP/1.1 500 Internal Server Error\r\n\r\nno ztunnel connection", Some((500, "no ztunnel connection")))]
    #[case("HTTP/1.1\r\n\r\n", None)]
    #[case("", None)]
    fn answers(#[case] text: &str, #[case] expected: Option<(u16, &str)>) {
        assert_eq!(read(text), expected.map(|(status, body)| (status, body.to_owned())));
    }

    #[test]
    fn only_meshed_namespaces_wait_for_an_agent_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let added = |namespace: &str| Added { pod_namespace: namespace.to_owned(), ..Added::default() };
        assert_eq!(agent(dir.path(), &added("shop")), Ok(()), "nothing is known to be in the mesh");
        std::fs::write(dir.path().join(MESHED_NAMESPACES), "shop\nbank\n").unwrap();
        assert_eq!(agent(dir.path(), &added("other")), Ok(()));
        let refused = agent(dir.path(), &added("shop")).unwrap_err();
        assert!(refused.contains("namespace shop is in the mesh, but the node agent does not answer"), "{refused}");
    }
}
