//! Workloads, services and policies in the dump: upstream's keys, defaults left out where upstream leaves them out.

use model::{
    Action, ApplicationTunnelProtocol, Authorization, GatewayAddress, Health, HealthPolicy, IpFamilies, LoadBalancing,
    LoadBalancingMode, LoadBalancingScope, Match, Mesh, NetworkMode, PolicyScope, PortMap, Service, StringMatch,
    TunnelProtocol, Visibility, Workload,
};
use serde_json::{Map, Value, json};

/// Everything of the mesh, in upstream's order.
pub(super) fn mesh(mesh: &Mesh) -> Map<String, Value> {
    let mut workloads: Vec<_> = mesh.workloads().collect();
    workloads.sort_by(|one, other| one.uid.cmp(&other.uid));
    let mut services: Vec<_> = mesh.services().collect();
    services.sort_by(|one, other| (&one.hostname, &one.namespace).cmp(&(&other.hostname, &other.namespace)));
    let mut policies: Vec<_> = mesh.policies().collect();
    policies.sort_by_key(|policy| policy.key());
    let staged = mesh.staged().map(|(key, members)| {
        let endpoints = members.iter().filter_map(|member| {
            let ports = member.services.get(key)?;
            Some((member.uid.to_string(), endpoint(member, ports)))
        });
        (key.to_string(), Value::Object(endpoints.collect()))
    });
    let mut dump = Map::new();
    dump.insert("workloads".to_owned(), workloads.into_iter().map(|workload| self::workload(workload)).collect());
    dump.insert("services".to_owned(), services.into_iter().map(|service| self::service(mesh, service)).collect());
    dump.insert("policies".to_owned(), policies.into_iter().map(|policy| self::policy(policy)).collect());
    dump.insert("stagedServices".to_owned(), Value::Object(staged.collect()));
    dump
}

/// Puts a value unless it is empty.
fn put(object: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if !empty {
        object.insert(key.to_owned(), value);
    }
}

fn texts<T: ToString>(list: impl IntoIterator<Item = T>) -> Value {
    list.into_iter().map(|item| item.to_string()).collect()
}

fn gateway(gateway: Option<&GatewayAddress>) -> Value {
    gateway.map_or(
        Value::Null,
        |gateway| json!({"destination": gateway.destination.to_string(), "hboneMtlsPort": gateway.hbone_mtls_port}),
    )
}

fn workload(workload: &Workload) -> Value {
    let mut object = Map::new();
    let mut add = |key: &str, value: Value| put(&mut object, key, value);
    add("uid", json!(&*workload.uid));
    add("workloadIps", texts(&workload.addresses));
    add("waypoint", gateway(workload.waypoint.as_ref()));
    add("networkGateway", gateway(workload.network_gateway.as_ref()));
    add(
        "protocol",
        json!(match workload.tunnel_protocol {
            TunnelProtocol::None => "TCP",
            TunnelProtocol::Hbone => "HBONE",
        }),
    );
    add(
        "networkMode",
        json!(match workload.network_mode {
            NetworkMode::Standard => "Standard",
            NetworkMode::HostNetwork => "HostNetwork",
        }),
    );
    add("name", json!(&*workload.name));
    add("namespace", json!(&*workload.namespace));
    add("trustDomain", json!(&*workload.trust_domain));
    add("serviceAccount", json!(&*workload.service_account));
    add("network", json!(&*workload.network));
    add("workloadName", json!(&*workload.workload_name));
    add("workloadType", json!(workload.workload_type.as_str()));
    add("canonicalName", json!(&*workload.canonical_name));
    add("canonicalRevision", json!(&*workload.canonical_revision));
    add("hostname", json!(&*workload.hostname));
    add("node", json!(&*workload.node));
    add("nativeTunnel", if workload.native_tunnel { json!(true) } else { Value::Null });
    add(
        "applicationTunnel",
        workload.application_tunnel.map_or(Value::Null, |tunnel| {
            let protocol = match tunnel.protocol {
                ApplicationTunnelProtocol::None => "NONE",
                ApplicationTunnelProtocol::Proxy => "PROXY",
            };
            json!({"protocol": protocol, "port": tunnel.port})
        }),
    );
    add("authorizationPolicies", texts(&workload.authorization_policies));
    add("status", json!(health(workload)));
    add("clusterId", json!(&*workload.cluster_id));
    let mut locality = Map::new();
    put(&mut locality, "region", json!(&*workload.locality.region));
    put(&mut locality, "zone", json!(&*workload.locality.zone));
    put(&mut locality, "subzone", json!(&*workload.locality.subzone));
    add("locality", Value::Object(locality));
    add("services", texts(workload.services.keys()));
    add("capacity", json!(workload.capacity));
    Value::Object(object)
}

fn health(workload: &Workload) -> &'static str {
    match workload.status {
        Health::Healthy => "Healthy",
        Health::Unhealthy => "Unhealthy",
    }
}

fn ports(ports: &[(u16, u16)]) -> Value {
    Value::Object(ports.iter().map(|(service, target)| (service.to_string(), json!(target))).collect())
}

fn endpoint(workload: &Workload, map: &PortMap) -> Value {
    json!({"workloadUid": &*workload.uid, "port": ports(&map.0), "status": health(workload)})
}

