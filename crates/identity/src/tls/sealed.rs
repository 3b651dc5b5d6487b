//! Handshakes whose result is keys instead of a byte stream: what [`Records`] needs, and the bytes that came too early.
//!
//! rustls does all of the handshake. It is fed record by record, so that not one record of application data goes into it.

use super::{TlsConnector, nameless, record::Records};
use crate::{
    certificate::WorkloadCertificate,
    peer::PeerError,
    revocation::{CertificateId, peer_chain},
    tls::{self, HANDSHAKE_TIMEOUT, handshake::HandshakeError},
};
use model::Identity;
use rustls::{
    CommonState, Error,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus},
};
use std::{io, ops::Deref};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// The largest record of a handshake, header included.
const MAX_RECORD: usize = 5 + (16 << 10) + 256;
/// All that a peer may send until the handshake is over.
const MAX_HANDSHAKE: usize = 128 << 10;
const READ: usize = 4 << 10;

/// A connection after its handshake.
#[derive(Debug)]
pub struct Sealed<IO> {
    /// What carries the records.
    pub io: IO,
    /// Keys.
    pub records: Records,
    /// Received already and not opened yet.
    pub early: Vec<u8>,
    /// Who the peer is.
    pub peer: Identity,
    /// The certificates that it showed.
    pub chain: Vec<CertificateId>,
}

impl WorkloadCertificate {
    /// Secures an outgoing connection to one of the expected identities.
    pub async fn connect_sealed<IO>(&self, expected: &[Identity], io: IO) -> Result<Sealed<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connector: TlsConnector = self.connector(expected);
        let connection = UnbufferedClientConnection::new(connector.config().clone(), nameless()).map_err(failed)?;
        let (io, connection, early) = bounded(handshake(io, connection)).await?;
        let (peer, chain) = of_peer(&connection)?;
        let (secrets, connection) = connection.dangerous_into_kernel_connection().map_err(failed)?;
        let records = Records::of_client(secrets, connection).map_err(io::Error::other);
        Ok(Sealed { io, records: records.map_err(HandshakeError::Failed)?, early, peer, chain })
    }

    /// Secures an incoming connection.
    pub async fn accept_sealed<IO>(&self, io: IO) -> Result<Sealed<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let connection = UnbufferedServerConnection::new(self.acceptor().config().clone()).map_err(failed)?;
        let (io, connection, early) = bounded(handshake(io, connection)).await?;
        let (peer, chain) = of_peer(&connection)?;
        let (secrets, connection) = connection.dangerous_into_kernel_connection().map_err(failed)?;
        let records = Records::of_server(secrets, connection).map_err(io::Error::other);
        Ok(Sealed { io, records: records.map_err(HandshakeError::Failed)?, early, peer, chain })
    }
}

fn failed(error: Error) -> HandshakeError {
    HandshakeError::Failed(io::Error::new(io::ErrorKind::InvalidData, error))
}

fn of_peer(state: &CommonState) -> Result<(Identity, Vec<CertificateId>), PeerError> {
    Ok((tls::peer(state)?, peer_chain(state)))
}

async fn bounded<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    // Its state is large and soon gone: it must not stay in the future of the connection.
    match timeout(HANDSHAKE_TIMEOUT, Box::pin(handshake)).await {
        Ok(done) => done.map_err(HandshakeError::Failed),
        Err(_) => Err(HandshakeError::Timeout(HANDSHAKE_TIMEOUT)),
    }
}

/// Either end's rustls connection.
trait Connection: Deref<Target: Deref<Target = CommonState>> {
    /// Takes in `incoming`; says how much of it is done with and what to do next.
    fn step(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Step, Error>);
}

/// What a handshake wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Another step at once.
    Again,
    /// What is outgoing must leave.
    Send,
    /// Another record.
    Receive,
    /// The peer has gone.
    Closed,
}

macro_rules! connection {
    ($kind:ty) => {
        impl Connection for $kind {
            fn step(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
                let UnbufferedStatus { discard, state } = self.process_tls_records(incoming);
                let step = state.map(|state| match state {
                    ConnectionState::EncodeTlsData(mut data) => {
                        encode(outgoing, |room| data.encode(room));
                        Step::Again
                    }
                    ConnectionState::TransmitTlsData(data) => {
                        data.done();
                        Step::Send
                    }
                    ConnectionState::PeerClosed | ConnectionState::Closed => Step::Closed,
                    _ => Step::Receive,
                });
                (discard, step)
            }
        }
    };
}
connection!(UnbufferedClientConnection);
connection!(UnbufferedServerConnection);

/// Appends what `write` makes, asking it first how long that is.
fn encode(outgoing: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = write(&mut []) else { return };
    let start = outgoing.len();
    outgoing.resize(start + required_size, 0);
    let written = write(&mut outgoing[start..]).unwrap_or_default();
    outgoing.truncate(start + written);
}

async fn handshake<IO, C>(mut io: IO, mut connection: C) -> io::Result<(IO, C, Vec<u8>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    C: Connection,
{
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    // How much of `incoming` rustls may see: whole records only.
    let (mut shown, mut received) = (0, 0);
    loop {
        let (discard, step) = connection.step(&mut incoming[..shown], &mut outgoing);
        incoming.drain(..discard);
        shown -= discard;
        match step {
            Ok(Step::Again) => {}
            Ok(Step::Send) => send(&mut io, &mut outgoing).await?,
            Ok(Step::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Step::Receive) => {
                send(&mut io, &mut outgoing).await?;
                if !connection.is_handshaking() {
                    return Ok((io, connection, incoming));
                }
                let next = next_record(&mut io, &mut incoming, shown).await?;
                received += next;
                if received > MAX_HANDSHAKE {
                    return Err(invalid("the peer's handshake is too long"));
                }
                shown += next;
            }
            Err(error) => {
                // The peer is told by an alert, if it still listens.
                while let (_, Ok(Step::Again)) = connection.step(&mut incoming[..shown], &mut outgoing) {}
                let _told = send(&mut io, &mut outgoing).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), outgoing: &mut Vec<u8>) -> io::Result<()> {
    if !outgoing.is_empty() {
        io.write_all(outgoing).await?;
        io.flush().await?;
        outgoing.clear();
    }
    Ok(())
}

/// Waits until a whole record stands in `incoming` after the first `shown` bytes; gives its length.
async fn next_record(io: &mut (impl AsyncRead + Unpin), incoming: &mut Vec<u8>, shown: usize) -> io::Result<usize> {
    loop {
        if let [kind, major, _, high, low, ref body @ ..] = incoming[shown..] {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if !(20..=23).contains(&kind) || major != 3 || 5 + length > MAX_RECORD {
                return Err(invalid("received corrupt message of type InvalidContentType"));
            }
            if body.len() >= length {
                return Ok(5 + length);
            }
        }
        incoming.reserve(READ);
        if io.read_buf(incoming).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
