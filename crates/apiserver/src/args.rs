//! The command line of the `apiserver` role.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Serve the embedded Kubernetes API
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder with ca.crt, ca.key, apiserver.crt, apiserver.key and sa.key; what is missing is made there
    #[arg(long, value_name = "DIR")]
    pub pki: PathBuf,
    /// Address to listen on; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
    /// Listening socket that was opened by the caller; may be given more than once
    #[arg(long, value_name = "FD")]
    pub listen_fd: Vec<RawFd>,
    /// `memory`, or the folder that objects live in
    #[arg(long, default_value = "memory")]
    pub state: String,
    /// Address that the `kubernetes` service leads to; the first --listen address when absent
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Range that service addresses are taken from
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cluster_ip_range: ipnet::Ipv4Net,
    /// Issuer of service-account tokens
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local", value_name = "URL")]
    pub service_account_issuer: String,
}

/// Runs the API server until it is told to stop.
pub fn main(_args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    unimplemented!()
}
