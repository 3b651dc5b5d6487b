//! What the mesh has to say about an object, for its status (control-plane A9).

use super::{Source, Traffic, View, authorization, bind, service, target, waypoint::Binding};
use api::{
    AuthorizationPolicy, Condition, ObjectMeta, Resource, ServiceEntry,
    istio::{Action, Resolution},
    validate,
};
use proto::workload::Visibility;

/// An object that something is said about, and in which part of its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An AuthorizationPolicy, as node proxies enforce it.
    Policy,
    /// An AuthorizationPolicy, as waypoints and gateways enforce it.
    PolicyTargets,
    /// A Service.
    Service,
    /// A ServiceEntry.
    ServiceEntry,
    /// A WorkloadEntry.
    WorkloadEntry,
    /// Whether an object of this kind can be read.
    Shape(&'static str),
}

impl Subject {
    /// The types of the conditions that are ours to set and to take back.
    pub fn types(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &[ZTUNNEL_ACCEPTED],
            Self::PolicyTargets => &[WAYPOINT_ACCEPTED],
            Self::Service | Self::WorkloadEntry => &[WAYPOINT_BOUND],
            Self::ServiceEntry => &[WAYPOINT_BOUND, WAYPOINT_MISSING, VISIBILITY_APPLIED],
            Self::Shape(_) => &[READABLE],
        }
    }
}

const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
pub(super) const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";
const WAYPOINT_MISSING: &str = "istio.io/WaypointMissing";
const VISIBILITY_APPLIED: &str = "istio.io/VisibilityApplied";
const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
/// Ours alone: upstream drops what it cannot read, without a word in the object.
pub(super) const READABLE: &str = "ambit.io/Readable";

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Type.
    pub type_: &'static str,
    /// `True` or `False`.
    pub holds: bool,
    /// Reason, a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What is to be said about an object, beside what its status says.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// About what.
    pub subject: Subject,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What there is to say; nothing takes back what was said.
    pub verdicts: Vec<Verdict>,
    /// What the object's status says already, among the subject's types.
    pub held: Vec<Condition>,
    /// The object's generation.
    pub generation: i64,
}

/// What there is to say about the object that a source is, if it is one that is spoken about.
pub(super) fn statements(source: &Source, view: View<'_>) -> Vec<Statement> {
    let objects = view.objects;
    match source {
        Source::Policy(namespace, name) => match objects.policies.get(namespace, name) {
            Some(policy) => of_policy(policy, view),
            None => vec![gone(Subject::Policy, namespace, name), gone(Subject::PolicyTargets, namespace, name)],
        },
        Source::Service(namespace, name) => vec![match objects.services.get(namespace, name) {
            Some(service) => {
                let verdicts = bound(&service.metadata, Traffic::Service, view).into_iter().collect();
                statement(Subject::Service, &service.metadata, &service.status.conditions, verdicts)
            }
            None => gone(Subject::Service, namespace, name),
        }],
        Source::ServiceEntry(namespace, name) => vec![match objects.service_entries.get(namespace, name) {
            Some(entry) => {
                statement(Subject::ServiceEntry, &entry.metadata, &entry.status.conditions, of_entry(entry, view))
            }
            None => gone(Subject::ServiceEntry, namespace, name),
        }],
        Source::WorkloadEntry(namespace, name) => vec![match objects.workload_entries.get(namespace, name) {
            Some(entry) => {
                let verdicts = bound(&entry.metadata, Traffic::Workload, view).into_iter().collect();
                statement(Subject::WorkloadEntry, &entry.metadata, &entry.status.conditions, verdicts)
            }
            None => gone(Subject::WorkloadEntry, namespace, name),
        }],
        // An AuthorizationPolicy has a condition of its own for this.
        Source::Shape(AuthorizationPolicy::KIND, ..) => Vec::new(),
        Source::Shape(kind, namespace, name) => vec![objects.unreadable.statement(kind, namespace, name)],
        Source::Pod(..)
        | Source::Slice(..)
        | Source::PeerAuthentication(..)
        | Source::StaticStrict
        | Source::NetworkGateway(..)
        | Source::WaypointOnly(..) => Vec::new(),
    }
}

/// Of what is gone nothing is left to be said.
fn gone(subject: Subject, namespace: &str, name: &str) -> Statement {
    statement(subject, &ObjectMeta::named(namespace, name), &[], Vec::new())
}

fn statement(subject: Subject, metadata: &ObjectMeta, held: &[Condition], verdicts: Vec<Verdict>) -> Statement {
    let ours = held.iter().filter(|held| subject.types().contains(&held.type_.as_str()));
    Statement {
        subject,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        verdicts,
        held: ours.cloned().collect(),
        generation: metadata.generation,
    }
}

