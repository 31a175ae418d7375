//! TLS on a socket: moves bytes between a [`Session`] and the kernel.
//!
//! | stage | until |
//! |---|---|
//! | Silent | the first byte arrives |
//! | Handshake | the handshake is complete |
//! | Established | the connection ends |
//!
//! Bytes wait in three places, and each has to be remembered by whoever waits for the socket ([`Encrypted::awaits`]):
//!
//! | where | what | limit |
//! |---|---|---|
//! | `incoming` | the start of a record; whole records only after a call that has done its share | [`INCOMING_BYTES`] |
//! | `outgoing` | ciphertext that the kernel has not taken | that of [`SEND_BYTES`] |
//! | the kernel | everything else | the socket's buffers |
//!
//! An idle connection has neither buffer. While a connection is served, its bytes are in buffers that all connections of
//! the worker share.
//!
//! Plaintext counts as sent once the kernel has all of its ciphertext. Until then [`Encrypted::send`] is blocked, and
//! expects the same bytes in the next call: the write buffer of a connection only grows at its end.

use std::cell::RefCell;
use std::mem;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::Awaits;
use crate::shared::fd::{self, Io};
use crate::shared::log::throttle::Throttle;
use crate::tls::{Next, RECORD_BYTES, Session, TlsConfig};

/// The maximum ciphertext of one connection that is processed at once. It holds the longest handshake message that rustls
/// accepts (64 KB), and a read behind it.
const INCOMING_BYTES: usize = 128 * 1024;
/// A read shorter than this is not worth its system call.
const LEAST_READ_BYTES: usize = 16 * 1024;
/// The maximum plaintext that is encrypted at once.
const SEND_BYTES: usize = 4 * RECORD_BYTES;
/// How often one call reads, if nothing but handshake messages arrives.
const READS_A_CALL: usize = 4;

/// What all encrypted connections of a worker share.
pub(in crate::event_loop) struct TlsContext {
    config: TlsConfig,
    scratch: RefCell<Scratch>,
    /// Limits how many failures are logged.
    pub(in crate::event_loop) failures: RefCell<Throttle>,
}

struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Vec<u8>,
    plaintext: Vec<u8>,
}

impl TlsContext {
    pub(in crate::event_loop) fn new(config: TlsConfig, failures: Throttle) -> Self {
        let incoming = vec![0; INCOMING_BYTES].into_boxed_slice();
        let scratch = Scratch { incoming, outgoing: Vec::new(), plaintext: Vec::new() };
        Self { config, scratch: RefCell::new(scratch), failures: RefCell::new(failures) }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::event_loop) enum Stage {
    Silent,
    Handshake,
    Established,
}

/// Why nothing can be received.
pub(in crate::event_loop) enum Failure {
    /// The peer speaks HTTP without TLS. This many of its bytes are in the buffer.
    PlainHttp(usize),
    /// The handshake or the session failed; the text is for the log.
    Broken(String),
}

/// See the module.
pub(in crate::event_loop) struct Encrypted {
    session: Session,
    context: Rc<TlsContext>,
    stage: Stage,
    incoming: Vec<u8>,
    outgoing: Outgoing,
    /// The plaintext of `outgoing`, which is not counted as sent yet.
    unconfirmed_bytes: usize,
    /// What the last [`Encrypted::receive`] has left.
    left: Left,
    /// Whether ciphertext has moved since [`Encrypted::take_progress`].
    has_progressed: bool,
    /// Whether the server's direction is over. What still arrives is discarded, as it is: nobody decrypts it.
    is_over: bool,
}

/// What is known to be there to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing.
    Nothing,
    /// The kernel may have more.
    Bytes,
    /// `incoming` may have whole records.
    Records,
    /// The peer has ended its direction.
    End,
}

/// Ciphertext that the kernel has not taken yet.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends `bytes` behind what waits, and keeps what the kernel does not take.
    fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8], is_ahead: bool) -> Io {
        let mut count = 0;
        while !self.is_empty() || count < bytes.len() {
            let parts = [&self.bytes[self.sent..], &bytes[count..], &[]];
            let send = if is_ahead { fd::send_ahead } else { fd::send };
            let mut moved = match send(socket, parts) {
                Io::Bytes(moved) => moved,
                Io::Blocked => {
                    self.bytes.extend_from_slice(&bytes[count..]);
                    return Io::Blocked;
                }
                Io::Ended | Io::Failed => return Io::Failed,
            };
            let waiting = moved.min(self.waiting_bytes());
            self.sent += waiting;
            moved -= waiting;
            count += moved;
            if self.sent == self.bytes.len() {
                *self = Self::default();
            }
        }
        Io::Bytes(bytes.len())
    }
}

