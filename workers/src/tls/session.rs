//! The server's side of one TLS connection, without a socket.
//!
//! | method | in | out |
//! |---|---|---|
//! | [`Session::process`] | ciphertext from the peer | plaintext; handshake messages and alerts for the peer |
//! | [`Session::encrypt`] | plaintext | ciphertext |
//! | [`Session::close_notify`] | | the alert that ends the server's direction, and the session |
//!
//! It keeps no plaintext, and no ciphertext but an incomplete handshake message: the caller has the buffers, so that an
//! idle connection holds none. rustls limits what a peer can make it do without data: 32 key updates in a row, 4 warning
//! alerts, 1 renegotiation, which is refused, and a handshake message of 64 KB. [`RECORDS_A_CALL`] limits the rest.
//!
//! rustls gets one complete record at a time, or the header of what is no record, to refuse it. Between two calls, it
//! refers to the parts of an incomplete handshake message by their place in the bytes that it was given, and panics if the
//! next call is without them. So they are kept here, and nothing else is: a call that is to send something never finds a
//! record to read.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};

use super::config::TlsConfig;
use super::{Next, Processed, RECORD_BYTES, peer};
use crate::connection::TlsInfo;

/// How many records one call decrypts, so that a peer which sends tiny ones does not hold the worker: about half a
/// millisecond.
const RECORDS_A_CALL: u32 = 1024;
/// More than the header, nonce, tag and padding of one record.
const OVERHEAD_BYTES: usize = 64;
/// More than what rustls may send in front of data: a key update, tickets, an alert.
const CONTROL_BYTES: usize = 1024;

/// The maximum length of a record with its header (RFC 5246 §6.2.3).
const MAX_RECORD_BYTES: usize = HEADER_BYTES + (1 << 14) + 2048;
const HEADER_BYTES: usize = 5;
/// The first byte of the version in the header of each record.
const MAJOR_VERSION: u8 = 3;
/// More than the longest handshake message that rustls accepts (64 KB), unless its records are tiny.
const HELD_BYTES: usize = 96 * 1024;

/// See the module.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// Records that rustls has read but not finished with: the parts of an incomplete handshake message. It has to get
    /// them in every call, in front of what is new.
    held: Vec<u8>,
    /// Whether the session is over; then rustls is not called any more.
    is_over: bool,
}

impl Session {
    /// The maximum of [`Session::held_bytes`]: what is too long is noticed with its last record.
    pub const MAX_HELD_BYTES: usize = HELD_BYTES + MAX_RECORD_BYTES;
    /// Why a session fails without an alert.
    pub const TOO_LONG_MESSAGE: &str = "a handshake message is too long";
    const NO_RECORD_MESSAGE: &str = "the client sent something else than TLS";

    /// A session before its handshake.
    ///
    /// Errors: the text for the log; rustls has no random bytes.
    pub fn new(config: &TlsConfig) -> Result<Self, String> {
        let tls = UnbufferedServerConnection::new(config.server());
        Ok(Self { tls: tls.map_err(|error| error.to_string())?, held: Vec::new(), is_over: false })
    }

    /// Whether the handshake is incomplete.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// How many bytes the session keeps between two calls: the parts of an incomplete handshake message.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Describes a connection whose handshake is complete.
    pub fn info(&self) -> TlsInfo {
        peer::info(&self.tls)
    }

    /// Decrypts the complete records of `incoming`, as far as their content fits into `room`, which has to hold one record
    /// ([`RECORD_BYTES`]). Appends what has to be sent to the peer to `outgoing`.
    pub fn process(
        &mut self,
        incoming: &mut [u8],
        room: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Processed {
        debug_assert!(room.len() >= RECORD_BYTES, "no record would ever fit");
        let (mut taken_bytes, mut plaintext_bytes, mut records) = (0, 0, 0);
        let next = loop {
            if self.is_over {
                break Next::Failed("the session is over".to_owned());
            }
            let length = match first_record(&incoming[taken_bytes..]) {
                FirstRecord::Complete(length) => length,
                FirstRecord::Incomplete => break Next::Ciphertext,
                FirstRecord::Not(mut header) => {
                    break self.refuse(&mut header, &mut room[plaintext_bytes..], outgoing);
                }
            };
            if room.len() - plaintext_bytes < RECORD_BYTES || records == RECORDS_A_CALL {
                break Next::Another;
            }
            records += 1;
            let record = &mut incoming[taken_bytes..taken_bytes + length];
            taken_bytes += length;
            let (count, next) = self.process_record(record, &mut room[plaintext_bytes..], outgoing);
            plaintext_bytes += count;
            match next {
                Next::Ciphertext if self.held.len() > HELD_BYTES => {
                    break Next::Failed(Self::TOO_LONG_MESSAGE.to_owned());
                }
                Next::Ciphertext | Next::Another => {}
                Next::Ended | Next::Failed(_) => break next,
            }
        };
        if matches!(next, Next::Failed(_)) {
            self.is_over = true;
            self.held = Vec::new();
            taken_bytes = incoming.len();
        }
        Processed { taken_bytes, plaintext_bytes, next }
    }

    /// Passes one record to rustls, behind what it holds. Returns the number of bytes of plaintext.
    fn process_record(
        &mut self,
        record: &mut [u8],
        room: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> (usize, Next) {
        if self.held.is_empty() {
            let (taken, count, next) = pass(&mut self.tls, record, room, outgoing);
            self.held.extend_from_slice(&record[taken..]);
            return (count, next);
        }
        self.held.extend_from_slice(record);
        let (taken, count, next) = pass(&mut self.tls, &mut self.held, room, outgoing);
        self.held.drain(..taken);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        (count, next)
    }

    /// Fails the session, with rustls's reason and alert.
    fn refuse(
        &mut self,
        header: &mut [u8; HEADER_BYTES],
        room: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Next {
        // rustls knows the versions of SSL 2 and DTLS, and would wait for the rest of such a record.
        if header[1] != MAJOR_VERSION {
            header[1..3].fill(0);
        }
        match self.process_record(header, room, outgoing) {
            (_, failed @ Next::Failed(_)) => failed,
            (_, Next::Ciphertext | Next::Another | Next::Ended) => {
                Next::Failed(Self::NO_RECORD_MESSAGE.to_owned())
            }
        }
    }

    /// Encrypts application data, and appends it to `outgoing`.
    ///
    /// Errors: the text for the log; the session is over.
    pub fn encrypt(&mut self, plaintext: &[u8], outgoing: &mut Vec<u8>) -> Result<(), String> {
        let overhead = (plaintext.len() / RECORD_BYTES + 1) * OVERHEAD_BYTES;
        let size = plaintext.len() + overhead + CONTROL_BYTES;
        self.with_traffic(outgoing, |traffic, outgoing| {
            append(outgoing, size, |out| traffic.encrypt(plaintext, out))
        })
    }

    /// Ends the session, and appends close_notify to `outgoing`, unless the handshake is incomplete or the session has
    /// failed.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        // Without it, the peer takes the end of the stream for an attack, which is right for a session that failed.
        let _ = self.with_traffic(outgoing, |traffic, outgoing| {
            append(outgoing, CONTROL_BYTES, |out| traffic.queue_close_notify(out))
        });
        self.is_over = true;
    }

    /// Appends what rustls has to send, and calls `call` if application data may follow.
    fn with_traffic(
        &mut self,
        outgoing: &mut Vec<u8>,
        call: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.is_over {
            return Err("the session is over".to_owned());
        }
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.held);
            let sent = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(outgoing, CONTROL_BYTES, |out| data.encode(out))
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(())
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return call(&mut traffic, outgoing);
                }
                Ok(other) => Err(format!("rustls cannot send now: {other:?}")),
                Err(error) => Err(error.to_string()),
            };
            self.held.drain(..discard);
            sent?;
        }
    }
}

