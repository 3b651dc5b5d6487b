//! Every certificate and kubeconfig of a cluster, as `kubeadm` would lay them out; made anew for each cluster.

use crate::layout::{API_PORT, API_SERVICE, Folders, HUB, Node};
use anyhow::{Context, Result};
use identity::{CertifiedKeyPem, Issuer, KeyKind};
use jiff::Timestamp;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Writes them all; the API listens at the machine's port `port` too.
pub(crate) fn write(folders: &Folders, nodes: u8, port: u16) -> Result<()> {
    let folder = folders.pki();
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let now = Timestamp::now();
    let issuer = Issuer::self_signed("kubernetes", KeyKind::EcdsaP256, now)?;
    let authority = issuer.roots_pem();
    let client = |user: &str, group: &str| issuer.client_certificate(user, &[group.to_owned()], LIFE, now);
    put(&folder, "ca.crt", &authority)?;
    put(&folder, "ca.key", &issuer.to_pem().key)?;
    let mut names = vec!["localhost".to_owned()];
    let zones = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
    names.extend(zones.map(|zone| format!("kubernetes{zone}")));
    let addresses = [HUB, API_SERVICE, Ipv4Addr::LOCALHOST].map(IpAddr::V4);
    put_pair(&folder, "apiserver", &issuer.server_certificate(&names, &addresses, LIFE, now)?)?;
    put_pair(&folder, "kubelet-client", &client("kube-apiserver-kubelet-client", "system:masters")?)?;
    // Tokens of service accounts are signed with a key of their own.
    put_pair(&folder, "accounts", &client("service-accounts", "none")?)?;
    let front = Issuer::self_signed("front-proxy", KeyKind::EcdsaP256, now)?;
    put(&folder, "front-proxy-ca.crt", &front.roots_pem())?;
    put_pair(&folder, "front-proxy", &front.client_certificate("front-proxy-client", &[], LIFE, now)?)?;

    let inside = format!("https://{HUB}:{API_PORT}");
    let kubeconfig = |server: &str, user: &CertifiedKeyPem| api::kubeconfig(server, &authority, &user.chain, &user.key);
    for component in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        let user = client(&format!("system:{component}"), "none")?;
        put(&folder, &format!("{component}.kubeconfig"), &kubeconfig(&inside, &user))?;
    }
    for node in Node::all(nodes) {
        let name = node.name();
        let user = client(&format!("system:node:{name}"), "system:nodes")?;
        put(&folder, &format!("{name}.kubeconfig"), &kubeconfig(&inside, &user))?;
        let serving =
            issuer.server_certificate(std::slice::from_ref(&name), &[IpAddr::V4(node.address())], LIFE, now)?;
        put_pair(&folder, &name, &serving)?;
    }
    let admin = client("kubernetes-admin", "system:masters")?;
    let path = folders.kubeconfig();
    write_secret(&path, &kubeconfig(&format!("https://127.0.0.1:{port}"), &admin))
}

fn put_pair(folder: &Path, name: &str, pair: &CertifiedKeyPem) -> Result<()> {
    put(folder, &format!("{name}.crt"), &pair.chain)?;
    put(folder, &format!("{name}.key"), &pair.key)
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    write_secret(&folder.join(name), text)
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let written = fs::write(path, text).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)));
    written.with_context(|| format!("writing {}", path.display()))
}
