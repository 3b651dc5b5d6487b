//! Servers against real clients with real certificates.

use super::*;
use crate::issuer::{CertifiedKeyPem, Issuer, KeyKind};
use jiff::Timestamp;
use rstest::rstest;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsConnector;

const DAY: Duration = Duration::from_secs(86_400);

fn issuer() -> Issuer {
    Issuer::self_signed("ambit", KeyKind::EcdsaP256, Timestamp::now()).unwrap()
}

fn server(issuer: &Issuer, name: &str) -> CertifiedKeyPem {
    issuer.server_certificate(&[name.to_owned()], &["127.0.0.1".parse().unwrap()], DAY, Timestamp::now()).unwrap()
}

fn settings(pair: CertifiedKeyPem, clients: ClientCertificates) -> ServerSettings {
    ServerSettings {
        chain: pair.chain,
        key: pair.key,
        clients,
        protocols: vec!["h2", "http/1.1"],
        post_quantum_only: false,
    }
}

/// An ordinary client: web rules, perhaps with a certificate.
fn client(roots: &str, own: Option<&CertifiedKeyPem>) -> TlsConnector {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(pem::certificates(roots.as_bytes()).unwrap());
    let builder = ClientConfig::builder_with_provider(GENERAL.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(
                pem::certificates(own.chain.as_bytes()).unwrap(),
                pem::private_key(own.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A handshake and one byte each way, so that both verdicts are in.
async fn meet(server: &ServerTls, client: &TlsConnector, name: &str) -> io::Result<(Option<ClientSubject>, Vec<u8>)> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (client, server): (io::Result<tokio_rustls::client::TlsStream<DuplexStream>>, _) =
        tokio::join!(client.connect(name, near), server.accept(far));
    let (mut client, mut server) = (client?, server?);
    client.write_all(b"x").await?;
    client.flush().await?;
    server.read_exact(&mut [0]).await?;
    let leaf = client.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(server.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok((client_subject(&server), leaf))
}

#[tokio::test]
async fn a_name_and_an_address_are_served() {
    let issuer = issuer();
    let server =
        ServerTls::new(&settings(server(&issuer, "istiod.istio-system.svc"), ClientCertificates::Ignored)).unwrap();
    let client = client(&issuer.roots_pem(), None);
    assert_eq!(meet(&server, &client, "istiod.istio-system.svc").await.unwrap().0, None);
    assert!(meet(&server, &client, "127.0.0.1").await.is_ok());
    assert!(meet(&server, &client, "other.svc").await.is_err());
}

#[rstest]
#[case::optional_without(false, None, Some(false))]
#[case::optional_with(false, Some(true), Some(true))]
#[case::optional_foreign(false, Some(false), None)]
#[case::required_without(true, None, None)]
#[case::required_with(true, Some(true), Some(true))]
#[case::required_foreign(true, Some(false), None)]
#[tokio::test]
async fn client_certificates_are_verified_if_given(
    #[case] required: bool,
    #[case] own: Option<bool>,
    #[case] named: Option<bool>,
) {
    let (ours, foreign) = (issuer(), issuer());
    let groups = ["system:masters".to_owned()];
    let own = own.map(|trusted| {
        let signer = if trusted { &ours } else { &foreign };
        signer.client_certificate("kubernetes-admin", &groups, DAY, Timestamp::now()).unwrap()
    });
    let roots = ours.roots_pem();
    let clients = if required {
        ClientCertificates::Required(roots.clone())
    } else {
        ClientCertificates::Optional(roots.clone())
    };
    let server = ServerTls::new(&settings(server(&ours, "api"), clients)).unwrap();
    let met = meet(&server, &client(&roots, own.as_ref()), "api").await;
    assert_eq!(met.is_ok(), named.is_some(), "{met:?}");
    if let (Ok((subject, _)), Some(named)) = (met, named) {
        assert_eq!(subject.is_some(), named);
        if let Some(subject) = subject {
            assert_eq!(subject.common_name.as_deref(), Some("kubernetes-admin"));
            assert_eq!(subject.organisations, groups);
            assert_eq!(subject.identity, None);
        }
    }
}

#[tokio::test]
async fn a_workloads_certificate_names_its_identity() {
    let issuer = issuer();
    let identity: Identity = "spiffe://cluster.local/ns/istio-system/sa/ztunnel".parse().unwrap();
    let request = crate::csr::SigningRequest::generate(&identity).unwrap();
    let mut chain = issuer.sign(&request.pem, &identity, DAY, Timestamp::now()).unwrap();
    let own = CertifiedKeyPem {
        chain: chain.remove(0),
        key: pem::encode("PRIVATE KEY", request.key.pkcs8().secret_pkcs8_der()),
    };
    let roots = issuer.roots_pem();
    let server =
        ServerTls::new(&settings(server(&issuer, "api"), ClientCertificates::Optional(roots.clone()))).unwrap();
    let (subject, _) = meet(&server, &client(&roots, Some(&own)), "api").await.unwrap();
    assert_eq!(subject, Some(ClientSubject { identity: Some(identity), ..ClientSubject::default() }));
}

#[tokio::test]
async fn a_swap_shows_in_the_next_handshake_and_a_bad_one_changes_nothing() {
    let issuer = issuer();
    let client = client(&issuer.roots_pem(), None);
    let tls = ServerTls::new(&settings(server(&issuer, "one"), ClientCertificates::Ignored)).unwrap();
    let (_, first) = meet(&tls, &client, "one").await.unwrap();
    let mut mixed = settings(server(&issuer, "one"), ClientCertificates::Ignored);
    mixed.key = server(&issuer, "one").key;
    assert!(matches!(tls.replace(&mixed), Err(ServerTlsError::Unusable(_))));
    assert_eq!(meet(&tls, &client, "one").await.unwrap().1, first);
    tls.replace(&settings(server(&issuer, "one"), ClientCertificates::Ignored)).unwrap();
    assert_ne!(meet(&tls, &client, "one").await.unwrap().1, first);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dropped() {
    let issuer = issuer();
    let tls = ServerTls::new(&settings(server(&issuer, "one"), ClientCertificates::Ignored)).unwrap();
    let (far, _silent) = tokio::io::duplex(64);
    assert_eq!(tls.accept(far).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[rstest]
#[case::chain("", "key", "certificate")]
#[case::key("chain", "", "key")]
fn what_is_missing_is_named(#[case] chain: &str, #[case] key: &str, #[case] named: &str) {
    let good = server(&issuer(), "one");
    let pick = |part: &str, good: String| if part.is_empty() { String::new() } else { good };
    let pair = CertifiedKeyPem { chain: pick(chain, good.chain), key: pick(key, good.key) };
    let error = ServerTls::new(&settings(pair, ClientCertificates::Ignored)).unwrap_err().to_string();
    assert!(error.contains(named), "{error}");
}

#[tokio::test]
async fn a_post_quantum_server_meets_no_classic_client() {
    let issuer = issuer();
    let settings = settings(server(&issuer, "a.b"), ClientCertificates::Ignored);
    let server = ServerTls::new(&ServerSettings { post_quantum_only: true, ..settings }).unwrap();
    meet(&server, &client(&issuer.roots_pem(), None), "a.b").await.unwrap();

    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pem::certificates(issuer.roots_pem().as_bytes()).unwrap());
    let classic = rustls::crypto::CryptoProvider {
        kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519],
        ..rustls::crypto::CryptoProvider::clone(&GENERAL)
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(classic)).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    assert!(meet(&server, &TlsConnector::from(Arc::new(config)), "a.b").await.is_err());
}
