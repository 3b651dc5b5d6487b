//! The validating webhook: says no to resources that the mesh could not use, before they are stored.

use super::Serving;
use api::validate::{self, Problem};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::{convert::Infallible, time::Duration};
use telemetry::metrics::control::Watching;
use tokio::net::TcpListener;

/// Largest review that is read: objects have at most 3 MiB, and a review may hold two.
const MAX_BODY: usize = 8 << 20;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever carries this is refused: an installer's proof that the webhook is asked at all.
const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";

/// Serves reviews for as long as it is polled.
pub async fn serve(listener: TcpListener, tls: Serving, metrics: Watching) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accepting a webhook connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, metrics) = (tls.clone(), metrics.clone());
        runtime::task::spawn("webhook", async move {
            let Ok(stream) = tls.webhooks.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let metrics = metrics.clone();
                async move { Ok::<_, Infallible>(answer(request, &metrics).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("a webhook connection ended: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>, metrics: &Watching) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/ready" | "/httpsReady") => text(StatusCode::OK, ""),
        (&Method::POST, path) if path == "/validate" || path.starts_with("/validate/") => {
            let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large or was cut off"),
            };
            match serde_json::from_slice(&body).ok().and_then(|review| self::review(&review)) {
                Some((review, allowed)) => {
                    match allowed {
                        true => metrics.validation_passed.add(&[]),
                        false => metrics.validation_failed.add(&["invalid_resource"]),
                    }
                    json_response(&review)
                }
                None => text(StatusCode::BAD_REQUEST, "this is no AdmissionReview"),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "only POST /validate is served here"),
    }
}

/// The answer to a review, and whether it is yes; none for what is no review.
fn review(review: &Value) -> Option<(Value, bool)> {
    let request = review.get("request")?;
    let uid = request.get("uid")?.as_str()?;
    let refusal = match request.get("operation").and_then(Value::as_str) {
        Some("CREATE" | "UPDATE") => refusal(request.get("object").unwrap_or(&Value::Null)),
        _ => None,
    };
    let allowed = refusal.is_none();
    let mut response = json!({"uid": uid, "allowed": allowed});
    if let Some(message) = refusal {
        response["status"] = json!({"code": 400, "reason": "BadRequest", "message": message});
    }
    Some((json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}), allowed))
}

/// What is wrong with an object, if anything.
fn refusal(object: &Value) -> Option<String> {
    let annotation = object.pointer("/metadata/annotations").and_then(|all| all.get(ALWAYS_REJECT));
    if annotation.and_then(Value::as_str) == Some("true") {
        return Some(format!("the object carries {ALWAYS_REJECT}, which asks to be refused"));
    }
    let problems = validate::object(object);
    // The path, the value that is there and the rule, of each.
    let told = |problem: &Problem| match validate::value_at(object, &problem.path) {
        Value::Null | Value::Object(_) | Value::Array(_) => problem.to_string(),
        value => format!("{}: {value}: {}", problem.path, problem.message),
    };
    (!problems.is_empty()).then(|| problems.iter().map(told).collect::<Vec<_>>().join("; "))
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}

fn json_response(value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(object: Value) -> bool {
        let asked = json!({"request": {"uid": "1", "operation": "CREATE", "object": object}});
        let (answer, allowed) = review(&asked).unwrap();
        assert_eq!(answer["response"]["uid"], "1");
        assert_eq!(answer["response"]["allowed"], allowed);
        allowed
    }

    #[test]
    fn reviews() {
        let policy = |spec: Value| json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"}, "spec": spec});
        assert!(allowed(policy(json!({"action": "DENY", "rules": [{}]}))));
        assert!(!allowed(policy(json!({"action": "MAYBE"}))));
        assert!(!allowed(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "invalid-gateway", "annotations": {ALWAYS_REJECT: "true"}},
        })));
        assert!(review(&json!({"kind": "Pod"})).is_none());
    }
}
