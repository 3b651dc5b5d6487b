//! TLS 1.3 records after the handshake (RFC 8446 §5), protected and opened where they lie.
//!
//! [`Records`] has the traffic keys of one connection and nothing else: no socket, no buffer of application data. Its user lays
//! out a record as `header | plaintext | trailer`, so that nothing is moved. Key updates of either side are handled here.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets, client::ClientConnectionData, kernel::KernelConnection,
    server::ServerConnectionData,
};
use std::fmt;

/// Bytes before the plaintext.
pub const HEADER: usize = 5;
/// Bytes after the plaintext: its type and the tag.
pub const TRAILER: usize = 1 + TAG;
/// Plaintext of the largest record.
pub const MAX_PLAINTEXT: usize = 16 << 10;
/// The largest record that a peer may send.
pub const MAX_RECORD: usize = HEADER + MAX_PLAINTEXT + 256;

const TAG: usize = 16;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;

/// Records under one key, far below the 2^24.5 that AES-GCM allows.
const MAX_UNDER_ONE_KEY: u64 = 1 << 23;
/// Key updates of the peer that carry no data between them.
const MAX_IDLE_UPDATES: u8 = 32;
/// A message of the peer after the handshake; tickets are the largest.
const MAX_MESSAGE: usize = 16 << 10;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are no TLS 1.3 record.
    #[error("the peer sent something that is no TLS record")]
    Malformed,
    /// The record was changed on its way, or is not from the peer.
    #[error("a TLS record of the peer does not decrypt")]
    Forged,
    /// The peer ended the connection because of an error.
    #[error("the peer sent the TLS alert {0}")]
    Alert(u8),
    /// The peer sent a message that has no place here.
    #[error("the peer sent an unexpected TLS message of type {0}")]
    Unexpected(u8),
    /// The peer changes keys without sending anything.
    #[error("the peer updates its keys too often")]
    TooManyUpdates,
    /// Our own keys cannot be used.
    #[error("TLS keys: the record could not be protected")]
    Keys,
}

/// What a record of the peer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// That many bytes of data, from [`HEADER`] on.
    Data(usize),
    /// Nothing for the user.
    Nothing,
    /// The peer sends no more.
    Closed,
}

/// One direction's key.
struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return Err(RecordError::Keys),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordError::Keys)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordError::Keys)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What makes the next keys.
enum Schedule {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

impl Schedule {
    fn next_sending(&mut self) -> Result<Direction, RecordError> {
        let next = match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
        };
        Direction::new(next.map_err(|_| RecordError::Keys)?)
    }

    fn next_receiving(&mut self) -> Result<Direction, RecordError> {
        let next = match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
        };
        Direction::new(next.map_err(|_| RecordError::Keys)?)
    }
}

/// Protects and opens the records of one connection.
pub struct Records {
    sending: Direction,
    receiving: Direction,
    schedule: Schedule,
    /// The peer asked for a new key of ours, or the present one is worn.
    update_due: bool,
    idle_updates: u8,
    /// The beginning of a handshake message that goes on in the next record.
    message: Vec<u8>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("sent", &self.sending.sequence)
            .field("received", &self.receiving.sequence)
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn of_client(
        secrets: ExtractedSecrets,
        connection: KernelConnection<ClientConnectionData>,
    ) -> Result<Self, RecordError> {
        Self::new(secrets, Schedule::Client(Box::new(connection)))
    }

    pub(super) fn of_server(
        secrets: ExtractedSecrets,
        connection: KernelConnection<ServerConnectionData>,
    ) -> Result<Self, RecordError> {
        Self::new(secrets, Schedule::Server(Box::new(connection)))
    }

    fn new(secrets: ExtractedSecrets, schedule: Schedule) -> Result<Self, RecordError> {
        let (sending, receiving) = (Direction::new(secrets.tx)?, Direction::new(secrets.rx)?);
        Ok(Self { sending, receiving, schedule, update_due: false, idle_updates: 0, message: Vec::new() })
    }

