//! A control plane: the mesh's own discovery server and a certificate authority that grants everything, behind TLS, in the
//! namespace of the node that it serves.

use identity::https::{ClientCertificates, ServerSettings, ServerTls};
use linux::netns::NetNs;
use model::{Authorization, Identity, Str};
use prost::Message;
use proto::{
    ca::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    core::Node,
    type_url,
};
use std::{sync::Arc, thread, time::Duration};
use tokio::sync::{oneshot, watch};
use tonic::{Extensions, Status, metadata::MetadataMap};
use xds::{
    server::{Clients, Collection, Gate, Resource, Server, Settings, Snapshot},
    wds::{Address, encode_address, encode_authorization},
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

/// Signs what is asked for, as the identity that a node's proxy impersonates, or as the one that a dedicated proxy is.
struct Authority {
    issuer: Arc<identity::Issuer>,
    own: Option<Identity>,
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<tonic::Response<IstioCertificateResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer token");
        let message = request.into_inner();
        let asked = message.metadata.map(|metadata| match metadata.fields["ImpersonatedIdentity"].kind.clone() {
            Some(prost_types::value::Kind::StringValue(identity)) => identity.parse().unwrap(),
            other => panic!("{other:?}"),
        });
        let identity = match (asked, &self.own) {
            (Some(asked), None) => asked,
            (None, Some(own)) => own.clone(),
            other => return Err(Status::permission_denied(format!("{other:?}"))),
        };
        let ttl = Duration::from_secs(message.validity_duration.unsigned_abs());
        let now = runtime::clock::Clock::system().now();
        let cert_chain = self.issuer.sign(&message.csr, &identity, ttl, now).unwrap();
        Ok(tonic::Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// The issuer of a test's control planes.
pub(crate) fn issuer() -> Arc<identity::Issuer> {
    let now = runtime::clock::Clock::system().now();
    Arc::new(identity::Issuer::self_signed("test", identity::KeyKind::EcdsaP256, now).unwrap())
}

/// A running control plane; dropping it ends it in the middle of whatever it says.
pub(crate) struct Control {
    /// `https://…`
    pub(crate) address: String,
    /// Root of its certificate.
    pub(crate) root: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    addresses: Collection,
    policies: Collection,
    _running: oneshot::Sender<()>,
}

impl Control {
    pub(crate) fn start(namespace: &NetNs) -> Self {
        Self::with(namespace, issuer(), None)
    }

    /// The same as part of a mesh whose certificates come from `issuer`; `own` is who asks for itself.
    pub(crate) fn with(namespace: &NetNs, issuer: Arc<identity::Issuer>, own: Option<Identity>) -> Self {
        let clock = runtime::clock::Clock::system();
        let names = ["localhost".to_owned()];
        let pair = issuer.server_certificate(&names, &[], Duration::from_secs(3600), clock.now()).unwrap();
        let settings = ServerSettings {
            chain: pair.chain,
            key: pair.key,
            clients: ClientCertificates::Ignored,
            protocols: vec!["h2"],
            post_quantum_only: false,
        };
        let tls = Arc::new(ServerTls::new(&settings).unwrap());
        let (snapshots, held) = watch::channel(None);
        let (running, stopped) = oneshot::channel();
        let listener = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let service = Server::new(held, Open, Clients::default(), Settings::default()).into_service();
        let root = issuer.roots_pem();
        let signing = IstioCertificateServiceServer::new(Authority { issuer, own });
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let (accepted, incoming) = tokio::sync::mpsc::channel(8);
                let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
                let server = tonic::transport::Server::builder()
                    .add_service(service)
                    .add_service(signing)
                    .serve_with_incoming(incoming);
                tokio::select! {
                    _ = stopped => {}
                    served = server => served.unwrap(),
                    () = accept(listener, tls, accepted) => {}
                }
            });
        });
        let control = Self {
            address,
            root,
            snapshots,
            addresses: Collection::default(),
            policies: Collection::default(),
            _running: running,
        };
        control.publish();
        control
    }

    /// Sends a policy, or takes the one with this key away.
    pub(crate) fn put(&mut self, key: &str, policy: Option<&Authorization>) {
        let resource = policy.map(|policy| Resource::new(key, encode_authorization(policy).encode_to_vec()));
        self.policies = self.policies.with([(Str::from(key), resource)]);
        self.publish();
    }

    /// Sends a workload or a service, or takes the one with this name away. Its addresses are other names of it.
    pub(crate) fn put_address(&mut self, name: &str, address: Option<&Address>, aliases: &[&str]) {
        let resource = address.map(|address| Resource {
            aliases: aliases.iter().map(|&alias| alias.into()).collect(),
            ..Resource::new(name, encode_address(address).encode_to_vec())
        });
        self.addresses = self.addresses.with([(Str::from(name), resource)]);
        self.publish();
    }

    /// Settings of a proxy that is to use this control plane for everything.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 5] {
        [
            ("XDS_ADDRESS", &self.address),
            ("CA_ADDRESS", &self.address),
            ("XDS_ROOT_CA", &self.root),
            ("CA_ROOT_CA", &self.root),
            ("AUTH_TOKEN", "token"),
        ]
    }

    fn publish(&self) {
        let types = [(type_url::ADDRESS, self.addresses.clone()), (type_url::AUTHORIZATION, self.policies.clone())];
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
