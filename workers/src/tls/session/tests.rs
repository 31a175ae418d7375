//! A session against rustls's own client, without sockets.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::ring as provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore,
    SupportedProtocolVersion,
};

use super::*;
use crate::settings::{CertificatePair, ClientCertificates, TlsFiles};
use crate::tls::load;

/// Both ends of a connection.
struct Ends {
    config: Arc<ClientConfig>,
    client: ClientConnection,
    server: Session,
    /// Ciphertext that the server has not used yet.
    incoming: Vec<u8>,
    plaintext: Vec<u8>,
    room: Vec<u8>,
    /// The alert that the client has received.
    alert: Option<AlertDescription>,
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/tests").join(name)
}

impl Ends {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let pair =
            CertificatePair { certificate: fixture("certificate.pem"), key: fixture("key.pem") };
        let files = TlsFiles {
            pairs: vec![pair],
            ca_certs: None,
            client_certificates: ClientCertificates::None,
        };
        let server = Session::new(&load(&files).unwrap().config).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(fixture("certificate.pem")).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.enable_secret_extraction = true;
        let config = Arc::new(config);
        let client =
            ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
        let (incoming, plaintext, room) = (Vec::new(), Vec::new(), vec![0; 2 * RECORD_BYTES]);
        Self { config, client, server, incoming, plaintext, room, alert: None }
    }

    fn established(version: &'static SupportedProtocolVersion) -> Self {
        let mut ends = Self::new(version);
        while ends.client.is_handshaking() || ends.server.is_handshaking() {
            ends.exchange(usize::MAX).unwrap();
        }
        ends.exchange(usize::MAX).unwrap();
        ends
    }

    /// What the client has to send.
    fn pending(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Passes ciphertext to the server, and its answer to the client. Returns what the server needs next.
    fn give(&mut self, bytes: &[u8]) -> Next {
        self.incoming.extend_from_slice(bytes);
        loop {
            let mut outgoing = Vec::new();
            let Processed { taken_bytes, plaintext_bytes, next } =
                self.server.process(&mut self.incoming, &mut self.room, &mut outgoing);
            self.incoming.drain(..taken_bytes);
            self.plaintext.extend_from_slice(&self.room[..plaintext_bytes]);
            let mut rest = outgoing.as_slice();
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                if let Err(rustls::Error::AlertReceived(alert)) = self.client.process_new_packets()
                {
                    self.alert = Some(alert);
                }
            }
            if !matches!(next, Next::Another) {
                return next;
            }
        }
    }

    /// Passes everything that the client has to send, in pieces of this length.
    fn exchange(&mut self, piece_bytes: usize) -> Result<(), String> {
        let bytes = self.pending();
        for piece in bytes.chunks(piece_bytes) {
            if let Next::Failed(reason) = self.give(piece) {
                return Err(reason);
            }
        }
        Ok(())
    }
}

#[test]
fn bytes_that_arrive_one_by_one_give_the_same_session() {
    for version in [&TLS12, &TLS13] {
        let mut ends = Ends::new(version);
        while ends.client.is_handshaking() || ends.server.is_handshaking() {
            ends.exchange(1).unwrap();
        }
        ends.client.writer().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        ends.exchange(1).unwrap();
        assert_eq!(ends.plaintext, b"GET / HTTP/1.1\r\n\r\n");
        let info = ends.server.info();
        let protocol = info.variables.iter().find(|(name, _)| name == "SSL_PROTOCOL").unwrap();
        assert_eq!(protocol.1, if *version == TLS12 { "TLSv1.2" } else { "TLSv1.3" });
    }
}

#[test]
fn what_is_encrypted_arrives_whatever_its_length() {
    for version in [&TLS12, &TLS13] {
        let mut ends = Ends::established(version);
        for length in [1, 100, RECORD_BYTES, RECORD_BYTES + 1, 5 * RECORD_BYTES - 7] {
            let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut outgoing = b"kept".to_vec();
            ends.server.encrypt(&sent, &mut outgoing).unwrap();
            let mut received = Vec::new();
            let mut rest = outgoing.strip_prefix(b"kept").unwrap();
            while !rest.is_empty() {
                ends.client.read_tls(&mut rest).unwrap();
                ends.client.process_new_packets().unwrap();
                let _ = ends.client.reader().read_to_end(&mut received);
            }
            assert_eq!(received, sent);
        }
    }
}

