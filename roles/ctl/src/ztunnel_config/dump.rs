//! What a node proxy says of itself at `/config_dump`: the part that is shown, in the order in which it is printed.
//!
//! Reading ignores what is unknown, so that dumps of other versions, and of upstream's proxy, are shown as well.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A dump.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Dump {
    #[serde(deserialize_with = "list_or_map")]
    pub(crate) workloads: Vec<Workload>,
    #[serde(deserialize_with = "list_or_map")]
    pub(crate) services: Vec<Service>,
    #[serde(deserialize_with = "list_or_map")]
    pub(crate) policies: Vec<Policy>,
    #[serde(deserialize_with = "list_or_map")]
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) workload_state: BTreeMap<String, WorkloadState>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Workload {
    pub(crate) uid: String,
    pub(crate) workload_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waypoint: Option<GatewayAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_gateway: Option<GatewayAddress>,
    pub(crate) protocol: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) workload_name: String,
    pub(crate) workload_type: String,
    pub(crate) canonical_name: String,
    pub(crate) canonical_revision: String,
    pub(crate) cluster_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) trust_domain: String,
    pub(crate) locality: Locality,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) node: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) network: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) status: String,
    pub(crate) hostname: String,
    pub(crate) capacity: u32,
    pub(crate) application_tunnel: ApplicationTunnel,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) authorization_policies: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct GatewayAddress {
    pub(crate) destination: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) hbone_mtls_port: u16,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Locality {
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subzone: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ApplicationTunnel {
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) hostname: String,
    pub(crate) vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cidr_vips: Vec<serde_json::Value>,
    pub(crate) ports: BTreeMap<String, u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_balancer: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waypoint: Option<GatewayAddress>,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) subject_alt_names: Vec<String>,
    pub(crate) ip_families: String,
    pub(crate) canonical: bool,
    pub(crate) visibility: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub(crate) workload_uid: String,
    pub(crate) service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    pub(crate) port: BTreeMap<String, u16>,
    #[serde(skip_serializing)]
    pub(crate) status: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) scope: String,
    pub(crate) action: String,
    pub(crate) rules: serde_json::Value,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub(crate) identity: String,
    pub(crate) state: String,
    pub(crate) cert_chain: Vec<Link>,
    pub(crate) root_certs: Vec<Link>,
}

/// One certificate of a chain.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Link {
    pub(crate) pem: String,
    pub(crate) serial_number: String,
    pub(crate) valid_from: String,
    pub(crate) expiration_time: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadState {
    pub(crate) state: String,
    pub(crate) connections: Connections,
    pub(crate) info: WorkloadInfo,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) inbound: Vec<Connection>,
    pub(crate) outbound: Vec<Connection>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Connection {
    pub(crate) src: String,
    pub(crate) original_dst: Option<String>,
    pub(crate) actual_dst: String,
    pub(crate) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadInfo {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) trust_domain: String,
    pub(crate) service_account: String,
}

impl Dump {
    /// Name of the waypoint that an address stands for: its service's name, else the first label of its host, else the address.
    pub(crate) fn waypoint_name(&self, waypoint: Option<&GatewayAddress>) -> String {
        let Some(waypoint) = waypoint else {
            return "None".to_owned();
        };
        let destination = waypoint.destination.as_str();
        let service = self.services.iter().find(|service| {
            let by_name = destination
                .split_once('/')
                .is_some_and(|(namespace, hostname)| service.namespace == namespace && service.hostname == hostname);
            by_name || service.vips.iter().any(|vip| vip == destination)
        });
        match service {
            Some(service) => service.name.clone(),
            None => {
                let host = destination.rsplit('/').next().unwrap_or(destination);
                let is_address = host.parse::<std::net::IpAddr>().is_ok();
                if is_address { host.to_owned() } else { host.split('.').next().unwrap_or(host).to_owned() }
            }
        }
    }
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// Older dumps have maps where newer ones have lists; the keys say nothing that the values do not.
fn list_or_map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<T> {
        List(Vec<T>),
        Map(BTreeMap<String, T>),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Written::List(list)) => list,
        Some(Written::Map(map)) => map.into_values().collect(),
        None => Vec::new(),
    })
}
