//! Which columns each built-in kind has, and the rows of the smaller kinds.

use super::{Shape, age, count, join, number, or_none, since, size, text, wide, workloads};
use crate::catalog::Kind;
use crate::object::Object;
use crate::request::selector::label_selector_text;
use jiff::Timestamp;
use serde_json::Value;

macro_rules! shape {
    ($cells:expr, $($heading:expr),* $(,)?) => {
        Shape { headings: const { &[$($heading),*] }, cells: $cells, name_first: true }
    };
}

/// The table of a kind; kinds without one of their own show their age.
pub(super) fn shape(kind: &Kind) -> Shape {
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        _ if kind.is_custom() => shape!(|object, now| vec![age(object, now)], text("Age")),
        ("", plural) => core(plural),
        ("apps", plural) => apps(plural),
        ("networking.k8s.io" | "discovery.k8s.io", plural) => network(plural),
        (_, plural) => other(plural),
    }
}

fn aged() -> Shape {
    shape!(|object, now| vec![age(object, now)], text("Age"))
}

fn created() -> Shape {
    shape!(|object, _| vec![object.text("/metadata/creationTimestamp").into()], text("Created At"))
}

fn core(plural: &str) -> Shape {
    match plural {
        "pods" => shape!(
            workloads::pod,
            text("Ready"),
            text("Status"),
            text("Restarts"),
            text("Age"),
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates")
        ),
        "nodes" => shape!(
            workloads::node,
            text("Status"),
            text("Roles"),
            text("Age"),
            text("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime")
        ),
        "services" => shape!(
            service,
            text("Type"),
            text("Cluster-IP"),
            text("External-IP"),
            text("Port(s)"),
            text("Age"),
            wide("Selector")
        ),
        "namespaces" => shape!(
            |object, now| vec![object.text("/status/phase").into(), age(object, now)],
            text("Status"),
            text("Age")
        ),
        "configmaps" => shape!(workloads::config_map, number("Data"), text("Age")),
        "secrets" => shape!(workloads::secret, text("Type"), number("Data"), text("Age")),
        "serviceaccounts" => {
            shape!(
                |object, now| vec![size(object, "/secrets").into(), age(object, now)],
                number("Secrets"),
                text("Age")
            )
        }
        "endpoints" => shape!(endpoints, text("Endpoints"), text("Age")),
        "events" => event_shape(),
        _ => aged(),
    }
}

fn apps(plural: &str) -> Shape {
    match plural {
        "deployments" => shape!(
            workloads::deployment,
            text("Ready"),
            number("Up-to-date"),
            number("Available"),
            text("Age"),
            wide("Containers"),
            wide("Images"),
            wide("Selector")
        ),
        "replicasets" => shape!(
            workloads::replica_set,
            number("Desired"),
            number("Current"),
            number("Ready"),
            text("Age"),
            wide("Containers"),
            wide("Images"),
            wide("Selector")
        ),
        "daemonsets" => shape!(
            workloads::daemon_set,
            number("Desired"),
            number("Current"),
            number("Ready"),
            number("Up-to-date"),
            number("Available"),
            text("Node Selector"),
            text("Age"),
            wide("Containers"),
            wide("Images"),
            wide("Selector")
        ),
        "controllerrevisions" => shape!(
            |object, now| {
                let owner = object.list("/metadata/ownerReferences").first();
                let owner =
                    owner.map(|owner| format!("{}/{}", owner.text("/kind").to_lowercase(), owner.text("/name")));
                vec![or_none(&owner.unwrap_or_default()), count(object, "/revision"), age(object, now)]
            },
            text("Controller"),
            number("Revision"),
            text("Age")
        ),
        _ => aged(),
    }
}

fn network(plural: &str) -> Shape {
    match plural {
        "endpointslices" => shape!(slice, text("AddressType"), text("Ports"), text("Endpoints"), text("Age")),
        "ingresses" => shape!(ingress, text("Class"), text("Hosts"), text("Address"), text("Ports"), text("Age")),
        "ingressclasses" => shape!(
            |object, now| {
                let parameters = object.text("/spec/parameters/name");
                vec![object.text("/spec/controller").into(), or_none(parameters), age(object, now)]
            },
            text("Controller"),
            text("Parameters"),
            text("Age")
        ),
        "networkpolicies" => shape!(
            |object, now| {
                vec![or_none(&label_selector_text(object.pointer("/spec/podSelector"))), age(object, now)]
            },
            text("Pod-Selector"),
            text("Age")
        ),
        _ => aged(),
    }
}

