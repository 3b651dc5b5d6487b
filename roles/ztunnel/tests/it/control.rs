//! A control plane of policies: the mesh's own discovery server behind TLS, in the namespace of the node that it serves.

use identity::https::{ClientCertificates, ServerSettings, ServerTls};
use linux::netns::NetNs;
use model::{Authorization, Str};
use prost::Message;
use proto::{core::Node, type_url};
use std::{sync::Arc, thread, time::Duration};
use tokio::sync::{oneshot, watch};
use tonic::{Extensions, Status, metadata::MetadataMap};
use xds::{
    server::{Clients, Collection, Gate, Resource, Server, Settings, Snapshot},
    wds::encode_authorization,
};

/// Lets everybody in.
struct Open;

impl Gate for Open {
    type Caller = &'static str;

    async fn authenticate(&self, _: &MetadataMap, _: &Extensions) -> Result<&'static str, Status> {
        Ok("test")
    }

    fn admit(&self, _: &&'static str, node: &Node) -> Result<(), Status> {
        assert!(node.id.starts_with("ztunnel~"), "{}", node.id);
        Ok(())
    }

    fn may_debug(&self, _: &&'static str) -> Result<(), Status> {
        Ok(())
    }
}

/// A running control plane; dropping it ends it in the middle of whatever it says.
pub(crate) struct Control {
    /// `https://…`
    pub(crate) address: String,
    /// Root of its certificate.
    pub(crate) root: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    policies: Collection,
    _running: oneshot::Sender<()>,
}

impl Control {
    pub(crate) fn start(namespace: &NetNs) -> Self {
        let clock = runtime::clock::Clock::system();
        let issuer = identity::Issuer::self_signed("test", identity::KeyKind::EcdsaP256, clock.now()).unwrap();
        let names = ["localhost".to_owned()];
        let pair = issuer.server_certificate(&names, &[], Duration::from_secs(3600), clock.now()).unwrap();
        let settings = ServerSettings {
            chain: pair.chain,
            key: pair.key,
            clients: ClientCertificates::Ignored,
            protocols: vec!["h2"],
        };
        let tls = Arc::new(ServerTls::new(&settings).unwrap());
        let (snapshots, held) = watch::channel(None);
        let (running, stopped) = oneshot::channel();
        let listener = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let service = Server::new(held, Open, Clients::default(), Settings::default()).into_service();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let (accepted, incoming) = tokio::sync::mpsc::channel(8);
                let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
                let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
                tokio::select! {
                    _ = stopped => {}
                    served = server => served.unwrap(),
                    () = accept(listener, tls, accepted) => {}
                }
            });
        });
        let control =
            Self { address, root: issuer.roots_pem(), snapshots, policies: Collection::default(), _running: running };
        control.publish();
        control
    }

    /// Sends a policy, or takes the one with this key away.
    pub(crate) fn put(&mut self, key: &str, policy: Option<&Authorization>) {
        let resource = policy.map(|policy| Resource::new(key, encode_authorization(policy).encode_to_vec()));
        self.policies = self.policies.with([(Str::from(key), resource)]);
        self.publish();
    }

    fn publish(&self) {
        let types = [(type_url::ADDRESS, Collection::default()), (type_url::AUTHORIZATION, self.policies.clone())];
        self.snapshots.send_replace(Some(Arc::new(Snapshot::new(types))));
    }
}

/// Ends TLS and hands the plain bytes on: the gRPC server knows nothing of certificates.
async fn accept(
    listener: tokio::net::TcpListener,
    tls: Arc<ServerTls>,
    accepted: tokio::sync::mpsc::Sender<std::io::Result<tokio::io::DuplexStream>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let Ok(mut secured) = tls.accept(stream).await else { return };
            let (mut plain, served) = tokio::io::duplex(64 << 10);
            accepted.send(Ok(served)).await.unwrap();
            // Either end may go at any time.
            let _ended = tokio::io::copy_bidirectional(&mut secured, &mut plain).await;
        });
    }
}
