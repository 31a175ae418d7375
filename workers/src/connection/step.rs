//! The values that go into and come out of a [`Connection`], and the questions that it answers.

use super::{Connection, Refused, State, Status, Timer};
use crate::connection::write_buffer::WriteBuffer;
use crate::http::Framing;
use crate::shared::scoreboard::Counter;

/// Bytes that were read, and how many of them are used.
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

    /// The bytes that are not used yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.taken..]
    }

    /// Uses the next `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.rest()[..count];
        self.taken += count;
        taken
    }

    /// How many bytes are used.
    pub fn taken(&self) -> usize {
        self.taken
    }
}

/// What the shell has to do next.
#[derive(Debug)]
pub enum Step<'c, 'i> {
    /// Read more; the unused input stays where it is.
    Read,
    /// Append to the spool of the body.
    Store(&'i [u8]),
    /// Call the application: the request lies in the input, and its parsed head is the one given to
    /// [`Connection::step`].
    Call {
        /// The bytes that the head points into.
        head_bytes: &'i [u8],
        /// The complete body.
        body: &'i [u8],
    },
    /// Call the application with [`Connection::take_gathered`] and the spool.
    CallGathered,
    /// Log that a request was refused; its response follows.
    Refused(Box<Refused>),
    /// Ask the application for its next item.
    Pull,
    /// Send these bytes.
    Write {
        /// In order, and not all empty.
        parts: [&'c [u8]; 3],
        /// Whether a response ends with these bytes.
        is_end: bool,
    },
    /// Send a part of the file.
    SendFile {
        /// The first byte to send.
        offset: u64,
        /// The maximum number of bytes to send.
        length: u64,
    },
    /// The response is sent: close the application's side of it, then call [`Connection::finish`].
    Finish,
    /// Call shutdown(2) with SHUT_WR, then [`Connection::write_shut`].
    ShutWrite,
    /// Close the descriptor; everything is counted already.
    Close(CloseManner),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer left between requests.
    IdlePeerLeft,
    /// The peer reset a kept connection between requests.
    IdleReset,
    /// The PROXY header was missing, malformed or late.
    NoProxyHeader,
    /// The connection was idle for longer than the keep-alive timeout.
    IdleLong,
    /// The connection was idle, and the worker exits or needs the room.
    IdleGivenUp,
    /// The peer left, or sent nothing more, within a request.
    PeerLeft,
    /// recv(2) failed.
    ReadFailed,
    /// The client had closed before the application was called.
    Abandoned,
    /// The client had reset the connection before the application was called.
    AbandonedByReset,
    /// The response is sent, and the connection was not to be kept.
    Answered,
    /// The application failed after the head of its response was sent.
    ReplyFailed,
    /// The application gave fewer bytes than its Content-Length.
    ReplyShort,
    /// send(2) failed, or made no progress within the write timeout.
    WriteFailed,
    /// The worker exited in the middle of a response.
    Cut,
    /// A lingering close ended; it was counted when it began.
    Lingered,
}

impl CloseReason {
    /// The counters that it increments, in order.
    pub fn counters(self) -> &'static [Counter] {
        match self {
            Self::IdlePeerLeft | Self::IdleLong | Self::IdleGivenUp => {
                &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted, Counter::ConnCloseIdle]
            }
            Self::PeerLeft => &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted],
            Self::Abandoned => {
                &[Counter::ReqErrorClientDisconnected, Counter::ReqAborted, Counter::ReqAbandoned]
            }
            Self::ReadFailed | Self::NoProxyHeader => &[Counter::ReqErrorRead, Counter::ReqAborted],
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

    /// Whether the peer must not take what it received for a complete response. If only the end of the connection
    /// ends the body, that takes a reset.
    pub fn is_abrupt(self) -> bool {
        match self {
            // After a failed write nobody is left to mislead, but after a write timeout somebody may be.
            Self::ReplyFailed | Self::ReplyShort | Self::WriteFailed | Self::Cut => true,
            Self::IdlePeerLeft
            | Self::IdleReset
            | Self::NoProxyHeader
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
    /// With a FIN: the framing says whether the peer got everything.
    Graceful,
    /// With a reset: a FIN would look like the end of the body.
    Reset,
}

/// What happens to an item of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFate {
    /// It is on its way.
    Queued,
    /// The part above the promised Content-Length is thrown away: the application's mistake.
    Overlong,
    /// The response has no body (HEAD, 204, 205, 304), or has ended.
    Unwanted,
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// The length that a request announces for its body, while that is being received.
    pub fn announced_bytes(&self) -> Option<u64> {
        let State::Body(gathering) = &self.state else { return None };
        let Framing::Length(length) = gathering.request.head.framing else { return None };
        Some(length)
    }

    /// The kind of deadline of this state.
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

    /// Whether the head of the first request is still incomplete, or has not arrived at all.
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

    /// Whether the connection waits for a request or for the rest of one.
    pub fn awaits_request(&self) -> bool {
        match &self.state {
            State::Idle | State::Head(_) | State::Body(_) => true,
            State::Ready(_) | State::Replying(_) | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// Whether the last response is complete, and the peer may only not have read it yet.
    pub fn is_lingering(&self) -> bool {
        matches!(self.state, State::Lingering(_))
    }

    /// Whether a response is being sent.
    pub fn is_replying(&self) -> bool {
        matches!(self.state, State::Replying(_))
    }

    /// Whether the next step calls the application (or reads a file), given whether there is unused input. Then
    /// the loop lets other clients have their turn.
    pub fn wants_the_application(&self, has_input: bool) -> bool {
        match &self.state {
            State::Idle | State::Head(_) => has_input,
            State::Replying(replying) => !replying.is_done() && self.write_buffer.is_empty(),
            State::Body(_) | State::Ready(_) | State::Lingering(_) | State::Closed(_) => false,
        }
    }

    /// Whether the next step takes a piece of a body, given whether there is unused input.
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

    /// Status and body bytes of the response so far, or of the aborted one.
    pub fn reply(&self) -> Option<(Status, u64)> {
        match &self.state {
            State::Replying(replying) => Some((replying.status, replying.body_bytes)),
            State::Closed(closing) => closing.aborted,
            State::Idle
            | State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Lingering(_) => None,
        }
    }

    /// The bytes that are still to be sent.
    pub fn write_buffer(&mut self) -> &mut WriteBuffer<C> {
        &mut self.write_buffer
    }
}
