//! One connection to a control plane: TCP, TLS by the roots of now, HTTP/2 with keepalives (ztunnel.md §1.1).

use super::{ChannelError, ChannelOptions, Endpoint};
use crate::tls::{GENERAL, H2};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use socket2::{SockRef, TcpKeepalive};
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects, and leaves the connection to a task that ends with it.
pub(super) async fn connect(options: &ChannelOptions, endpoint: &Endpoint) -> Result<SendRequest<Body>, ChannelError> {
    let fail = |doing: &'static str| {
        let address = endpoint.authority.clone();
        move |reason: io::Error| ChannelError::Connection { address, doing, reason: Arc::new(reason) }
    };
    let stream = dial(&endpoint.host, endpoint.port).await.map_err(fail("connecting"))?;
    let config = client_config(options, endpoint)?;
    let name = server_name(&endpoint.host)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = within(HANDSHAKE_TIMEOUT, handshake).await.map_err(fail("in the TLS handshake"))?;
    let http = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = within(HANDSHAKE_TIMEOUT, async { http.await.map_err(io::Error::other) })
        .await
        .map_err(fail("in the HTTP/2 handshake"))?;
    let address = endpoint.authority.clone();
    runtime::task::spawn("control plane connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%address, "connection to the control plane ended: {error}");
        }
    });
    Ok(sender)
}

/// The first address of the host that answers.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    let addresses = within(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await?;
    for address in addresses {
        match within(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(300)).with_interval(Duration::from_secs(75)).with_retries(9)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))
    })
}

fn server_name(host: &str) -> Result<ServerName<'static>, ChannelError> {
    ServerName::try_from(host.to_owned()).map_err(|_| ChannelError::BadName(host.to_owned()))
}

fn client_config(options: &ChannelOptions, endpoint: &Endpoint) -> Result<ClientConfig, ChannelError> {
    let roots = Arc::new(options.root.load()?);
    let unusable = |reason: String| ChannelError::Tls { address: endpoint.authority.clone(), reason };
    let inner = WebPkiServerVerifier::builder_with_provider(roots, GENERAL.clone())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let alternative = options.alternative_hostname.as_deref().map(server_name).transpose()?;
    let mut config = ClientConfig::builder_with_provider(GENERAL.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(EitherName { inner, alternative }))
        .with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Verifies the chain, and the name that was dialled or the alternative one.
#[derive(Debug)]
struct EitherName {
    inner: Arc<WebPkiServerVerifier>,
    alternative: Option<ServerName<'static>>,
}

impl ServerCertVerifier for EitherName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |name| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        match (verify(server_name), &self.alternative) {
            (
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
                Some(name),
            ) => verify(name),
            (verdict, _) => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
