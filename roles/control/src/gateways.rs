//! Gateways and waypoints: what is deployed for them, and what their status says (control-plane A14, A15).
//!
//! [`class`] knows which classes are ours, [`render`] turns a gateway into objects out of [`template`] and [`overlay`]s,
//! [`controller`] applies them and [`status`] says what came of it. Rendering depends on the gateway and its parameters
//! alone, never on what else the control plane knows, and nothing is applied before all of these have been read.

mod class;
mod controller;
mod held;
mod overlay;
mod render;
mod status;
mod template;
#[cfg(test)]
mod tests;

pub use class::Role;
pub use controller::run;

use crate::settings::Mesh;
use serde_json::{Value, json};

/// What the deployed proxies depend on besides their gateways.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Names of the mesh.
    pub mesh: Mesh,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Revision of this control plane.
    pub revision: String,
    /// Image of the proxies.
    pub image: String,
    /// Replicas of a waypoint when nobody says; none leaves the number to whoever scales.
    pub waypoint_replicas: Option<u32>,
    /// Labels and annotations of a gateway are passed on to its objects.
    pub copy_metadata: bool,
    /// Name of the mesh in metrics.
    pub mesh_id: String,
    /// Network of this cluster, as the control plane's namespace is labelled; may be empty.
    pub network: String,
    /// `defaultConfig` of the mesh.
    pub proxy_config: Value,
}

impl Settings {
    /// The settings of a mesh in which nobody chose anything.
    pub fn of(mesh: Mesh, revision: &str, image: &str) -> Self {
        Self {
            namespace: mesh.root_namespace.clone(),
            mesh_id: mesh.trust_domain.clone(),
            revision: revision.to_owned(),
            image: image.to_owned(),
            waypoint_replicas: None,
            copy_metadata: true,
            network: String::new(),
            proxy_config: json!({"proxyMetadata": {"ISTIO_META_ENABLE_HBONE": "true"}}),
            mesh,
        }
    }
}
