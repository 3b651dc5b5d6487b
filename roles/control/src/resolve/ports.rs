//! Ports: what protocol they speak, and which port of a workload a service's port means.

use api::{
    IntOrString, Pod, Service, ServiceEntry, ServicePort,
    istio::{EntryPort, WorkloadEntrySpec},
};
use proto::workload::{Port, PortList, port::AppProtocol};

/// A port number as the API writes it; nothing outside 1..=65535 is one.
fn number(port: i32) -> Option<u32> {
    u16::try_from(port).ok().filter(|port| *port != 0).map(u32::from)
}

/// Ports whose protocol speaks first from the server's side, so that it must not be guessed from the client's bytes:
/// SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST: [i32; 4] = [25, 53, 3306, 27017];

/// What a Kubernetes service's port speaks: its `appProtocol`, else the prefix of its name.
pub(super) fn kubernetes_protocol(port: &ServicePort) -> AppProtocol {
    if port.protocol == "UDP" || port.protocol == "SCTP" {
        return AppProtocol::Unknown;
    }
    if !port.app_protocol.is_empty() {
        return named_protocol(port.app_protocol.strip_prefix("kubernetes.io/").unwrap_or(&port.app_protocol));
    }
    let prefix = port.name.split('-').next().unwrap_or_default();
    // The only protocol name that itself holds a dash.
    let name = if port.name == "grpc-web" || port.name.starts_with("grpc-web-") { "grpc-web" } else { prefix };
    match named_protocol(name) {
        AppProtocol::Unknown if SERVER_FIRST.contains(&port.port) => AppProtocol::Tcp,
        protocol => protocol,
    }
}

/// A protocol by its name in a service entry or a port.
pub(super) fn named_protocol(name: &str) -> AppProtocol {
    match name.to_ascii_lowercase().as_str() {
        "http" | "http1.1" | "grpc-web" | "ws" => AppProtocol::Http11,
        "http2" | "h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tls" | "https" | "wss" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

/// The ports of a Kubernetes service; a named target is 0, for each endpoint to fill in.
pub(super) fn of_service(service: &Service) -> Vec<Port> {
    let port = |port: &ServicePort| {
        let service_port = number(port.port)?;
        let target_port = match &port.target_port {
            None | Some(IntOrString::Int(0)) => service_port,
            Some(IntOrString::Int(target)) => number(*target)?,
            Some(IntOrString::String(_)) => 0,
        };
        Some(Port { service_port, target_port, app_protocol: kubernetes_protocol(port).into() })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

fn mapped(service_port: u32, target_port: u32) -> Port {
    Port { service_port, target_port, app_protocol: AppProtocol::Unknown.into() }
}

/// Which ports of a pod a Kubernetes service means; a named target that the pod does not have drops the port.
pub(super) fn of_pod(service: &Service, pod: &Pod) -> PortList {
    let port = |port: &ServicePort| {
        let service_port = number(port.port)?;
        let target_port = match &port.target_port {
            None | Some(IntOrString::Int(0)) => service_port,
            Some(IntOrString::Int(target)) => number(*target)?,
            Some(IntOrString::String(name)) => container_port(pod, name)?,
        };
        Some(mapped(service_port, target_port))
    };
    PortList { ports: service.spec.ports.iter().filter_map(port).collect() }
}

/// A container's port by name: TCP only; init containers count if they keep running.
fn container_port(pod: &Pod, name: &str) -> Option<u32> {
    let sidecars = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let tcp = |protocol: &str| protocol.is_empty() || protocol == "TCP";
    let found = ports.into_iter().find(|port| port.name == name && tcp(&port.protocol))?;
    number(found.container_port)
}

/// Which ports of a workload entry a Kubernetes service means: the entry's port of the same name goes first.
pub(super) fn of_workload_entry(service: &Service, entry: &WorkloadEntrySpec) -> PortList {
    let port = |port: &ServicePort| {
        let service_port = number(port.port)?;
        if let Some(target) = entry.ports.get(&port.name) {
            return Some(mapped(service_port, *target));
        }
        let target_port = match &port.target_port {
            None | Some(IntOrString::Int(0)) => service_port,
            Some(IntOrString::Int(target)) => number(*target)?,
            Some(IntOrString::String(name)) => *entry.ports.get(name)?,
        };
        Some(mapped(service_port, target_port))
    };
    PortList { ports: service.spec.ports.iter().filter_map(port).collect() }
}

/// The ports of a service entry.
pub(super) fn of_service_entry(entry: &ServiceEntry) -> Vec<Port> {
    let port = |port: &EntryPort| Port {
        service_port: port.number,
        target_port: target(port),
        app_protocol: named_protocol(&port.protocol).into(),
    };
    entry.spec.ports.iter().map(port).collect()
}

fn target(port: &EntryPort) -> u32 {
    if port.target_port == 0 { port.number } else { port.target_port }
}

/// Which ports of a workload a service entry means; `named` are the workload's ports by name.
pub(super) fn behind_service_entry(entry: &ServiceEntry, named: &std::collections::BTreeMap<String, u32>) -> PortList {
    let port = |port: &EntryPort| mapped(port.number, named.get(&port.name).copied().unwrap_or_else(|| target(port)));
    PortList { ports: entry.spec.ports.iter().map(port).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("http", "", 80, AppProtocol::Http11)]
    #[case("http-monitoring", "", 15014, AppProtocol::Http11)]
    #[case("http2-api", "", 80, AppProtocol::Http2)]
    #[case("grpc-xds", "", 15010, AppProtocol::Grpc)]
    #[case("grpc-web", "", 80, AppProtocol::Http11)]
    #[case("https-dns", "", 15012, AppProtocol::Tls)]
    #[case("dns-tcp", "", 53, AppProtocol::Tcp)]
    #[case("web", "", 80, AppProtocol::Unknown)]
    #[case("web", "http", 80, AppProtocol::Http11)]
    #[case("web", "kubernetes.io/h2c", 80, AppProtocol::Http2)]
    #[case("tcp-web", "unheard.of/it", 80, AppProtocol::Unknown)]
    fn protocols(#[case] name: &str, #[case] app: &str, #[case] port: i32, #[case] expected: AppProtocol) {
        let port = ServicePort { name: name.to_owned(), app_protocol: app.to_owned(), port, ..ServicePort::default() };
        assert_eq!(kubernetes_protocol(&port), expected);
    }

    #[test]
    fn a_named_target_is_the_pods_tcp_port_of_that_name_or_nothing() {
        let pod: Pod = api::Resource::from_value(serde_json::json!({"spec": {
            "containers": [{"ports": [{"name": "web", "containerPort": 5353, "protocol": "UDP"}, {"name": "web", "containerPort": 8080}]}],
            "initContainers": [
                {"ports": [{"name": "once", "containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 9090}]},
            ],
        }}))
        .unwrap();
        let service: Service = api::Resource::from_value(serde_json::json!({"spec": {"ports": [
            {"port": 80, "targetPort": "web"}, {"port": 81, "targetPort": "admin"},
            {"port": 82, "targetPort": "once"}, {"port": 83, "targetPort": "other"},
        ]}}))
        .unwrap();
        let targets: Vec<_> =
            of_pod(&service, &pod).ports.iter().map(|port| (port.service_port, port.target_port)).collect();
        assert_eq!(targets, [(80, 8080), (81, 9090)]);
        assert!(of_service(&service).iter().all(|port| port.target_port == 0));
    }
}
