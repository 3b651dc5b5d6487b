//! How attempts end: what deserves another one, after which pause, and what the client is told when none is left. Pure.

use super::{
    body::{Body, Incoming},
    pool::GiveBack,
    service::random,
};
use crate::route::{plan::Reply, rule::Retry};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use std::time::Duration;

/// A response with the way back of its connection, or none.
pub(super) type Outcome = Result<(Response<Incoming>, Option<GiveBack>), Failed>;

/// Why one attempt has no response.
pub(super) enum Failed {
    Connect(String),
    /// The connection ended before response headers; `true` if the request cannot have been seen.
    Reset(String, bool),
    Timeout,
}

/// Whether an outcome is one that the rule wants tried again.
pub(super) fn deserves(outcome: &Outcome, retry: &Retry) -> bool {
    let on = &retry.on;
    match outcome {
        Err(Failed::Connect(_)) => on.connect_failure || on.server_error || on.gateway_error,
        Err(Failed::Reset(_, unseen)) => {
            on.reset || on.server_error || on.gateway_error || (*unseen && on.refused_stream)
        }
        Err(Failed::Timeout) => on.server_error || on.gateway_error || on.codes.contains(&504),
        Ok((response, _)) => {
            let status = response.status().as_u16();
            let grpc = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
            on.codes.contains(&status)
                || on.server_error && status >= 500
                || on.gateway_error && matches!(status, 502..=504)
                || on.conflict && status == 409
                || grpc.is_some_and(|status| on.grpc.contains(&status))
        }
    }
}

/// Doubles with each try, up to ten times the first; each somewhere within.
pub(super) fn pause(base: Duration, attempt: u32) -> Duration {
    let longest = base.saturating_mul(1 << attempt.min(10)).min(base.saturating_mul(10));
    Duration::from_micros(random(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
}

pub(super) fn no_endpoint() -> Reply {
    Reply::text(503, "no healthy upstream", "UH", "no_healthy_upstream")
}

pub(super) fn timed_out() -> Reply {
    Reply::text(504, "upstream request timeout", "UT", "response_timeout")
}

pub(super) fn answer(failed: Failed) -> Reply {
    match failed {
        Failed::Timeout => timed_out(),
        Failed::Connect(why) => {
            tracing::debug!("no connection to the endpoint: {why}");
            Reply::text(
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
                "UF",
                "upstream_reset_before_response_started{remote_connection_failure}",
            )
        }
        Failed::Reset(why, _) => {
            tracing::debug!("the endpoint ended the connection: {why}");
            Reply::text(
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                "UC",
                "upstream_reset_before_response_started{connection_termination}",
            )
        }
    }
}

/// gRPC clients read a status of their own, in what is a good HTTP response.
pub(super) fn grpc_reply(response: &mut Response<Body>, status: u16, text: &Bytes) {
    let code: u32 = match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    };
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code.into());
    if let Ok(message) = HeaderValue::from_bytes(text) {
        headers.insert("grpc-message", message);
    }
}

/// More requests than the destination may have.
pub(super) fn overflow() -> Reply {
    Reply::text(
        503,
        "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        "UO",
        "upstream_reset_before_response_started{overflow}",
    )
}