#[test]
fn a_call_that_has_decrypted_many_records_returns_in_between() {
    let mut ends = Ends::established(&TLS13);
    let mut bytes = Vec::new();
    for _ in 0..3 * RECORDS_A_CALL {
        ends.client.writer().write_all(b"x").unwrap();
        bytes.extend(ends.pending());
    }
    let mut calls = 0;
    loop {
        let mut outgoing = Vec::new();
        let processed = ends.server.process(&mut bytes, &mut ends.room, &mut outgoing);
        assert!(processed.plaintext_bytes <= RECORDS_A_CALL as usize);
        bytes.drain(..processed.taken_bytes);
        calls += 1;
        match processed.next {
            Next::Another => {}
            Next::Ciphertext => break,
            other @ (Next::Ended | Next::Failed(_)) => panic!("{other:?}"),
        }
    }
    assert_eq!((bytes.len(), calls), (0, 3));
}

#[test]
fn a_peer_that_only_updates_its_keys_is_refused() {
    let mut ends = Ends::established(&TLS13);
    let mut refused = None;
    for count in 0..100 {
        ends.client.refresh_traffic_keys().unwrap();
        if let Err(reason) = ends.exchange(usize::MAX) {
            refused = Some((count, reason));
            break;
        }
    }
    let (count, reason) = refused.unwrap();
    assert_eq!((count, reason.contains("TooManyKeyUpdateRequests")), (32, true), "{reason}");
}

#[test]
fn both_directions_end_with_an_alert_of_their_own() {
    for version in [&TLS12, &TLS13] {
        let mut ends = Ends::established(version);
        ends.client.writer().write_all(b"last").unwrap();
        ends.client.send_close_notify();
        let bytes = ends.pending();
        assert!(matches!(ends.give(&bytes), Next::Ended));
        assert_eq!(ends.plaintext, b"last");
        let mut outgoing = Vec::new();
        ends.server.encrypt(b"answer", &mut outgoing).unwrap();
        ends.server.close_notify(&mut outgoing);
        let mut rest = outgoing.as_slice();
        while !rest.is_empty() {
            ends.client.read_tls(&mut rest).unwrap();
        }
        assert!(ends.client.process_new_packets().unwrap().peer_has_closed());
        let mut received = Vec::new();
        ends.client.reader().read_to_end(&mut received).unwrap();
        assert_eq!(received, b"answer");
        assert!(ends.server.encrypt(b"more", &mut outgoing).is_err());
    }
}

