//! Answers of an authority, and handshakes between two workloads made from them.

use super::*;
use crate::{
    csr::SigningRequest,
    issuer::{Issuer, KeyKind},
    source::IssuerSource,
    tls,
};
use jiff::Timestamp;
use rstest::rstest;
use rustls::CommonState;
use std::io;

const DAY: Duration = Duration::from_secs(86_400);

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_second(1_790_000_000).unwrap())
}

struct Mesh {
    issuer: Arc<Issuer>,
    clock: Clock,
}

impl Mesh {
    fn new() -> Self {
        let clock = clock();
        let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
        Self { issuer: Arc::new(issuer), clock }
    }

    fn certificate(&self, identity: &Identity) -> WorkloadCertificate {
        IssuerSource::new(self.issuer.clone(), DAY, self.clock.clone()).certificate(identity).unwrap()
    }

    /// An answer of the authority as it is on the wire.
    fn answer(&self, request: &SigningRequest, identity: &Identity) -> Vec<String> {
        self.issuer.sign(&request.pem, identity, DAY, self.clock.now()).unwrap()
    }
}

type Ended = (
    io::Result<tokio_rustls::client::TlsStream<tokio::io::DuplexStream>>,
    io::Result<tokio_rustls::server::TlsStream<tokio::io::DuplexStream>>,
);

async fn handshake(client: &WorkloadCertificate, expected: &[Identity], server: &WorkloadCertificate) -> Ended {
    let (near, far) = tokio::io::duplex(64 << 10);
    let connect = client.connector(expected).connect(tls::nameless(), near);
    let accept = server.acceptor().accept(far);
    tokio::join!(connect, accept)
}

#[tokio::test]
async fn two_workloads_meet_in_the_meshs_profile() {
    let mesh = Mesh::new();
    let (web, db) = (mesh.certificate(&identity("web")), mesh.certificate(&identity("db")));
    let (near, far) = tokio::io::duplex(64 << 10);
    let connector = web.connector(&[identity("db")]);
    let acceptor = db.acceptor();
    let (client, server) = tokio::join!(connector.connect(tls::nameless(), near), acceptor.accept(far));
    let (client, server) = (client.unwrap(), server.unwrap());
    let (client, server) = (client.get_ref().1, server.get_ref().1);
    assert_eq!(tls::peer(client), Ok(identity("db")));
    assert_eq!(tls::peer(server), Ok(identity("web")));
    for state in [&**client as &CommonState, &**server] {
        assert_eq!(state.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(state.alpn_protocol(), Some(H2));
        let suite = state.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
        assert_eq!(tls::key_exchange(state), Some(rustls::NamedGroup::X25519MLKEM768));
        assert_eq!(state.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    assert_eq!(server.server_name(), None, "no name is sent");
}

#[tokio::test]
async fn a_server_that_is_not_expected_is_refused_by_name() {
    let mesh = Mesh::new();
    let (web, db) = (mesh.certificate(&identity("web")), mesh.certificate(&identity("db")));
    let (client, _) = handshake(&web, &[identity("cache")], &db).await;
    let text = client.unwrap_err().to_string();
    assert!(text.contains("peer did not present the expected SAN (spiffe://cluster.local/ns/shop/sa/cache), got spiffe://cluster.local/ns/shop/sa/db"), "{text}");
}

#[tokio::test]
async fn a_client_of_another_trust_domain_or_root_is_refused() {
    let mesh = Mesh::new();
    let db = mesh.certificate(&identity("db"));
    let foreign = mesh.certificate(&Identity::new("other.example", "shop", "web").unwrap());
    let (_, server) = handshake(&foreign, &[identity("db")], &db).await;
    let text = server.unwrap_err().to_string();
    assert!(text.contains("expected trustdomain (cluster.local), got spiffe://other.example/ns/shop/sa/web"), "{text}");
    let stranger = Mesh::new().certificate(&identity("web"));
    assert!(handshake(&stranger, &[identity("db")], &db).await.1.is_err());
}

#[tokio::test]
async fn an_ended_certificate_is_refused_by_the_clock_that_was_given() {
    let mesh = Mesh::new();
    let (web, db) = (mesh.certificate(&identity("web")), mesh.certificate(&identity("db")));
    assert!(handshake(&web, &[identity("db")], &db).await.0.is_ok());
    mesh.clock.advance(DAY + Duration::from_secs(1));
    assert!(handshake(&web, &[identity("db")], &db).await.0.is_err());
}

#[test]
fn configurations_are_built_once() {
    let web = Mesh::new().certificate(&identity("web"));
    let (one, two) = (web.connector(&[identity("db")]), web.connector(&[identity("db")]));
    assert!(Arc::ptr_eq(one.config(), two.config()));
    assert!(!Arc::ptr_eq(one.config(), web.connector(&[identity("cache")]).config()));
    assert!(Arc::ptr_eq(web.acceptor().config(), web.acceptor().config()));
    for set in 0..MAX_CLIENT_CONFIGS {
        web.connector(&[identity(&format!("a{set}"))]);
    }
    assert!(web.clients.lock().len() <= MAX_CLIENT_CONFIGS);
}

#[test]
fn what_dumps_show_is_there_and_the_key_is_not() {
    let mesh = Mesh::new();
    let web = mesh.certificate(&identity("web"));
    assert_eq!(web.validity().not_after, mesh.clock.now() + DAY);
    assert_eq!((web.chain().len(), web.roots().len()), (1, 1));
    assert_eq!(web.roots_pem(), mesh.issuer.roots_pem());
    assert!(web.chain()[0].serial.chars().all(|c| c.is_ascii_digit()));
    let printed = format!("{web:?}");
    assert!(printed.contains("sa/web") && !printed.contains("KEY"), "{printed}");
}

type Spoil = fn(&Mesh, Vec<String>) -> Vec<String>;

#[rstest]
#[case::empty("without a certificate", |_: &Mesh, _: Vec<String>| vec![])]
#[case::leaf_only("no root certificate present", |_: &Mesh, mut answer: Vec<String>| { answer.truncate(1); answer })]
#[case::unreadable_leaf("malformed|no CERTIFICATE", |_: &Mesh, mut answer: Vec<String>| { answer[0] = "x".to_owned(); answer })]
#[case::unreadable_roots("no root certificate present", |_: &Mesh, mut answer: Vec<String>| { answer[1] = pem::certificate(b"x"); answer })]
#[case::foreign_leaf("for spiffe://cluster.local/ns/shop/sa/db", |mesh: &Mesh, mut answer: Vec<String>| {
    answer[0] = mesh.answer(&SigningRequest::generate(&identity("db")).unwrap(), &identity("db")).remove(0);
    answer
})]
#[case::foreign_key("does not fit our key", |mesh: &Mesh, _: Vec<String>| {
    mesh.answer(&SigningRequest::generate(&identity("web")).unwrap(), &identity("web"))
})]
fn bad_answers_are_refused(#[case] fault: &str, #[case] spoil: Spoil) {
    let mesh = Mesh::new();
    let request = SigningRequest::generate(&identity("web")).unwrap();
    let answer = spoil(&mesh, mesh.answer(&request, &identity("web")));
    let text =
        WorkloadCertificate::from_response(&identity("web"), &request.key, &answer, TlsSettings::default(), clock())
            .unwrap_err()
            .to_string();
    assert!(fault.split('|').any(|fault| text.contains(fault)), "{text}");
}

