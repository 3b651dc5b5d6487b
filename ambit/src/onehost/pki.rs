//! Credentials of the embedded API: its authority, its server certificate, the key that signs service-account tokens,
//! and a kubeconfig for everyone who speaks to it.

use super::layout::{self, Node};
use anyhow::{Context, Result};
use identity::{CertifiedKeyPem, Issuer, IssuerPem, KeyKind};
use jiff::Timestamp;
use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long certificates of the platform hold; every `up` makes new ones.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The authority and the server's credentials, in `<state>/pki` when there is a state folder, else in `run`.
///
/// An authority that exists is kept, so that kubeconfigs and stored tokens stay good over `down` and `up`.
pub(super) fn prepare(state: Option<&Path>, run: &Path, nodes: &[Node]) -> Result<PathBuf> {
    let folder = state.map_or_else(|| run.to_owned(), |state| state.join("pki"));
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let issuer = authority(&folder)?;
    let now = Timestamp::now();
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut names: Vec<String> = names.map(str::to_owned).to_vec();
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    let addresses = [Ipv4Addr::LOCALHOST, layout::HUB, layout::API_SERVICE].map(IpAddr::V4);
    let server = issuer.server_certificate(&names, &addresses, LIFE, now)?;
    write(&folder, "apiserver.crt", &server.chain)?;
    write(&folder, "apiserver.key", &server.key)?;
    let client = |user: &str, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        issuer.client_certificate(user, &groups, LIFE, now)
    };
    let in_hub = format!("https://{}:{}", layout::HUB, layout::API_PORT);
    let ca = issuer.roots_pem();
    let controllers = client("system:kube-controller-manager", &["system:masters"])?;
    write(&folder, "controllers.kubeconfig", &kubeconfig(&in_hub, &ca, &controllers))?;
    for node in nodes {
        let credentials = client(&format!("system:node:{}", node.name), &["system:nodes"])?;
        write(&folder, &format!("{}.kubeconfig", node.name), &kubeconfig(&in_hub, &ca, &credentials))?;
    }
    let admin = client("kubernetes-admin", &["system:masters"])?;
    write(&folder, "admin.crt", &admin.chain)?;
    write(&folder, "admin.key", &admin.key)?;
    Ok(folder)
}

/// The kubeconfig of the person who ran `up`.
pub(super) fn write_admin_kubeconfig(pki: &Path, target: &Path, port: u16) -> Result<()> {
    let read = |name: &str| {
        let path = pki.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let credentials = CertifiedKeyPem { chain: read("admin.crt")?, key: read("admin.key")? };
    let text = kubeconfig(&format!("https://127.0.0.1:{port}"), &read("ca.crt")?, &credentials);
    write_secret(target, &text)
}

fn authority(folder: &Path) -> Result<Issuer> {
    let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
    if certificate.exists() && key.exists() {
        let stored = IssuerPem {
            certificate: fs::read_to_string(&certificate)?,
            key: fs::read_to_string(&key)?,
            chain: String::new(),
            roots: String::new(),
        };
        return Issuer::from_pem(&stored).with_context(|| {
            format!("reading the API's authority in {}; remove that folder for a new one", folder.display())
        });
    }
    let issuer = Issuer::self_signed("kubernetes", KeyKind::EcdsaP256, Timestamp::now())?;
    let pem = issuer.to_pem();
    write(folder, "ca.crt", &pem.certificate)?;
    write(folder, "ca.key", &pem.key)?;
    Ok(issuer)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    write_secret(&folder.join(name), text)
}

/// Only the owner may read any of these.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("writing {}", path.display()))
}

fn kubeconfig(server: &str, ca: &str, credentials: &CertifiedKeyPem) -> String {
    api::kubeconfig(server, ca, &credentials.chain, &credentials.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_in_a_state_folder_is_kept() {
        let state = std::env::temp_dir().join(format!("ambit-pki-{}", std::process::id()));
        let nodes = layout::nodes(1);
        let folder = prepare(Some(&state), Path::new("/nowhere"), &nodes).unwrap();
        let first = fs::read(folder.join("ca.crt")).unwrap();
        prepare(Some(&state), Path::new("/nowhere"), &nodes).unwrap();
        assert_eq!(first, fs::read(folder.join("ca.crt")).unwrap());
        let target = state.join("kubeconfig");
        write_admin_kubeconfig(&folder, &target, 6443).unwrap();
        assert!(fs::read_to_string(&target).unwrap().contains("https://127.0.0.1:6443"));
        fs::remove_dir_all(state).unwrap();
    }
}