/// What the bytes of a peer begin with.
enum FirstRecord {
    /// A record of this length.
    Complete(usize),
    /// A part of a record.
    Incomplete,
    /// Something else. This is where a record has its header.
    Not([u8; HEADER_BYTES]),
}

fn first_record(bytes: &[u8]) -> FirstRecord {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return FirstRecord::Incomplete };
    let [kind, major, _, high, low] = *header;
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(kind, 20..=24) || major != MAJOR_VERSION || length > MAX_RECORD_BYTES {
        FirstRecord::Not(*header)
    } else if length <= bytes.len() {
        FirstRecord::Complete(length)
    } else {
        FirstRecord::Incomplete
    }
}

/// Passes bytes to rustls until it needs more. Returns how many it is done with, and the number of bytes of plaintext.
fn pass(
    tls: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    room: &mut [u8],
    outgoing: &mut Vec<u8>,
) -> (usize, usize, Next) {
    let (mut taken, mut count) = (0, 0);
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut bytes[taken..]);
        let next = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    let end = count + record.payload.len();
                    room[count..end].copy_from_slice(record.payload);
                    count = end;
                }
                None
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(outgoing, CONTROL_BYTES, |out| data.encode(out)).err().map(Next::Failed)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                Some(Next::Ciphertext)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Next::Ended),
            // Early data is never accepted.
            Ok(other) => Some(Next::Failed(format!("rustls cannot go on: {other:?}"))),
            Err(error) => Some(Next::Failed(error.to_string())),
        };
        taken += discard;
        let Some(next) = next else { continue };
        if matches!(next, Next::Failed(_)) {
            put_alert(tls, &mut bytes[taken..], outgoing);
        }
        return (taken, count, next);
    }
}

/// Appends what rustls has to send after a failure: the alert, which may follow parts of the handshake. After the alert,
/// rustls must not be called again, because it would look at the bytes that it refused once more.
fn put_alert(tls: &mut UnbufferedServerConnection, bytes: &mut [u8], outgoing: &mut Vec<u8>) {
    loop {
        let start = outgoing.len();
        let status = tls.process_tls_records(bytes);
        let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else { return };
        // If there is no room, the peer does not learn the reason, and nothing can be done about that.
        let is_appended = append(outgoing, CONTROL_BYTES, |out| data.encode(out)).is_ok();
        if !is_appended || is_alert(&outgoing[start..]) {
            return;
        }
    }
}

/// Whether a record is an alert. TLS 1.3 shows only the length of an encrypted one: two bytes, their type and a tag.
fn is_alert(record: &[u8]) -> bool {
    match record.first() {
        Some(21) => true,
        Some(23) => record.len() == HEADER_BYTES + 2 + 1 + 16,
        Some(_) | None => false,
    }
}

/// An error of rustls that may say that its output needs more room.
trait NeedsRoom: ToString {
    fn required_bytes(&self) -> Option<usize>;
}

impl NeedsRoom for EncodeError {
    fn required_bytes(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl NeedsRoom for EncryptError {
    fn required_bytes(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Appends what `put` writes, which is `size` bytes at first and more if that is too little.
fn append<E: NeedsRoom>(
    outgoing: &mut Vec<u8>,
    size: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), String> {
    let start = outgoing.len();
    let mut size = size;
    loop {
        outgoing.resize(start + size, 0);
        let put = put(&mut outgoing[start..]);
        match put {
            Ok(count) => {
                outgoing.truncate(start + count);
                return Ok(());
            }
            Err(error) => {
                outgoing.truncate(start);
                match error.required_bytes().filter(|required| *required > size) {
                    Some(required) => size = required,
                    None => return Err(error.to_string()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
