//! Who calls: by verified client certificate or by Kubernetes token (control-plane A11).

use api::{TokenReviewStatus, UserInfo};
use cluster::Client;
use model::Identity;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tonic::{Extensions, Status, metadata::MetadataMap};
use xds::server::Hangup;

/// How long a reviewed token is good without asking again; a revoked one is good for that long, too.
const REMEMBER: Duration = Duration::from_secs(10);
/// How many reviewed tokens are remembered.
const REMEMBERED: usize = 4096;
/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A service account, by its token.
    Account {
        /// Namespace.
        namespace: String,
        /// Service account.
        service_account: String,
        /// The pod that the token is bound to.
        pod: Option<BoundPod>,
    },
    /// A workload, by its certificate.
    Workload(Identity),
    /// Nobody asked: the plaintext port.
    Unauthenticated,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPod {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// The node it runs on, where the cluster tells.
    pub node: Option<String>,
}

impl Caller {
    /// Namespace and service account.
    pub fn account(&self) -> Option<(&str, &str)> {
        match self {
            Self::Account { namespace, service_account, .. } => Some((namespace, service_account)),
            Self::Workload(identity) => Some((&identity.namespace, &identity.service_account)),
            Self::Unauthenticated => None,
        }
    }

    /// The node that its credential is bound to.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Account { pod: Some(pod), .. } => pod.node.as_deref(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account { namespace, service_account, pod: Some(pod) } => {
                write!(f, "{namespace}/{service_account} of pod {}", pod.name)
            }
            Self::Account { namespace, service_account, pod: None } => write!(f, "{namespace}/{service_account}"),
            Self::Workload(identity) => identity.fmt(f),
            Self::Unauthenticated => f.write_str("unauthenticated"),
        }
    }
}

/// What the transport knows of a connection's client certificate.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// The identity of a verified certificate.
    pub(super) identity: Option<Identity>,
    /// The connection is of the port where nobody is asked.
    pub(super) trusted_port: bool,
    /// Ends the connection.
    pub(super) hangup: Hangup,
}

/// Finds out who calls.
#[derive(Debug)]
pub struct Authenticator {
    /// Who reviews tokens; without a cluster nobody does.
    client: Option<Client>,
    audiences: Vec<String>,
    trust_domain: String,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Caller)>>,
}

impl Authenticator {
    /// Tokens must be for one of the audiences, certificates of the trust domain.
    pub fn new(client: Option<Client>, audiences: Vec<String>, trust_domain: String) -> Self {
        Self { client, audiences, trust_domain, remembered: Mutex::default() }
    }

    /// Who calls. The reason of a refusal is logged, not told.
    pub async fn authenticate(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Caller, Status> {
        let peer = extensions.get::<Peer>().cloned().unwrap_or_default();
        if peer.trusted_port {
            return Ok(Caller::Unauthenticated);
        }
        if let Some(token) = bearer(metadata) {
            return self.review(token).await;
        }
        match peer.identity {
            Some(identity) if *identity.trust_domain == *self.trust_domain => Ok(Caller::Workload(identity)),
            Some(identity) => {
                tracing::warn!("refused {identity}: not of trust domain {}", self.trust_domain);
                Err(refused())
            }
            None => {
                tracing::warn!("refused a caller with neither a client certificate nor a bearer token");
                Err(refused())
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Caller, Status> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(refused());
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = Instant::now();
        if let Some((until, caller)) = self.remembered.lock().get(&key)
            && *until > now
        {
            return Ok(caller.clone());
        }
        let client = self.client.as_ref().ok_or_else(refused)?;
        let status = client.token_review(token, &self.audiences).await.map_err(|error| {
            tracing::error!("a caller's token could not be reviewed: {error}");
            Status::unavailable("the token could not be reviewed; try again")
        })?;
        let caller = caller(&status, &self.audiences).map_err(|reason| {
            tracing::warn!("refused a token: {reason}");
            refused()
        })?;
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (until, _)| *until > now);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(key, (now + REMEMBER, caller.clone()));
        }
        Ok(caller)
    }
}

/// The one answer to whoever is refused: what is wrong is nobody's business out there.
pub(super) fn refused() -> Status {
    Status::unauthenticated("authentication failure")
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).map(str::trim)
}

/// The caller that a review speaks of.
fn caller(status: &TokenReviewStatus, audiences: &[String]) -> Result<Caller, String> {
    if !status.authenticated {
        return Err(if status.error.is_empty() { "it is not valid".to_owned() } else { status.error.clone() });
    }
    // A server that knows no audiences answers for none; then it vouches for its own, which is not ours.
    if !status.audiences.iter().any(|audience| audiences.contains(audience)) {
        return Err(format!("it is for {:?}, not for {audiences:?}", status.audiences));
    }
    let user: &UserInfo = &status.user;
    let account = user.username.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    let (namespace, service_account) = account.ok_or_else(|| format!("{} is no service account", user.username))?;
    let extra = |key: &str| user.extra.get(&format!("authentication.kubernetes.io/{key}"))?.first().cloned();
    let pod =
        extra("pod-name").zip(extra("pod-uid")).map(|(name, uid)| BoundPod { name, uid, node: extra("node-name") });
    Ok(Caller::Account { namespace: namespace.to_owned(), service_account: service_account.to_owned(), pod })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn status(value: serde_json::Value) -> TokenReviewStatus {
        serde_json::from_value(value).unwrap()
    }

    #[rstest]
    #[case::not_authenticated(json!({"user": {"username": "system:serviceaccount:a:b"}, "audiences": ["istio-ca"]}))]
    #[case::other_audience(json!({"authenticated": true, "user": {"username": "system:serviceaccount:a:b"}, "audiences": ["other"]}))]
    #[case::no_audience(json!({"authenticated": true, "user": {"username": "system:serviceaccount:a:b"}}))]
    #[case::a_person(json!({"authenticated": true, "user": {"username": "admin"}, "audiences": ["istio-ca"]}))]
    fn tokens_that_are_refused(#[case] review: serde_json::Value) {
        assert!(caller(&status(review), &["istio-ca".to_owned()]).is_err());
    }

    #[test]
    fn a_bound_token_names_its_pod() {
        let review = status(json!({"authenticated": true, "audiences": ["istio-ca"], "user": {
            "username": "system:serviceaccount:istio-system:ztunnel",
            "extra": {
                "authentication.kubernetes.io/pod-name": ["ztunnel-x"], "authentication.kubernetes.io/pod-uid": ["1"],
                "authentication.kubernetes.io/node-name": ["n1"],
            },
        }}));
        let caller = caller(&review, &["istio-ca".to_owned()]).unwrap();
        assert_eq!(caller.account(), Some(("istio-system", "ztunnel")));
        assert_eq!(caller.to_string(), "istio-system/ztunnel of pod ztunnel-x");
        assert_eq!(caller.node(), Some("n1"));
    }
}
