//! Records that a client encrypts as no well-behaved one does.

use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use rustls::{
    ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::super::pieces::{Numbers, pieces};
use super::ends::{End, Outcome, Server, client, client_config, deliver, pending};

/// The type of application data.
const DATA: u8 = 23;
/// Set in the first byte of a record if its bytes are sent as they are, without encryption.
const IS_RAW: u8 = 0x80;
/// Set in the first byte of a record if its content is repeated in one record, and not in several.
const IS_LONG: u8 = 0x40;
/// Limits what a short input can ask for.
const MAX_RECORDS: usize = 4000;
const MAX_CONTENT_BYTES: usize = (1 << 14) + 300;
const MAX_SENT_BYTES: usize = 512 * 1024;

/// What the client sends: the type of the record, how often, and the content.
struct Record<'a> {
    kind: u8,
    count: usize,
    content: &'a [u8],
}

/// Reads the bytes as records `TYPE COUNT LENGTH CONTENT`, which a client sends behind a handshake. The server sends
/// something now and then.
///
/// Cuts change nothing. The plaintext is the content of the records of application data in front of the first one that
/// is refused.
pub(crate) fn sealed(bytes: &[u8], version: &'static SupportedProtocolVersion) {
    let records = records(bytes);
    let whole = run(&records, version, 0);
    let cut = run(&records, version, 1);
    assert_eq!(cut, whole);
    check_plaintext(&records, &whole);
}

fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let (mut records, mut total, mut sent) = (Vec::new(), 0, 0);
    while let [kind, count, length, rest @ ..] = bytes {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        let mut count = usize::from(*count) + 1;
        if kind & IS_LONG == 0 {
            count = count.min(MAX_RECORDS - total);
            total += count;
        }
        let record = Record { kind: *kind, count, content };
        sent += record.records() * record.content().len();
        if sent > MAX_SENT_BYTES {
            break;
        }
        records.push(record);
    }
    records
}

impl Record<'_> {
    fn content(&self) -> Vec<u8> {
        if self.kind & IS_LONG == 0 {
            return self.content.to_vec();
        }
        let mut content = self.content.repeat(self.count);
        content.truncate(MAX_CONTENT_BYTES);
        content
    }

    /// How many records there are.
    fn records(&self) -> usize {
        if self.kind & IS_LONG == 0 { self.count } else { 1 }
    }
}

/// Sends the records: all at once, or cut.
fn run(records: &[Record<'_>], version: &'static SupportedProtocolVersion, salt: u64) -> Outcome {
    let mut server = Server::new(records.len());
    let mut sealer = Sealer::new(established(&mut server, version));
    let mut bytes = Vec::new();
    for record in records {
        let content = record.content();
        for _ in 0..record.records() {
            match record.kind & IS_RAW {
                0 => bytes.extend(sealer.seal(record.kind & 0x3f, &content)),
                _ => bytes.extend(&content),
            }
        }
    }
    // Where to cut must not depend on random bytes, and their number does not.
    let lengths = [bytes.len().to_le_bytes(), records.len().to_le_bytes()].concat();
    let mut numbers = Numbers::of(&lengths, salt);
    let ends = match salt {
        0 => vec![bytes.len()],
        _ => {
            let count = numbers.below(20) + 1;
            let mut ends: Vec<usize> = (0..count).map(|_| numbers.below(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            ends
        }
    };
    for piece in pieces(&bytes, &ends) {
        server.receive(piece);
        let is_sent = numbers.below(2) == 0 && server.send(b"meanwhile");
        assert!(!is_sent || !matches!(server.end, End::Failed(_)));
    }
    server.outcome()
}

/// A client whose handshake with the server is complete.
fn established(
    server: &mut Server,
    version: &'static SupportedProtocolVersion,
) -> ClientConnection {
    let mut client = client(&client_config(version, None));
    loop {
        let bytes = pending(&mut client);
        server.receive(&bytes);
        let answer = std::mem::take(&mut server.outgoing);
        assert!(deliver(&mut client, &answer));
        if bytes.is_empty() && answer.is_empty() {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return client;
        }
    }
}

/// Compares the plaintext with the records in front of the one that ended the session.
fn check_plaintext(records: &[Record<'_>], outcome: &Outcome) {
    let mut rest = &outcome.plaintext[..];
    for record in records {
        let content = record.content();
        let sent: &[u8] = match record.kind {
            kind if kind & IS_RAW != 0 => &[],
            kind if kind & 0x3f == DATA => &content,
            // A type of 0 is padding of TLS 1.3: the type is the last byte in front of it.
            kind if kind & 0x3f == 0 => match content.iter().rposition(|&byte| byte != 0) {
                Some(end) if content[end] == DATA => &content[..end],
                Some(_) | None => &[],
            },
            _ => &[],
        };
        for _ in 0..record.records() {
            match rest.strip_prefix(sent) {
                Some(behind) => rest = behind,
                None => {
                    assert!(rest.is_empty(), "plaintext that was not sent in this order");
                    // Raw bytes may begin a record of which the next ones become a part, and which is incomplete.
                    let is_behind_raw = records.iter().any(|record| record.kind & IS_RAW != 0);
                    assert!(outcome.end != End::Open || record.kind != DATA || is_behind_raw);
                    return;
                }
            }
        }
    }
    assert!(rest.is_empty(), "plaintext that was not sent");
}

/// Encrypts with the keys of a client.
struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Sealer {
    fn new(client: ClientConnection) -> Self {
        let suite = client.negotiated_cipher_suite().expect("a suite");
        let (sequence, secrets) = client.dangerous_extract_secrets().expect("secrets").tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets
        else {
            panic!("another kind of suite")
        };
        let encrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                let (fixed, explicit) = iv.as_ref().split_at(4);
                suite.aead_alg.encrypter(key, fixed, explicit)
            }
        };
        Self { encrypter, sequence }
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        // Both versions have this number in their records.
        let (typ, version) = (ContentType::from(kind), ProtocolVersion::TLSv1_2);
        let message = OutboundPlainMessage { typ, version, payload: content.into() };
        let sealed = self.encrypter.encrypt(message, self.sequence).expect("a record");
        self.sequence += 1;
        sealed.encode()
    }
}
