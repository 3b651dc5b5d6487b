//! Whether a connection may be: pure decisions over policies (ztunnel.md §8.2).
//!
//! The caller collects the policies that concern a workload and says who connects from where to what; [`decide`] answers.
//! Deny goes before allow, and no allow policy means allowed. A rule with a part that could not be understood
//! ([`Rule::unusable`](model::Rule::unusable)) never widens: it matches nothing in an allow policy and everything in a deny policy.

mod matching;

use matching::Facts;
use model::{Action, Authorization, Identity, Str};
use std::{fmt, net::SocketAddr};

/// A connection as policies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Who connects, proven by certificate; `None` in plaintext.
    pub peer: Option<&'a Identity>,
    /// Where it comes from.
    pub source: SocketAddr,
    /// The application's own address, not the tunnel's.
    pub destination: SocketAddr,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The connection may be.
    Allow,
    /// It may not.
    Deny(Denial),
}

/// Why a connection may not be; its text is what logs show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// This policy, by its key, denies it.
    Explicit(Str),
    /// There are allow policies, and none lets it in.
    NotAllowed,
    /// The workload names this policy, which has not arrived: nobody knows what it would say.
    PolicyMissing(Str),
}

impl Verdict {
    /// Whether the connection may be.
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allow
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit(policy) => write!(f, "explicitly denied by: {policy}"),
            Self::NotAllowed => f.write_str("allow policies exist, but none allowed"),
            Self::PolicyMissing(policy) => write!(f, "policy {policy} has not arrived"),
        }
    }
}

/// Decides over every policy that concerns the destination. Policies under trial are left out; see [`trial`].
pub fn decide<'a>(policies: impl IntoIterator<Item = &'a Authorization>, connection: &Connection<'_>) -> Verdict {
    let facts = Facts::new(connection);
    let mut allow_exists = false;
    let mut allowed = false;
    for policy in policies.into_iter().filter(|policy| !policy.dry_run) {
        match policy.action {
            Action::Deny if facts.policy_matches(policy) => {
                return Verdict::Deny(Denial::Explicit(policy.key()));
            }
            Action::Deny => {}
            Action::Allow => {
                allow_exists = true;
                allowed = allowed || facts.policy_matches(policy);
            }
        }
    }
    if allow_exists && !allowed { Verdict::Deny(Denial::NotAllowed) } else { Verdict::Allow }
}

/// Tells `matched` of each policy under trial that matches: what it would have done is logged, never done.
pub fn trial<'a>(
    policies: impl IntoIterator<Item = &'a Authorization>,
    connection: &Connection<'_>,
    mut matched: impl FnMut(&'a Authorization),
) {
    let facts = Facts::new(connection);
    let under_trial = policies.into_iter().filter(|policy| policy.dry_run);
    under_trial.filter(|policy| facts.policy_matches(policy)).for_each(&mut matched);
}

#[cfg(test)]
mod tests;
