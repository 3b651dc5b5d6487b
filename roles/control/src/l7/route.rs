//! Routes of Gateway API as the wire says them, and what each parent makes of them. Pure: one object and the world in, one message and
//! its status out.

use super::{
    filter::{self, filters, time},
    parent::{self, Attached},
    world::World,
};
use api::{
    GRPCRoute, HTTPRoute, ObjectMeta,
    gateway::{GrpcRule, HttpRule, ParentReference, RouteBackend, RouteRetry, RouteSpec},
};
use proto::l7 as wire;
use serde::{Deserialize, de::DeserializeOwned};

/// What a route came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The message; none when no parent accepts the route.
    pub route: Option<wire::Route>,
    /// For each parent, what its status says.
    pub parents: Vec<ParentStatus>,
}

/// What is said of a route at one parent.
#[derive(Debug, Clone, PartialEq)]
pub struct ParentStatus {
    /// The parent, as written.
    pub parent: ParentReference,
    /// `Accepted`: whether, reason, message.
    pub accepted: Said,
    /// `ResolvedRefs`: the same.
    pub resolved: Said,
}

/// One condition.
pub type Said = (bool, &'static str, String);

/// References of one route to backends, noted as they are resolved.
#[derive(Debug)]
pub(super) struct Refs<'a> {
    pub(super) world: &'a World,
    pub(super) kind: &'static str,
    pub(super) namespace: &'a str,
    /// What the route attaches to: to send back there needs nobody's leave.
    pub(super) parents: &'a [ParentReference],
    /// The first that leads nowhere.
    pub(super) broken: Option<(&'static str, String)>,
}

impl Refs<'_> {
    /// The backend of a reference.
    pub(super) fn backend(&mut self, backend: &RouteBackend) -> wire::Backend {
        let namespace = if backend.namespace.is_empty() { self.namespace } else { &backend.namespace };
        let mut wire = wire::Backend {
            weight: backend.weight.unwrap_or(1),
            service: Some(self.world.key(namespace, &backend.name)),
            port: backend.port.unwrap_or_default(),
            ..wire::Backend::default()
        };
        if let Err((reason, message)) = self.check(namespace, backend) {
            wire.invalid.clone_from(&message);
            self.broken.get_or_insert((reason, message));
        }
        match filters(&backend.filters, self) {
            Ok(filters) => wire.filters = filters,
            Err(message) => {
                wire.invalid.clone_from(&message);
                self.broken.get_or_insert(("UnsupportedValue", message));
            }
        }
        wire
    }

    fn check(&self, namespace: &str, backend: &RouteBackend) -> Result<(), (&'static str, String)> {
        let name = &backend.name;
        if !backend.group.is_empty() || !matches!(backend.kind.as_str(), "" | "Service") {
            let what = format!("{}/{}", backend.group, backend.kind);
            return Err(("InvalidKind", format!("backend {name} is of the kind {what}, which is none to send to")));
        }
        let is_parent = |parent: &ParentReference| {
            parent.kind == "Service" && parent.name == *name && parent.namespace == namespace
        };
        if !self.parents.iter().any(is_parent) && !self.world.permits(self.kind, self.namespace, namespace, name) {
            let missing =
                format!("backend {namespace}/{name} is in another namespace, and no ReferenceGrant there permits it");
            return Err(("RefNotPermitted", missing));
        }
        let missing = || ("BackendNotFound", format!("there is no service {namespace}/{name}"));
        let service = self.world.service(namespace, name).ok_or_else(missing)?;
        match backend.port {
            None => Err(("UnsupportedValue", format!("backend {name} needs a port"))),
            Some(port) if service.spec.ports.iter().any(|one| u32::try_from(one.port) == Ok(port)) => Ok(()),
            Some(port) => Err(("BackendNotFound", format!("service {namespace}/{name} has no port {port}"))),
        }
    }
}

