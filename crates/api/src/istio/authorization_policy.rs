//! Who may reach a workload.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::{IstioStatus, PolicyTargetReference, WorkloadSelector};
use crate::macros::{object, resource};
use crate::meta::ObjectMeta;

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// It is allowed; what no ALLOW policy of the workload allows is refused.
    #[default]
    Allow,
    /// It is refused.
    Deny,
    /// It is recorded.
    Audit,
    /// An outside authorizer decides.
    Custom,
}

object! {
    /// Who may reach a workload.
    pub struct AuthorizationPolicy {
        metadata: ObjectMeta,
        spec: AuthorizationPolicySpec,
        status: IstioStatus,
    }

    /// Whom the policy covers and what it says.
    #[derive(JsonSchema)]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "only one of targetRefs or selector can be set",
        "rule": "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    }]))]
    pub struct AuthorizationPolicySpec {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        #[schemars(length(max = 512))]
        rules: Vec<Rule>,
        action: Action,
        provider: Option<ExtensionProvider>,
    }

    /// The outside authorizer of a CUSTOM policy, by its name in MeshConfig.
    #[derive(JsonSchema)]
    pub struct ExtensionProvider {
        name: String,
    }

    /// Matches when one of `from`, one of `to` and every one of `when` does; what is absent always does.
    #[derive(JsonSchema)]
    pub struct Rule {
        #[schemars(length(max = 512))]
        from: Vec<RuleFrom>,
        to: Vec<RuleTo>,
        when: Vec<RuleCondition>,
    }

    /// A source.
    #[derive(JsonSchema)]
    pub struct RuleFrom {
        source: Option<Source>,
    }

    /// An operation.
    #[derive(JsonSchema)]
    pub struct RuleTo {
        operation: Option<Operation>,
    }

    /// Matches when every list that is present does; a list matches when one of its values does.
    #[derive(JsonSchema)]
    #[schemars(extend("x-kubernetes-validations" = [{
        "message": "Cannot set serviceAccounts with namespaces or principals",
        "rule": "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) && !has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true",
    }]))]
    pub struct Source {
        principals: Vec<String>,
        not_principals: Vec<String>,
        request_principals: Vec<String>,
        not_request_principals: Vec<String>,
        namespaces: Vec<String>,
        not_namespaces: Vec<String>,
        ip_blocks: Vec<String>,
        not_ip_blocks: Vec<String>,
        remote_ip_blocks: Vec<String>,
        not_remote_ip_blocks: Vec<String>,
        #[schemars(length(max = 16), inner(length(max = 320)))]
        service_accounts: Vec<String>,
        #[schemars(length(max = 16), inner(length(max = 320)))]
        not_service_accounts: Vec<String>,
        trust_domains: Vec<String>,
        not_trust_domains: Vec<String>,
    }

    /// Matches when every list that is present does; a list matches when one of its values does.
    #[derive(JsonSchema)]
    pub struct Operation {
        hosts: Vec<String>,
        not_hosts: Vec<String>,
        ports: Vec<String>,
        not_ports: Vec<String>,
        methods: Vec<String>,
        not_methods: Vec<String>,
        paths: Vec<String>,
        not_paths: Vec<String>,
    }

    /// A condition on an attribute.
    #[derive(JsonSchema)]
    pub struct RuleCondition {
        #[schemars(extend("x-required" = true))]
        key: String,
        values: Vec<String>,
        not_values: Vec<String>,
    }
}

resource!(AuthorizationPolicy, "security.istio.io" / "v1", "authorizationpolicies", namespaced);

impl AuthorizationPolicySpec {
    /// Everything the policy attaches to: the old single reference and the list.
    pub fn targets(&self) -> impl Iterator<Item = &PolicyTargetReference> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}