fn of_policy(policy: &AuthorizationPolicy, view: View<'_>) -> Vec<Statement> {
    let metadata = &policy.metadata;
    let unreadable = view.objects.unreadable::<AuthorizationPolicy>(&metadata.namespace, &metadata.name);
    let held = unreadable.map_or(&policy.status.conditions, |unreadable| &unreadable.conditions);
    let is_waypoints = policy.spec.targets().next().is_some();
    let say = |subject, type_, judge: &dyn Fn() -> Option<Verdict>, ours: bool| {
        let verdict = match unreadable {
            _ if !ours => None,
            Some(unreadable) => Some(unreadable.verdict(type_)),
            None => judge(),
        };
        statement(subject, metadata, held, verdict.into_iter().collect())
    };
    vec![
        say(Subject::Policy, ZTUNNEL_ACCEPTED, &|| at_ztunnel(policy, view), !is_waypoints),
        say(Subject::PolicyTargets, WAYPOINT_ACCEPTED, &|| Some(target::verdict(policy, view)), is_waypoints),
    ]
}

/// How node proxies enforce a policy.
fn at_ztunnel(policy: &AuthorizationPolicy, view: View<'_>) -> Option<Verdict> {
    let verdict = |reason, message| Some(Verdict { type_: ZTUNNEL_ACCEPTED, holds: true, reason, message });
    let (sent, unsupported) = authorization(policy, view.mesh);
    let broken = sent.as_ref().is_some_and(|sent| sent.rules.iter().any(|rule| rule.unusable));
    if broken {
        let mut wrong: Vec<String> = validate::authorization_policy(policy).iter().map(ToString::to_string).collect();
        wrong.extend(unsupported.map(|unsupported| unsupported.to_string()));
        let message = format!(
            "rules that cannot be enforced as they are written {}: {}",
            if policy.spec.action == Action::Deny { "deny everything" } else { "allow nothing" },
            wrong.join("; "),
        );
        return verdict("PartiallyInvalid", message);
    }
    match (sent, unsupported) {
        (_, Some(unsupported)) => verdict("UnsupportedValue", unsupported.to_string()),
        (Some(_), None) => verdict("Accepted", "attached to ztunnel".to_owned()),
        (None, None) => None,
    }
}

fn of_entry(entry: &ServiceEntry, view: View<'_>) -> Vec<Verdict> {
    let bound = bound(&entry.metadata, Traffic::Service, view);
    let wildcard = entry.spec.hosts.iter().any(|host| host.starts_with('*'));
    let dynamic = wildcard && entry.spec.resolution == Resolution::DynamicDns;
    let missing = (dynamic && !bound.as_ref().is_some_and(|bound| bound.holds)).then(|| Verdict {
        type_: WAYPOINT_MISSING,
        holds: true,
        reason: "NoWaypointForWildcardService",
        message:
            "only a waypoint can resolve the name that a client asks for under a wildcard; without one nothing is \
                  sent to these hosts: label the entry istio.io/use-waypoint=<name of a waypoint>"
                .to_owned(),
    });
    bound.into_iter().chain(missing).chain(visible(entry)).collect()
}

/// What became of `exportTo`, if it is there.
fn visible(entry: &ServiceEntry) -> Option<Verdict> {
    if entry.spec.export_to.is_empty() {
        return None;
    }
    let (holds, reason, message) = match service::visibility(entry) {
        Some(Visibility::Namespace) => (true, "Namespace", "visible in its own namespace only"),
        Some(_) if entry.spec.export_to.iter().any(|name| name == "*") => (true, "Public", "visible to the whole mesh"),
        Some(_) => {
            (true, "Public", "visible to the whole mesh: node proxies know only \".\", \"~\" and \"*\" in exportTo")
        }
        None => (false, "Hidden", "exported to nobody, so not sent to any proxy"),
    };
    Some(Verdict { type_: VISIBILITY_APPLIED, holds, reason, message: message.to_owned() })
}

fn bound(metadata: &ObjectMeta, traffic: Traffic, view: View<'_>) -> Option<Verdict> {
    let verdict = |holds, reason, message| Some(Verdict { type_: WAYPOINT_BOUND, holds, reason, message });
    match bind(metadata, traffic, view) {
        Binding::Unasked => None,
        Binding::Bound { canary: Some(Err(refusal)), .. } | Binding::Refused(refusal) => {
            verdict(false, refusal.reason, refusal.message)
        }
        Binding::Bound { waypoint, .. } => {
            let ingress = traffic == Traffic::Service
                && service::ingress_uses_waypoint(&metadata.labels, &metadata.namespace, view);
            let ingress = if ingress { ". Ingress traffic will traverse the waypoint" } else { "" };
            verdict(true, "WaypointAccepted", format!("Successfully attached to waypoint {waypoint}{ingress}"))
        }
    }
}
