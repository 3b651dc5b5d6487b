//! The mesh's certificate authority as it is kept in the cluster (control-plane A13).
//!
//! A plugged-in authority (Secret `cacerts`) goes before the self-signed one (Secret `istio-ca-secret`), which is made
//! when there is none. Replicas that make one at the same time agree on the one that was stored first.

use api::{ObjectMeta, Secret};
use arc_swap::ArcSwap;
use cluster::{Change, Client, Scope};
use identity::{Issuer, IssuerError, IssuerPem, KeyKind, pem};
use jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use telemetry::metrics::control::Authority as Metrics;
use tokio::sync::watch;

const SELF_SIGNED: &str = "istio-ca-secret";
const PLUGGED_IN: &str = "cacerts";
const SECRET_TYPE: &str = "istio.io/ca-root";
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);

/// The authority in use, which may be replaced while serving.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<ArcSwap<Issuer>>,
    changed: Arc<watch::Sender<u64>>,
}

/// What an authority depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of the secrets.
    pub namespace: String,
    /// Organisation of a self-signed root.
    pub trust_domain: String,
    /// Longest life of what is signed.
    pub max_life: Duration,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The cluster does not let us.
    #[error("keeping the certificate authority in the cluster: {0}")]
    Cluster(#[from] cluster::Error),
    /// What is stored cannot be used.
    #[error(
        "Secret {name} in namespace {namespace} holds no usable certificate authority: {reason}; correct or delete it"
    )]
    Unusable {
        /// The secret.
        name: String,
        /// Its namespace.
        namespace: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A new one could not be made.
    #[error("making a certificate authority: {0}")]
    Issuer(#[from] IssuerError),
}

impl Authority {
    /// An authority of one's own, that nothing replaces.
    pub fn fixed(issuer: Issuer) -> Self {
        Self { issuer: Arc::new(ArcSwap::from_pointee(issuer)), changed: Arc::new(watch::Sender::new(0)) }
    }

    /// Loads the authority, or makes one.
    pub async fn load(client: &Client, settings: &Settings) -> Result<Self, AuthorityError> {
        for name in [PLUGGED_IN, SELF_SIGNED] {
            if let Some(secret) = client.find::<Secret>(&settings.namespace, name).await? {
                tracing::info!(secret = name, "using the certificate authority that the cluster keeps");
                return Ok(Self::fixed(read(&secret, settings)?));
            }
        }
        let issuer = self_signed(settings).await?;
        match client.create(&write(&issuer, settings)).await {
            Ok(_) => {
                tracing::info!(secret = SELF_SIGNED, "made a self-signed certificate authority");
                Ok(Self::fixed(issuer))
            }
            // Another replica was faster; its authority is the mesh's.
            Err(error) if error.is_already_exists() => {
                Ok(Self::fixed(read(&client.get::<Secret>(&settings.namespace, SELF_SIGNED).await?, settings)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The issuer in use.
    pub fn issuer(&self) -> Arc<Issuer> {
        self.issuer.load_full()
    }

    /// Moves when the issuer is replaced.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn replace(&self, issuer: Issuer) {
        self.issuer.store(Arc::new(issuer));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Follows the secrets, and renews a self-signed root in time, for as long as it is polled.
    pub async fn keep(self, client: Client, settings: Settings, metrics: Metrics) {
        let mut plugged_in = client.watch::<Secret>(Scope::object(&settings.namespace, PLUGGED_IN)).changes();
        let mut self_signed = client.watch::<Secret>(Scope::object(&settings.namespace, SELF_SIGNED)).changes();
        loop {
            report(&self.issuer(), &metrics);
            let change = tokio::select! {
                change = plugged_in.next() => change,
                change = self_signed.next() => {
                    if plugged_in.store().get(&settings.namespace, PLUGGED_IN).is_some() {
                        continue;
                    }
                    change
                }
                () = tokio::time::sleep(RENEWAL_CHECK) => {
                    if plugged_in.store().is_empty() && let Err(error) = self.renew(&client, &settings).await {
                        tracing::error!("renewing the root certificate: {error}");
                    }
                    continue;
                }
            };
            if let Change::Applied(secret) = change {
                self.take(&secret, &settings);
            }
        }
    }

    /// Takes over a changed secret, unless what was signed before would no longer be trusted.
    fn take(&self, secret: &Secret, settings: &Settings) {
        let issuer = match read(secret, settings) {
            Ok(issuer) => issuer,
            Err(error) => return tracing::error!("the changed certificate authority is not used: {error}"),
        };
        let (old, new) = (self.issuer(), issuer.to_pem());
        if old.to_pem().certificate == new.certificate && old.roots_pem() == new.roots {
            return;
        }
        let kept = roots(&old.roots_pem()).is_subset(&roots(&new.roots));
        let same_key = old.to_pem().key == new.key;
        if !kept && !same_key {
            return tracing::error!(
                secret = secret.metadata.name,
                "the changed certificate authority is not used: its root-cert.pem lacks the present root, so running \
                 proxies would trust nobody; add the present root to it, and remove that later"
            );
        }
        tracing::info!(secret = secret.metadata.name, "the certificate authority changed");
        self.replace(issuer);
    }

    /// A new certificate for the same key, stored first; whoever stores it second takes over what is stored.
    async fn renew(&self, client: &Client, settings: &Settings) -> Result<(), AuthorityError> {
        let now = Timestamp::now();
        if !self.issuer().renewal_due(now) {
            return Ok(());
        }
        let secret: Secret = client.get(&settings.namespace, SELF_SIGNED).await?;
        let renewed = read(&secret, settings)?.renewed(&settings.trust_domain, now)?;
        let mut next = write(&renewed, settings);
        next.metadata = secret.metadata;
        match client.replace(&next).await {
            Ok(_) => self.replace(renewed),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn roots(text: &str) -> BTreeSet<Vec<u8>> {
    let roots = pem::certificates(text.as_bytes()).unwrap_or_default();
    roots.into_iter().map(|root| root.to_vec()).collect()
}

fn report(issuer: &Issuer, metrics: &Metrics) {
    let expiry = issuer.validity().not_after.as_second();
    metrics.root_expiry.set(&[], expiry);
    metrics.chain_expiry.set(&[], expiry);
}

/// An RSA key takes a moment to find, which no other task should wait for.
async fn self_signed(settings: &Settings) -> Result<Issuer, AuthorityError> {
    let (organisation, max_life) = (settings.trust_domain.clone(), settings.max_life);
    let made = tokio::task::spawn_blocking(move || {
        Issuer::self_signed(&organisation, KeyKind::default(), Timestamp::now())
            .map(|issuer| issuer.with_max_ttl(max_life))
    });
    match made.await {
        Ok(issuer) => Ok(issuer?),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn read(secret: &Secret, settings: &Settings) -> Result<Issuer, AuthorityError> {
    let unusable = |reason: String| AuthorityError::Unusable {
        name: secret.metadata.name.clone(),
        namespace: settings.namespace.clone(),
        reason,
    };
    let text = |names: &[&str]| {
        let bytes = names.iter().find_map(|name| secret.bytes(name)).unwrap_or_default();
        String::from_utf8(bytes).map_err(|_| unusable(format!("{} is no text", names[0])))
    };
    // The second names are those of an authority that cert-manager wrote.
    let stored = IssuerPem {
        certificate: text(&["ca-cert.pem", "tls.crt"])?,
        key: text(&["ca-key.pem", "tls.key"])?,
        chain: text(&["cert-chain.pem"])?,
        roots: text(&["root-cert.pem", "ca.crt"])?,
    };
    let issuer = Issuer::from_pem(&stored).map_err(|error| unusable(error.to_string()))?;
    Ok(issuer.with_max_ttl(settings.max_life))
}

fn write(issuer: &Issuer, settings: &Settings) -> Secret {
    let mut secret = Secret {
        metadata: ObjectMeta::named(&settings.namespace, SELF_SIGNED),
        type_: SECRET_TYPE.to_owned(),
        ..Secret::default()
    };
    let pem = issuer.to_pem();
    let parts = [
        ("ca-cert.pem", pem.certificate),
        ("ca-key.pem", pem.key),
        ("root-cert.pem", pem.roots),
        ("cert-chain.pem", pem.chain),
    ];
    for (name, text) in parts {
        secret.set(name, text.as_bytes());
    }
    secret.set("key.pem", b"");
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            namespace: "istio-system".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            max_life: Duration::from_secs(3600),
        }
    }

    fn issuer() -> Issuer {
        Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, Timestamp::now()).unwrap()
    }

    #[test]
    fn a_stored_authority_is_the_one_that_was_written() {
        let (issuer, settings) = (issuer(), settings());
        let secret = write(&issuer, &settings);
        assert_eq!(secret.type_, "istio.io/ca-root");
        let read = read(&secret, &settings).unwrap();
        assert_eq!(read.roots_pem(), issuer.roots_pem());
    }

    #[test]
    fn a_secret_without_an_authority_says_what_to_do() {
        let error =
            read(&Secret { metadata: ObjectMeta::named("istio-system", "cacerts"), ..Secret::default() }, &settings());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("cacerts") && text.contains("correct or delete"), "{text}");
    }

    #[test]
    fn another_root_is_taken_only_together_with_the_present_one() {
        let (old, new, settings) = (issuer(), issuer(), settings());
        let authority = Authority::fixed(Issuer::from_pem(&old.to_pem()).unwrap());
        authority.take(&write(&new, &settings), &settings);
        assert_eq!(authority.issuer().roots_pem(), old.roots_pem());

        let both = IssuerPem { roots: new.roots_pem() + &old.roots_pem(), ..new.to_pem() };
        authority.take(&write(&Issuer::from_pem(&both).unwrap(), &settings), &settings);
        assert_eq!(authority.issuer().to_pem().certificate, new.to_pem().certificate);

        let mut renewed = authority.changes();
        let same_key = authority.issuer().renewed("cluster.local", Timestamp::now()).unwrap();
        authority.take(&write(&same_key, &settings), &settings);
        assert!(renewed.has_changed().unwrap() && *renewed.borrow_and_update() == 2);
    }
}
