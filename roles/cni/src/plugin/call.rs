//! One call of the plugin: what the kubelet said, and the answer. The agent is asked through a function.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::events::{Added, AddedIp, Address};

/// Versions of the CNI specification that the plugin speaks.
const VERSIONS: [&str; 8] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.2.0"];

/// Error numbers of the specification: 4 for variables, 6 for documents, 100 and up for the plugin's own.
const INVALID_VARIABLES: u32 = 4;
const UNREADABLE_DOCUMENT: u32 = 6;
const NOT_ENROLLED: u32 = 100;

/// What the kubelet said.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// Standard input.
    pub document: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(rename = "cniVersion")]
    version: String,
    #[serde(rename = "prevResult")]
    previous: Option<Value>,
    cni_agent_run_dir: Option<PathBuf>,
    ambient_enabled: Option<bool>,
    exclude_namespaces: Option<Vec<String>>,
    pod_namespace: String,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    code: u32,
    text: String,
}

/// What to print, and whether the call succeeded. `ask` tells the agent in a run folder about a pod.
pub fn answer(
    call: &Call,
    ask: impl Fn(&std::path::Path, &Added) -> Result<(), String>,
) -> (String, Result<(), Refusal>) {
    let document: Document = match serde_json::from_str(&call.document) {
        Ok(document) => document,
        Err(_) if call.command == "VERSION" => Document::default(),
        Err(error) => {
            let text = format!("reading the network configuration: {error}");
            return refuse("", Refusal { code: UNREADABLE_DOCUMENT, text });
        }
    };
    match call.command.as_str() {
        "ADD" => match add(call, &document, ask) {
            Ok(()) => (passed_on(&document), Ok(())),
            Err(refusal) => refuse(&document.version, refusal),
        },
        "DEL" | "CHECK" | "STATUS" | "GC" => (String::new(), Ok(())),
        "VERSION" => {
            let version = if document.version.is_empty() { "1.0.0" } else { &document.version };
            (json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string(), Ok(()))
        }
        other => {
            let text = format!("CNI_COMMAND is {other:?}; ADD, CHECK, DEL, VERSION, STATUS and GC are known");
            refuse(&document.version, Refusal { code: INVALID_VARIABLES, text })
        }
    }
}

fn refuse(version: &str, refusal: Refusal) -> (String, Result<(), Refusal>) {
    let version = if version.is_empty() { "1.0.0" } else { version };
    let printed = json!({"cniVersion": version, "code": refusal.code, "msg": refusal.text});
    (printed.to_string(), Err(refusal))
}

/// What the plugins before us did, unchanged.
fn passed_on(document: &Document) -> String {
    match &document.previous {
        Some(previous) => previous.to_string(),
        None => json!({"cniVersion": document.version}).to_string(),
    }
}

fn add(
    call: &Call,
    document: &Document,
    ask: impl Fn(&std::path::Path, &Added) -> Result<(), String>,
) -> Result<(), Refusal> {
    let args = variables(&call.args);
    let arg = |name: &str| args.get(name).copied().unwrap_or_default();
    let (name, namespace) = (arg("K8S_POD_NAME"), arg("K8S_POD_NAMESPACE"));
    let excluded = match &document.exclude_namespaces {
        Some(excluded) => excluded.iter().any(|excluded| excluded == namespace),
        None => namespace == "kube-system",
    };
    // The agent's own pod comes first: asking about it would make a broken agent impossible to replace.
    let own = name.starts_with("istio-cni-node-") && namespace == document.pod_namespace;
    if name.is_empty() || namespace.is_empty() || own || excluded || document.ambient_enabled == Some(false) {
        return Ok(());
    }
    let added = Added {
        netns: call.netns.clone(),
        pod_name: name.to_owned(),
        pod_namespace: namespace.to_owned(),
        pod_uid: arg("K8S_POD_UID").to_owned(),
        ips: addresses(document.previous.as_ref().unwrap_or(&Value::Null)),
    };
    let run_dir = document.cni_agent_run_dir.clone().unwrap_or_else(|| "/var/run/istio-cni".into());
    ask(&run_dir, &added).map_err(|text| Refusal { code: NOT_ENROLLED, text })
}

/// `A=1;B=2` as a map.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.split(';').filter_map(|pair| pair.split_once('=')).collect()
}

/// The pod's addresses as the plugins before us reported them, in the present form or that before 0.3.0.
fn addresses(previous: &Value) -> Vec<AddedIp> {
    let present = previous["ips"].as_array().into_iter().flatten().map(|ip| (ip, "address"));
    let old = ["ip4", "ip6"].into_iter().map(|key| (&previous[key], "ip"));
    let all = present.chain(old);
    all.filter_map(|(ip, key)| {
        Some(AddedIp {
            interface: ip["interface"].as_i64(),
            address: Address::from(ip[key].as_str()?.parse::<ipnet::IpNet>().ok()?),
            gateway: ip["gateway"].as_str().unwrap_or_default().to_owned(),
        })
    })
    .collect()
}
