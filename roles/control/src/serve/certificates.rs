//! CreateCertificate: who may have a certificate for which identity (control-plane A13).
//!
//! A caller gets its own identity. A node proxy, known by a token that is bound to its pod, also gets those of the pods
//! on its node. The identity is built here; nothing of the request enters the certificate besides the key.

use super::caller::{Authenticator, Caller, refused};
use crate::authority::Authority;
use api::{Pod, Resource};
use cluster::Store;
use identity::IssuerError;
use jiff::Timestamp;
use model::Identity;
use proto::ca::{
    IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_server::IstioCertificateService,
};
use std::{sync::Arc, time::Duration};
use telemetry::metrics::control::Authority as Metrics;
use tonic::{Request, Response, Status};

/// How long a request waits for the watch to see pods that may be just starting.
const PATIENCE: Duration = Duration::from_secs(2);

/// The service.
#[derive(Debug)]
pub struct Certificates {
    authority: Authority,
    authenticator: Arc<Authenticator>,
    pods: Store<Pod>,
    rules: Rules,
    metrics: Metrics,
}

/// What is asked of callers.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Trust domain of every identity.
    pub trust_domain: String,
    /// Accounts, `<namespace>/<name>`, that may ask for others.
    pub trusted_accounts: Vec<String>,
    /// Life when none is asked for.
    pub default_life: Duration,
}

/// Why a caller does not get an identity. The caller is not told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the plaintext port signs nothing")]
    Unauthenticated,
    #[error("{0:?} is no identity")]
    Malformed(String),
    #[error("{0} is not of trust domain {1}")]
    TrustDomain(Identity, String),
    #[error("the caller is not one of CA_TRUSTED_NODE_ACCOUNTS and may only ask for itself")]
    Untrusted,
    #[error("the caller's token is not bound to a pod; a client certificate or an unbound token is not enough")]
    Unbound,
    #[error("the pod that the token is bound to does not exist, or is another one by now")]
    PodGone,
    #[error("no pod of {0} runs on node {1}")]
    NotOnNode(Identity, String),
}

impl Refusal {
    /// Whether a watch that lags behind may be all that is wrong.
    fn may_pass(&self) -> bool {
        matches!(self, Self::PodGone | Self::NotOnNode(..))
    }
}

impl Certificates {
    /// The service over an authority and the pods that there are.
    pub fn new(
        authority: Authority,
        authenticator: Arc<Authenticator>,
        pods: Store<Pod>,
        rules: Rules,
        metrics: Metrics,
    ) -> Self {
        Self { authority, authenticator, pods, rules, metrics }
    }

