//! What a policy with targets is bound to: its waypoints, and what is wrong with the targets that have none
//! (control-plane A8, A9).

use super::{
    View,
    verdict::{Verdict, WAYPOINT_ACCEPTED},
    waypoint::{Binding, Traffic, bind},
};
use api::{AuthorizationPolicy, ObjectMeta, Resource, istio::PolicyTargetReference, validate};

/// What became of one target: the waypoint or gateway that enforces the policy for it, or a reason and what to do.
type Bound = Result<String, (&'static str, String)>;

/// What is to be said about a policy with targets.
pub(super) fn verdict(policy: &AuthorizationPolicy, view: View<'_>) -> Verdict {
    let bound: Vec<Bound> = policy.spec.targets().map(|target| bound(policy, target, view)).collect();
    let problems = validate::authorization_policy(policy);
    let wrong = bound.iter().filter_map(|bound| bound.as_ref().err().map(|(_, message)| message.clone()));
    let wrong: Vec<String> = wrong.chain(problems.iter().map(ToString::to_string)).collect();
    let mut enforced: Vec<&str> = bound.iter().filter_map(|bound| bound.as_deref().ok()).collect();
    enforced.dedup();
    let verdict = |holds, reason, message| Verdict { type_: WAYPOINT_ACCEPTED, holds, reason, message };
    match (enforced.is_empty(), wrong.is_empty()) {
        (false, true) => verdict(true, "Accepted", format!("bound to {}", enforced.join(", "))),
        (false, false) => {
            let message = format!("bound to {}, but {}", enforced.join(", "), wrong.join("; "));
            verdict(true, "PartiallyInvalid", message)
        }
        (true, _) => {
            let reason = bound.iter().find_map(|bound| bound.as_ref().err().map(|(reason, _)| *reason));
            verdict(false, reason.unwrap_or("Invalid"), wrong.join("; "))
        }
    }
}

fn bound(policy: &AuthorizationPolicy, target: &PolicyTargetReference, view: View<'_>) -> Bound {
    let (namespace, name) = (policy.namespace(), target.name.as_str());
    if !target.namespace.is_empty() && target.namespace != namespace {
        return Err((
            "Invalid",
            format!("target {name} is in namespace {}, not in the policy's own", target.namespace),
        ));
    }
    let missing = || ("TargetNotFound", format!("{} {namespace}/{name} does not exist", target.kind));
    let objects = view.objects;
    match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => {
            of_service(&objects.services.get(namespace, name).ok_or_else(missing)?.metadata, target, view)
        }
        ("networking.istio.io", "ServiceEntry") => {
            of_service(&objects.service_entries.get(namespace, name).ok_or_else(missing)?.metadata, target, view)
        }
        ("gateway.networking.k8s.io", "Gateway") => {
            objects.gateways.get(namespace, name).ok_or_else(missing).map(|_| format!("{namespace}/{name}"))
        }
        ("gateway.networking.k8s.io", "GatewayClass") if namespace != view.mesh.root_namespace => {
            let root = &view.mesh.root_namespace;
            Err(("Invalid", format!("a GatewayClass can be the target of a policy in namespace {root} only")))
        }
        ("gateway.networking.k8s.io", "GatewayClass") => {
            let missing = || ("TargetNotFound", format!("GatewayClass {name} does not exist"));
            objects.gateway_classes.get("", name).ok_or_else(missing).map(|_| format!("GatewayClass {name}"))
        }
        (group, kind) => Err(("Invalid", format!("{group}/{kind} cannot be the target of a policy"))),
    }
}

/// A service's policies are enforced by its waypoint.
fn of_service(metadata: &ObjectMeta, target: &PolicyTargetReference, view: View<'_>) -> Bound {
    let unbound = |why: String| {
        let message = format!("{} {}/{} has no waypoint: {why}", target.kind, metadata.namespace, metadata.name);
        Err(("AncestorNotBound", message))
    };
    match bind(metadata, Traffic::Service, view) {
        Binding::Bound { waypoint, .. } => Ok(waypoint),
        Binding::Unasked => {
            unbound("label it, or its namespace, istio.io/use-waypoint=<name of a waypoint>".to_owned())
        }
        Binding::Refused(refusal) => unbound(refusal.message),
    }
}

/// Whether a policy names an object as a target.
pub(super) fn is_target(policy: &AuthorizationPolicy, kind: &str, name: &str) -> bool {
    policy.spec.targets().any(|target| target.kind == kind && target.name == name)
}