#[test]
fn one_bad_root_does_not_cost_the_others() {
    let mesh = Mesh::new();
    let request = SigningRequest::generate(&identity("web")).unwrap();
    let mut answer = mesh.answer(&request, &identity("web"));
    answer[1] = format!("{}{}{}", pem::certificate(b"bad"), answer[1], Mesh::new().issuer.roots_pem());
    let web =
        WorkloadCertificate::from_response(&identity("web"), &request.key, &answer, TlsSettings::default(), clock())
            .unwrap();
    assert_eq!(web.roots().len(), 2);
}

#[rstest]
#[case::plain(false, false, rustls::ProtocolVersion::TLSv1_3, rustls::NamedGroup::X25519MLKEM768)]
#[case::tls12_is_only_a_fallback(true, false, rustls::ProtocolVersion::TLSv1_3, rustls::NamedGroup::X25519MLKEM768)]
#[case::post_quantum(false, true, rustls::ProtocolVersion::TLSv1_3, rustls::NamedGroup::X25519MLKEM768)]
#[tokio::test]
async fn settings_widen_or_narrow_the_profile(
    #[case] tls12: bool,
    #[case] post_quantum_only: bool,
    #[case] version: rustls::ProtocolVersion,
    #[case] group: rustls::NamedGroup,
) {
    let mesh = Mesh::new();
    let db = mesh.certificate(&identity("db"));
    let settings = TlsSettings { tls12, post_quantum_only, ..TlsSettings::default() };
    let source = IssuerSource::new(mesh.issuer.clone(), DAY, mesh.clock.clone()).with_tls(settings);
    let web = source.certificate(&identity("web")).unwrap();
    let (client, _) = handshake(&web, &[identity("db")], &db).await;
    let client = client.unwrap();
    assert_eq!(client.get_ref().1.protocol_version(), Some(version));
    assert_eq!(tls::key_exchange(client.get_ref().1), Some(group));
}

#[tokio::test]
async fn a_revoked_peer_is_refused_from_the_next_handshake_on() {
    let mesh = Mesh::new();
    let settings = TlsSettings::default();
    let source = IssuerSource::new(mesh.issuer.clone(), DAY, mesh.clock.clone()).with_tls(settings.clone());
    let (web, db) = (mesh.certificate(&identity("web")), source.certificate(&identity("db")).unwrap());
    let (_, server) = handshake(&web, &[identity("db")], &db).await;
    let chain = crate::revocation::peer_chain(server.unwrap().get_ref().1);
    settings.revocations.replace(crate::revocation::RevocationList::of(chain));
    let (_, server) = handshake(&web, &[identity("db")], &db).await;
    assert!(server.unwrap_err().to_string().contains("Revoked"));
}