    /// The identity that a caller gets, waiting a little for pods that the watch has not seen yet.
    async fn decide(&self, caller: &Caller, impersonated: Option<&str>) -> Result<Identity, Refusal> {
        let mut version = self.pods.version();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            version.borrow_and_update();
            let refusal = match entitled(caller, impersonated, &self.rules, &self.pods) {
                Err(refusal) if refusal.may_pass() => refusal,
                decided => return decided,
            };
            if tokio::time::timeout_at(deadline, version.changed()).await.is_err() {
                return Err(refusal);
            }
        }
    }

    fn sign(&self, request: &IstioCertificateRequest, identity: &Identity) -> Result<Vec<String>, Status> {
        let asked = u64::try_from(request.validity_duration).unwrap_or(0);
        let life = if asked == 0 { self.rules.default_life } else { Duration::from_secs(asked) };
        self.authority.issuer().sign(&request.csr, identity, life, Timestamp::now()).map_err(|error| {
            tracing::warn!(%identity, "certificate refused: {error}");
            match error {
                IssuerError::Request(reason) => {
                    self.metrics.unreadable.add(&[]);
                    Status::invalid_argument(reason.to_string())
                }
                IssuerError::TooLong { .. } => {
                    self.metrics.unsigned.add(&["TTL_ERROR"]);
                    Status::invalid_argument(error.to_string())
                }
                _ => {
                    self.metrics.unsigned.add(&["CERT_SIGN_ERROR"]);
                    Status::internal("the certificate could not be signed")
                }
            }
        })
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.requests.add(&[]);
        let authenticated = self.authenticator.authenticate(request.metadata(), request.extensions()).await;
        let caller = authenticated.inspect_err(|_| self.metrics.unauthenticated.add(&[]))?;
        let request = request.into_inner();
        let impersonated = impersonated(&request);
        let identity = match self.decide(&caller, impersonated).await {
            Ok(identity) => identity,
            Err(refusal) => {
                self.metrics.unauthenticated.add(&[]);
                tracing::warn!(%caller, impersonated, "certificate refused: {refusal}");
                return Err(refused());
            }
        };
        let cert_chain = self.sign(&request, &identity)?;
        self.metrics.issued.add(&[]);
        tracing::info!(%caller, %identity, asked = request.validity_duration, "certificate issued");
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// The identity that a request asks for in another's name.
fn impersonated(request: &IstioCertificateRequest) -> Option<&str> {
    match request.metadata.as_ref()?.fields.get("ImpersonatedIdentity")?.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Where pods are looked up.
trait Pods {
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    fn any(&self, matches: impl Fn(&Pod) -> bool) -> bool;
}

impl Pods for Store<Pod> {
    fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.get(namespace, name)
    }

    fn any(&self, matches: impl Fn(&Pod) -> bool) -> bool {
        self.list().iter().any(|pod| matches(pod))
    }
}

/// The identity that a caller is entitled to.
fn entitled(caller: &Caller, impersonated: Option<&str>, rules: &Rules, pods: &impl Pods) -> Result<Identity, Refusal> {
    let (namespace, service_account) = caller.account().ok_or(Refusal::Unauthenticated)?;
    let Some(wanted) = impersonated else {
        let own = Identity::new(rules.trust_domain.as_str(), namespace, service_account);
        return own.map_err(|error| Refusal::Malformed(error.0));
    };
    let wanted: Identity = wanted.parse().map_err(|_| Refusal::Malformed(wanted.to_owned()))?;
    if *wanted.trust_domain != *rules.trust_domain {
        return Err(Refusal::TrustDomain(wanted, rules.trust_domain.clone()));
    }
    if !rules.trusted_accounts.contains(&format!("{namespace}/{service_account}")) {
        return Err(Refusal::Untrusted);
    }
    let Caller::Account { pod: Some(bound), .. } = caller else { return Err(Refusal::Unbound) };
    let own = pods.find(namespace, &bound.name);
    let own = own.filter(|pod| pod.metadata.uid == bound.uid && pod.service_account() == service_account);
    let own = own.ok_or(Refusal::PodGone)?;
    let node = own.spec.node_name.as_str();
    let runs_here = |pod: &Pod| {
        !node.is_empty()
            && pod.spec.node_name == node
            && pod.namespace() == &*wanted.namespace
            && pod.service_account() == &*wanted.service_account
            && !pod.is_terminal()
    };
    if pods.any(runs_here) { Ok(wanted) } else { Err(Refusal::NotOnNode(wanted, node.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::caller::BoundPod;
    use rstest::rstest;
    use serde_json::json;

    impl Pods for Vec<Pod> {
        fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
            self.iter().find(|pod| pod.namespace() == namespace && pod.name() == name).cloned().map(Arc::new)
        }

        fn any(&self, matches: impl Fn(&Pod) -> bool) -> bool {
            self.iter().any(matches)
        }
    }

    fn pod(namespace: &str, name: &str, account: &str, node: &str, phase: &str) -> Pod {
        Pod::from_value(json!({
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}")},
            "spec": {"serviceAccountName": account, "nodeName": node}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn pods() -> Vec<Pod> {
        vec![
            pod("istio-system", "ztunnel-1", "ztunnel", "n1", "Running"),
            pod("shop", "web-1", "web", "n1", "Running"),
            pod("shop", "api-2", "api", "n2", "Running"),
            pod("shop", "old-1", "old", "n1", "Failed"),
            pod("shop", "job-1", "job", "n1", "Succeeded"),
        ]
    }

    fn caller(account: &str, pod: Option<(&str, &str)>) -> Caller {
        Caller::Account {
            namespace: "istio-system".to_owned(),
            service_account: account.to_owned(),
            pod: pod.map(|(name, uid)| BoundPod { name: name.to_owned(), uid: uid.to_owned(), node: None }),
        }
    }

    fn rules() -> Rules {
        Rules {
            trust_domain: "cluster.local".to_owned(),
            trusted_accounts: vec!["istio-system/ztunnel".to_owned()],
            default_life: Duration::from_secs(86_400),
        }
    }

    const ZTUNNEL: Option<(&str, &str)> = Some(("ztunnel-1", "uid-ztunnel-1"));

    #[rstest]
    #[case::pod_on_the_node("ztunnel", ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/web", true)]
    #[case::pod_elsewhere("ztunnel", ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/api", false)]
    #[case::only_a_failed_pod("ztunnel", ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/old", false)]
    #[case::only_a_finished_pod("ztunnel", ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/job", false)]
    #[case::other_trust_domain("ztunnel", ZTUNNEL, "spiffe://other/ns/shop/sa/web", false)]
    #[case::not_an_identity("ztunnel", ZTUNNEL, "spiffe://cluster.local/shop/web", false)]
    #[case::untrusted_account("other", ZTUNNEL, "spiffe://cluster.local/ns/shop/sa/web", false)]
    #[case::unbound_token("ztunnel", None, "spiffe://cluster.local/ns/shop/sa/web", false)]
    #[case::replaced_pod("ztunnel", Some(("ztunnel-1", "before")), "spiffe://cluster.local/ns/shop/sa/web", false)]
    #[case::another_accounts_pod("ztunnel", Some(("web-1", "uid-web-1")), "spiffe://cluster.local/ns/shop/sa/web", false)]
    fn impersonation(
        #[case] account: &str,
        #[case] pod: Option<(&str, &str)>,
        #[case] wanted: &str,
        #[case] granted: bool,
    ) {
        let decided = entitled(&caller(account, pod), Some(wanted), &rules(), &pods());
        assert_eq!(decided.is_ok(), granted, "{decided:?}");
    }

    #[test]
    fn a_certificate_is_not_enough_to_impersonate() {
        let caller = Caller::Workload("spiffe://cluster.local/ns/istio-system/sa/ztunnel".parse().unwrap());
        let wanted = Some("spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(entitled(&caller, wanted, &rules(), &pods()), Err(Refusal::Unbound));
        let own = entitled(&caller, None, &rules(), &pods()).unwrap();
        assert_eq!(own.to_string(), "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
    }

    #[test]
    fn the_plaintext_port_signs_nothing() {
        assert_eq!(entitled(&Caller::Unauthenticated, None, &rules(), &pods()), Err(Refusal::Unauthenticated));
    }
}
