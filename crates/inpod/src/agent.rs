//! The conversation with the node agent: connect, say hello, answer one request after the other, and begin again
//! whenever it breaks off (ztunnel.md §5.2, §5.3). What a request does is the [`Roster`]'s business.

use crate::{
    message::{self, MAX_MESSAGE, MessageError},
    roster::{Proxies, Roster},
};
use linux::{netns::NetNs, seqpacket::Stream};
use runtime::{
    backoff::Backoff,
    drain,
    ready::{Block, Ready},
};
use std::{io, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};
use tokio::time;

/// How often pods that cannot be served are tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What readiness says is missing.
pub const READINESS: &str = "workload proxy manager";

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the node agent closed the connection")]
    Closed,
    #[error("talking to the node agent: {0}")]
    Io(#[from] io::Error),
    #[error("reading the node agent's message: {0}")]
    Message(MessageError),
}

/// The agent and the proxy do not speak the same protocol; going on would leave pods unserved without anybody knowing.
#[derive(Debug, thiserror::Error)]
#[error("the node agent broke the protocol ({0}); check that its version fits this proxy's")]
pub struct ProtocolError(MessageError);

/// The roster, shared with the dump.
pub type SharedRoster<P> = Arc<parking_lot::Mutex<Roster<P>>>;

/// Talks to the agent at `path` until told to drain; `not_ready` holds until its snapshot is served.
pub async fn run<P>(
    path: &Path,
    roster: SharedRoster<P>,
    ready: &Ready,
    not_ready: Block,
    drain: drain::Watch,
) -> Result<(), ProtocolError>
where
    P: Proxies<Namespace: From<NetNs>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(15));
    let mut not_ready = Some(not_ready);
    loop {
        let talk = async {
            let stream = Stream::connect(path).map_err(io::Error::other)?;
            stream.send(&message::hello(), &[]).await?;
            tracing::info!(path = %path.display(), "connected to the node agent");
            backoff.reset();
            roster.lock().connected();
            converse(&stream, &roster, |is_ready| {
                not_ready = if is_ready { None } else { not_ready.take().or_else(|| Some(ready.block(READINESS))) };
            })
            .await
        };
        let broken = tokio::select! {
            biased;
            () = drain.draining() => return Ok(()),
            broken = talk => broken,
        };
        not_ready = not_ready.take().or_else(|| Some(ready.block(READINESS)));
        match broken {
            Ok(protocol) => return Err(protocol),
            Err(broken) => {
                let delay = backoff.next_delay();
                tracing::warn!("{broken}; pods already served stay served, next attempt in {delay:?}");
                tokio::select! {
                    () = drain.draining() => return Ok(()),
                    () = time::sleep(delay) => {}
                }
            }
        }
    }
}

/// One conversation; it ends in breaking off, or in a breach of the protocol.
async fn converse<P>(
    stream: &Stream,
    roster: &SharedRoster<P>,
    mut readiness: impl FnMut(bool),
) -> Result<ProtocolError, Broken>
where
    P: Proxies<Namespace: From<NetNs>>,
{
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut retry = time::interval(RETRY);
    retry.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            received = stream.recv(&mut buffer) => received?,
            _ = retry.tick() => {
                let mut roster = roster.lock();
                roster.retry();
                readiness(roster.is_ready());
                continue;
            }
        };
        if received.len == 0 {
            return Err(Broken::Closed);
        }
        let request = message::decode(&buffer[..received.len], received.fds).and_then(with_namespace);
        let unreadable = request.is_err();
        let outcome = request.and_then(|request| {
            let mut roster = roster.lock();
            let outcome = roster.handle(request);
            readiness(roster.is_ready());
            outcome
        });
        let text = outcome.as_ref().err().map_or_else(String::new, ToString::to_string);
        stream.send(&message::ack(&text), &[]).await?;
        match outcome {
            Err(breach @ MessageError::Protocol(_)) => return Ok(ProtocolError(breach)),
            Err(error) if unreadable => return Err(Broken::Message(error)),
            Err(error) => tracing::warn!("a pod cannot be served yet and will be tried again: {error}"),
            Ok(()) => {}
        }
    }
}

/// Turns the descriptor of an Add into a namespace.
fn with_namespace<N: From<NetNs>>(request: message::Request<OwnedFd>) -> Result<message::Request<N>, MessageError> {
    use message::Request;
    Ok(match request {
        Request::Add { uid, info, namespace } => {
            let namespace = NetNs::from_fd(namespace)
                .map_err(|error| MessageError::Unreadable(format!("workload {uid}: {error}")))?;
            Request::Add { uid, info, namespace: namespace.into() }
        }
        Request::Keep { uid } => Request::Keep { uid },
        Request::Delete { uid } => Request::Delete { uid },
        Request::SnapshotSent => Request::SnapshotSent,
    })
}
