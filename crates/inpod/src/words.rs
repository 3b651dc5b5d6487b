//! What keeper and worker say to each other over the keeper's socket: one message per datagram, JSON, with descriptors beside it.
//!
//! The worker speaks first ([`ToKeeper::Hello`]), gives back what it holds if the keeper is younger than itself, and says when it
//! could serve. The keeper then hands it every pod, and its predecessor is told to retire once it serves. Fields that a newer
//! peer adds are ignored, so that either side can be replaced first.

use crate::{Capture, Port, SocketConfig, WorkloadInfo};
use linux::seqpacket::Stream;
use model::Str;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Where the keeper listens unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/run/ztunnel/keeper.sock";
/// The user that workers run as, unless told otherwise: the one that upstream's proxies have.
pub const WORKER_UID: u32 = 1337;
/// Bytes of the largest message.
const MAX_MESSAGE: usize = 16 * 1024;
/// Sockets that one message may bring.
pub const MAX_BATCH: usize = 64;

/// What is needed to serve pods the way a worker wants to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How sockets are made.
    pub sockets: SocketConfig,
    /// What is captured.
    pub capture: Capture,
}

/// A pod and what is open in it; the message brings its namespace and then its listeners in the order of `ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodWords {
    /// The agent's key for it.
    pub uid: Str,
    /// Who it is.
    pub info: WorkloadInfo,
    /// What each listener is for.
    pub ports: Vec<Port>,
    /// The kernel lets us show the client's address to the application.
    pub original_source: bool,
}

/// Sockets of one kind are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// To be connected.
    Tcp {
        /// Its family.
        v6: bool,
        /// It may come from an address that is not the pod's.
        any_source: bool,
    },
    /// Bound to a port of the kernel's choice.
    Udp {
        /// Its family.
        v6: bool,
    },
}

/// What outlives a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// The last good configuration.
    Mesh,
    /// Certificates and their keys.
    Certificates,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// First of all.
    Hello(Settings),
    /// It serves this pod, with the listeners of an earlier keeper.
    Holding(PodWords),
    /// It knows enough to serve pods.
    Ready,
    /// It serves all that it was handed.
    Serving,
    /// It ends soon and wants no more pods.
    Leaving,
    /// It wants sockets.
    Want {
        /// In which pod.
        uid: Str,
        /// Which.
        kind: Kind,
        /// How many.
        count: usize,
    },
    /// It wants this to outlive it; one sealed descriptor.
    Keep(Part),
}

/// What a keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// What an earlier worker wanted to outlive it; one sealed descriptor.
    Kept(Part),
    /// Everything kept has been said.
    Welcome,
    /// Serve this pod.
    Add(PodWords),
    /// The pod is gone.
    Delete {
        /// Which.
        uid: Str,
        /// What it still has open is cut.
        cut: bool,
    },
    /// Every pod there is has been named.
    SnapshotSent,
    /// Somebody else serves the pods now: accept nothing more, let what is open end.
    Retire,
    /// Sockets that were asked for; none, with the reason, if they cannot be made.
    Sockets {
        /// Of which pod.
        uid: Str,
        /// Which.
        kind: Kind,
        /// Why there are none.
        error: Option<String>,
    },
}

/// A message with what came beside it.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends one message.
pub async fn send<T: Serialize>(stream: &Stream, message: &T, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    stream.send(&serde_json::to_vec(message)?, descriptors).await
}

/// Receives the next message; `None` when the peer has closed.
pub async fn receive<T: DeserializeOwned>(stream: &Stream) -> io::Result<Option<Received<T>>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let received = stream.recv(&mut buffer).await?;
    if received.len == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..received.len])?;
    Ok(Some(Received { message, descriptors: received.fds }))
}

/// Descriptors as a message wants them.
pub fn borrowed<'a, T: AsFd + 'a>(descriptors: impl IntoIterator<Item = &'a T>) -> Vec<BorrowedFd<'a>> {
    descriptors.into_iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_and_unknown_fields_are_ignored() {
        let (keeper, worker) = Stream::pair().unwrap();
        let kind = Kind::Tcp { v6: false, any_source: true };
        let want = ToKeeper::Want { uid: "a".into(), kind, count: 16 };
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        send(&worker, &want, &borrowed([&file, &file])).await.unwrap();
        let received = receive::<ToKeeper>(&keeper).await.unwrap().unwrap();
        assert_eq!((received.message, received.descriptors.len()), (want, 2));

        worker.send(br#"{"Want":{"uid":"a","kind":{"Udp":{"v6":true}},"count":1,"newer":true}}"#, &[]).await.unwrap();
        let received = receive::<ToKeeper>(&keeper).await.unwrap().unwrap();
        assert_eq!(received.message, ToKeeper::Want { uid: "a".into(), kind: Kind::Udp { v6: true }, count: 1 });

        worker.send(b"{", &[]).await.unwrap();
        assert_eq!(receive::<ToKeeper>(&keeper).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(worker);
        assert!(receive::<ToKeeper>(&keeper).await.unwrap().is_none());
    }
}
