//! The server: what it is made from and how it listens.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

/// Where objects live.
#[derive(Clone, Debug, Default)]
pub enum Storage {
    /// Objects end with the process.
    #[default]
    Memory,
    /// Objects live in one file under this folder.
    Directory(PathBuf),
}

/// Key and certificates of the listener, as PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate chain.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// The authority whose client certificates name users and groups.
    pub client_ca: String,
}

/// What a server is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where objects live.
    pub storage: Storage,
    /// Key and certificates; plain HTTP without them, for tests on loopback alone.
    pub tls: Option<Tls>,
    /// The P-256 key that signs service-account tokens, as PEM; a new one when absent.
    pub token_key: Option<String>,
    /// The issuer named in those tokens.
    pub issuer: String,
    /// A bearer token that stands for an administrator.
    pub admin_token: Option<String>,
    /// The range that ClusterIPs are taken from.
    pub service_range: ipnet::Ipv4Net,
    /// The address that the `kubernetes` service leads to.
    pub advertise: Option<SocketAddr>,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// The API server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Opens the store and puts in place what every cluster has from the start.
    pub fn new(_config: Config) -> Result<Arc<Self>, Error> {
        unimplemented!()
    }

    /// Answers on these listeners until `shutdown` resolves.
    pub async fn serve(
        self: Arc<Self>,
        _listeners: Vec<TcpListener>,
        _shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        unimplemented!()
    }
}