impl Encrypted {
    /// A connection before its handshake.
    ///
    /// Errors: the text for the log.
    pub(in crate::event_loop) fn new(context: &Rc<TlsContext>) -> Result<Self, String> {
        Ok(Self {
            session: Session::new(&context.config)?,
            context: Rc::clone(context),
            stage: Stage::Silent,
            incoming: Vec::new(),
            outgoing: Outgoing::default(),
            unconfirmed_bytes: 0,
            left: Left::Bytes,
            has_progressed: false,
            is_over: false,
        })
    }

    pub(in crate::event_loop) fn stage(&self) -> Stage {
        self.stage
    }

    pub(in crate::event_loop) fn context(&self) -> &TlsContext {
        &self.context
    }

    pub(in crate::event_loop) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether ciphertext has moved, even if no plaintext could be counted.
    pub(in crate::event_loop) fn take_progress(&mut self) -> bool {
        mem::take(&mut self.has_progressed)
    }

    /// What has to happen before more can be received.
    pub(super) fn awaits(&self) -> Awaits {
        match self.left {
            _ if self.is_over => Awaits::Peer,
            _ if !self.outgoing.is_empty() => Awaits::Room,
            Left::Records | Left::End => Awaits::Nothing,
            Left::Nothing | Left::Bytes => Awaits::Peer,
        }
    }

    /// Whether the next [`Encrypted::receive`] had better come in the next turn.
    pub(super) fn is_drained(&self) -> bool {
        match self.left {
            _ if self.is_over => true,
            Left::Nothing | Left::Records => true,
            Left::Bytes | Left::End => false,
        }
    }

