//! An L4 authorization policy, ready to be evaluated (ztunnel.md §8).

use crate::Str;
use ipnet::IpNet;

/// One policy. A part that could not be understood must be represented so that the policy never widens: see
/// [`Rule::unusable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Name.
    pub name: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Which workloads it concerns.
    pub scope: PolicyScope,
    /// Allow or deny.
    pub action: Action,
    /// Or-ed rules; none: never matches.
    pub rules: Vec<Rule>,
    /// Only logged.
    pub dry_run: bool,
}

impl Authorization {
    /// Its key and xDS resource name, `<namespace>/<name>`.
    pub fn key(&self) -> Str {
        format!("{}/{}", self.namespace, self.name).into()
    }
}

/// Which workloads a policy concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyScope {
    /// The whole mesh.
    Global,
    /// Its namespace.
    Namespace,
    /// Workloads that name it.
    WorkloadSelector,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let in.
    Allow,
    /// Keep out; goes before any allow.
    Deny,
}

/// And-ed clauses, each an or of matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Clauses; none: matches everything.
    pub clauses: Vec<Vec<Match>>,
    /// Some part of the rule could not be understood: in an ALLOW policy the rule matches nothing, in a DENY policy it
    /// matches everything.
    pub unusable: bool,
}

/// And-ed fields, each an or of values; a match with every field empty matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// Peer's namespace.
    pub namespaces: Vec<StringMatch>,
    /// Not the peer's namespace.
    pub not_namespaces: Vec<StringMatch>,
    /// Peer's principal, without `spiffe://`.
    pub principals: Vec<StringMatch>,
    /// Not the peer's principal.
    pub not_principals: Vec<StringMatch>,
    /// Peer's service account.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Not the peer's service account.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Peer's address.
    pub source_ips: Vec<IpNet>,
    /// Not the peer's address.
    pub not_source_ips: Vec<IpNet>,
    /// Application's address.
    pub destination_ips: Vec<IpNet>,
    /// Not the application's address.
    pub not_destination_ips: Vec<IpNet>,
    /// Application's port.
    pub destination_ports: Vec<u16>,
    /// Not the application's port.
    pub not_destination_ports: Vec<u16>,
}

/// One way to compare a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// Equal.
    Exact(Str),
    /// Begins with.
    Prefix(Str),
    /// Ends with.
    Suffix(Str),
    /// Not empty.
    Presence,
}

/// A namespace and a service account; the trust domain does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountMatch {
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}
