//! The node as an object of the API: what it is, and that it lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Condition, Lease, Node, NodeAddress, NodeDaemonEndpoints, Time};
use serde_json::json;

use super::context::Context;

/// Port of the kubelet's endpoint.
pub(super) const KUBELET_PORT: u16 = 10250;
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
const MANAGER: &str = "kubelet";
const RETRY: Duration = Duration::from_millis(250);

/// The version that tools see: that of the API which we speak.
const KUBELET_VERSION: &str = "v1.34.4+ambit";

/// Registers the node, however long it takes, then says at intervals that it lives.
pub(super) async fn run(context: Arc<Context>, pods: String) {
    let mut warned = false;
    while let Err(error) = publish(&context, &pods).await {
        if !warned {
            tracing::warn!(%error, "node not registered; trying again");
            warned = true;
        }
        tokio::time::sleep(RETRY).await;
    }
    tracing::info!(node = context.name, address = %context.address, pods, "node registered");
    let mut beat = tokio::time::interval(RENEW);
    loop {
        beat.tick().await;
        if let Err(error) = renew(&context).await {
            tracing::warn!(%error, "lease not renewed");
        }
        if let Err(error) = publish(&context, &pods).await {
            tracing::warn!(%error, "node status not renewed");
        }
    }
}

async fn publish(context: &Context, pods: &str) -> Result<(), cluster::Error> {
    let node = node(context, pods);
    context.client.apply(&node, MANAGER).await?;
    let known = context.client.get::<Node>("", &context.name).await?;
    let status = status(context, &known, Time(jiff::Timestamp::now()));
    let status = serde_json::to_value(&status).unwrap_or_default();
    context.client.apply_status::<Node>("", &context.name, status, MANAGER).await?;
    Ok(())
}

fn node(context: &Context, pods: &str) -> Node {
    let mut metadata = api::ObjectMeta::named("", &context.name);
    metadata.labels = BTreeMap::from(
        [
            ("kubernetes.io/hostname", context.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", architecture()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let mut node = Node { metadata, ..Node::default() };
    node.spec.pod_cidr = pods.to_owned();
    node.spec.pod_cidrs = vec![pods.to_owned()];
    node
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn status(context: &Context, known: &Node, now: Time) -> api::NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let capacity = BTreeMap::from([
        ("cpu".to_owned(), json!(cores.to_string())),
        ("memory".to_owned(), json!(format!("{}Ki", memory_kib()))),
        ("pods".to_owned(), json!("250")),
    ]);
    let uname = nix::sys::utsname::uname();
    let kernel = uname.map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    api::NodeStatus {
        allocatable: capacity.clone(),
        capacity,
        conditions: conditions(&known.status.conditions, now),
        addresses: vec![address("InternalIP", context.address.to_string()), address("Hostname", context.name.clone())],
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(json!({ "Port": KUBELET_PORT })) }),
        node_info: api::NodeSystemInfo {
            machine_id: context.name.clone(),
            system_uuid: context.name.clone(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
            kernel_version: kernel,
            os_image: "Ambit one-host node".to_owned(),
            container_runtime_version: format!("ambit://{}", env!("CARGO_PKG_VERSION")),
            kubelet_version: KUBELET_VERSION.to_owned(),
            kube_proxy_version: KUBELET_VERSION.to_owned(),
            operating_system: "linux".to_owned(),
            architecture: architecture().to_owned(),
        },
        ..api::NodeStatus::default()
    }
}

fn conditions(known: &[Condition], now: Time) -> Vec<Condition> {
    let wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let before = known.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_heartbeat_time: Some(now),
            last_transition_time: before.and_then(|condition| condition.last_transition_time).or(Some(now)),
            ..Condition::default()
        }
    };
    wanted.map(condition).into()
}

fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn renew(context: &Context) -> Result<(), cluster::Error> {
    let mut lease = Lease { metadata: api::ObjectMeta::named(LEASE_NAMESPACE, &context.name), ..Lease::default() };
    lease.spec.holder_identity.clone_from(&context.name);
    lease.spec.lease_duration_seconds = Some(LEASE_SECONDS);
    lease.spec.renew_time = Some(api::MicroTime(jiff::Timestamp::now()));
    context.client.apply(&lease, MANAGER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_no_transition() {
        let time = |second| Time(jiff::Timestamp::from_second(second).unwrap());
        let first = conditions(&[], time(1));
        let second = conditions(&first, time(9));
        assert!(second.iter().all(|condition| condition.last_transition_time == Some(time(1))));
        assert!(second.iter().all(|condition| condition.last_heartbeat_time == Some(time(9))));
    }
}
