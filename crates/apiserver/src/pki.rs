//! The folder of keys and certificates that the role starts from; what is missing is made there.

use crate::authn::Signer;
use crate::server::Tls;
use identity::{Issuer, IssuerPem, KeyKind};
use jiff::Timestamp;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A file of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}; correct or remove the file and start again")]
pub(crate) struct PkiError {
    doing: &'static str,
    path: String,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// What the server needs of the folder.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) tls: Tls,
    pub(crate) token_key: String,
}

struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn failed(&self, doing: &'static str, name: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> PkiError {
        PkiError { doing, path: self.path(name).display().to_string(), source: source.into() }
    }

    fn read(&self, name: &str) -> Result<String, PkiError> {
        fs::read_to_string(self.path(name)).map_err(|error| self.failed("reading", name, error))
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Writes a file that only its owner reads.
    fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let write = || options.open(self.path(name))?.write_all(text.as_bytes());
        write().map_err(|error: std::io::Error| self.failed("writing", name, error))
    }
}

/// Reads the folder, making what is missing: an authority, a certificate for these addresses, an administrator's
/// certificate (`admin.crt`, `admin.key`) and the key for tokens.
pub(crate) fn open(folder: &Path, addresses: &[IpAddr]) -> Result<Pki, PkiError> {
    let folder = Folder(folder);
    fs::create_dir_all(folder.0).map_err(|error| folder.failed("making the folder of", "ca.crt", error))?;
    if !folder.has("ca.crt") {
        let issuer = Issuer::self_signed("ambit", KeyKind::EcdsaP256, Timestamp::now())
            .map_err(|error| folder.failed("making", "ca.crt", error))?;
        let made = issuer.to_pem();
        folder.write("ca.key", &made.key)?;
        folder.write("ca.crt", &made.certificate)?;
    }
    if !folder.has("apiserver.crt") || !folder.has("apiserver.key") {
        let issuer = authority(&folder)?;
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let server = issuer
            .server_certificate(&names, addresses, YEAR, Timestamp::now())
            .map_err(|error| folder.failed("making", "apiserver.crt", error))?;
        folder.write("apiserver.key", &server.key)?;
        folder.write("apiserver.crt", &server.chain)?;
        let admin = issuer
            .client_certificate("admin", &["system:masters".to_owned()], YEAR, Timestamp::now())
            .map_err(|error| folder.failed("making", "admin.crt", error))?;
        folder.write("admin.key", &admin.key)?;
        folder.write("admin.crt", &admin.chain)?;
    }
    if !folder.has("sa.key") {
        let key = Signer::new_key().map_err(|error| folder.failed("making", "sa.key", error))?;
        folder.write("sa.key", &key)?;
    }
    let tls = Tls {
        certificate: folder.read("apiserver.crt")?,
        key: folder.read("apiserver.key")?,
        client_ca: folder.read("ca.crt")?,
    };
    Ok(Pki { tls, token_key: folder.read("sa.key")? })
}

fn authority(folder: &Folder<'_>) -> Result<Issuer, PkiError> {
    let certificate = folder.read("ca.crt")?;
    let stored =
        IssuerPem { roots: certificate.clone(), certificate, key: folder.read("ca.key")?, chain: String::new() };
    Issuer::from_pem(&stored).map_err(|error| folder.failed("using", "ca.crt", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_filled_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("pki");
        let first = open(&folder, &[IpAddr::from([127, 0, 0, 1])]).unwrap();
        let second = open(&folder, &[]).unwrap();
        assert_eq!(first.tls.certificate, second.tls.certificate);
        assert!(Signer::new(Some(&second.token_key), "issuer").is_ok());
        fs::write(folder.join("ca.crt"), "nonsense").unwrap();
        fs::remove_file(folder.join("apiserver.crt")).unwrap();
        let message = open(&folder, &[]).unwrap_err().to_string();
        assert!(message.contains("ca.crt") && message.contains("correct or remove"), "{message}");
    }
}
