//! Certificates of this node's workloads: where they come from, and which are kept ahead of need.

use crate::config::{CertificateConfig, Config, ControlConfig, Mode};
use crate::proxy::Proxy;
use identity::{
    CaClient, CertificateSource, Certificates, Issuer, IssuerSource, KeyKind,
    grpc::{self, Channel, ChannelError, ChannelOptions, RootSource, TokenSource},
    revocation::Revocations,
    tls::TlsSettings,
};
use inpod::WorkloadInfo;
use linux::sealed::Sealed;
use model::{Identity, Mesh, Str, TunnelProtocol, Workload};
use runtime::{BoxError, clock::Clock};
use std::{collections::HashSet, path::Path, sync::Arc};

/// Where the kubelet puts the token.
const DEFAULT_TOKEN: &str = "./var/run/secrets/tokens/istio-token";

/// A channel to one service of the control plane.
pub(crate) fn channel(control: &ControlConfig, address: &str, cluster_id: &str) -> Result<Channel, BoxError> {
    let pairs = control.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = grpc::headers(pairs.chain([("clusterid", cluster_id)]))?;
    let options = ChannelOptions {
        address: address.to_owned(),
        root: RootSource::interpret(&control.root),
        alternative_hostname: control.alt_hostname.clone(),
        token: TokenSource::interpret(control.token.as_deref(), Path::new(DEFAULT_TOKEN)),
        headers,
    };
    Channel::new(options).map_err(|error: ChannelError| error.into())
}

/// The authority that the settings name.
pub(crate) fn source(
    config: &Config,
    revocations: &Revocations,
    clock: &Clock,
) -> Result<Arc<dyn CertificateSource>, BoxError> {
    let ttl = config.certificates.ttl;
    let settings = tls_settings(config, revocations);
    if config.certificates.fake {
        tracing::warn!("FAKE_CA: certificates come from an authority that nobody else knows");
        let issuer = Issuer::self_signed(&config.trust_domain, KeyKind::EcdsaP256, clock.now())?;
        return Ok(Arc::new(IssuerSource::new(Arc::new(issuer), ttl, clock.clone()).with_tls(settings)));
    }
    let Some(address) = &config.certificates.authority.address else {
        return Err("CA_ADDRESS is empty, and without certificates there are no tunnels; name the authority".into());
    };
    let channel = channel(&config.certificates.authority, address, &config.cluster_id)?;
    // A dedicated proxy's token speaks for its one workload already.
    let impersonate = config.mode == Mode::Shared;
    Ok(Arc::new(CaClient::new(channel, ttl, impersonate, clock.clone()).with_tls(settings)))
}

fn tls_settings(config: &Config, revocations: &Revocations) -> TlsSettings {
    let CertificateConfig { tls12, post_quantum_only, .. } = config.certificates;
    let trust_domain_aliases = config.certificates.trust_domain_aliases.clone().into();
    TlsSettings { tls12, post_quantum_only, revocations: revocations.clone(), trust_domain_aliases }
}

/// Takes over certificates that an earlier worker sealed.
pub(crate) fn restore(proxy: &Proxy, sealed: &Sealed) -> Result<(), BoxError> {
    let restored = proxy.certificates.restore(sealed, &tls_settings(&proxy.config, &proxy.revocations))?;
    tracing::info!(restored, "certificates that still hold");
    Ok(())
}

/// Keeps certificates for the workloads of this node and forgets those that left.
#[derive(Debug, Clone)]
pub(crate) struct Prefetch {
    certificates: Certificates,
    node: Option<Str>,
}

impl Prefetch {
    /// Follows the workloads of the proxy's node; without a node, or with a single workload, nothing is asked for ahead of need.
    pub(crate) fn new(certificates: Certificates, config: &Config) -> Self {
        Self { certificates, node: config.node.clone().filter(|_| config.mode == Mode::Shared) }
    }

    /// Asks for what came and forgets what went between two snapshots.
    pub(crate) fn follow(&self, before: &Mesh, after: &Mesh) {
        let Some(node) = &self.node else { return };
        let old = identities(before.workloads_on(node));
        let new = identities(after.workloads_on(node));
        new.difference(&old).for_each(|identity| self.certificates.prefetch(identity));
        old.difference(&new).for_each(|identity| self.certificates.forget(identity));
    }
}

fn identities(workloads: &[Arc<Workload>]) -> HashSet<Identity> {
    let tunnelled =
        |workload: &&Arc<Workload>| workload.native_tunnel || workload.tunnel_protocol == TunnelProtocol::Hbone;
    workloads.iter().filter(tunnelled).map(|workload| workload.identity()).collect()
}

/// How long a connection waits for its certificate.
pub(crate) const CERTIFICATE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The certificate of an identity, or the reason for a connection to fail.
pub(crate) async fn certificate(
    certificates: &Certificates,
    identity: &Identity,
) -> Result<Arc<identity::WorkloadCertificate>, String> {
    match tokio::time::timeout(CERTIFICATE_TIMEOUT, certificates.get(identity)).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no certificate for {identity} within {CERTIFICATE_TIMEOUT:?}")),
    }
}

/// The identity of a pod: the trust domain comes from the mesh, the rest from the node agent.
pub(crate) fn identity_of(workload: &Workload, info: &WorkloadInfo) -> Identity {
    Identity {
        trust_domain: workload.trust_domain.clone(),
        namespace: info.namespace.clone(),
        service_account: info.service_account.clone(),
    }
}
