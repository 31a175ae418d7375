//! The values that go in and out of a [`Connection`], and the questions it answers about itself.

use super::{Connection, Refused, State, Status, Timer};
use crate::connection::write_buffer::WriteBuffer;
use crate::shared::scoreboard::Counter;

/// Bytes that were read, and how many of them are used up.
#[derive(Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// What is not used up.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.taken..]
    }

    /// Uses up the next `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.rest()[..count];
        self.taken += count;
        taken
    }

    /// How many bytes are used up.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

/// What the shell is to do next.
#[derive(Debug)]
pub enum Step<'c, 'i> {
    /// Read more; what is left of the input stays where it is.
    Read,
    /// Append to the spool.
    Store(&'i [u8]),
    /// Call the application: the request lies in the input, its head in the scratch.
    Call {
        /// The bytes that the head points into.
        head_bytes: &'i [u8],
        /// The whole body.
        body: &'i [u8],
    },
    /// Call the application with [`Connection::take_gathered`] and the spool.
    CallGathered,
    /// Log that a request was refused; its answer is on its way.
    Refused(Box<Refused>),
    /// Ask the application for its next item.
    Pull,
    /// Send.
    Write {
        /// In order and not all empty.
        parts: [&'c [u8]; 3],
        /// Whether a response ends with them.
        is_end: bool,
    },
    /// Send a piece of the file.
    SendFile {
        /// From this byte.
        offset: u64,
        /// At most so many.
        length: u64,
    },
    /// The response is sent: close the application's side, then [`Connection::finish`].
    Finish,
    /// shutdown(SHUT_WR), then [`Connection::write_shut`].
    ShutWrite,
    /// Close the descriptor; everything is counted.
    Close(CloseManner),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer left between requests.
    IdlePeerLeft,
    /// The peer reset a kept connection between requests.
    IdleReset,
    /// Idle for longer than the keep-alive timeout.
    IdleLong,
    /// Idle, and the worker needs the place or leaves.
    IdleGivenUp,
    /// The peer left, or fell silent, within a request.
    PeerLeft,
    /// recv(2) failed.
    ReadFailed,
    /// The client had closed before the application was called.
    Abandoned,
    /// The client had reset the connection before the application was called.
    AbandonedByReset,
    /// The response is out and the connection was not to be kept.
    Answered,
    /// The application failed after its head was out.
    ReplyFailed,
    /// The application gave fewer bytes than its Content-Length promised.
    ReplyShort,
    /// send(2) failed, or nothing moved for the write timeout.
    WriteFailed,
    /// The worker left in the middle of a response.
    Cut,
    /// The end of a lingering close; counted when the lingering began.
    Lingered,
}

impl CloseReason {
    /// What it counts, in order.
    pub fn counters(self) -> &'static [Counter] {
        match self {
            Self::IdlePeerLeft | Self::IdleLong | Self::IdleGivenUp => {
                &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted, Counter::ConnCloseIdle]
            }
            Self::PeerLeft => &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted],
            Self::Abandoned => {
                &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted, Counter::ReqAbandoned]
            }
            Self::ReadFailed => &[Counter::ReqErrorRead, Counter::ReqAborted],
            Self::IdleReset => {
                &[Counter::ReqErrorRead, Counter::ReqAborted, Counter::ConnCloseIdle]
            }
            Self::AbandonedByReset => {
                &[Counter::ReqErrorRead, Counter::ReqAborted, Counter::ReqAbandoned]
            }
            Self::Answered => &[Counter::RespConnClose],
            Self::ReplyFailed | Self::ReplyShort | Self::WriteFailed | Self::Cut => {
                &[Counter::RespAborted]
            }
            Self::Lingered => &[],
        }
    }

    /// Whether the peer must not take what it got for a whole response, so that a reset is needed
    /// where only the end of the connection ends the body.
    pub fn is_abrupt(self) -> bool {
        match self {
            // A write that failed finds nobody to mislead; one that timed out may.
            Self::ReplyFailed | Self::ReplyShort | Self::WriteFailed | Self::Cut => true,
            Self::IdlePeerLeft
            | Self::IdleReset
            | Self::IdleLong
            | Self::IdleGivenUp
            | Self::PeerLeft
            | Self::ReadFailed
            | Self::Abandoned
            | Self::AbandonedByReset
            | Self::Answered
            | Self::Lingered => false,
        }
    }
}

/// How a descriptor is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseManner {
    /// With a FIN: the peer knows from the framing whether it got everything.
    Tidy,
    /// With a reset: the end of the connection would pass for the end of the body.
    Reset,
}

/// What became of an item of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFate {
    /// It is on its way.
    Queued,
    /// The part above the promised Content-Length is thrown away: the application's mistake.
    Overlong,
    /// The response has no body (HEAD, 204, 304), or has ended.
    Unwanted,
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// The deadline of this state.
    pub fn timer(&self) -> Option<Timer> {
        match &self.state {
            State::Idle => Some(Timer::KeepAlive),
            State::Head(_) => Some(Timer::Head),
            State::Body(_) => Some(Timer::Body),
            State::Replying(_) => Some(Timer::Write),
            State::Lingering(_) => Some(Timer::Linger),
            State::Ready(_) | State::Closed(_) => None,
        }
    }

    /// Whether no byte of a request is here.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the first request of this connection has still to come, or its head to be whole.
    pub fn awaits_first_request(&self) -> bool {
        match &self.state {
            State::Idle | State::Head(_) => self.info.served == 0,
            State::Body(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(_)
            | State::Closed(_) => false,
        }
    }

    /// Whether a request is being read, run or answered.
    pub fn is_busy(&self) -> bool {
        match &self.state {
            State::Head(_) | State::Body(_) | State::Ready(_) | State::Replying(_) => true,
            State::Idle | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// Whether a request, or the rest of one, is still to come.
    pub fn awaits_request(&self) -> bool {
        match &self.state {
            State::Idle | State::Head(_) | State::Body(_) => true,
            State::Ready(_) | State::Replying(_) | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// Whether everything is said, and the peer may only not have read it yet.
    pub fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering(_))
    }

    /// Whether a response is on its way.
    pub fn is_replying(&self) -> bool {
        matches!(self.state, State::Replying(_))
    }

    /// Whether the next step asks something of the application (or of a file), given whether unused
    /// input is here: the moment to let others have their turn.
    pub fn wants_the_application(&self, has_input: bool) -> bool {
        match &self.state {
            State::Idle | State::Head(_) => has_input,
            State::Replying(replying) => !replying.is_done() && self.write_buffer.is_empty(),
            State::Body(_) | State::Ready(_) | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// Whether the next step takes a piece of a body, given whether unused input is here.
    pub fn takes_a_piece(&self, has_input: bool) -> bool {
        match &self.state {
            State::Body(_) => has_input && self.write_buffer.is_empty(),
            State::Idle
            | State::Head(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(_)
            | State::Closed(_) => false,
        }
    }

    /// Status and body bytes of the response so far, or of the one that was broken off.
    pub fn reply(&self) -> Option<(Status, u64)> {
        match &self.state {
            State::Replying(replying) => Some((replying.status, replying.body_bytes)),
            State::Closed(closing) => closing.broken_off,
            State::Idle
            | State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Lingering(_) => None,
        }
    }

    /// The bytes that wait to be sent.
    pub fn write_buffer(&mut self) -> &mut WriteBuffer<C> {
        &mut self.write_buffer
    }
}
