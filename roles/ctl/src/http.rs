//! One HTTP request to a port of a pod, through the API server.

use bytes::Bytes;
use cluster::Client;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::Error;
use crate::pod::PodName;

/// Largest answer; the dump of a node with a hundred thousand workloads is about a tenth of it.
const MAX_ANSWER: usize = 1 << 30;

/// Asks a pod and returns the body of a successful answer.
pub(crate) async fn ask(client: &Client, pod: &PodName, port: u16, method: Method, path: &str) -> Result<Bytes, Error> {
    let failed = |message: String| Error::Http { pod: pod.to_string(), path: path.to_owned(), message };
    let stream = client.port_forward(&pod.namespace, &pod.name, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("localhost:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))))
        }
    };
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(failed(error.to_string())),
    }
}