#[test]
fn a_client_without_a_common_protocol_gets_an_alert_that_says_so() {
    let mut ends = Ends::new(&TLS13);
    ends.client = {
        let mut config = (*ends.config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
    };
    let mut bytes = ends.pending();
    let mut outgoing = Vec::new();
    let processed = ends.server.process(&mut bytes, &mut ends.room, &mut outgoing);
    assert!(matches!(processed.next, Next::Failed(_)), "{:?}", processed.next);
    let mut rest = outgoing.as_slice();
    let mut error = None;
    while !rest.is_empty() && error.is_none() {
        ends.client.read_tls(&mut rest).unwrap();
        error = ends.client.process_new_packets().err();
    }
    let alert = rustls::AlertDescription::NoApplicationProtocol;
    assert_eq!(error, Some(rustls::Error::AlertReceived(alert)));
}

#[test]
fn a_changed_record_ends_the_session_with_an_alert() {
    let mut ends = Ends::established(&TLS13);
    ends.client.writer().write_all(b"request").unwrap();
    let mut bytes = ends.pending();
    *bytes.last_mut().unwrap() ^= 1;
    let mut outgoing = Vec::new();
    let processed = ends.server.process(&mut bytes, &mut ends.room, &mut outgoing);
    assert!(matches!(processed.next, Next::Failed(_)), "{:?}", processed.next);
    assert_eq!((processed.plaintext_bytes, outgoing.is_empty()), (0, false));
    let length = outgoing.len();
    ends.server.close_notify(&mut outgoing);
    assert_eq!(outgoing.len(), length, "a failed session does not end in an orderly way");
    assert!(ends.server.encrypt(b"more", &mut outgoing).is_err());
}

#[test]
fn what_is_no_record_fails_the_session_whatever_the_cuts() {
    // rustls knows the versions of SSL 2 and DTLS, and would wait for the rest of such a record.
    let headers: [(&[u8; 5], &str); 8] = [
        (b"GET /", "InvalidContentType"),
        (&[0x80, 3, 1, 0, 22], "InvalidContentType"),
        (&[22, 0, 2, 0, 22], "UnknownProtocolVersion"),
        (&[22, 2, 0, 0, 22], "UnknownProtocolVersion"),
        (&[22, 0xfe, 0xff, 0, 22], "UnknownProtocolVersion"),
        (&[23, 0xfe, 0xfd, 0, 22], "UnknownProtocolVersion"),
        (&[22, 3, 1, 0xff, 0xff], "MessageTooLarge"),
        (&[22, 3, 1, 0, 0], "InvalidEmptyPayload"),
    ];
    let part_of_hello = [22, 3, 1, 0, 2, 1, 0];
    let give = |mut ends: Ends, bytes: &[u8], piece_bytes| {
        let mut pieces = bytes.chunks(piece_bytes);
        let failed = pieces.find_map(|piece| match ends.give(piece) {
            Next::Failed(reason) => Some(reason),
            Next::Ciphertext | Next::Another | Next::Ended => None,
        });
        (ends, failed)
    };
    for (header, expected) in headers {
        let long = [&header[..], &[7; 10]].concat();
        for (bytes, piece_bytes) in [(&header[..], 1), (header, 4), (header, 5), (&long, 15)] {
            for (ends, failed) in [
                give(Ends::new(&TLS13), bytes, piece_bytes),
                give(Ends::new(&TLS13), &[&part_of_hello[..], bytes].concat(), piece_bytes),
                give(Ends::established(&TLS12), bytes, piece_bytes),
                give(Ends::established(&TLS13), bytes, piece_bytes),
            ] {
                let reason = failed.unwrap_or_else(|| panic!("{header:?} in {piece_bytes}"));
                assert!(reason.contains(expected), "{header:?}: {reason}");
                assert_eq!(ends.alert, Some(AlertDescription::DecodeError), "{header:?}");
                assert_eq!((ends.server.held_bytes(), ends.incoming.len()), (0, 0), "{header:?}");
            }
        }
    }
}

/// A client that encrypts records of its own making, with TLS 1.3.
struct Forger {
    key: ring::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Forger {
    fn of(client: ClientConnection) -> Self {
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another cipher suite")
        };
        let key = ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key.as_ref()).unwrap();
        let iv = iv.as_ref().try_into().unwrap();
        Self { key: ring::aead::LessSafeKey::new(key), iv, sequence }
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence += 1;
        let length = (content.len() + 1 + 16) as u16;
        let header = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
        let mut sealed = [content, &[kind]].concat();
        let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
        let aad = ring::aead::Aad::from(header.clone());
        self.key.seal_in_place_append_tag(nonce, aad, &mut sealed).unwrap();
        [header, sealed].concat()
    }
}

const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// An established session, and a client that forges its records.
fn forged() -> (Session, Vec<u8>, Forger) {
    let Ends { client, server, room, .. } = Ends::established(&TLS13);
    (server, room, Forger::of(client))
}

#[test]
fn data_can_be_sent_while_a_handshake_message_is_incomplete() {
    let (mut server, mut room, mut forger) = forged();
    let mut outgoing = Vec::new();
    for piece in KEY_UPDATE[..4].chunks(2) {
        let mut record = forger.record(HANDSHAKE, piece);
        let processed = server.process(&mut record, &mut room, &mut outgoing);
        assert!(matches!(processed.next, Next::Ciphertext), "{:?}", processed.next);
        assert_eq!(processed.taken_bytes, record.len());
        server.encrypt(b"meanwhile", &mut outgoing).unwrap();
    }
    let mut record = forger.record(HANDSHAKE, &KEY_UPDATE[4..]);
    let processed = server.process(&mut record, &mut room, &mut outgoing);
    assert!(matches!(processed.next, Next::Ciphertext), "{:?}", processed.next);
    assert!(server.held.is_empty());
    server.close_notify(&mut outgoing);
}

