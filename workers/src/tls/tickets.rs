//! Session tickets that every worker can open, so that a client resumes its session at any of them.
//!
//! rustls's own ticket keys are random in each process, and replaced at times of its own: workers would agree until
//! their first rotation only. Here the keys follow from one secret, made when the configuration is loaded, and from
//! time, so that processes which share nothing but that moment agree:
//!
//! ```text
//! secret 0 ──"next"──▶ secret 1 ──"next"──▶ secret 2 ...      one step each EPOCH, by HMAC-SHA-256
//!    │                    │
//!  "key"                "key"                                 seals and opens tickets for two epochs
//! ```
//!
//! A secret is overwritten by the next one, which cannot be reversed. A process whose memory leaks gives away the
//! tickets of at most the last two epochs, and of all that follow until the next reload. The supervisor steps before
//! each fork ([`super::TlsConfig::for_child`]), so that a new worker does not start with an old secret.

use std::fmt;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

/// How long one key seals tickets. It opens them for as long again.
const EPOCH: Duration = Duration::from_secs(60 * 60);
const SECRET_BYTES: usize = 32;
const NAME_BYTES: usize = 16;

/// See the module.
pub(super) struct Tickets(Mutex<Ratchet>);

struct Ratchet {
    secret: [u8; SECRET_BYTES],
    /// When the current epoch ends. CLOCK_MONOTONIC is the same in all processes.
    ends: Instant,
    current: Key,
    previous: Option<Key>,
}

/// The key of one epoch. Its name, which is in front of each ticket, says that a ticket was sealed with it.
struct Key {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl Tickets {
    /// With a random secret; `None` if the kernel has no random bytes.
    pub(super) fn new() -> Option<Self> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self::starting(secret, Instant::now()))
    }

    fn starting(secret: [u8; SECRET_BYTES], now: Instant) -> Self {
        let current = Key::of(&secret);
        Self(Mutex::new(Ratchet { secret, ends: now + EPOCH, current, previous: None }))
    }

    /// Gives up the keys of epochs that are over.
    pub(super) fn step(&self) {
        self.at(Instant::now(), |_| ());
    }

    fn at<T>(&self, now: Instant, call: impl FnOnce(&Ratchet) -> T) -> T {
        let mut ratchet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while ratchet.ends <= now {
            ratchet.step();
        }
        call(&ratchet)
    }

    fn seal(&self, plain: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        self.at(now, |ratchet| ratchet.current.seal(plain, nonce))
    }

    fn open(&self, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.at(now, |ratchet| {
            let keys = [Some(&ratchet.current), ratchet.previous.as_ref()];
            keys.into_iter().flatten().find_map(|key| key.open(ticket))
        })
    }
}

impl Ratchet {
    fn step(&mut self) {
        self.secret = derived(&self.secret, b"next");
        self.previous = Some(mem::replace(&mut self.current, Key::of(&self.secret)));
        self.ends += EPOCH;
    }
}

fn derived(secret: &[u8; SECRET_BYTES], label: &[u8]) -> [u8; SECRET_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label);
    let mut bytes = [0; SECRET_BYTES];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

impl Key {
    fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&derived(secret, b"name")[..NAME_BYTES]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derived(secret, b"key"));
        Self { name, key: LessSafeKey::new(key.expect("the key has the length of the cipher's")) }
    }

    /// Returns `name || nonce || ciphertext || tag`.
    fn seal(&self, plain: &[u8], nonce: [u8; NONCE_LEN]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let (aad, unique) = (Aad::from(self.name), Nonce::assume_unique_for_key(nonce));
        self.key.seal_in_place_append_tag(unique, aad, &mut sealed).ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *name != self.name {
            return None;
        }
        let mut bytes = sealed.to_vec();
        let (aad, nonce) = (Aad::from(self.name), Nonce::assume_unique_for_key(*nonce));
        let length = self.key.open_in_place(nonce, aad, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        EPOCH.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Instant::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; SECRET_BYTES] = [7; SECRET_BYTES];

    #[test]
    fn workers_open_each_others_tickets_whenever_they_last_looked_at_the_clock() {
        let start = Instant::now();
        let workers = [Tickets::starting(SECRET, start), Tickets::starting(SECRET, start)];
        for epoch in 0..5 {
            let now = start + EPOCH * epoch + EPOCH / 2;
            let ticket = workers[0].seal(b"session", now).unwrap();
            assert_eq!(workers[1].open(&ticket, now).as_deref(), Some(&b"session"[..]), "{epoch}");
        }
        let late = start + EPOCH * 9;
        let ticket = workers[1].seal(b"late", late).unwrap();
        assert_eq!(workers[0].open(&ticket, late).as_deref(), Some(&b"late"[..]));
    }

    #[test]
    fn a_ticket_is_valid_in_its_epoch_and_in_the_next_one() {
        let start = Instant::now();
        let tickets = Tickets::starting(SECRET, start);
        let ticket = tickets.seal(b"session", start).unwrap();
        assert!(tickets.open(&ticket, start + EPOCH * 2 - Duration::from_secs(1)).is_some());
        assert!(tickets.open(&ticket, start + EPOCH * 2).is_none());
    }

    #[test]
    fn a_changed_or_foreign_ticket_is_not_opened() {
        let now = Instant::now();
        let tickets = Tickets::starting(SECRET, now);
        let ticket = tickets.seal(b"session", now).unwrap();
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert!(tickets.open(&changed, now).is_none(), "byte {index}");
            assert!(tickets.open(&ticket[..index], now).is_none(), "cut at {index}");
        }
        let other = Tickets::new().unwrap();
        assert!(other.open(&ticket, now).is_none());
    }

    #[test]
    fn an_old_secret_is_overwritten() {
        let start = Instant::now();
        let tickets = Tickets::starting(SECRET, start);
        tickets.at(start + EPOCH, |ratchet| assert_ne!(ratchet.secret, SECRET));
    }
}