    /// Protects data. `record` is [`HEADER`] bytes of room, the data, and [`TRAILER`] bytes of room.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), RecordError> {
        self.seal_as(APPLICATION_DATA, record)
    }

    fn seal_as(&mut self, kind: u8, record: &mut [u8]) -> Result<(), RecordError> {
        let protected = record.len().checked_sub(HEADER).ok_or(RecordError::Keys)?;
        let length = u16::try_from(protected).map_err(|_| RecordError::Keys)?.to_be_bytes();
        let (header, body) = record.split_at_mut(HEADER);
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, length[0], length[1]]);
        let (text, tag) = body.split_at_mut(protected.checked_sub(TAG).ok_or(RecordError::Keys)?);
        *text.last_mut().ok_or(RecordError::Keys)? = kind;
        let nonce = self.sending.nonce();
        let made = self.sending.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), text);
        tag.copy_from_slice(made.map_err(|_| RecordError::Keys)?.as_ref());
        self.update_due |= self.sending.sequence >= MAX_UNDER_ONE_KEY;
        Ok(())
    }

    /// A record that has to be sent before the next data: our key changes after it.
    pub fn key_update(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        if !std::mem::take(&mut self.update_due) {
            return Ok(None);
        }
        // "update_not_requested": the peer's key is its own business.
        let message = [KEY_UPDATE, 0, 0, 1, 0];
        let mut record = vec![0; HEADER + message.len() + TRAILER];
        record[HEADER..HEADER + message.len()].copy_from_slice(&message);
        self.seal_as(HANDSHAKE, &mut record)?;
        self.sending = self.schedule.next_sending()?;
        self.update_due = false;
        Ok(Some(record))
    }

    /// The record that tells the peer that no more comes.
    pub fn close_notify(&mut self) -> Result<Vec<u8>, RecordError> {
        let mut record = vec![0; HEADER + 2 + TRAILER];
        record[HEADER..HEADER + 2].copy_from_slice(&[1, CLOSE_NOTIFY]);
        self.seal_as(ALERT, &mut record)?;
        Ok(record)
    }

    /// The length of the record that `bytes` begin with, header included; `None` if its header is not complete.
    pub fn record_length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
        let [kind, 3, _, high, low, ..] = *bytes else {
            return if bytes.len() < HEADER { Ok(None) } else { Err(RecordError::Malformed) };
        };
        let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
        if kind == APPLICATION_DATA && (HEADER + TRAILER..=MAX_RECORD).contains(&length) {
            Ok(Some(length))
        } else {
            Err(RecordError::Malformed)
        }
    }

    /// Opens one whole record in place.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Content, RecordError> {
        let (header, body) = record.split_at_mut_checked(HEADER).ok_or(RecordError::Malformed)?;
        let nonce = self.receiving.nonce();
        let opened = self.receiving.key.open_in_place(nonce, Aad::from(&*header), body);
        let opened = opened.map_err(|_| RecordError::Forged)?;
        let kind = opened.iter().rposition(|byte| *byte != 0).ok_or(RecordError::Malformed)?;
        let (text, kind) = (&opened[..kind], opened[kind]);
        if text.len() > MAX_PLAINTEXT {
            return Err(RecordError::Malformed);
        }
        match kind {
            APPLICATION_DATA if self.message.is_empty() => {
                self.idle_updates = 0;
                Ok(Content::Data(text.len()))
            }
            ALERT => match *text {
                [_, CLOSE_NOTIFY] => Ok(Content::Closed),
                [_, description] => Err(RecordError::Alert(description)),
                _ => Err(RecordError::Malformed),
            },
            HANDSHAKE if !text.is_empty() => {
                let text = text.to_vec();
                self.handshake(&text)?;
                Ok(Content::Nothing)
            }
            other => Err(RecordError::Unexpected(other)),
        }
    }

    /// Messages after the handshake: tickets, which we do not use, and key updates.
    fn handshake(&mut self, text: &[u8]) -> Result<(), RecordError> {
        self.message.extend_from_slice(text);
        while let [kind, a, b, c, ref rest @ ..] = *self.message {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_MESSAGE {
                return Err(RecordError::Malformed);
            }
            let Some(body) = rest.get(..length) else { return Ok(()) };
            match (kind, body) {
                (NEW_SESSION_TICKET, _) if matches!(self.schedule, Schedule::Client(_)) => {}
                // New keys begin with a new record.
                (KEY_UPDATE, &[asked @ 0..=1]) if rest.len() == length => self.peer_updated(asked == 1)?,
                _ => return Err(RecordError::Unexpected(kind)),
            }
            self.message.drain(..4 + length);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    fn peer_updated(&mut self, asks_for_ours: bool) -> Result<(), RecordError> {
        self.idle_updates += 1;
        if self.idle_updates > MAX_IDLE_UPDATES {
            return Err(RecordError::TooManyUpdates);
        }
        self.receiving = self.schedule.next_receiving()?;
        self.update_due |= asks_for_ours;
        Ok(())
    }

    /// Asks for a new key of ours before the next data.
    pub fn renew_key(&mut self) {
        self.update_due = true;
    }
}

#[cfg(test)]
mod tests;
