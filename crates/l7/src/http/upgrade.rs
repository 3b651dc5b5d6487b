//! Connections that stop being HTTP: after a 101 both ends speak what they agreed on, and bytes are only carried.

use super::body::Body;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Carries bytes between both ends once both have changed.
pub(super) fn join(response: &mut Response<Body>, client: OnUpgrade) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let server = hyper::upgrade::on(&mut *response);
    runtime::task::spawn("upgraded connection", async move {
        match tokio::try_join!(client, server) {
            Ok((client, server)) => {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!("an upgraded connection ended: {error}");
                }
            }
            Err(error) => tracing::debug!("an upgrade did not come about: {error}"),
        }
    });
}