#[test]
fn an_endless_handshake_message_is_refused() {
    let (mut server, mut room, mut forger) = forged();
    let mut outgoing = Vec::new();
    // A message of 60 KB, in records of one byte.
    let mut content = vec![24, 0, 0xf0, 0];
    for count in 0.. {
        let mut record = forger.record(HANDSHAKE, &content);
        content = vec![0];
        let processed = server.process(&mut record, &mut room, &mut outgoing);
        server.encrypt(b"meanwhile", &mut outgoing).unwrap_or_default();
        outgoing.clear();
        assert!(server.held.len() <= HELD_BYTES + record.len());
        if let Next::Failed(reason) = processed.next {
            assert!(count > 1000, "{count}: {reason}");
            return;
        }
        assert!(count < 100_000);
    }
}

/// What a client that knows the keys may do, in any order.
#[derive(Clone, Debug)]
enum Act {
    Record { kind: u8, content: Vec<u8> },
    Raw(Vec<u8>),
    ServerSends,
    ServerEnds,
}

fn act() -> impl Strategy<Value = Act> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        (0..5usize, 0..6usize)
            .prop_map(|(from, to)| KEY_UPDATE[from..to.max(from).min(5)].to_vec()),
        Just(KEY_UPDATE.repeat(3)),
    ];
    prop_oneof![
        6 => (20..25u8, content).prop_map(|(kind, content)| Act::Record { kind, content }),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Act::Raw),
        3 => Just(Act::ServerSends),
        1 => Just(Act::ServerEnds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_sequence_of_records_makes_a_session_panic(acts in prop::collection::vec(act(), 0..20), piece in 1..40usize) {
        let (mut server, mut room, mut forger) = forged();
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        'acts: for act in acts {
            let bytes = match act {
                Act::Record { kind, content } => forger.record(kind, &content),
                Act::Raw(bytes) => bytes,
                Act::ServerSends => {
                    let _ = server.encrypt(b"data", &mut outgoing);
                    continue;
                }
                Act::ServerEnds => {
                    server.close_notify(&mut outgoing);
                    continue;
                }
            };
            for piece in bytes.chunks(piece) {
                incoming.extend_from_slice(piece);
                let processed = server.process(&mut incoming, &mut room, &mut outgoing);
                incoming.drain(..processed.taken_bytes);
                if matches!(processed.next, Next::Failed(_)) {
                    break 'acts;
                }
            }
        }
        server.close_notify(&mut outgoing);
    }

    #[test]
    fn no_bytes_make_a_handshake_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        split in 1..200usize,
        fragment in 1..300usize,
    ) {
        for version in [&TLS12, &TLS13] {
            let mut ends = Ends::new(version);
            let hello = ends.pending();
            // The same message in more records.
            let mut bytes: Vec<u8> = hello[HEADER_BYTES..]
                .chunks(fragment)
                .flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat())
                .collect();
            for (index, value) in &changes {
                let index = index.index(bytes.len());
                bytes[index] = *value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            for piece in bytes.chunks(split) {
                if matches!(ends.give(piece), Next::Failed(_)) {
                    break;
                }
                let mut outgoing = Vec::new();
                let _ = ends.server.encrypt(b"early", &mut outgoing);
                ends.server.close_notify(&mut outgoing);
            }
        }
    }
}

#[test]
fn records_of_data_between_parts_of_a_handshake_message_are_refused() {
    let (mut server, mut room, mut forger) = forged();
    let mut outgoing = Vec::new();
    let mut bytes = forger.record(HANDSHAKE, &KEY_UPDATE[..3]);
    bytes.extend(forger.record(DATA, b"GET / HTTP/1.1\r\n\r\n"));
    let processed = server.process(&mut bytes, &mut room, &mut outgoing);
    assert!(matches!(processed.next, Next::Failed(_)), "{:?}", processed.next);
    assert_eq!(processed.plaintext_bytes, 0);
}
