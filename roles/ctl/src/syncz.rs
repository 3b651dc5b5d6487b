//! Who is connected to the control plane: every replica is asked over xDS, as upstream's command asks.
//!
//! The connection runs through a forwarded port, with TLS against the mesh's root and a token of the control plane's namespace.

use api::{ConfigMap, LabelSelector, Pod};
use cluster::Client;
use identity::grpc::{Channel, ChannelOptions, RootSource, TokenSource};
use prost::Message;
use proto::core::Node;
use proto::csds::{ClientConfig, ConfigStatus};
use proto::discovery::DiscoveryRequest;
use proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::net::TcpListener;
use tokio_stream::once;

use crate::Error;
use crate::pod::{self, PodName};

const TYPE_URL: &str = "istio.io/debug/syncz";
const XDS_PORT: u16 = 15012;
const TOKEN_SECONDS: i64 = 600;

/// A proxy that is connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proxy {
    /// `pod.namespace`.
    pub(crate) name: String,
    pub(crate) cluster: String,
    /// The replica that it is connected to.
    pub(crate) istiod: String,
    pub(crate) version: String,
    /// Short names of the types that it subscribed to, and their states.
    pub(crate) types: Vec<(String, &'static str)>,
}

/// The control plane's pods.
pub(crate) async fn replicas(client: &Client, namespace: &str) -> Result<Vec<Pod>, Error> {
    let labels = [("app".to_owned(), "istiod".to_owned())].into();
    let selector = LabelSelector { match_labels: labels, ..LabelSelector::default() };
    let pods = pod::running(client, namespace, &selector).await?;
    if pods.is_empty() {
        return Err(Error::NoPod {
            wanted: "control plane pod (app=istiod)".to_owned(),
            namespace: namespace.to_owned(),
        });
    }
    Ok(pods)
}

/// Everything that is connected to any replica, by name.
pub(crate) async fn proxies(client: &Client, namespace: &str) -> Result<Vec<Proxy>, Error> {
    let replicas = replicas(client, namespace).await?;
    let root: ConfigMap = client.get(namespace, "istio-ca-root-cert").await?;
    let root = root.data.get("root-cert.pem").cloned().ok_or_else(|| Error::Answer {
        what: format!("ConfigMap {namespace}/istio-ca-root-cert"),
        message: "it has no root-cert.pem; the control plane writes it when it starts".to_owned(),
    })?;
    let audiences = ["istio-ca".to_owned()];
    let token = client.token_request(namespace, "default", &audiences, Some(TOKEN_SECONDS), None).await?.token;
    let mut proxies = Vec::new();
    for replica in &replicas {
        let replica = PodName::of(replica);
        for config in ask(client, &replica, &root, &token).await? {
            proxies.extend(proxy(config, &replica.name));
        }
    }
    proxies.sort();
    Ok(proxies)
}

async fn ask(client: &Client, replica: &PodName, root: &str, token: &str) -> Result<Vec<ClientConfig>, Error> {
    let failed = |message: String| Error::Syncz { pod: replica.to_string(), message };
    let stream = client.port_forward(&replica.namespace, &replica.name, XDS_PORT).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
    let options = ChannelOptions {
        address: format!("https://{address}"),
        root: RootSource::Inline(root.to_owned()),
        alternative_hostname: Some(format!("istiod.{}.svc", replica.namespace)),
        token: TokenSource::Literal(token.to_owned()),
        headers: http::HeaderMap::new(),
    };
    let channel = Channel::new(options).map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let mut discovery = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 28);
        let answer = discovery.stream_aggregated_resources(once(request(&replica.namespace))).await;
        let mut answers = answer.map_err(|status| failed(status.message().to_owned()))?.into_inner();
        let first = answers.message().await.map_err(|status| failed(status.message().to_owned()))?;
        let first = first.ok_or_else(|| failed("it said nothing".to_owned()))?;
        let configs = first.resources.iter().map(|any| ClientConfig::decode(&any.value[..]));
        configs.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))
    };
    tokio::select! {
        configs = exchange => configs,
        error = carry(listener, stream) => Err(failed(error.to_string())),
    }
}

/// Carries one local connection over a forwarded port; ends only in an error.
async fn carry(listener: TcpListener, mut stream: impl cluster::PortForward) -> std::io::Error {
    match listener.accept().await {
        Ok((mut local, _)) => match tokio::io::copy_bidirectional(&mut local, &mut stream).await {
            Ok(_) => std::io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

fn request(namespace: &str) -> DiscoveryRequest {
    let text = |value: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(value.to_owned())) };
    let metadata = prost_types::Struct {
        fields: [("GENERATOR".to_owned(), text("event")), ("NAMESPACE".to_owned(), text(namespace))].into(),
    };
    let id = format!("sidecar~0.0.0.0~ambit-ctl.{namespace}~{namespace}.svc.cluster.local");
    DiscoveryRequest {
        node: Some(Node { id, metadata: Some(metadata), ..Node::default() }),
        type_url: TYPE_URL.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn proxy(config: ClientConfig, istiod: &str) -> Option<Proxy> {
    let node = config.node?;
    let metadata = |key: &str| match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    };
    let mut types: Vec<_> = config
        .generic_xds_configs
        .iter()
        .map(|entry| (short_name(&entry.type_url), state(entry.config_status())))
        .collect();
    types.sort();
    Some(Proxy {
        cluster: metadata("CLUSTER_ID").unwrap_or_default(),
        istiod: istiod.to_owned(),
        version: metadata("ISTIO_VERSION").unwrap_or_default(),
        types,
        name: node.id,
    })
}

/// `WDS` for `type.googleapis.com/istio.workload.Address`.
fn short_name(type_url: &str) -> String {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    match name {
        "istio.workload.Address" => "WDS",
        "istio.security.Authorization" => "WADS",
        "envoy.config.cluster.v3.Cluster" => "CDS",
        "envoy.config.listener.v3.Listener" => "LDS",
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => "EDS",
        "envoy.config.route.v3.RouteConfiguration" => "RDS",
        "envoy.config.core.v3.TypedExtensionConfig" => "ECDS",
        "envoy.extensions.transport_sockets.tls.v3.Secret" => "SDS",
        other => other,
    }
    .to_owned()
}

fn state(status: ConfigStatus) -> &'static str {
    match status {
        ConfigStatus::Synced => "SYNCED",
        ConfigStatus::NotSent => "NOT SENT",
        ConfigStatus::Stale => "STALE",
        ConfigStatus::Error => "ERROR",
        ConfigStatus::Unknown => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use proto::csds::client_config::GenericXdsConfig;

    use super::*;

    #[test]
    fn a_client_is_a_proxy_with_its_types() {
        let entry = |type_url: &str, status: ConfigStatus| GenericXdsConfig {
            type_url: type_url.to_owned(),
            config_status: status.into(),
            ..GenericXdsConfig::default()
        };
        let config = ClientConfig {
            node: Some(Node { id: "ztunnel-1.istio-system".into(), ..Node::default() }),
            generic_xds_configs: vec![
                entry("type.googleapis.com/istio.workload.Address", ConfigStatus::Synced),
                entry("type.googleapis.com/istio.security.Authorization", ConfigStatus::Stale),
            ],
        };
        let proxy = proxy(config, "istiod-1").unwrap();
        assert_eq!(proxy.types, [("WADS".to_owned(), "STALE"), ("WDS".to_owned(), "SYNCED")]);
        assert_eq!((proxy.name.as_str(), proxy.istiod.as_str()), ("ztunnel-1.istio-system", "istiod-1"));
    }
}
