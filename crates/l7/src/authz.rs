//! Whether a request may be, by the policies that cover it (§2.7): pure decisions, closed wherever something is not understood.
//!
//! [`Policy`] is a policy ready for use, [`Request`] what policies see, [`decide`] the answer: an outside authorizer's share first
//! (which is refused while there is none), then DENY, then ALLOW. A rule with a part that could not be read never allows and
//! always denies; a connection that is not HTTP fits no HTTP part of an ALLOW rule and every one of a DENY rule.

mod attribute;
mod policy;

pub use policy::Policy;

use http::HeaderMap;
use model::{Identity, Str};
use proto::l7::policy::Action;
use std::{net::IpAddr, sync::Arc};

/// A request, or a connection, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks, proven by certificate.
    pub peer: Option<&'a Identity>,
    /// Where the connection comes from.
    pub source: IpAddr,
    /// Where the request comes from, if something trustworthy says so; else the same.
    pub remote: IpAddr,
    /// The address that was asked for.
    pub destination: Option<IpAddr>,
    /// The port that was asked for.
    pub port: u16,
    /// Server name of TLS.
    pub server_name: Option<&'a str>,
    /// What is asked; `None` for a connection that is not HTTP.
    pub http: Option<Http<'a>>,
}

/// What HTTP adds.
#[derive(Debug, Clone, Copy)]
pub struct Http<'a> {
    /// Method.
    pub method: &'a str,
    /// Host, with a port if the client wrote one.
    pub authority: &'a str,
    /// Path in its one form, without the query.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// What a token that was verified says.
    pub claims: Option<&'a Claims>,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims {
    /// `<issuer>/<subject>`.
    pub principal: String,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// `azp`.
    pub presenter: Option<String>,
    /// All of them.
    pub all: serde_json::Value,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be.
    Allow,
    /// This policy denies it.
    Denied(Str),
    /// There are policies that allow, and none allows it.
    NotAllowed,
}

impl Verdict {
    /// What logs say of a refusal.
    pub fn details(&self) -> &'static str {
        match self {
            Self::Allow => "",
            Self::Denied(_) => "rbac_access_denied_matched_policy[deny]",
            Self::NotAllowed => "rbac_access_denied_matched_policy[none]",
        }
    }
}

/// Whether a request may be. Policies under trial are only said to match.
pub fn decide(policies: &[&Arc<Policy>], request: &Request<'_>) -> Verdict {
    let of = |action: Action| policies.iter().filter(move |policy| policy.action == action);
    for policy in policies.iter().filter(|policy| policy.dry_run || policy.action == Action::Audit) {
        if policy.matches(request) {
            tracing::info!(policy = %policy.key, action = ?policy.action, "a policy that only watches matches");
        }
    }
    let denies = of(Action::Custom).chain(of(Action::Deny)).filter(|policy| !policy.dry_run);
    if let Some(policy) = denies.into_iter().find(|policy| policy.matches(request)) {
        return Verdict::Denied(policy.key.clone());
    }
    let mut allowing = of(Action::Allow).filter(|policy| !policy.dry_run).peekable();
    if allowing.peek().is_none() || allowing.any(|policy| policy.matches(request)) {
        return Verdict::Allow;
    }
    Verdict::NotAllowed
}

#[cfg(test)]
mod tests;
