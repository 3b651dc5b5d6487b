//! Accepting connections on one of a pod's ports until the pod drains.

use crate::{pod::Shard, quota};
use futures_util::FutureExt;
use linux::socket;
use runtime::task;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use telemetry::access::Direction;
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

/// Pause after an accept that failed for want of resources.
const PAUSE: Duration = Duration::from_millis(50);

/// An open socket, counted.
struct Counted<'a>(&'a Shard, &'static str);

impl<'a> Counted<'a> {
    fn new(shard: &'a Shard, direction: Direction) -> Self {
        let reporter = match direction {
            Direction::Inbound => "destination",
            Direction::Outbound => "source",
        };
        shard.pod.proxy.metrics.sockets_open.change(&[reporter], 1);
        Self(shard, reporter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.pod.proxy.metrics.sockets_open.change(&[self.1], -1);
    }
}

/// Hands every connection to `handler`, in a task of its own on this thread. What waits in the queue when the drain begins is
/// still handed over, as closing the socket would reset it; not where the socket stays open for a successor.
pub(crate) async fn serve<H, F>(shard: Arc<Shard>, listener: TcpListener, direction: Direction, handler: H)
where
    H: Fn(Arc<Shard>, TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            biased;
            () = shard.pod.drain.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => dispatch(&shard, accepted, direction, &handler),
            Err(error) => {
                tracing::warn!(pod = %shard.pod.info.name, "accepting a connection: {error}");
                time::sleep(PAUSE).await;
            }
        }
    }
    while !shard.pod.kept
        && let Some(Ok(accepted)) = listener.accept().now_or_never()
    {
        dispatch(&shard, accepted, direction, &handler);
    }
}

fn dispatch<H, F>(shard: &Arc<Shard>, (stream, peer): (TcpStream, SocketAddr), direction: Direction, handler: &H)
where
    H: Fn(Arc<Shard>, TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let room = match shard.pod.quotas.connection() {
        Ok(room) => room,
        Err(limit) => return quota::refuse_connection(&shard.pod, limit, direction, &stream, peer),
    };
    if let Err(error) = tune(shard, &stream) {
        tracing::debug!(%peer, "the connection ended before it was handled: {error}");
        return;
    }
    let guard = shard.pod.drain.guard();
    let handled = handler(shard.clone(), stream, peer);
    let shard = shard.clone();
    task::spawn("connection", async move {
        let _counted = Counted::new(&shard, direction);
        handled.await;
        drop((guard, room));
    });
}

/// The local address of an accepted socket; unspecified if the socket is gone.
pub(crate) fn local_address(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().map_or_else(
        |_| SocketAddr::from(([0, 0, 0, 0], 0)),
        |address| SocketAddr::new(address.ip().to_canonical(), address.port()),
    )
}

fn tune(shard: &Shard, stream: &TcpStream) -> io::Result<()> {
    socket::tune(stream, shard.pod.proxy.config.sockets.probes(), None)
}
