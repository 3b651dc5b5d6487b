//! Policies of a local document, in the shape of the dump.

use super::{Action, Authorization, LocalError, PolicyScope, Rule, wrong};
use model::{Match, ServiceAccountMatch, StringMatch};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct LocalPolicy {
    name: String,
    namespace: String,
    scope: String,
    action: String,
    rules: Vec<Vec<Vec<LocalMatch>>>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct LocalMatch {
    namespaces: Vec<LocalText>,
    not_namespaces: Vec<LocalText>,
    principals: Vec<LocalText>,
    not_principals: Vec<LocalText>,
    service_accounts: Vec<LocalAccount>,
    not_service_accounts: Vec<LocalAccount>,
    source_ips: Vec<ipnet::IpNet>,
    not_source_ips: Vec<ipnet::IpNet>,
    destination_ips: Vec<ipnet::IpNet>,
    not_destination_ips: Vec<ipnet::IpNet>,
    destination_ports: Vec<u16>,
    not_destination_ports: Vec<u16>,
}

#[derive(Debug, Deserialize)]
enum LocalText {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Presence([(); 0]),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LocalAccount {
    namespace: String,
    service_account: String,
}

impl LocalPolicy {
    pub(super) fn into_model(self) -> Result<Authorization, LocalError> {
        let scope = match self.scope.as_str() {
            "Global" => PolicyScope::Global,
            "Namespace" => PolicyScope::Namespace,
            "WorkloadSelector" => PolicyScope::WorkloadSelector,
            other => return wrong("policy scope", other),
        };
        let action = match self.action.as_str() {
            "Allow" => Action::Allow,
            "Deny" => Action::Deny,
            other => return wrong("policy action", other),
        };
        let clauses = |clauses: Vec<Vec<LocalMatch>>| {
            clauses.into_iter().map(|matches| matches.into_iter().map(LocalMatch::into_model).collect()).collect()
        };
        let rules = self.rules.into_iter().map(|rule| Rule { clauses: clauses(rule), unusable: false }).collect();
        let (name, namespace) = (self.name.into(), self.namespace.into());
        Ok(Authorization { name, namespace, scope, action, rules, dry_run: self.dry_run })
    }
}

impl LocalMatch {
    fn into_model(self) -> Match {
        Match {
            namespaces: texts(self.namespaces),
            not_namespaces: texts(self.not_namespaces),
            principals: texts(self.principals),
            not_principals: texts(self.not_principals),
            service_accounts: accounts(self.service_accounts),
            not_service_accounts: accounts(self.not_service_accounts),
            source_ips: self.source_ips,
            not_source_ips: self.not_source_ips,
            destination_ips: self.destination_ips,
            not_destination_ips: self.not_destination_ips,
            destination_ports: self.destination_ports,
            not_destination_ports: self.not_destination_ports,
        }
    }
}

fn texts(list: Vec<LocalText>) -> Vec<StringMatch> {
    let convert = |text| match text {
        LocalText::Exact(text) => StringMatch::Exact(text.into()),
        LocalText::Prefix(text) => StringMatch::Prefix(text.into()),
        LocalText::Suffix(text) => StringMatch::Suffix(text.into()),
        LocalText::Presence([]) => StringMatch::Presence,
    };
    list.into_iter().map(convert).collect()
}

fn accounts(list: Vec<LocalAccount>) -> Vec<ServiceAccountMatch> {
    let convert = |account: LocalAccount| ServiceAccountMatch {
        namespace: account.namespace.into(),
        service_account: account.service_account.into(),
    };
    list.into_iter().map(convert).collect()
}
