//! The classes of gateways that this control plane is in charge of, and what it deploys for each.

use api::{GatewayClass, Resource};
use serde_json::{Value, json};

/// What a controller name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A proxy at the edge: listeners for HTTP, TLS and TCP.
    Edge,
    /// A proxy in front of services: one HBONE listener.
    Waypoint,
    /// Runs elsewhere; nothing is deployed.
    Remote,
}

/// A class that is made when it is missing.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    controller: &'static str,
    description: &'static str,
}

/// The classes that every mesh has.
pub(super) const BUILT_IN: [BuiltIn; 3] = [
    BuiltIn {
        name: "istio",
        controller: "istio.io/gateway-controller",
        description: "Gateways at the edge, deployed by the control plane",
    },
    BuiltIn {
        name: "istio-remote",
        controller: "istio.io/unmanaged-gateway",
        description: "Gateways of another cluster: nothing is deployed",
    },
    BuiltIn {
        name: "istio-waypoint",
        controller: "istio.io/mesh-controller",
        description: "Waypoints, deployed by the control plane",
    },
];

impl BuiltIn {
    /// The class as an object.
    pub(super) fn object(&self) -> GatewayClass {
        let mut class = GatewayClass::default();
        self.name.clone_into(&mut class.metadata.name);
        self.controller.clone_into(&mut class.spec.controller_name);
        self.description.clone_into(&mut class.spec.description);
        class
    }
}

impl Role {
    /// The role of a controller name; none for another's.
    pub fn of_controller(name: &str) -> Option<Self> {
        match name {
            "istio.io/gateway-controller" => Some(Self::Edge),
            "istio.io/mesh-controller" => Some(Self::Waypoint),
            "istio.io/unmanaged-gateway" => Some(Self::Remote),
            _ => None,
        }
    }

    /// The role of a gateway by its class; a built-in class counts even before it is written.
    pub fn of_class(name: &str, class: Option<&GatewayClass>) -> Option<Self> {
        match class {
            Some(class) => Self::of_controller(&class.spec.controller_name),
            None => {
                BUILT_IN.iter().find(|known| known.name == name).and_then(|class| Self::of_controller(class.controller))
            }
        }
    }

    /// Value of the label that marks what is deployed.
    pub(super) fn managed(self) -> &'static str {
        match self {
            Self::Edge | Self::Remote => "istio.io-gateway-controller",
            Self::Waypoint => "istio.io-mesh-controller",
        }
    }
}

/// The status of a class of ours; none when it says so already.
pub(super) fn acceptance(class: &GatewayClass, now: api::Time) -> Option<Value> {
    Role::of_controller(&class.spec.controller_name)?;
    let generation = class.metadata().generation;
    let held = class.status.conditions.iter().find(|condition| condition.type_ == "Accepted");
    if held.is_some_and(|held| held.is_true() && held.observed_generation == generation) {
        return None;
    }
    let since = held.filter(|held| held.is_true()).and_then(|held| held.last_transition_time).unwrap_or(now);
    Some(json!({"conditions": [{
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "Handled by this control plane",
        "observedGeneration": generation, "lastTransitionTime": since.to_string(),
    }]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_ours_by_its_controller() {
        let mut class = BUILT_IN[2].object();
        assert_eq!(Role::of_class("istio-waypoint", Some(&class)), Some(Role::Waypoint));
        assert_eq!(Role::of_class("istio-waypoint", None), Some(Role::Waypoint));
        class.spec.controller_name = "example.com/other".to_owned();
        assert_eq!(Role::of_class("istio-waypoint", Some(&class)), None);
        assert_eq!(Role::of_class("nginx", None), None);
    }

    #[test]
    fn a_server_takes_the_classes() {
        assert!(BUILT_IN.iter().all(|class| class.description.len() <= 64), "the longest description of a class");
    }

    #[test]
    fn a_class_is_accepted_once() {
        let now = api::Time("2026-11-21T10:00:00Z".parse().unwrap());
        let mut class = BUILT_IN[0].object();
        class.metadata.generation = 1;
        let status = acceptance(&class, now).unwrap();
        class.status = serde_json::from_value(status).unwrap();
        assert_eq!(acceptance(&class, now), None);
        class.metadata.generation = 2;
        assert!(acceptance(&class, now).is_some());
    }
}
