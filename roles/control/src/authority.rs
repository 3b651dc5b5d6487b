//! The mesh's certificate authority as it is kept in the cluster (control-plane A13).
//!
//! Files (`/etc/cacerts`) go before a plugged-in authority (Secret `cacerts`), and that goes before the self-signed one
//! (Secret `istio-ca-secret`), which is made when there is none. Replicas that make one at the same time agree on the one
//! that was stored first. What is changed is taken over while serving, unless running proxies would then trust nobody:
//! a new root comes together with the present one, which is taken away later.

use api::{ObjectMeta, Secret};
use arc_swap::ArcSwap;
use cluster::{Change, Client, Scope};
use identity::{Issuer, IssuerError, IssuerPem, KeyKind, pem};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use telemetry::metrics::control::Authority as Metrics;
use tokio::sync::watch;

const SELF_SIGNED: &str = "istio-ca-secret";
const PLUGGED_IN: &str = "cacerts";
const SECRET_TYPE: &str = "istio.io/ca-root";
const RENEWAL_CHECK: Duration = Duration::from_secs(3600);
/// How often files are looked at: whoever mounts a Secret as files takes longer to show its change.
const FILES_CHECK: Duration = Duration::from_secs(5);
/// Longest file that is read.
const LARGEST_FILE: u64 = 1 << 20;
/// Under which names the parts of an authority are stored; the second ones are those of cert-manager.
const CERTIFICATE: [&str; 2] = ["ca-cert.pem", "tls.crt"];
const KEY: [&str; 2] = ["ca-key.pem", "tls.key"];
const CHAIN: [&str; 1] = ["cert-chain.pem"];
const ROOTS: [&str; 2] = ["root-cert.pem", "ca.crt"];
const REVOKED: [&str; 1] = ["ca-crl.pem"];

/// The authority in use, which may be replaced while serving.
#[derive(Debug, Clone)]
pub struct Authority {
    issuer: Arc<ArcSwap<Issuer>>,
    /// Certificates that are no longer believed, as PEM; may be empty.
    revoked: Arc<ArcSwap<String>>,
    changed: Arc<watch::Sender<u64>>,
}

