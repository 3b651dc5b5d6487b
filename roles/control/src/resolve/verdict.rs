//! What the mesh has to say about an object, for its status (control-plane A9).

use super::{Source, Traffic, View, authorization, bind, waypoint::Binding};
use api::{Condition, ObjectMeta};

/// An object that something is said about, and in which part of its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An AuthorizationPolicy.
    Policy,
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
            Self::Service | Self::ServiceEntry | Self::WorkloadEntry => &[WAYPOINT_BOUND],
            Self::Shape(_) => &[READABLE],
        }
    }
}

const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
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
pub(super) fn statement(source: &Source, view: View<'_>) -> Option<Statement> {
    let objects = view.objects;
    let say = |subject: Subject, metadata: &ObjectMeta, conditions: &[Condition], verdicts: Vec<Verdict>| {
        let ours = conditions.iter().filter(|held| subject.types().contains(&held.type_.as_str()));
        Some(Statement {
            subject,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            verdicts,
            held: ours.cloned().collect(),
            generation: metadata.generation,
        })
    };
    match source {
        Source::Policy(namespace, name) => {
            let policy = objects.policies.get(namespace, name)?;
            let held = match objects.unreadable::<api::AuthorizationPolicy>(namespace, name) {
                Some(unreadable) => &unreadable.conditions,
                None => &policy.status.conditions,
            };
            say(Subject::Policy, &policy.metadata, held, of_policy(policy, view).into_iter().collect())
        }
        Source::Service(namespace, name) => {
            let service = objects.services.get(namespace, name)?;
            let verdict = bound(bind(&service.metadata, Traffic::Service, view));
            say(Subject::Service, &service.metadata, &service.status.conditions, verdict.into_iter().collect())
        }
        Source::ServiceEntry(namespace, name) => {
            let entry = objects.service_entries.get(namespace, name)?;
            let verdict = bound(bind(&entry.metadata, Traffic::Service, view));
            say(Subject::ServiceEntry, &entry.metadata, &entry.status.conditions, verdict.into_iter().collect())
        }
        Source::WorkloadEntry(namespace, name) => {
            let entry = objects.workload_entries.get(namespace, name)?;
            let verdict = bound(bind(&entry.metadata, Traffic::Workload, view));
            say(Subject::WorkloadEntry, &entry.metadata, &entry.status.conditions, verdict.into_iter().collect())
        }
        Source::Shape(kind, namespace, name) => of_shape(kind, namespace, name, view),
        Source::Pod(..) | Source::Slice(..) | Source::PeerAuthentication(..) | Source::StaticStrict => None,
    }
}

/// What is said of an object because it cannot be read, or could not be until now.
fn of_shape(kind: &'static str, namespace: &str, name: &str, view: View<'_>) -> Option<Statement> {
    // An AuthorizationPolicy has a condition of its own for this.
    if kind == <api::AuthorizationPolicy as api::Resource>::KIND {
        return None;
    }
    Some(view.objects.unreadable.statement(kind, namespace, name))
}

fn of_policy(policy: &api::AuthorizationPolicy, view: View<'_>) -> Option<Verdict> {
    let unreadable =
        view.objects.unreadable::<api::AuthorizationPolicy>(&policy.metadata.namespace, &policy.metadata.name);
    if let Some(unreadable) = unreadable {
        return Some(unreadable.verdict(ZTUNNEL_ACCEPTED));
    }
    let verdict = |reason, message| Some(Verdict { type_: ZTUNNEL_ACCEPTED, holds: true, reason, message });
    match authorization(policy, view.mesh) {
        (_, Some(unsupported)) => verdict("UnsupportedValue", unsupported.to_string()),
        (Some(_), None) => verdict("Accepted", "attached to ztunnel".to_owned()),
        // A waypoint's policy is none of the node proxies' business.
        (None, None) => None,
    }
}

fn bound(binding: Binding) -> Option<Verdict> {
    let verdict = |holds, reason, message| Some(Verdict { type_: WAYPOINT_BOUND, holds, reason, message });
    match binding {
        Binding::Unasked => None,
        Binding::Bound { canary: Some(Err(refusal)), .. } | Binding::Refused(refusal) => {
            verdict(false, refusal.reason, refusal.message)
        }
        Binding::Bound { waypoint, .. } => {
            verdict(true, "WaypointAccepted", format!("Successfully attached to waypoint {waypoint}"))
        }
    }
}
