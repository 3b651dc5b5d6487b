//! The channel against a real gRPC server on loopback, and the CA client over it.

use super::*;
use crate::{
    CaClient, CertificateSource as _, FetchError,
    https::{ClientCertificates, ServerSettings, ServerTls},
    issuer::{Issuer, KeyKind},
};
use jiff::Timestamp;
use model::Identity;
use proto::ca::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
};
use rstest::rstest;
use runtime::clock::Clock;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::net::TcpListener;

const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "istiod.istio-system.svc";

/// A control plane that signs whatever identity is asked for, and keeps what it saw.
struct Authority {
    issuer: Arc<Issuer>,
    seen: Arc<Mutex<Vec<tonic::metadata::MetadataMap>>>,
    refusal: Option<tonic::Status>,
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status> {
        self.seen.lock().push(request.metadata().clone());
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let message = request.into_inner();
        let fields = message.metadata.unwrap_or_default().fields;
        let Some(prost_types::value::Kind::StringValue(identity)) = fields["ImpersonatedIdentity"].kind.clone() else {
            return Err(tonic::Status::invalid_argument("no identity"));
        };
        let ttl = Duration::from_secs(message.validity_duration.unsigned_abs());
        let cert_chain = self.issuer.sign(&message.csr, &identity.parse().unwrap(), ttl, Timestamp::now()).unwrap();
        Ok(tonic::Response::new(IstioCertificateResponse { cert_chain }))
    }
}

struct ControlPlane {
    issuer: Arc<Issuer>,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<tonic::metadata::MetadataMap>>>,
    connections: Arc<AtomicUsize>,
    cut: tokio::sync::watch::Sender<u32>,
    _folder: tempfile::TempDir,
    root_file: PathBuf,
}

impl ControlPlane {
    async fn start(refusal: Option<tonic::Status>) -> Self {
        let issuer = Arc::new(Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, Timestamp::now()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            cut: tokio::sync::watch::Sender::new(0),
            root_file: folder.path().join("root-cert.pem"),
            _folder: folder,
            issuer,
        };
        std::fs::write(&this.root_file, this.issuer.roots_pem()).unwrap();
        let service = Authority { issuer: this.issuer.clone(), seen: this.seen.clone(), refusal };
        this.serve(listener, IstioCertificateServiceServer::new(service));
        this
    }

