//! One connection: hello, snapshot, changes. One message at a time, each with five seconds to be acknowledged.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use linux::seqpacket::Stream;
use prost::Message as _;
use proto::zds::{
    AddWorkload, DelWorkload, KeepWorkload, SnapshotSent, Version, WorkloadInfo, WorkloadRequest, WorkloadResponse,
    ZdsHello, workload_request, workload_response,
};

use super::{Message, Pod, Proxies, Workload};

const DEADLINE: Duration = Duration::from_secs(5);

/// The longest message: what proxies read at once.
const LONGEST: usize = 1024;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("the proxy closed it")]
    Closed,
    #[error("no answer to {0} within {DEADLINE:?}")]
    Silent(&'static str),
    #[error("the proxy sent something else than {0}")]
    Garbled(&'static str),
    #[error("the proxy speaks version {0} of the protocol, and only version 1 is spoken here")]
    Version(i32),
}

/// Talks to one proxy until it leaves.
pub(super) async fn hold(proxies: &Proxies, stream: &Stream) -> Result<(), Ended> {
    hello(stream).await?;
    let (_joined, pods, mut queue) = proxies.join();
    tracing::info!(pods = pods.len(), "a node proxy connected");
    snapshot(stream, pods).await?;
    proxies.snapshot_completed();
    let mut nothing = [0; LONGEST];
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            // Nothing is due from the proxy now: what arrives is its leaving, or nonsense.
            received = stream.recv(&mut nothing) => {
                return Err(if received?.len == 0 { Ended::Closed } else { Ended::Garbled("silence") });
            }
        };
        let Some((message, word)) = next else { return Ok(()) };
        let text = match &message {
            Message::Add(workload, ns) => exchange(stream, add(workload), Some(ns.as_fd())).await?,
            Message::Delete(uid) => exchange(stream, delete(uid), None).await?,
        };
        // Whoever asked may have stopped waiting.
        let _ = word.send(text);
    }
}

async fn hello(stream: &Stream) -> Result<(), Ended> {
    let mut buffer = [0; LONGEST];
    let received = tokio::time::timeout(DEADLINE, stream.recv(&mut buffer)).await;
    let len = received.map_err(|_| Ended::Silent("the connection"))??.len;
    if len == 0 {
        return Err(Ended::Closed);
    }
    let hello = ZdsHello::decode(&buffer[..len]).map_err(|_| Ended::Garbled("a hello"))?;
    if hello.version == Version::V1 as i32 { Ok(()) } else { Err(Ended::Version(hello.version)) }
}

async fn snapshot(stream: &Stream, pods: Vec<Pod>) -> Result<(), Ended> {
    for (workload, ns) in pods {
        let text = match &ns {
            Some(ns) => exchange(stream, add(&workload), Some(ns.as_fd())).await?,
            None => exchange(stream, keep(&workload), None).await?,
        };
        if !text.is_empty() {
            // The proxy tries again by itself; the others must not wait.
            tracing::warn!("the node proxy did not take pod {}/{}: {text}", workload.namespace, workload.name);
        }
    }
    let done = workload_request::Payload::SnapshotSent(SnapshotSent {});
    let text = exchange(stream, done, None).await?;
    if !text.is_empty() {
        tracing::warn!("the node proxy did not take the end of the snapshot: {text}");
    }
    Ok(())
}

fn add(workload: &Workload) -> workload_request::Payload {
    workload_request::Payload::Add(AddWorkload {
        uid: workload.uid.clone(),
        workload_info: Some(WorkloadInfo {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.clone(),
        }),
    })
}

fn keep(workload: &Workload) -> workload_request::Payload {
    workload_request::Payload::Keep(KeepWorkload { uid: workload.uid.clone() })
}

fn delete(uid: &str) -> workload_request::Payload {
    workload_request::Payload::Del(DelWorkload { uid: uid.to_owned() })
}

/// Sends one message and waits for the word about it; empty when the proxy is content.
async fn exchange(
    stream: &Stream,
    payload: workload_request::Payload,
    fd: Option<BorrowedFd<'_>>,
) -> Result<String, Ended> {
    let what = match &payload {
        workload_request::Payload::Add(_) => "an addition",
        workload_request::Payload::Del(_) => "a deletion",
        workload_request::Payload::SnapshotSent(_) => "the end of the snapshot",
        workload_request::Payload::Keep(_) => "a pod to keep",
    };
    let bytes = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
    let fds: Vec<_> = fd.into_iter().collect();
    let talk = async {
        stream.send(&bytes, &fds).await?;
        let mut buffer = [0; LONGEST];
        let len = stream.recv(&mut buffer).await?.len;
        if len == 0 {
            return Err(Ended::Closed);
        }
        acknowledgement(&buffer[..len]).ok_or(Ended::Garbled("an acknowledgement"))
    };
    tokio::time::timeout(DEADLINE, talk).await.map_err(|_| Ended::Silent(what))?
}

/// What a proxy's answer says: nothing when it is content, else why not. `None` when it is no acknowledgement.
pub fn acknowledgement(bytes: &[u8]) -> Option<String> {
    match WorkloadResponse::decode(bytes).ok()?.payload? {
        workload_response::Payload::Ack(ack) => Some(ack.error),
    }
}
