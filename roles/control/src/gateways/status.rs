//! What a gateway's status says (control-plane A15): whether it is accepted, whether it runs, and where.
//!
//! Pure: from the gateway and what became of its objects to the status, which is written only when it says something new.

use super::Role;
use api::{Condition, Gateway, Listener, Resource, Service, Time};
use model::well_known::HBONE_PORT;
use serde_json::{Value, json};

/// What became of a gateway's objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Its parameters cannot be used; what ran before still runs.
    Invalid(String),
    /// The cluster does not take an object.
    Refused(String),
    /// Nothing is deployed: it runs elsewhere, or behind a service of somebody's own.
    Elsewhere {
        /// The service that its address names, if that is to be had.
        service: Option<Service>,
    },
    /// Deployed behind this service; not known yet right after it was applied.
    Deployed {
        /// Name of the deployment and the service.
        name: String,
        service: Option<Service>,
        /// Pods that serve.
        ready: i32,
    },
}

/// An address, as a gateway's status has it.
type Address = (&'static str, String);

/// The status to apply; none if the gateway says the same already.
pub(super) fn status(gateway: &Gateway, role: Role, outcome: &Outcome, domain: &str, now: Time) -> Option<Value> {
    let listeners: Vec<_> =
        gateway.spec.listeners.iter().map(|listener| listener_status(gateway, role, listener)).collect();
    let held = held_addresses(gateway);
    let found = addresses(gateway, role, outcome, domain);
    let addresses = if found.is_empty() && role == Role::Waypoint { held.clone() } else { found };
    let good = listeners.iter().all(|listener| listener.problem.is_none());
    let conditions = [accepted(outcome), programmed(gateway, role, outcome, &addresses, good), resolved()];
    let same = addresses == held
        && says(&gateway.status.conditions, &conditions, gateway.metadata().generation)
        && listeners.len() == gateway.status.listeners.len()
        && listeners.iter().all(|listener| listener.is_said(gateway));
    if same {
        return None;
    }
    let generation = gateway.metadata().generation;
    let listeners: Vec<_> = listeners.iter().map(|listener| listener.value(gateway, now)).collect();
    let addresses: Vec<_> = addresses.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
    let conditions = written(&gateway.status.conditions, &conditions, generation, now);
    Some(json!({"addresses": addresses, "conditions": conditions, "listeners": listeners}))
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

fn said(kind: &'static str, holds: bool, reason: &'static str, message: impl Into<String>) -> Said {
    Said { kind, holds, reason, message: message.into() }
}

fn word(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

fn says(held: &[Condition], wanted: &[Said], generation: i64) -> bool {
    wanted.iter().all(|said| {
        held.iter().any(|held| {
            held.type_ == said.kind
                && held.status == word(said.holds)
                && held.reason == said.reason
                && held.message == said.message
                && held.observed_generation == generation
        })
    })
}

/// Conditions as they are written: the time moves with the status, not with the words.
fn written(held: &[Condition], wanted: &[Said], generation: i64, now: Time) -> Vec<Value> {
    let one = |said: &Said| {
        let status = word(said.holds);
        let held = held.iter().find(|held| held.type_ == said.kind && held.status == status);
        let since = held.and_then(|held| held.last_transition_time).unwrap_or(now);
        json!({
            "type": said.kind, "status": status, "reason": said.reason, "message": said.message,
            "observedGeneration": generation, "lastTransitionTime": since.to_string(),
        })
    };
    wanted.iter().map(one).collect()
}

fn accepted(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Invalid(problem) => said("Accepted", false, "InvalidParameters", problem.clone()),
        _ => said("Accepted", true, "Accepted", "Resource accepted"),
    }
}

fn resolved() -> Said {
    said("ResolvedRefs", true, "ResolvedRefs", "All references resolved")
}

fn programmed(gateway: &Gateway, role: Role, outcome: &Outcome, addresses: &[Address], good: bool) -> Said {
    let no = |reason, message: String| said("Programmed", false, reason, message);
    if !good {
        return no("Invalid", "a listener cannot be served; see the listeners' conditions".to_owned());
    }
    match outcome {
        Outcome::Invalid(problem) => return no("Invalid", problem.clone()),
        Outcome::Refused(problem) => {
            return no("Invalid", format!("the cluster does not take what is to be deployed: {problem}"));
        }
        Outcome::Elsewhere { service: None } if role != Role::Remote => {
            return no("AddressNotUsable", "there is no Service by the name in spec.addresses".to_owned());
        }
        _ => {}
    }
    if let Outcome::Deployed { name, ready: 0, .. } = outcome
        && addresses.is_empty()
    {
        let namespace = gateway.namespace();
        return no(
            "AddressNotUsable",
            format!("no pod of deployment {namespace}/{name} is ready; see its pods' status and logs"),
        );
    }
    if addresses.is_empty() {
        return no(
            "AddressNotAssigned",
            "the service has no address yet; a LoadBalancer gets one from the cluster's provider".to_owned(),
        );
    }
    let hosts = addresses
        .iter()
        .find(|(kind, _)| *kind == "Hostname")
        .or_else(|| addresses.first())
        .map_or("", |(_, host)| host);
    let mut ports: Vec<_> = gateway.spec.listeners.iter().map(|listener| listener.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let places: Vec<_> = ports.iter().map(|port| format!("{hosts}:{port}")).collect();
    said("Programmed", true, "Programmed", format!("Resource programmed, assigned to service(s) {}", places.join(", ")))
}

/// Where the gateway can be reached now.
fn addresses(gateway: &Gateway, role: Role, outcome: &Outcome, domain: &str) -> Vec<Address> {
    let hostname = |service: &Service| ("Hostname", format!("{}.{}.svc.{domain}", service.name(), service.namespace()));
    match outcome {
        Outcome::Invalid(_) | Outcome::Refused(_) => held_addresses(gateway),
        Outcome::Elsewhere { service } => {
            let asked = gateway.spec.addresses.iter().filter(|address| !address.value.is_empty());
            let asked = asked.map(|address| match address.type_.as_str() {
                "Hostname" => ("Hostname", address.value.clone()),
                _ => ("IPAddress", address.value.clone()),
            });
            match service {
                Some(service) => cluster_addresses(service).chain([hostname(service)]).collect(),
                None if role == Role::Remote => asked.collect(),
                None => Vec::new(),
            }
        }
        Outcome::Deployed { ready: 0, .. } | Outcome::Deployed { service: None, .. } => Vec::new(),
        Outcome::Deployed { service: Some(service), .. } if service.spec.type_ == "LoadBalancer" => {
            let ingress = service.status.load_balancer.ingress.iter();
            let address = |ip: &String, host: &String| {
                if ip.is_empty() { ("Hostname", host.clone()) } else { ("IPAddress", ip.clone()) }
            };
            ingress.map(|ingress| address(&ingress.ip, &ingress.hostname)).collect()
        }
        Outcome::Deployed { service: Some(service), .. } => {
            cluster_addresses(service).chain([hostname(service)]).collect()
        }
    }
}

fn cluster_addresses(service: &Service) -> impl Iterator<Item = Address> + '_ {
    let spec = &service.spec;
    let one = spec.cluster_ips.is_empty().then_some(&spec.cluster_ip);
    let all = spec.cluster_ips.iter().chain(one);
    all.filter(|address| !matches!(address.as_str(), "" | "None")).map(|address| ("IPAddress", address.clone()))
}

fn held_addresses(gateway: &Gateway) -> Vec<Address> {
    let held = gateway.status.addresses.iter();
    held.map(|address| (if address.type_ == "Hostname" { "Hostname" } else { "IPAddress" }, address.value.clone()))
        .collect()
}

/// What is said of one listener.
struct ListenerSaid<'a> {
    listener: &'a Listener,
    kinds: &'static [&'static str],
    problem: Option<(&'static str, String)>,
}

fn listener_status<'a>(gateway: &Gateway, role: Role, listener: &'a Listener) -> ListenerSaid<'a> {
    let (kinds, known): (&[&str], bool) = match (role, listener.protocol.as_str()) {
        (_, "HBONE") => (&[], true),
        (Role::Waypoint, _) => (&[], false),
        (_, "HTTP" | "HTTPS") => (&["HTTPRoute", "GRPCRoute"], true),
        (_, "TLS") => (&["TLSRoute", "TCPRoute"], true),
        (_, "TCP") => (&["TCPRoute"], true),
        _ => (&[], false),
    };
    let unsupported = |message: String| Some(("UnsupportedProtocol", message));
    let problem = if role == Role::Waypoint {
        let one = gateway.spec.listeners.len() == 1 && known && listener.port == i32::from(HBONE_PORT);
        (!one)
            .then(|| {
                unsupported(format!("a waypoint has exactly one listener, of protocol HBONE on port {HBONE_PORT}"))
            })
            .flatten()
    } else if known {
        None
    } else {
        unsupported(format!("protocol {:?} is not served; use HTTP, HTTPS, TLS, TCP or HBONE", listener.protocol))
    };
    ListenerSaid { listener, kinds, problem }
}