    fn serve(&self, listener: TcpListener, service: IstioCertificateServiceServer<Authority>) {
        let pair = self.issuer.server_certificate(&[NAME.to_owned()], &[], DAY, Timestamp::now()).unwrap();
        let settings = ServerSettings {
            chain: pair.chain,
            key: pair.key,
            clients: ClientCertificates::Optional(self.issuer.roots_pem()),
            protocols: vec!["h2"],
            post_quantum_only: false,
        };
        let tls = Arc::new(ServerTls::new(&settings).unwrap());
        let (connections, cut) = (self.connections.clone(), self.cut.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, service, mut cut) = (tls.clone(), service.clone(), cut.subscribe());
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(service);
                    let connection = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                    tokio::select! {
                        _ = connection => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
    }

    fn options(&self) -> ChannelOptions {
        ChannelOptions {
            address: self.address.to_string(),
            root: RootSource::File(self.root_file.clone()),
            alternative_hostname: Some(NAME.to_owned()),
            token: TokenSource::Literal("t0ken".to_owned()),
            headers: headers([("clusterid", "Kubernetes")]).unwrap(),
        }
    }
}

fn identity() -> Identity {
    "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()
}

fn client(options: ChannelOptions) -> CaClient {
    CaClient::new(Channel::new(options).unwrap(), DAY, true, Clock::system())
}

#[tokio::test]
async fn a_certificate_comes_over_one_connection_with_token_and_cluster() {
    let control = ControlPlane::start(None).await;
    let client = client(control.options());
    let asked = identity();
    let (one, two) = tokio::join!(client.fetch(&asked), client.fetch(&asked));
    assert_eq!((one.unwrap().identity(), two.unwrap().identity()), (&asked, &asked));
    let seen = control.seen.lock();
    assert_eq!(seen[0].get("authorization").unwrap(), "Bearer t0ken");
    assert_eq!(seen[0].get("clusterid").unwrap(), "Kubernetes");
    assert_eq!(control.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_ended_connection_is_replaced_with_the_roots_of_then() {
    let control = ControlPlane::start(None).await;
    let client = client(control.options());
    client.fetch(&identity()).await.unwrap();
    std::fs::write(&control.root_file, "").unwrap();
    client.fetch(&identity()).await.unwrap();
    control.cut.send_modify(|cuts| *cuts += 1);
    // The end of the connection is noticed in the background; the roots are then gone.
    let error = loop {
        if let Err(error) = client.fetch(&identity()).await {
            break error.to_string();
        }
        tokio::task::yield_now().await;
    };
    let roots = control.issuer.roots_pem();
    std::fs::write(&control.root_file, roots).unwrap();
    while client.fetch(&identity()).await.is_err() {
        assert!(control.connections.load(Ordering::Relaxed) < 5, "{error}");
    }
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_text() {
    let control = ControlPlane::start(Some(tonic::Status::unauthenticated("request authenticate failure"))).await;
    let error = client(control.options()).fetch(&identity()).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Refused { code: tonic::Code::Unauthenticated, message } if message == "request authenticate failure"),
        "{error}"
    );
}

#[rstest]
#[case::wrong_name(|options: &mut ChannelOptions| options.alternative_hostname = None, "not valid for name")]
#[case::wrong_root(|options: &mut ChannelOptions| {
    let other = Issuer::self_signed("other", KeyKind::EcdsaP256, Timestamp::now()).unwrap();
    options.root = RootSource::Inline(other.roots_pem());
}, "UnknownIssuer")]
#[case::no_root_file(|options: &mut ChannelOptions| options.root = RootSource::File("/nowhere/root.pem".into()), "/nowhere/root.pem")]
#[case::no_token_file(|options: &mut ChannelOptions| options.token = TokenSource::File("/nowhere/token".into()), "/nowhere/token")]
#[case::empty_token(|options: &mut ChannelOptions| options.token = TokenSource::Literal(String::new()), "token is empty")]
#[tokio::test]
async fn what_is_wrong_is_named(#[case] change: fn(&mut ChannelOptions), #[case] named: &str) {
    let control = ControlPlane::start(None).await;
    let mut options = control.options();
    change(&mut options);
    let error = client(options).fetch(&identity()).await.unwrap_err().to_string();
    assert!(error.contains(named), "{error}");
}

#[tokio::test]
async fn a_control_plane_that_is_not_there_is_named_and_tried_again() {
    let control = ControlPlane::start(None).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client(ChannelOptions { address: closed.to_string(), ..control.options() });
    let error = client.fetch(&identity()).await.unwrap_err().to_string();
    assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
    let listener = TcpListener::bind(closed).await.unwrap();
    let service = Authority { issuer: control.issuer.clone(), seen: control.seen.clone(), refusal: None };
    control.serve(listener, IstioCertificateServiceServer::new(service));
    client.fetch(&identity()).await.unwrap();
}

#[rstest]
#[case("https://istiod.istio-system.svc:15012", Some(("istiod.istio-system.svc", 15012)))]
#[case("istiod.istio-system.svc:15012", Some(("istiod.istio-system.svc", 15012)))]
#[case("https://istiod", Some(("istiod", 443)))]
#[case("https://[::1]:15012/", Some(("::1", 15012)))]
#[case("http://istiod:15010", None)]
#[case("https://", None)]
#[case("https://istiod:15012/path", None)]
#[case("", None)]
fn addresses_are_https_alone(#[case] address: &str, #[case] expected: Option<(&str, u16)>) {
    let parsed = endpoint(address).ok().map(|endpoint| (endpoint.host, endpoint.port));
    assert_eq!(parsed, expected.map(|(host, port)| (host.to_owned(), port)));
}