/// An HTTPRoute.
pub fn http(route: &HTTPRoute, world: &World) -> Resolved {
    let rules = read::<HttpRule>(&route.spec);
    resolve(&route.metadata, &route.spec, wire::route::Kind::Http, "HTTPRoute", world, |refs| {
        rules?.iter().map(|rule| http_rule(rule, refs)).collect()
    })
}

/// A GRPCRoute.
pub fn grpc(route: &GRPCRoute, world: &World) -> Resolved {
    let rules = read::<GrpcRule>(&route.spec);
    resolve(&route.metadata, &route.spec, wire::route::Kind::Grpc, "GRPCRoute", world, |refs| {
        rules?.iter().map(|rule| grpc_rule(rule, refs)).collect()
    })
}

/// The rules of a route; a route without any has one that says nothing.
fn read<T: DeserializeOwned + Default>(spec: &RouteSpec) -> Result<Vec<T>, String> {
    if spec.rules.is_null() {
        return Ok(vec![T::default()]);
    }
    Vec::deserialize(&spec.rules).map_err(|error| format!("the rules cannot be read: {error}"))
}

fn http_rule(rule: &HttpRule, refs: &mut Refs<'_>) -> Result<wire::Rule, String> {
    let timeouts = rule.timeouts.clone().unwrap_or_default();
    Ok(wire::Rule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(filter::http_match).collect(),
        filters: filters(&rule.filters, refs)?,
        backends: rule.backend_refs.iter().map(|backend| refs.backend(backend)).collect(),
        timeout: time(&timeouts.request),
        attempt_timeout: time(&timeouts.backend_request),
        retry: rule.retry.as_ref().map(retry),
        fault: None,
    })
}

fn grpc_rule(rule: &GrpcRule, refs: &mut Refs<'_>) -> Result<wire::Rule, String> {
    Ok(wire::Rule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(filter::grpc_match).collect(),
        filters: filters(&rule.filters, refs)?,
        backends: rule.backend_refs.iter().map(|backend| refs.backend(backend)).collect(),
        ..wire::Rule::default()
    })
}

/// Connections that fail are tried again whatever codes are named.
fn retry(retry: &RouteRetry) -> wire::Retry {
    let conditions = ["connect-failure", "refused-stream", "reset"].map(str::to_owned).to_vec();
    wire::Retry {
        attempts: retry.attempts.unwrap_or(2),
        conditions,
        codes: retry.codes.clone(),
        backoff: time(&retry.backoff),
        per_try: None,
    }
}

fn resolve(
    metadata: &ObjectMeta,
    spec: &RouteSpec,
    kind: wire::route::Kind,
    name: &'static str,
    world: &World,
    rules: impl FnOnce(&mut Refs<'_>) -> Result<Vec<wire::Rule>, String>,
) -> Resolved {
    let mut refs = Refs { world, kind: name, namespace: &metadata.namespace, parents: &spec.parent_refs, broken: None };
    let rules = rules(&mut refs);
    let resolved = match refs.broken {
        Some((reason, message)) => (false, reason, message),
        None => (true, "ResolvedRefs", "every reference was resolved".to_owned()),
    };
    let mut parents = Vec::new();
    let mut attached = Vec::new();
    for reference in &spec.parent_refs {
        let accepted = match (parent::attach(reference, metadata, &spec.hostnames, name, world), &rules) {
            (Attached::Ignored, _) => continue,
            (Attached::Refused(reason, message), _) => (false, reason, message),
            (Attached::To(_), Err(message)) => (false, "UnsupportedValue", message.clone()),
            (Attached::To(parents), Ok(_)) => {
                attached.extend(parents);
                (true, "Accepted", "the route is in use".to_owned())
            }
        };
        parents.push(ParentStatus { parent: reference.clone(), accepted, resolved: resolved.clone() });
    }
    let route = rules.ok().filter(|_| !attached.is_empty()).map(|rules| wire::Route {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        kind: kind.into(),
        parents: attached,
        hostnames: spec.hostnames.clone(),
        created: metadata.creation_timestamp.map(|time| time.0.as_second()).unwrap_or_default(),
        rules,
    });
    Resolved { route, parents }
}
