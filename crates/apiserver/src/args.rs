//! The command line of the `apiserver` role.

use crate::pki;
use crate::server::{Config, Error, Server, Storage};
use runtime::process::{self, Threads};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::path::PathBuf;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
    /// File with a bearer token that stands for an administrator
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
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

impl Args {
    fn listeners(&self) -> Result<Vec<TcpListener>, BoxError> {
        let mut listeners = Vec::new();
        for address in &self.listen {
            let bound = TcpListener::bind(address);
            listeners.push(bound.map_err(|source| Error::Listen { address: address.to_string(), source })?);
        }
        for fd in &self.listen_fd {
            listeners.push(linux::inherited_fd(*fd)?.into());
        }
        if listeners.is_empty() {
            return Err("nothing to listen on: give --listen ADDRESS or --listen-fd FD".into());
        }
        Ok(listeners)
    }

    fn admin_token(&self) -> Result<Option<String>, BoxError> {
        let Some(path) = &self.admin_token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("reading the administrator's token in {}: {error}", path.display()))?;
        match text.trim() {
            "" => Err(format!("the administrator's token in {} is empty", path.display()).into()),
            token => Ok(Some(token.to_owned())),
        }
    }

    /// The address that pods reach this server at.
    fn advertised(&self, listeners: &[TcpListener]) -> Option<SocketAddr> {
        let first = listeners.first().and_then(|listener| listener.local_addr().ok());
        match self.advertise_address {
            Some(address) => Some(SocketAddr::new(address, first.map_or(6443, |first| first.port()))),
            None => first.filter(|first| !first.ip().is_unspecified()),
        }
    }

    /// The addresses that a new certificate is good for.
    fn names(&self, advertised: Option<SocketAddr>) -> Vec<IpAddr> {
        let service = std::net::Ipv4Addr::from(u32::from(self.service_cluster_ip_range.network()) + 1);
        let mut addresses: Vec<IpAddr> = vec![service.into(), [127, 0, 0, 1].into()];
        addresses.extend(self.listen.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified()));
        addresses.extend(advertised.map(|advertised| advertised.ip()));
        addresses.dedup();
        addresses
    }
}

/// Runs the API server until it is told to stop.
pub fn main(args: Args) -> Result<(), BoxError> {
    let _log = telemetry::log::init_from_env()?;
    process::run("apiserver", Threads::PerCore, async |shutdown| {
        let listeners = args.listeners()?;
        let advertise = args.advertised(&listeners);
        let pki = pki::open(&args.pki, &args.names(advertise))?;
        let storage = match args.state.as_str() {
            "memory" => Storage::Memory,
            folder => Storage::Directory(folder.into()),
        };
        let server = Server::new(Config {
            storage,
            tls: Some(pki.tls),
            token_key: Some(pki.token_key),
            issuer: args.service_account_issuer.clone(),
            admin_token: args.admin_token()?,
            service_range: args.service_cluster_ip_range,
            advertise,
        })?;
        Ok(server.serve(listeners, shutdown.triggered()).await?)
    })
}
