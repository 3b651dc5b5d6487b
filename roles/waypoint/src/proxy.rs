//! What every thread and every connection of the waypoint shares.

use crate::config::Config;
use identity::{Certificates, WorkloadCertificate};
use l7::http::Shared;
use model::{NetworkAddress, Workload};
use std::{net::IpAddr, sync::Arc, time::Duration};
use telemetry::metrics::traffic::Traffic;

/// How long a connection waits for the waypoint's own certificate.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The waypoint as a whole.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Settings.
    pub config: Config,
    /// What requests are decided by.
    pub shared: Arc<Shared>,
    /// The one certificate, renewed.
    pub certificates: Certificates,
    /// Connections that are not HTTP.
    pub traffic: Arc<Traffic>,
}

impl Proxy {
    /// The waypoint's own certificate, or why there is none.
    pub(crate) async fn certificate(&self) -> Result<Arc<WorkloadCertificate>, String> {
        let identity = &self.config.identity;
        match tokio::time::timeout(CERTIFICATE_TIMEOUT, self.certificates.get(identity)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no certificate for {identity} within {CERTIFICATE_TIMEOUT:?}")),
        }
    }

    /// The workload at an address of the waypoint's network.
    pub(crate) fn workload_at(&self, address: IpAddr) -> Option<Arc<Workload>> {
        let place = NetworkAddress { network: self.config.network.clone(), address };
        self.shared.mesh.load().0.workload_by_address(&place).cloned()
    }
}