/// What an authority depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder whose files, if there are any, are the authority.
    pub folder: PathBuf,
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
    #[error("{place} holds no usable certificate authority: {reason}; correct or delete it")]
    Unusable {
        /// The secret or the folder.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The files cannot be read.
    #[error("reading the certificate authority from {}: {source}", path.display())]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new one could not be made.
    #[error("making a certificate authority: {0}")]
    Issuer(#[from] IssuerError),
}

impl Authority {
    /// An authority of one's own, that nothing replaces.
    pub fn fixed(issuer: Issuer) -> Self {
        Self::of(Read { issuer, revoked: String::new() })
    }

    fn of(read: Read) -> Self {
        Self {
            issuer: Arc::new(ArcSwap::from_pointee(read.issuer)),
            revoked: Arc::new(ArcSwap::from_pointee(read.revoked)),
            changed: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Loads the authority, or makes one.
    pub async fn load(client: &Client, settings: &Settings) -> Result<Self, AuthorityError> {
        if let Some(parts) = files(&settings.folder)? {
            tracing::info!(folder = %settings.folder.display(), "using the certificate authority in files");
            return Ok(Self::of(parts.read(settings)?));
        }
        for name in [PLUGGED_IN, SELF_SIGNED] {
            if let Some(secret) = client.find::<Secret>(&settings.namespace, name).await? {
                tracing::info!(secret = name, "using the certificate authority that the cluster keeps");
                return Ok(Self::of(Parts::of(&secret).read(settings)?));
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
                let secret = client.get::<Secret>(&settings.namespace, SELF_SIGNED).await?;
                Ok(Self::of(Parts::of(&secret).read(settings)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The issuer in use.
    pub fn issuer(&self) -> Arc<Issuer> {
        self.issuer.load_full()
    }

    /// The certificates that are no longer believed, as PEM; empty for none.
    pub fn revoked(&self) -> Arc<String> {
        self.revoked.load_full()
    }

    /// Moves when the issuer or what is revoked is replaced.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn replace(&self, issuer: Issuer) {
        self.issuer.store(Arc::new(issuer));
        self.changed.send_modify(|count| *count += 1);
    }

    /// Follows files and secrets, and renews a self-signed root in time, for as long as it is polled.
    pub async fn keep(self, client: Client, settings: Settings, metrics: Metrics) {
        let mut plugged_in = client.watch::<Secret>(Scope::object(&settings.namespace, PLUGGED_IN)).changes();
        let mut self_signed = client.watch::<Secret>(Scope::object(&settings.namespace, SELF_SIGNED)).changes();
        let mut seen = files(&settings.folder).ok().flatten();
        let mut renewal = tokio::time::interval(RENEWAL_CHECK);
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
                () = tokio::time::sleep(FILES_CHECK) => {
                    self.look_at_files(&mut seen, &settings);
                    continue;
                }
                _ = renewal.tick() => {
                    let own = seen.is_none() && plugged_in.store().is_empty();
                    if own && let Err(error) = self.renew(&client, &settings).await {
                        tracing::error!("renewing the root certificate: {error}");
                    }
                    continue;
                }
            };
            if let Change::Applied(secret) = change
                && seen.is_none()
            {
                self.take(&Parts::of(&secret), &settings);
            }
        }
    }

    /// Takes over files that changed. Files that went away leave the authority as it was.
    fn look_at_files(&self, seen: &mut Option<Parts>, settings: &Settings) {
        match files(&settings.folder) {
            Ok(Some(found)) if seen.as_ref() != Some(&found) => {
                self.take(&found, settings);
                *seen = Some(found);
            }
            Ok(_) => {}
            Err(error) => tracing::error!("{error}; the authority stays as it is"),
        }
    }

    /// Takes over a changed authority, unless what was signed before would no longer be trusted.
    fn take(&self, parts: &Parts, settings: &Settings) {
        let place = &parts.place;
        let Read { issuer, revoked } = match parts.read(settings) {
            Ok(read) => read,
            Err(error) => return tracing::error!("the changed certificate authority is not used: {error}"),
        };
        let (old, new) = (self.issuer(), issuer.to_pem());
        let same = old.to_pem().certificate == new.certificate && old.roots_pem() == new.roots;
        if same && *self.revoked() == revoked {
            return;
        }
        let kept = roots(&old.roots_pem()).is_subset(&roots(&new.roots));
        // A renewed root trusts what its key signed before, and an authority that goes on may drop another's root.
        let same_key = old.to_pem().key == new.key;
        if !kept && !same_key {
            return tracing::error!(
                place,
                "the changed certificate authority is not used: its root-cert.pem lacks the present root, so running \
                 proxies would trust nobody; add the present root to it, and remove that later"
            );
        }
        tracing::info!(place, "the certificate authority changed");
        self.revoked.store(Arc::new(revoked));
        self.replace(issuer);
    }

    /// A new certificate for the same key, stored first; whoever stores it second takes over what is stored.
    async fn renew(&self, client: &Client, settings: &Settings) -> Result<(), AuthorityError> {
        let now = Timestamp::now();
        if !self.issuer().renewal_due(now) {
            return Ok(());
        }
        let secret: Secret = client.get(&settings.namespace, SELF_SIGNED).await?;
        let renewed = Parts::of(&secret).read(settings)?.issuer.renewed(&settings.trust_domain, now)?;
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

/// A stored authority, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    /// Where, for people.
    place: String,
    found: BTreeMap<&'static str, Vec<u8>>,
}

/// A stored authority, understood.
struct Read {
    issuer: Issuer,
    revoked: String,
}

fn names() -> impl Iterator<Item = &'static str> {
    CERTIFICATE.into_iter().chain(KEY).chain(CHAIN).chain(ROOTS).chain(REVOKED)
}

/// The files of an authority; none where no certificate of one is.
fn files(folder: &Path) -> Result<Option<Parts>, AuthorityError> {
    let mut found = BTreeMap::new();
    for name in names() {
        let path = folder.join(name);
        let bytes = match std::fs::metadata(&path) {
            Ok(about) if about.len() > LARGEST_FILE => {
                Err(io::Error::other(format!("longer than {LARGEST_FILE} bytes")))
            }
            Ok(_) => std::fs::read(&path),
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => drop(found.insert(name, bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(AuthorityError::Files { path, source }),
        }
    }
    let any = CERTIFICATE.iter().any(|name| found.contains_key(name));
    Ok(any.then(|| Parts { place: format!("folder {}", folder.display()), found }))
}

impl Parts {
    fn of(secret: &Secret) -> Self {
        let metadata = &secret.metadata;
        let place = format!("Secret {} in namespace {}", metadata.name, metadata.namespace);
        Self { place, found: names().filter_map(|name| Some((name, secret.bytes(name)?))).collect() }
    }

    fn read(&self, settings: &Settings) -> Result<Read, AuthorityError> {
        let unusable = |reason: String| AuthorityError::Unusable { place: self.place.clone(), reason };
        let text = |names: &[&str]| {
            let bytes = names.iter().find_map(|name| self.found.get(name)).cloned().unwrap_or_default();
            String::from_utf8(bytes).map_err(|_| unusable(format!("{} is no text", names[0])))
        };
        let stored = IssuerPem {
            certificate: text(&CERTIFICATE)?,
            key: text(&KEY)?,
            chain: text(&CHAIN)?,
            roots: text(&ROOTS)?,
        };
        let issuer = Issuer::from_pem(&stored).map_err(|error| unusable(error.to_string()))?;
        let revoked = text(&REVOKED)?;
        if !revoked.trim().is_empty() && !revoked.contains("-----BEGIN X509 CRL-----") {
            return Err(unusable("ca-crl.pem holds no PEM block X509 CRL".to_owned()));
        }
        Ok(Read { issuer: issuer.with_max_ttl(settings.max_life), revoked })
    }
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

    fn settings(folder: &Path) -> Settings {
        Settings {
            folder: folder.to_owned(),
            namespace: "istio-system".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            max_life: Duration::from_secs(3600),
        }
    }

    fn issuer() -> Issuer {
        Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, Timestamp::now()).unwrap()
    }

    fn nowhere() -> Settings {
        settings(Path::new("/nonexistent"))
    }

    fn parts(issuer: &Issuer) -> Parts {
        Parts::of(&write(issuer, &nowhere()))
    }

    #[test]
    fn a_stored_authority_is_the_one_that_was_written() {
        let issuer = issuer();
        let secret = write(&issuer, &nowhere());
        assert_eq!(secret.type_, "istio.io/ca-root");
        let read = Parts::of(&secret).read(&nowhere()).unwrap();
        assert_eq!(read.issuer.roots_pem(), issuer.roots_pem());
    }

    #[test]
    fn a_secret_without_an_authority_says_what_to_do() {
        let secret = Secret { metadata: ObjectMeta::named("istio-system", "cacerts"), ..Secret::default() };
        let text = Parts::of(&secret).read(&nowhere()).err().unwrap().to_string();
        assert!(text.contains("Secret cacerts") && text.contains("correct or delete"), "{text}");
    }

    #[test]
    fn another_root_is_taken_only_together_with_the_present_one() {
        let (old, new, settings) = (issuer(), issuer(), nowhere());
        let authority = Authority::fixed(Issuer::from_pem(&old.to_pem()).unwrap());
        authority.take(&parts(&new), &settings);
        assert_eq!(authority.issuer().roots_pem(), old.roots_pem());

        let both = IssuerPem { roots: new.roots_pem() + &old.roots_pem(), ..new.to_pem() };
        authority.take(&parts(&Issuer::from_pem(&both).unwrap()), &settings);
        assert_eq!(authority.issuer().to_pem().certificate, new.to_pem().certificate);
        assert_eq!(roots(&authority.issuer().roots_pem()).len(), 2, "both are trusted meanwhile");

        // Everybody has the new root by now, and the old one goes.
        authority.take(&parts(&new), &settings);
        assert_eq!(authority.issuer().roots_pem(), new.roots_pem());

        let mut renewed = authority.changes();
        let same_key = authority.issuer().renewed("cluster.local", Timestamp::now()).unwrap();
        authority.take(&parts(&same_key), &settings);
        assert!(renewed.has_changed().unwrap() && *renewed.borrow_and_update() == 3);
    }

    #[test]
    fn files_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        assert_eq!(files(folder.path()).unwrap(), None);
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let first = issuer();
        let stored = first.to_pem();
        // As cert-manager names them.
        put("tls.crt", &stored.certificate);
        put("tls.key", &stored.key);
        put("ca.crt", &stored.roots);
        let mut seen = files(folder.path()).unwrap();
        let authority = Authority::of(seen.as_ref().unwrap().read(&settings).unwrap());
        let mut changes = authority.changes();
        authority.look_at_files(&mut seen, &settings);
        assert!(!changes.has_changed().unwrap());

        put("ca-crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        authority.look_at_files(&mut seen, &settings);
        assert!(changes.has_changed().unwrap() && authority.revoked().contains("X509 CRL"));
        changes.borrow_and_update();

        // Half-written files change nothing, and neither do those that are gone.
        put("tls.key", &issuer().to_pem().key);
        authority.look_at_files(&mut seen, &settings);
        std::fs::remove_file(folder.path().join("tls.crt")).unwrap();
        authority.look_at_files(&mut seen, &settings);
        assert!(!changes.has_changed().unwrap());
        assert_eq!(authority.issuer().roots_pem(), first.roots_pem());
    }

    #[test]
    fn a_root_is_renewed_in_time_with_the_same_key() {
        let life = identity::issuer::ROOT_LIFE;
        let old = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, Timestamp::now() - life / 10 * 9).unwrap();
        assert!(old.renewal_due(Timestamp::now()));
        let renewed = old.renewed("cluster.local", Timestamp::now()).unwrap();
        assert!(!renewed.renewal_due(Timestamp::now()));
        assert_eq!(renewed.to_pem().key, old.to_pem().key);
    }
}
