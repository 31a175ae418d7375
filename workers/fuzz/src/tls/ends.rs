//! The two ends of a connection: a [`Session`], and a client of rustls's own.

use std::sync::Arc;

use arctos_worker::settings::{CertificatePair, ClientCertificates, TlsFiles};
use arctos_worker::tls::{Next, Processed, RECORD_BYTES, Session, TlsConfig, load};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

const CERTIFICATE: &[u8] = include_bytes!("../../../src/tls/tests/certificate.pem");
const KEY: &[u8] = include_bytes!("../../../src/tls/tests/key.pem");
/// The maximum length of a record with its header (RFC 5246 §6.2.3).
const MAX_RECORD_BYTES: usize = 5 + (1 << 14) + 2048;
/// More than one call may have to send: the server's part of a handshake, or answers to key updates, and an alert.
const MAX_SENT_BYTES: usize = 16 * 1024;

/// How a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It waits for more.
    Open,
    /// By close_notify.
    Ended,
    /// With an alert, for this reason.
    Failed(String),
}

/// What became of a session, without anything random.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) plaintext: Vec<u8>,
    pub(crate) end: End,
    /// The types of the records that the server has sent.
    pub(crate) sent_types: Vec<u8>,
}

/// A session, and what the event loop keeps for it.
pub(crate) struct Server {
    session: Session,
    /// Ciphertext that the session has not used yet.
    incoming: Vec<u8>,
    room: Vec<u8>,
    /// What the server has sent, and the client has not received.
    pub(crate) outgoing: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) end: End,
    sent_types: Vec<u8>,
}

impl Server {
    /// A session before its handshake. Its buffer for plaintext has room for one record or more, depending on `seed`.
    pub(crate) fn new(seed: usize) -> Self {
        thread_local! {
            static CONFIG: TlsConfig = config();
        }
        let session = CONFIG.with(Session::new).expect("random bytes");
        Self {
            session,
            incoming: Vec::new(),
            room: vec![0; RECORD_BYTES + seed % RECORD_BYTES],
            outgoing: Vec::new(),
            plaintext: Vec::new(),
            end: End::Open,
            sent_types: Vec::new(),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Takes what the client has sent, as the event loop does, unless the session has ended.
    pub(crate) fn receive(&mut self, piece: &[u8]) {
        if self.end != End::Open {
            return;
        }
        self.incoming.extend_from_slice(piece);
        loop {
            let mut sent = Vec::new();
            let Processed { taken_bytes, plaintext_bytes, next } =
                self.session.process(&mut self.incoming, &mut self.room, &mut sent);
            self.incoming.drain(..taken_bytes);
            self.plaintext.extend_from_slice(&self.room[..plaintext_bytes]);
            let types = types(&sent);
            assert!(sent.len() <= MAX_SENT_BYTES, "{} bytes to send", sent.len());
            assert!(self.session.held_bytes() <= Session::MAX_HELD_BYTES);
            self.sent_types.extend(&types);
            self.outgoing.extend(&sent);
            match next {
                Next::Another => {
                    assert!(taken_bytes > 0, "a call that does nothing asks for another");
                    continue;
                }
                Next::Ciphertext => {
                    assert!(self.incoming.len() < MAX_RECORD_BYTES, "a record is complete");
                }
                Next::Ended => self.end = End::Ended,
                Next::Failed(reason) => {
                    assert!(is_silent(&reason) || ends_with_alert(&sent), "{reason}: {types:?}");
                    assert!(self.incoming.is_empty(), "a failed session waits for nothing");
                    self.check_over();
                    self.end = End::Failed(reason);
                }
            }
            return;
        }
    }

    /// A failed session reads and sends nothing, and wants nothing kept.
    fn check_over(&mut self) {
        let (mut bytes, mut sent) = ([23, 3, 3, 0, 1, 0], Vec::new());
        let processed = self.session.process(&mut bytes, &mut self.room, &mut sent);
        assert!(matches!(processed.next, Next::Failed(_)));
        assert_eq!((processed.taken_bytes, processed.plaintext_bytes), (bytes.len(), 0));
        assert!(self.session.encrypt(b"x", &mut sent).is_err());
        self.session.close_notify(&mut sent);
        assert!(sent.is_empty());
    }

    /// Sends application data. Returns whether it was possible.
    pub(crate) fn send(&mut self, data: &[u8]) -> bool {
        let start = self.outgoing.len();
        let is_sent = self.session.encrypt(data, &mut self.outgoing).is_ok();
        types(&self.outgoing[start..]);
        is_sent
    }

    pub(crate) fn close(&mut self) {
        self.session.close_notify(&mut self.outgoing);
    }

    pub(crate) fn outcome(mut self) -> Outcome {
        // How many responses key updates get, and with what they go out, depends on how many arrive at once.
        self.sent_types.dedup();
        Outcome { plaintext: self.plaintext, end: self.end, sent_types: self.sent_types }
    }
}

/// The types of records, which are complete.
fn types(mut records: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, 3, _, high, low, rest @ ..] = records {
        types.push(*kind);
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records = rest.get(length..).expect("a whole record");
    }
    assert!(records.is_empty(), "{}", records.escape_ascii());
    types
}

/// Whether a session may fail for this reason without an alert.
fn is_silent(reason: &str) -> bool {
    reason.starts_with("received fatal alert")
        // rustls sends an alert for some of these only.
        || reason.starts_with("peer misbehaved")
        || reason.ends_with("HandshakePayloadTooLarge")
        // The client takes none of the certificate's signature algorithms, over TLS 1.2.
        || reason == "unexpected error: incompatible signing key"
        || reason == Session::TOO_LONG_MESSAGE
}

/// Whether the last record is an alert. TLS 1.3 shows only the length of an encrypted one: two bytes, their type and a
/// tag.
fn ends_with_alert(records: &[u8]) -> bool {
    let types = types(records);
    let last = |bytes: usize| records.len().checked_sub(5 + bytes).map(|start| &records[start..]);
    match types.last() {
        Some(21) => true,
        Some(23) => last(2 + 1 + 16).is_some_and(|record| record.starts_with(&[23, 3, 3, 0, 19])),
        Some(_) | None => false,
    }
}

fn config() -> TlsConfig {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let pair = CertificatePair {
        certificate: file("certificate.pem", CERTIFICATE),
        key: file("key.pem", KEY),
    };
    let client_certificates = ClientCertificates::None;
    let files = TlsFiles { pairs: vec![pair], ca_certs: None, client_certificates };
    load(&files).expect("a certificate and its key").config
}

/// The configuration of a client of this version that trusts the server. Its records are as long as possible, or at most
/// `max_record_bytes` long.
pub(crate) fn client_config(
    version: &'static SupportedProtocolVersion,
    max_record_bytes: Option<usize>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    config.max_fragment_size = max_record_bytes;
    Arc::new(config)
}

pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = "localhost".try_into().expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a client")
}

/// What the client has to send.
pub(crate) fn pending(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

/// Gives the client these records. Returns whether it accepts them.
pub(crate) fn deliver(client: &mut ClientConnection, mut records: &[u8]) -> bool {
    while !records.is_empty() {
        if client.read_tls(&mut records).is_err() || client.process_new_packets().is_err() {
            return false;
        }
    }
    true
}
