//! Logs, exec, attach and port-forward: handed byte for byte to the node that runs the pod.

use crate::api::Api;
use crate::object::Object;
use crate::request::query::{Query, encode};
use crate::request::route::Target;
use crate::server::ReplyBody;
use crate::status::{Result, Status};
use crate::store::Key;
use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A node has this long to take a connection and to begin an answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
const KUBELET_PORT: u64 = 10250;
/// More of a node's refusal is not read.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// The node that runs the pod of a request, and the path there.
pub(crate) fn destination(api: &Api, target: &Target, query: &Query) -> Result<Destination> {
    let pod = api
        .store
        .get(&Key::new(&Arc::from("/pods"), &target.namespace, &target.name))
        .ok_or_else(|| Status::not_found("", "pods", &target.name))?;
    let node = pod.text("/spec/nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let node =
        api.store.get(&Key::new(&Arc::from("/nodes"), "", node)).ok_or_else(|| Status::not_found("", "nodes", node))?;
    let addresses = node.list("/status/addresses");
    let host = ["InternalIP", "Hostname"]
        .iter()
        .find_map(|form| addresses.iter().find(|address| address.text("/type") == *form))
        .map(|address| address.text("/address").to_owned())
        .ok_or_else(|| Status::unavailable(format!("node \"{}\" has no address yet", node.name())))?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = u16::try_from(port.unwrap_or(KUBELET_PORT)).unwrap_or_default();
    Ok(Destination { host, port, path: node_path(&pod, target, query)? })
}

/// A kubelet's path for what was asked of the API.
fn node_path(pod: &Value, target: &Target, query: &Query) -> Result<String> {
    let (namespace, name) = (&target.namespace, &target.name);
    let mut parameters: Vec<(&str, String)> = Vec::new();
    let mut pass = |names: &[&'static str]| {
        for parameter in names {
            parameters.extend(query.all(parameter).map(|value| (*parameter, value.to_owned())));
        }
    };
    let path = match target.subresource.as_str() {
        "log" => {
            pass(&[
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ]);
            format!("/containerLogs/{namespace}/{name}/{}", container(pod, query)?)
        }
        "portforward" => {
            pass(&["ports", "port"]);
            format!("/portForward/{namespace}/{name}")
        }
        verb => {
            pass(&["command"]);
            for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
                if query.flag(ours) {
                    parameters.push((theirs, "1".to_owned()));
                }
            }
            format!("/{verb}/{namespace}/{name}/{}", container(pod, query)?)
        }
    };
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", if *name == "ports" { "port" } else { name }, encode(value)))
        .collect();
    Ok(if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) })
}

fn container(pod: &Value, query: &Query) -> Result<String> {
    let asked = query.get("container");
    let names = |list: &str| -> Vec<String> {
        pod.list(list).iter().map(|container| container.text("/name").to_owned()).collect()
    };
    let (containers, more) = (names("/spec/containers"), names("/spec/initContainers"));
    let name = pod.name();
    if asked.is_empty() {
        return match &containers[..] {
            [only] => Ok(only.clone()),
            several => Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            ))),
        };
    }
    if containers.iter().chain(&more).any(|container| container == asked) {
        Ok(asked.to_owned())
    } else {
        Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
    }
}

/// Hands a request to a node and its answer back; an upgraded connection is joined end to end.
pub(crate) async fn forward(destination: &Destination, request: &mut Request<Incoming>) -> Result<Response<ReplyBody>> {
    let Destination { host, port, path } = destination;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Status::unavailable(format!("{what} the node at {host}:{port}: {error}; is its kubelet running?"))
    };
    let late = |_| Status::new(504, "Timeout", format!("the node at {host}:{port} did not answer in time"));
    let stream = tokio::time::timeout(NODE_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
        .await
        .map_err(late)?
        .map_err(|error| failed("connecting to", &error))?;
    stream.set_nodelay(true).ok();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("speaking to", &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to a node ended early");
        }
    });
    let outgoing = outgoing(request, path, &format!("{host}:{port}"))?;
    let mut response = tokio::time::timeout(NODE_TIMEOUT, sender.send_request(outgoing))
        .await
        .map_err(late)?
        .map_err(|error| failed("asking", &error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (client, node) = (hyper::upgrade::on(request), hyper::upgrade::on(&mut response));
        tokio::spawn(join(client, node));
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        return Err(node_refusal(response).await);
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// A node says in plain text why it does not do something; clients of the API read a status.
async fn node_refusal(response: Response<Incoming>) -> Status {
    let code = response.status();
    let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let text = if text.is_empty() { format!("the node answered {code}") } else { text };
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 | 403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "",
    };
    Status::new(code.as_u16(), reason, text)
}

fn outgoing(request: &Request<Incoming>, path: &str, host: &str) -> Result<Request<Empty<bytes::Bytes>>> {
    let mut outgoing = Request::new(Empty::new());
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() = path.parse::<Uri>().map_err(Status::internal)?;
    let headers = outgoing.headers_mut();
    for (name, value) in request.headers() {
        // Who the caller is was decided here; their secrets go no further.
        if name != AUTHORIZATION && name != HOST && name != http::header::CONTENT_LENGTH {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(HOST, HeaderValue::from_str(host).map_err(Status::internal)?);
    if !headers.contains_key(UPGRADE) {
        headers.remove(CONNECTION);
    }
    Ok(outgoing)
}

async fn join(client: hyper::upgrade::OnUpgrade, node: hyper::upgrade::OnUpgrade) {
    let (client, node) = match tokio::try_join!(client, node) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a stream to a pod could not be joined");
            return;
        }
    };
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
        tracing::debug!(%error, "a stream to a pod ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn path(containers: Value, subresource: &str, query: &str) -> Result<String> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
        let target =
            Target { namespace: "a".into(), name: "p".into(), subresource: subresource.into(), ..Target::default() };
        node_path(&pod, &target, &Query::parse(query))
    }

    #[rstest]
    #[case("log", "follow=true&tailLines=5", "/containerLogs/a/p/c?follow=true&tailLines=5")]
    #[case(
        "exec",
        "command=sh&command=-c&command=a+b&stdin=true&stdout=true&tty=true&container=c",
        "/exec/a/p/c?command=sh&command=-c&command=a%20b&input=1&output=1&tty=1"
    )]
    #[case("portforward", "ports=80&ports=81", "/portForward/a/p?port=80&port=81")]
    fn requests_take_the_kubelets_form(#[case] subresource: &str, #[case] query: &str, #[case] expected: &str) {
        assert_eq!(path(json!([{"name": "c"}]), subresource, query).unwrap(), expected);
    }

    #[test]
    fn one_of_several_containers_must_be_named() {
        let error = path(json!([{"name": "a"}, {"name": "b"}]), "log", "").unwrap_err();
        assert_eq!(error.message(), "a container name must be specified for pod p, choose one of: [a b]");
        assert!(path(json!([{"name": "a"}]), "log", "container=x").is_err());
    }
}