fn other(plural: &str) -> Shape {
    match plural {
        "events" => event_shape(),
        "roles" | "clusterroles" | "customresourcedefinitions" => created(),
        "rolebindings" | "clusterrolebindings" => {
            shape!(binding, text("Role"), text("Age"), wide("Users"), wide("Groups"), wide("ServiceAccounts"))
        }
        "leases" => shape!(
            |object, now| vec![object.text("/spec/holderIdentity").into(), age(object, now)],
            text("Holder"),
            text("Age")
        ),
        "priorityclasses" => shape!(
            |object, now| {
                let default = object["globalDefault"] == true;
                vec![count(object, "/value"), default.into(), age(object, now), object.text("/preemptionPolicy").into()]
            },
            number("Value"),
            super::Heading { title: "Global-Default", form: "boolean", wide: false },
            text("Age"),
            text("PreemptionPolicy")
        ),
        "poddisruptionbudgets" => shape!(
            |object, now| {
                let bound = |pointer: &str| match object.pointer(pointer) {
                    None => "N/A".into(),
                    Some(Value::String(text)) => Value::from(text.as_str()),
                    Some(value) => value.to_string().into(),
                };
                vec![
                    bound("/spec/minAvailable"),
                    bound("/spec/maxUnavailable"),
                    count(object, "/status/disruptionsAllowed"),
                    age(object, now),
                ]
            },
            text("Min Available"),
            text("Max Unavailable"),
            number("Allowed Disruptions"),
            text("Age")
        ),
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => shape!(
            |object, now| vec![size(object, "/webhooks").into(), age(object, now)],
            number("Webhooks"),
            text("Age")
        ),
        _ => aged(),
    }
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let form = object.text("/spec/type");
    let external: Vec<&str> = match form {
        "ExternalName" => vec![object.text("/spec/externalName")],
        "LoadBalancer" => object
            .list("/status/loadBalancer/ingress")
            .iter()
            .map(|ingress| match ingress.text("/ip") {
                "" => ingress.text("/hostname"),
                ip => ip,
            })
            .collect(),
        _ => object.list("/spec/externalIPs").iter().filter_map(Value::as_str).collect(),
    };
    let external = match external.is_empty() {
        true if form == "LoadBalancer" => "<pending>".into(),
        _ => join(external),
    };
    let ports: Vec<String> = object
        .list("/spec/ports")
        .iter()
        .map(|port| match port["nodePort"].as_i64() {
            Some(node) if node > 0 => format!("{}:{node}/{}", port["port"], port.text("/protocol")),
            _ => format!("{}/{}", port["port"], port.text("/protocol")),
        })
        .collect();
    let selector = object.pointer("/spec/selector").map(|labels| serde_json::json!({"matchLabels": labels}));
    vec![
        form.into(),
        or_none(object.text("/spec/clusterIP")),
        external,
        join(ports.iter().map(String::as_str)),
        age(object, now),
        or_none(&label_selector_text(selector.as_ref())),
    ]
}

fn shortened(entries: Vec<String>, most: usize) -> Value {
    let more = entries.len().saturating_sub(most);
    let shown = entries.iter().take(most).map(String::as_str);
    match (join(shown), more) {
        (Value::String(text), 1..) => format!("{text} + {more} more...").into(),
        (value, _) => value,
    }
}

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut entries = Vec::new();
    for subset in object.list("/subsets") {
        for address in subset.list("/addresses") {
            let ports = subset.list("/ports");
            if ports.is_empty() {
                entries.push(address.text("/ip").to_owned());
            }
            entries.extend(ports.iter().map(|port| format!("{}:{}", address.text("/ip"), port["port"])));
        }
    }
    vec![shortened(entries, 3), age(object, now)]
}

fn slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports = object.list("/ports").iter().map(|port| port["port"].to_string()).collect::<Vec<_>>();
    let ports = if ports.is_empty() { "<unset>".into() } else { shortened(ports, 3) };
    let addresses = object.list("/endpoints").iter().flat_map(|endpoint| endpoint.list("/addresses"));
    let addresses: Vec<String> = addresses.filter_map(|address| Some(address.as_str()?.to_owned())).collect();
    let addresses = if addresses.is_empty() { "<unset>".into() } else { shortened(addresses, 3) };
    vec![object.text("/addressType").into(), ports, addresses, age(object, now)]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<&str> =
        object.list("/spec/rules").iter().map(|rule| rule.text("/host")).filter(|host| !host.is_empty()).collect();
    let hosts = if hosts.is_empty() { "*".into() } else { join(hosts) };
    let addresses: Vec<&str> =
        object.list("/status/loadBalancer/ingress").iter().map(|ingress| ingress.text("/ip")).collect();
    let ports = if object.list("/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        or_none(object.text("/spec/ingressClassName")),
        hosts,
        addresses.join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| {
        let names: Vec<String> = object
            .list("/subjects")
            .iter()
            .filter(|subject| subject.text("/kind") == kind)
            .map(|subject| match subject.text("/namespace") {
                "" => subject.text("/name").to_owned(),
                namespace => format!("{namespace}/{}", subject.text("/name")),
            })
            .collect();
        Value::from(names.join(", "))
    };
    let role = format!("{}/{}", object.text("/roleRef/kind"), object.text("/roleRef/name"));
    vec![role.into(), age(object, now), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
}

fn event_shape() -> Shape {
    Shape {
        headings: const {
            &[
                text("Last Seen"),
                text("Type"),
                text("Reason"),
                text("Object"),
                wide("Subobject"),
                wide("Source"),
                text("Message"),
                wide("First Seen"),
                wide("Count"),
                wide("Name"),
            ]
        },
        cells: event,
        name_first: false,
    }
}

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |pointers: &[&str]| {
        let time = pointers.iter().map(|pointer| object.text(pointer)).find(|time| !time.is_empty());
        since(time.unwrap_or_else(|| object.text("/metadata/creationTimestamp")), now)
    };
    let involved =
        format!("{}/{}", object.text("/involvedObject/kind").to_lowercase(), object.text("/involvedObject/name"));
    let source = match object.text("/source/component") {
        "" => object.text("/reportingComponent"),
        component => component,
    };
    vec![
        seen(&["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]).into(),
        object.text("/type").into(),
        object.text("/reason").into(),
        involved.into(),
        object.text("/involvedObject/fieldPath").into(),
        source.into(),
        object.text("/message").trim().into(),
        seen(&["/firstTimestamp", "/eventTime"]).into(),
        object.pointer("/count").cloned().unwrap_or_else(|| 1.into()),
        object.name().into(),
    ]
}
