//! An API server for a test: ours, in this process, on a free port of loopback.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use apiserver::{Config, Server, Storage};
use cluster::{Client, Source};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TOKEN: &str = "administrator";

/// A server that runs until it is stopped or dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// A server with nothing but what every cluster has.
    pub(crate) fn start() -> Self {
        Self::with(Storage::Memory, TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// A server on this address, with what the folder holds.
    pub(crate) fn start_at(address: SocketAddr, folder: &Path) -> Self {
        Self::with(Storage::Directory(folder.to_owned()), TcpListener::bind(address).expect("the port is free again"))
    }

    fn with(storage: Storage, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let config = Config { storage, admin_token: Some(TOKEN.to_owned()), ..Config::default() };
        let server = Server::new(config).expect("the configuration is good");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server.serve(vec![listener], shutdown).await.expect("it serves until it is stopped");
        });
        Self { address, stop, task }
    }

    /// A client with all rights.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: test, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address
        );
        Client::connect(&Source::Text(kubeconfig)).await.expect("the kubeconfig is good")
    }

    /// Ends the server and all its connections.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("the server did not panic");
    }
}
