//! A peer that believes everybody and shows whatever it likes.

use crate::authority::Shown;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use std::{io, net::Ipv4Addr, sync::Arc};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Believes everybody, and has one thing to show.
#[derive(Debug)]
pub(crate) struct Rogue {
    provider: Arc<CryptoProvider>,
    shown: Arc<CertifiedKey>,
}

impl Rogue {
    pub(crate) fn new(shown: &Shown) -> Arc<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(shown.key.clone_key()).unwrap();
        Arc::new(Self { provider, shown: Arc::new(CertifiedKey::new(shown.chain.clone(), key)) })
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Calls, and waits until the other side has said what it thinks: in TLS 1.3 a client is done before it is judged.
pub(crate) async fn client(io: DuplexStream, rogue: Arc<Rogue>) -> io::Result<()> {
    let mut config = ClientConfig::builder_with_provider(rogue.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(rogue.clone())
        .with_client_cert_resolver(rogue);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let nobody = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    TlsConnector::from(Arc::new(config)).connect(nobody, io).await?.read_u8().await?;
    Ok(())
}

/// Is called.
pub(crate) async fn server(io: DuplexStream, rogue: Arc<Rogue>) -> io::Result<()> {
    let mut config = ServerConfig::builder_with_provider(rogue.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(rogue.clone())
        .with_cert_resolver(rogue);
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(io).await?;
    Ok(())
}

impl ResolvesClientCert for Rogue {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        (!self.shown.cert.is_empty()).then(|| self.shown.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Rogue {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.clone())
    }
}

impl ServerCertVerifier for Rogue {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Rogue {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
