//! What the resolution of the mesh depends on besides the cluster's objects.

use model::well_known;

/// The installation's own choices (control-plane A20, A21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Cluster id.
    pub cluster_id: String,
    /// Trust domain.
    pub trust_domain: String,
    /// Namespace whose selector-less policies concern the whole mesh.
    pub root_namespace: String,
    /// Suffix of service hostnames.
    pub domain: String,
    /// Policies in dry run are sent, marked as such.
    pub dry_run_policies: bool,
    /// Service entries without addresses are given some.
    pub allocate_addresses: bool,
    /// What a waypoint stands in front of lets in nobody but the waypoint.
    pub auto_allow_waypoint: bool,
    /// Service entries select pods.
    pub entries_select_pods: bool,
    /// Kubernetes services select workload entries.
    pub services_select_entries: bool,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            cluster_id: well_known::DEFAULT_CLUSTER_ID.to_owned(),
            trust_domain: well_known::DEFAULT_TRUST_DOMAIN.to_owned(),
            root_namespace: well_known::SYSTEM_NAMESPACE.to_owned(),
            domain: "cluster.local".to_owned(),
            dry_run_policies: false,
            allocate_addresses: true,
            auto_allow_waypoint: false,
            entries_select_pods: true,
            services_select_entries: true,
        }
    }
}
