//! What the plugin tells the agent, and where it is listened to. The form is upstream's, so that either side may be.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use crate::error::Error;

/// The socket's name in the run folder.
pub(crate) const EVENTS_SOCKET: &str = "pluginevent.sock";
/// The socket for the plugin's log lines.
pub(crate) const LOG_SOCKET: &str = "log.sock";
/// A list of the namespaces in the mesh, for plugins that find no agent.
pub(crate) const MESHED_NAMESPACES: &str = "meshed-namespaces";

/// The most that is read of one event.
const LONGEST_EVENT: usize = 1 << 20;

/// A pod is being started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Added {
    /// The path of its network namespace, as the kubelet names it.
    pub netns: String,
    /// Its name.
    pub pod_name: String,
    /// Its namespace.
    pub pod_namespace: String,
    /// Its uid; upstream's plugin does not say it.
    #[serde(rename = "PodUID", default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Its addresses.
    #[serde(rename = "IPs", default)]
    pub ips: Vec<AddedIp>,
}

/// An address of a pod that is being started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddedIp {
    /// Which of the previous plugins' interfaces has it.
    pub interface: Option<i64>,
    /// The address and its net.
    pub address: Address,
    /// The way out.
    #[serde(default)]
    pub gateway: String,
}

/// An address with its mask's bytes, as Go writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    #[serde(rename = "IP")]
    pub ip: IpAddr,
    /// The mask, in base64.
    #[serde(rename = "Mask", default)]
    pub mask: String,
}

impl From<ipnet::IpNet> for Address {
    fn from(net: ipnet::IpNet) -> Self {
        let mask = match net.netmask() {
            IpAddr::V4(mask) => STANDARD.encode(mask.octets()),
            IpAddr::V6(mask) => STANDARD.encode(mask.octets()),
        };
        Self { ip: net.addr(), mask }
    }
}

impl Added {
    /// The addresses alone.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.ips.iter().map(|ip| ip.address.ip).collect()
    }
}

/// Binds a socket in the run folder, replacing one that a predecessor left.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::File { doing: "listening on", path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    UnixListener::bind(path).map_err(failed)
}

/// Answers plugins until the task is dropped. `enrol` gives nothing for success, or the text of the failure.
pub(crate) async fn serve<E, F>(listener: UnixListener, counted: impl Fn(u16) + Clone + Send + 'static, enrol: E)
where
    E: Fn(Added) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    accept(listener, move |request| {
        let (enrol, counted) = (enrol.clone(), counted.clone());
        async move {
            let (status, text) = match parse(request).await {
                Ok(added) => match enrol(added).await {
                    Ok(()) => (StatusCode::OK, String::new()),
                    Err(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
                },
                Err((status, text)) => (status, text),
            };
            counted(status.as_u16());
            (status, text)
        }
    })
    .await;
}

/// Logs the lines of plugins until the task is dropped.
pub(crate) async fn serve_log(listener: UnixListener) {
    accept(listener, |request| async {
        match body(request).await.map(|body| serde_json::from_slice::<Vec<String>>(&body)) {
            Some(Ok(lines)) => {
                lines.iter().for_each(|line| tracing::info!(target: "cni-plugin", "{}", line.trim_end()));
                (StatusCode::OK, String::new())
            }
            _ => (StatusCode::BAD_REQUEST, "a JSON list of lines is wanted".to_owned()),
        }
    })
    .await;
}

async fn accept<H, F>(listener: UnixListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = (StatusCode, String)> + Send + 'static,
{
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a plugin could not be accepted: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        runtime::task::spawn("plugin event", async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move {
                    let (status, text) = answer.await;
                    let mut response = Response::new(Full::new(Bytes::from(text)));
                    *response.status_mut() = status;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!("a plugin went away: {error}");
            }
        });
    }
}

async fn parse(request: Request<Incoming>) -> Result<Added, (StatusCode, String)> {
    if request.uri().path() != "/cmdadd" {
        return Err((StatusCode::NOT_FOUND, "only /cmdadd is known here".to_owned()));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here".to_owned()));
    }
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let body = body(request).await.ok_or_else(|| bad("the event is too long or was cut".to_owned()))?;
    serde_json::from_slice(&body).map_err(|error| bad(format!("reading the event: {error}")))
}

async fn body(request: Request<Incoming>) -> Option<Bytes> {
    Some(Limited::new(request.into_body(), LONGEST_EVENT).collect().await.ok()?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_upstreams() {
        let text = r#"{"Netns":"/var/run/netns/cni-1","PodName":"web","PodNamespace":"shop","IPs":[{"Interface":2,"Address":{"IP":"10.244.1.6","Mask":"////AA=="},"Gateway":"10.244.1.1"}]}"#;
        let added: Added = serde_json::from_str(text).unwrap();
        let expected = Added {
            netns: "/var/run/netns/cni-1".to_owned(),
            pod_name: "web".to_owned(),
            pod_namespace: "shop".to_owned(),
            pod_uid: String::new(),
            ips: vec![AddedIp {
                interface: Some(2),
                address: "10.244.1.6/24".parse::<ipnet::IpNet>().unwrap().into(),
                gateway: "10.244.1.1".to_owned(),
            }],
        };
        assert_eq!(added, expected);
        assert_eq!(serde_json::to_string(&added).unwrap(), text);
    }
}