impl ListenerSaid<'_> {
    fn conditions(&self) -> [Said; 4] {
        let fine = "No errors found";
        let (accepted, programmed) = match &self.problem {
            None => (said("Accepted", true, "Accepted", fine), said("Programmed", true, "Programmed", fine)),
            Some((reason, message)) => (
                said("Accepted", false, reason, message.clone()),
                said("Programmed", false, "Invalid", message.clone()),
            ),
        };
        [
            accepted,
            said("Conflicted", false, "NoConflicts", fine),
            programmed,
            said("ResolvedRefs", true, "ResolvedRefs", fine),
        ]
    }

    fn held<'a>(&self, gateway: &'a Gateway) -> Option<&'a api::ListenerStatus> {
        gateway.status.listeners.iter().find(|held| held.name == self.listener.name)
    }

    fn is_said(&self, gateway: &Gateway) -> bool {
        self.held(gateway).is_some_and(|held| {
            held.attached_routes == attached(gateway, self.listener)
                && held.supported_kinds.iter().map(|kind| kind.kind.as_str()).eq(self.kinds.iter().copied())
                && says(&held.conditions, &self.conditions(), gateway.metadata().generation)
        })
    }

    fn value(&self, gateway: &Gateway, now: Time) -> Value {
        let held = self.held(gateway).map_or(&[] as &[Condition], |held| &held.conditions);
        let kinds: Vec<_> = self.kinds.iter().map(|kind| json!({"group": api::gateway::GROUP, "kind": kind})).collect();
        json!({
            "name": self.listener.name, "supportedKinds": kinds, "attachedRoutes": attached(gateway, self.listener),
            "conditions": written(held, &self.conditions(), gateway.metadata().generation, now),
        })
    }
}

