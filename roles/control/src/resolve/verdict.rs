//! What the mesh has to say about an object, for its status (control-plane A9).

use super::{Source, Traffic, View, authorization, bind, waypoint::Binding};

/// An object that something is said about.
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
}

/// A condition; its type follows from the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True` or `False`.
    pub holds: bool,
    /// Reason, a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Subject, namespace and name with what is said; `None`: nothing any more.
pub type Verdicts = Vec<((Subject, String, String), Option<Verdict>)>;

/// What there is to say about the object that a source is, if it is one that is spoken about.
pub(super) fn verdict(source: &Source, view: View<'_>) -> Option<((Subject, String, String), Option<Verdict>)> {
    let objects = view.objects;
    let (subject, namespace, name) = match source {
        Source::Policy(namespace, name) => (Subject::Policy, namespace, name),
        Source::Service(namespace, name) => (Subject::Service, namespace, name),
        Source::ServiceEntry(namespace, name) => (Subject::ServiceEntry, namespace, name),
        Source::WorkloadEntry(namespace, name) => (Subject::WorkloadEntry, namespace, name),
        _ => return None,
    };
    let verdict = match subject {
        Subject::Policy => of_policy(objects.policies.get(namespace, name)?, view),
        Subject::Service => bound(bind(&objects.services.get(namespace, name)?.metadata, Traffic::Service, view)),
        Subject::ServiceEntry => {
            bound(bind(&objects.service_entries.get(namespace, name)?.metadata, Traffic::Service, view))
        }
        Subject::WorkloadEntry => {
            bound(bind(&objects.workload_entries.get(namespace, name)?.metadata, Traffic::Workload, view))
        }
    };
    Some(((subject, namespace.clone(), name.clone()), verdict))
}

fn of_policy(policy: &api::AuthorizationPolicy, view: View<'_>) -> Option<Verdict> {
    let verdict = |reason, message| Some(Verdict { holds: true, reason, message });
    match authorization(policy, view.mesh) {
        (_, Some(unsupported)) => verdict("UnsupportedValue", unsupported.to_string()),
        (Some(_), None) => verdict("Accepted", "attached to ztunnel".to_owned()),
        // A waypoint's policy is none of the node proxies' business.
        (None, None) => None,
    }
}

fn bound(binding: Binding) -> Option<Verdict> {
    match binding {
        Binding::Unasked => None,
        Binding::Bound { canary: Some(Err(refusal)), .. } | Binding::Refused(refusal) => {
            Some(Verdict { holds: false, reason: refusal.reason, message: refusal.message })
        }
        Binding::Bound { waypoint, .. } => Some(Verdict {
            holds: true,
            reason: "WaypointAccepted",
            message: format!("Successfully attached to waypoint {waypoint}"),
        }),
    }
}
