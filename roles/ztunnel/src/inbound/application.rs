//! The last leg: a socket to the application, from the client's own address where that is possible.

use crate::pod::Pod;
use model::Reason;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// Connects to the application as `client`.
pub(super) async fn connect(pod: &Pod, client: SocketAddr, application: SocketAddr) -> Result<TcpStream, Reason> {
    let same_family = client.is_ipv4() == application.is_ipv4();
    let keep = pod.original_source
        && same_family
        && client.ip() != application.ip()
        && !application.ip().is_loopback()
        && !client.ip().is_loopback();
    let failed = |error: linux::Error| Reason::ConnectFailed(error.to_string());
    if !keep {
        return pod.sockets.connect(application, None).await.map_err(failed);
    }
    match pod.sockets.connect(application, Some(client.ip())).await {
        Err(error) if cannot_keep(&error) && pod.proxy.config.sockets.original_source.is_none() => {
            tracing::warn!(%client, "the application will not see the client's address: {error}");
            pod.sockets.connect(application, None).await.map_err(failed)
        }
        outcome => outcome.map_err(failed),
    }
}

/// The kernel does not let the socket have that source; the application was not asked yet.
fn cannot_keep(error: &linux::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrNotAvailable)
}