/// How many routes are attached to a listener; whoever resolves routes writes the number, and it is kept here.
fn attached(gateway: &Gateway, listener: &Listener) -> i32 {
    let held = gateway.status.listeners.iter().find(|held| held.name == listener.name);
    held.map_or(0, |held| held.attached_routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: &str = "2026-11-21T10:00:00Z";

    fn gateway(spec: Value) -> Gateway {
        let metadata = json!({"name": "waypoint", "namespace": "shop", "generation": 1});
        let mut whole = json!({"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]});
        super::super::overlay::merge(&mut whole, &spec);
        Gateway::from_value(json!({"metadata": metadata, "spec": whole})).unwrap()
    }

    fn service(spec: Value, status: Value) -> Option<Service> {
        let metadata = json!({"name": "waypoint", "namespace": "shop"});
        Some(Service::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap())
    }

    fn deployed(ready: i32) -> Outcome {
        Outcome::Deployed {
            name: "waypoint".to_owned(),
            service: service(json!({"clusterIP": "10.96.1.1"}), json!({})),
            ready,
        }
    }

    /// The gateway with the status that is said of it, and that status; none if nothing is to be written.
    fn told(mut gateway: Gateway, role: Role, outcome: &Outcome, now: &str) -> (Gateway, Option<Value>) {
        let status = status(&gateway, role, outcome, "cluster.local", Time(now.parse().unwrap()));
        if let Some(status) = &status {
            gateway.status = serde_json::from_value(status.clone()).unwrap();
        }
        (gateway, status)
    }

    fn condition(gateway: &Gateway, kind: &str) -> (String, String) {
        let held = gateway.status.conditions.iter().find(|held| held.type_ == kind).unwrap();
        (held.status.clone(), held.reason.clone())
    }

    fn addresses(gateway: &Gateway) -> Vec<&str> {
        gateway.status.addresses.iter().map(|address| address.value.as_str()).collect()
    }

    #[test]
    fn a_waypoint_is_programmed_when_a_pod_serves_and_keeps_its_address() {
        let (waiting, _) = told(gateway(json!({})), Role::Waypoint, &deployed(0), NOW);
        assert_eq!(condition(&waiting, "Accepted"), ("True".to_owned(), "Accepted".to_owned()));
        assert_eq!(condition(&waiting, "Programmed"), ("False".to_owned(), "AddressNotUsable".to_owned()));
        assert_eq!(addresses(&waiting), [""; 0]);

        let (ready, _) = told(waiting, Role::Waypoint, &deployed(1), "2026-11-21T10:00:05Z");
        assert_eq!(condition(&ready, "Programmed"), ("True".to_owned(), "Programmed".to_owned()));
        assert_eq!(addresses(&ready), ["10.96.1.1", "waypoint.shop.svc.cluster.local"]);
        let held = ready.status.conditions.iter().find(|held| held.type_ == "Programmed").unwrap();
        assert_eq!(held.message, "Resource programmed, assigned to service(s) waypoint.shop.svc.cluster.local:15008");
        let since = |gateway: &Gateway, kind: &str| {
            gateway
                .status
                .conditions
                .iter()
                .find(|held| held.type_ == kind)
                .unwrap()
                .last_transition_time
                .unwrap()
                .to_string()
        };
        assert_eq!(
            (since(&ready, "Accepted").as_str(), since(&ready, "Programmed").as_str()),
            (NOW, "2026-11-21T10:00:05Z")
        );

        // A crash of every pod must not let traffic go past the waypoint.
        let (crashed, written) = told(ready, Role::Waypoint, &deployed(0), NOW);
        assert_eq!(written, None);
        assert_eq!(addresses(&crashed).len(), 2);
    }

    #[test]
    fn nothing_new_is_not_said_again() {
        let (ready, _) = told(gateway(json!({})), Role::Waypoint, &deployed(1), NOW);
        let (mut changed, again) = told(ready, Role::Waypoint, &deployed(1), "2026-11-22T10:00:00Z");
        assert_eq!(again, None);
        changed.metadata.generation = 2;
        let (_, seen) = told(changed, Role::Waypoint, &deployed(1), NOW);
        assert_eq!(seen.unwrap()["conditions"][0]["observedGeneration"], 2);
    }

    #[rstest]
    #[case::parameters(Outcome::Invalid("no".to_owned()), ("False", "InvalidParameters"), ("False", "Invalid"))]
    #[case::refused(Outcome::Refused("quota".to_owned()), ("True", "Accepted"), ("False", "Invalid"))]
    #[case::no_service(Outcome::Elsewhere { service: None }, ("True", "Accepted"), ("False", "AddressNotUsable"))]
    #[case::own_service(Outcome::Elsewhere { service: service(json!({"clusterIP": "10.96.1.9"}), json!({})) }, ("True", "Accepted"), ("True", "Programmed"))]
    fn outcomes(#[case] outcome: Outcome, #[case] accepted: (&str, &str), #[case] programmed: (&str, &str)) {
        let (gateway, _) = told(gateway(json!({})), Role::Waypoint, &outcome, NOW);
        let own = |(status, reason): (&str, &str)| (status.to_owned(), reason.to_owned());
        assert_eq!(condition(&gateway, "Accepted"), own(accepted));
        assert_eq!(condition(&gateway, "Programmed"), own(programmed));
    }

    #[rstest]
    #[case::pending(json!({}), "AddressNotAssigned", &[])]
    #[case::assigned(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}}), "Programmed", &["192.0.2.1", "lb.example"])]
    fn load_balancers(#[case] state: Value, #[case] reason: &str, #[case] expected: &[&str]) {
        let service = service(json!({"type": "LoadBalancer", "clusterIP": "10.96.1.1"}), state);
        let outcome = Outcome::Deployed { name: "front-istio".to_owned(), service, ready: 1 };
        let http = json!({"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}, {"$patch": "replace"}]});
        let (gateway, _) = told(gateway(http), Role::Edge, &outcome, NOW);
        assert_eq!(condition(&gateway, "Programmed").1, reason);
        assert_eq!(addresses(&gateway), expected);
        assert_eq!(gateway.status.listeners[0].supported_kinds.len(), 2);
    }

    #[rstest]
    #[case::two(json!({"listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}, {"name": "x", "port": 80, "protocol": "HTTP"}]}))]
    #[case::another_port(json!({"listeners": [{"name": "mesh", "port": 15009, "protocol": "HBONE"}]}))]
    #[case::another_protocol(json!({"listeners": [{"name": "mesh", "port": 15008, "protocol": "HTTP"}]}))]
    fn listeners_that_no_waypoint_has(#[case] spec: Value) {
        let (gateway, _) = told(gateway(spec), Role::Waypoint, &deployed(1), NOW);
        let accepted = gateway.status.listeners[0].conditions.iter().find(|held| held.type_ == "Accepted").unwrap();
        assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "UnsupportedProtocol"));
        assert_eq!(condition(&gateway, "Programmed"), ("False".to_owned(), "Invalid".to_owned()));
    }
}