fn service(mesh: &Mesh, service: &Service) -> Value {
    let key = service.key();
    let endpoints = mesh.endpoints(&key);
    let endpoints = endpoints.map(|found| (found.workload.uid.to_string(), endpoint(found.workload, found.ports)));
    let mut object = Map::new();
    for (name, value) in [
        ("name", json!(&*service.name)),
        ("namespace", json!(&*service.namespace)),
        ("hostname", json!(&*service.hostname)),
        ("vips", texts(&service.vips)),
        ("ports", ports(&service.ports)),
        ("endpoints", Value::Object(endpoints.collect())),
        ("subjectAltNames", texts(&service.subject_alt_names)),
        ("canonical", json!(service.canonical)),
        (
            "visibility",
            json!(match service.visibility {
                Visibility::Public => "Public",
                Visibility::Namespace => "Namespace",
            }),
        ),
    ] {
        object.insert(name.to_owned(), value);
    }
    let cidrs = service.cidr_vips.iter().map(|cidr| json!({"network": &*cidr.network, "cidr": cidr.range.to_string()}));
    put(&mut object, "cidrVips", cidrs.collect());
    put(&mut object, "waypoint", gateway(service.waypoint.as_ref()));
    let weighted = service.weighted_waypoints.iter();
    let weighted = weighted.map(|one| json!({"destination": gateway(Some(&one.destination)), "weight": one.weight}));
    put(&mut object, "weightedWaypoints", weighted.collect());
    put(&mut object, "loadBalancer", service.load_balancing.as_ref().map_or(Value::Null, balancing));
    put(
        &mut object,
        "ipFamilies",
        service.ip_families.map_or(Value::Null, |families| {
            json!(match families {
                IpFamilies::Ipv4 => "IPv4",
                IpFamilies::Ipv6 => "IPv6",
                IpFamilies::Dual => "Dual",
            })
        }),
    );
    Value::Object(object)
}

fn balancing(balancing: &LoadBalancing) -> Value {
    let scope = |scope: &LoadBalancingScope| match scope {
        LoadBalancingScope::Region => "Region",
        LoadBalancingScope::Zone => "Zone",
        LoadBalancingScope::Subzone => "Subzone",
        LoadBalancingScope::Node => "Node",
        LoadBalancingScope::Cluster => "Cluster",
        LoadBalancingScope::Network => "Network",
    };
    let mode = match balancing.mode {
        LoadBalancingMode::Standard => "Standard",
        LoadBalancingMode::Strict => "Strict",
        LoadBalancingMode::Failover => "Failover",
        LoadBalancingMode::Passthrough => "Passthrough",
    };
    let health = match balancing.health_policy {
        HealthPolicy::OnlyHealthy => "OnlyHealthy",
        HealthPolicy::AllowAll => "AllowAll",
    };
    let preferences: Vec<_> = balancing.routing_preferences.iter().map(scope).collect();
    json!({"routingPreferences": preferences, "mode": mode, "healthPolicy": health})
}

fn policy(policy: &Authorization) -> Value {
    let rules: Vec<Vec<Vec<Value>>> = policy
        .rules
        .iter()
        .map(|rule| rule.clauses.iter().map(|clause| clause.iter().map(one_match).collect()).collect())
        .collect();
    json!({
        "name": &*policy.name,
        "namespace": &*policy.namespace,
        "scope": match policy.scope {
            PolicyScope::Global => "Global",
            PolicyScope::Namespace => "Namespace",
            PolicyScope::WorkloadSelector => "WorkloadSelector",
        },
        "action": match policy.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        },
        "rules": rules,
        "dryRun": policy.dry_run,
    })
}

fn one_match(one: &Match) -> Value {
    let texts = |list: &[StringMatch]| -> Value { list.iter().map(text).collect() };
    let accounts = |list: &[model::ServiceAccountMatch]| -> Value {
        let account = |one: &model::ServiceAccountMatch| json!({"namespace": &*one.namespace, "serviceAccount": &*one.service_account});
        list.iter().map(account).collect()
    };
    let mut object = Map::new();
    for (key, value) in [
        ("namespaces", texts(&one.namespaces)),
        ("notNamespaces", texts(&one.not_namespaces)),
        ("serviceAccounts", accounts(&one.service_accounts)),
        ("notServiceAccounts", accounts(&one.not_service_accounts)),
        ("principals", texts(&one.principals)),
        ("notPrincipals", texts(&one.not_principals)),
        ("sourceIps", self::texts(&one.source_ips)),
        ("notSourceIps", self::texts(&one.not_source_ips)),
        ("destinationIps", self::texts(&one.destination_ips)),
        ("notDestinationIps", self::texts(&one.not_destination_ips)),
        ("destinationPorts", one.destination_ports.iter().copied().collect()),
        ("notDestinationPorts", one.not_destination_ports.iter().copied().collect()),
    ] {
        put(&mut object, key, value);
    }
    Value::Object(object)
}

fn text(text: &StringMatch) -> Value {
    match text {
        StringMatch::Exact(text) => json!({"Exact": &**text}),
        StringMatch::Prefix(text) => json!({"Prefix": &**text}),
        StringMatch::Suffix(text) => json!({"Suffix": &**text}),
        StringMatch::Presence => json!({"Presence": []}),
    }
}
