//! The kubelet's endpoint: what the API server asks a node for on a user's behalf.
//!
//! Logs come as plain HTTP; exec and port-forward over WebSockets with Kubernetes' channel protocols. It is plain HTTP on
//! the node's address, inside the one host's own network, and answers whoever can reach it there.

mod exec;
mod forward;
mod logs;
mod route;
mod socket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::context::Context;
use super::register::KUBELET_PORT;
use route::Route;

/// What is answered: whole, or as it comes.
type Reply = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Listens on the node's address.
pub(super) async fn bind(context: Arc<Context>) -> Result<tokio::net::TcpListener, String> {
    let address = (context.address, KUBELET_PORT);
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {}:{KUBELET_PORT}: {error}; does another node run here?", address.0))
}

/// Answers until the process ends.
pub(super) async fn serve(listener: tokio::net::TcpListener, context: Arc<Context>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "kubelet connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let context = context.clone();
        runtime::task::spawn("kubelet connection", async move {
            let service = hyper::service::service_fn(move |request| {
                let context = context.clone();
                async move { Ok::<_, Infallible>(answer(&context, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "kubelet connection ended");
            }
        });
    }
}

async fn answer(context: &Arc<Context>, request: http::Request<Incoming>) -> Reply {
    match route::route(request.uri()) {
        Ok(Route::Health) => text(StatusCode::OK, "ok"),
        Ok(Route::Logs(target, options)) => logs::answer(context, &target, &options).await,
        Ok(Route::Exec(target, options)) => exec::answer(context, request, &target, options),
        Ok(Route::Forward(target, ports)) => forward::answer(context, request, &target, ports),
        Err((status, problem)) => text(status, problem),
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut reply = http::Response::new(Full::new(text.into()).boxed_unsync());
    *reply.status_mut() = status;
    reply
}