    /// Receives plaintext into `room`, which has to hold one record, and carries the handshake on.
    pub(in crate::event_loop) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        room: &mut [u8],
    ) -> Result<Io, Failure> {
        if self.is_over {
            return Ok(fd::receive(socket, room));
        }
        for _ in 0..READS_A_CALL {
            match self.outgoing.send(socket, &[], false) {
                Io::Bytes(_) => {}
                Io::Blocked => return Ok(Io::Blocked),
                Io::Ended | Io::Failed => return self.without_bytes(Io::Failed),
            }
            if self.left == Left::End {
                return Ok(Io::Ended);
            }
            let context = Rc::clone(&self.context);
            let scratch = &mut *context.scratch.borrow_mut();
            let mut end = self.incoming.len();
            scratch.incoming[..end].copy_from_slice(&self.incoming);
            let mut left = Left::Bytes;
            if self.left != Left::Records {
                let space = &mut scratch.incoming[end..];
                let space_bytes = space.len();
                if space_bytes < LEAST_READ_BYTES {
                    return Err(Failure::Broken("a handshake message is too long".to_owned()));
                }
                match fd::receive(socket, space) {
                    Io::Bytes(count) => {
                        end += count;
                        self.has_progressed = true;
                        if count < space_bytes {
                            left = Left::Nothing;
                        }
                    }
                    other @ (Io::Blocked | Io::Ended | Io::Failed) => {
                        return self.without_bytes(other);
                    }
                }
            }
            match self.process(socket, scratch, end, room, left)? {
                Io::Bytes(count) => return Ok(Io::Bytes(count)),
                Io::Failed => return self.without_bytes(Io::Failed),
                Io::Blocked | Io::Ended => {}
            }
            match self.left {
                Left::Nothing | Left::Records => return Ok(Io::Blocked),
                Left::Bytes | Left::End => {}
            }
        }
        Ok(Io::Blocked)
    }

    /// Decrypts the first `end` bytes of the shared buffer, keeps the rest of them, and sends what the handshake
    /// requires. `left` is what the kernel has left.
    fn process(
        &mut self,
        socket: BorrowedFd<'_>,
        scratch: &mut Scratch,
        end: usize,
        room: &mut [u8],
        left: Left,
    ) -> Result<Io, Failure> {
        let incoming = &mut scratch.incoming[..end];
        if self.stage == Stage::Silent {
            self.stage = Stage::Handshake;
            // A record begins with 20 to 24, or with 128 in SSL 2.
            if incoming.first().is_some_and(u8::is_ascii_uppercase) {
                let count = end.min(room.len());
                room[..count].copy_from_slice(&incoming[..count]);
                return Err(Failure::PlainHttp(count));
            }
        }
        scratch.outgoing.clear();
        let processed = self.session.process(incoming, room, &mut scratch.outgoing);
        self.incoming.clear();
        match &incoming[processed.taken_bytes..] {
            [] => self.incoming = Vec::new(),
            rest => self.incoming.extend_from_slice(rest),
        }
        let sent = self.outgoing.send(socket, &scratch.outgoing, false);
        if self.stage == Stage::Handshake && !self.session.is_handshaking() {
            self.stage = Stage::Established;
        }
        self.left = match processed.next {
            Next::Ciphertext => left,
            Next::Another => Left::Records,
            Next::Ended => Left::End,
            Next::Failed(reason) => return Err(Failure::Broken(reason)),
        };
        match (processed.plaintext_bytes, sent) {
            (_, Io::Ended | Io::Failed) => Ok(Io::Failed),
            (0, Io::Bytes(_) | Io::Blocked) => Ok(Io::Blocked),
            (count, Io::Bytes(_) | Io::Blocked) => Ok(Io::Bytes(count)),
        }
    }

    /// The outcome of a read that brought nothing. A peer that leaves in the middle of the handshake is worth a line of
    /// the log; one that has sent nothing, such as a load balancer's check of the port, is not.
    fn without_bytes(&mut self, outcome: Io) -> Result<Io, Failure> {
        match (outcome, self.stage) {
            (Io::Blocked | Io::Bytes(_), _) => self.left = Left::Nothing,
            (Io::Ended, Stage::Handshake) => {
                return Err(Failure::Broken("the client closed the connection".to_owned()));
            }
            (Io::Failed, Stage::Handshake) => {
                return Err(Failure::Broken("the client reset the connection".to_owned()));
            }
            (Io::Ended | Io::Failed, Stage::Silent | Stage::Established) => {}
        }
        Ok(outcome)
    }

    /// Encrypts and sends a part of the bytes.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, parts: [&[u8]; 3], is_ahead: bool) -> Io {
        if let Some(outcome) = self.finish_send(socket) {
            return outcome;
        }
        let context = Rc::clone(&self.context);
        let scratch = &mut *context.scratch.borrow_mut();
        let plaintext = match parts {
            // No copy: it is the only part, or fills everything.
            [part, [], []] | [[], part, []] => &part[..part.len().min(SEND_BYTES)],
            [part, ..] if part.len() >= SEND_BYTES => &part[..SEND_BYTES],
            parts => {
                scratch.plaintext.clear();
                for part in parts {
                    let room = SEND_BYTES - scratch.plaintext.len();
                    scratch.plaintext.extend_from_slice(&part[..part.len().min(room)]);
                }
                &scratch.plaintext
            }
        };
        self.encrypt(socket, plaintext, &mut scratch.outgoing, is_ahead)
    }

    /// Reads, encrypts and sends a part of a file.
    pub(super) fn send_file(
        &mut self,
        socket: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
    ) -> Io {
        if let Some(outcome) = self.finish_send(socket) {
            return outcome;
        }
        let context = Rc::clone(&self.context);
        let scratch = &mut *context.scratch.borrow_mut();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(SEND_BYTES);
        scratch.plaintext.resize(length, 0);
        match fd::read_at(file, &mut scratch.plaintext, offset) {
            Io::Bytes(count) => {
                let (plaintext, outgoing) = (&scratch.plaintext[..count], &mut scratch.outgoing);
                self.encrypt(socket, plaintext, outgoing, false)
            }
            other @ (Io::Blocked | Io::Ended | Io::Failed) => other,
        }
    }

    /// Sends what is encrypted already. `None` if that was nothing.
    fn finish_send(&mut self, socket: BorrowedFd<'_>) -> Option<Io> {
        let before = self.outgoing.waiting_bytes();
        let sent = self.outgoing.send(socket, &[], false);
        self.has_progressed |= self.outgoing.waiting_bytes() < before;
        match (sent, mem::take(&mut self.unconfirmed_bytes)) {
            (Io::Bytes(_), 0) => None,
            (Io::Bytes(_), count) => Some(Io::Bytes(count)),
            (Io::Blocked, count) => {
                self.unconfirmed_bytes = count;
                Some(Io::Blocked)
            }
            (Io::Ended | Io::Failed, _) => Some(Io::Failed),
        }
    }

    fn encrypt(
        &mut self,
        socket: BorrowedFd<'_>,
        plaintext: &[u8],
        outgoing: &mut Vec<u8>,
        is_ahead: bool,
    ) -> Io {
        outgoing.clear();
        if self.session.encrypt(plaintext, outgoing).is_err() {
            return Io::Failed; // Only after more data than one key may encrypt.
        }
        match self.outgoing.send(socket, outgoing, is_ahead) {
            Io::Bytes(_) => Io::Bytes(plaintext.len()),
            Io::Blocked => {
                self.has_progressed |= self.outgoing.waiting_bytes() < outgoing.len();
                self.unconfirmed_bytes = plaintext.len();
                Io::Blocked
            }
            Io::Ended | Io::Failed => Io::Failed,
        }
    }

    /// Tells the peer that nothing follows (close_notify), unless something is left that should have been sent before:
    /// then the peer has to see that the stream was cut off.
    pub(super) fn say_goodbye(&mut self, socket: BorrowedFd<'_>) {
        let is_first = !mem::replace(&mut self.is_over, true);
        if !is_first || !self.outgoing.is_empty() || self.stage != Stage::Established {
            return;
        }
        let mut alert = Vec::new();
        self.session.close_notify(&mut alert);
        if !alert.is_empty() {
            // A few bytes, into a buffer that was empty or of a peer that does not read.
            let _ = fd::send(socket, [&alert, &[], &[]]);
        }
    }
}
