//! Which authority a control plane's certificate must come from.

use crate::pem::{self, PemError};
use rustls::RootCertStore;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Where distributions keep the machine's trusted roots.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where roots come from (XDS_ROOT_CA, CA_ROOT_CA).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, read again for each connection.
    File(PathBuf),
    /// The machine's trust store.
    System,
    /// PEM text.
    Inline(String),
}

/// Why roots cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The file cannot be read.
    #[error("reading root certificates from {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The text holds no certificates.
    #[error("root certificates from {origin}: {reason}")]
    Pem {
        /// Where the text came from.
        origin: String,
        /// What is wrong.
        reason: PemError,
    },
    /// None of the certificates can be used.
    #[error("none of the root certificates from {0} can be used")]
    Unusable(String),
    /// The machine has no trust store where one is looked for.
    #[error("the machine has no root certificates in {}; install ca-certificates or name a file", SYSTEM_BUNDLES.join(", "))]
    NoSystemStore,
}

impl RootSource {
    /// Reads a setting: a path that exists, `SYSTEM`, or the PEM itself.
    pub fn interpret(value: &str) -> Self {
        if Path::new(value).exists() {
            Self::File(value.into())
        } else if value == "SYSTEM" {
            Self::System
        } else if value.contains("-----BEGIN") {
            Self::Inline(value.to_owned())
        } else {
            // Neither is there: most likely a file that is yet to be written, and an error that names it helps most.
            Self::File(value.into())
        }
    }

    /// The roots as they are now.
    pub(super) fn load(&self) -> Result<RootCertStore, RootError> {
        match self {
            Self::File(path) => read(path),
            Self::Inline(text) => parse(text.as_bytes(), "the setting"),
            Self::System => {
                let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
                read(bundle.ok_or(RootError::NoSystemStore)?)
            }
        }
    }
}

fn read(path: &Path) -> Result<RootCertStore, RootError> {
    let text = std::fs::read(path).map_err(|reason| RootError::Read { path: path.to_owned(), reason })?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &[u8], origin: &str) -> Result<RootCertStore, RootError> {
    let roots = pem::certificates(text).map_err(|reason| RootError::Pem { origin: origin.to_owned(), reason })?;
    let mut store = RootCertStore::empty();
    let (added, ignored) = store.add_parsable_certificates(roots);
    if added == 0 {
        return Err(RootError::Unusable(origin.to_owned()));
    }
    if ignored > 0 {
        tracing::warn!("ignored {ignored} root certificates from {origin} that cannot be used");
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::{Issuer, KeyKind};

    #[test]
    fn a_setting_is_a_path_or_system_or_the_text_itself() {
        let roots = Issuer::self_signed("td", KeyKind::EcdsaP256, jiff::Timestamp::now()).unwrap().roots_pem();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("root-cert.pem");
        std::fs::write(&file, &roots).unwrap();
        let named = RootSource::interpret(file.to_str().unwrap());
        assert_eq!(named, RootSource::File(file));
        assert_eq!(named.load().unwrap().len(), 1);
        assert_eq!(RootSource::interpret("SYSTEM"), RootSource::System);
        let inline = RootSource::interpret(&roots.repeat(2));
        assert_eq!(inline.load().unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = RootSource::interpret("./var/run/nowhere/root-cert.pem").load().unwrap_err();
        assert!(error.to_string().contains("./var/run/nowhere/root-cert.pem"), "{error}");
        let error = parse(b"nothing", "the setting").unwrap_err();
        assert!(error.to_string().contains("no CERTIFICATE block"), "{error}");
    }
}
