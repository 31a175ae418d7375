//! A request that does not reach the application: the rule that it broke, and what was read of it.

use crate::http::response::Refusal;
use crate::http::{BodyError, HeadError, PartialHead, Status};

/// The rule that a refused request broke. Its text contains no byte of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// The head is malformed, too long, or asks for something that is not supported.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The body is malformed or too long.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The client speaks HTTP without TLS on a port for TLS.
    #[error("plain HTTP on a TLS port")]
    PlainHttp,
    /// The head was not complete in time.
    #[error("the head did not arrive in time")]
    HeadLate,
    /// No byte of the body arrived for too long.
    #[error("the body did not arrive in time")]
    BodyLate,
    /// The body arrived more slowly than the minimum rate.
    #[error("the body arrived too slowly")]
    BodySlow,
    /// The disk is full, the quota is used up, or the file would exceed the maximum size of files (RLIMIT_FSIZE).
    #[error("there is no room to store the body")]
    DiskFull,
    /// The request waited for longer than `--max-queue-time` before the application could be called.
    #[error("the request waited for too long")]
    QueuedTooLong,
    /// Requests with the same method and path have killed or hung workers (`--quarantine`).
    #[error("such requests have killed or hung workers")]
    Quarantined {
        /// When the quarantine ends.
        retry_after_s: u32,
    },
    /// The process or the machine has too many open files to store the body.
    #[error("there is no free descriptor to store the body")]
    NoDescriptor,
    /// The body could not be stored or read back.
    #[error("the body could not be stored")]
    NotStored,
}

impl RefusalReason {
    /// The status of the response.
    pub fn status(self) -> Status {
        match self {
            Self::Head(error) => error.status(),
            Self::Body(error) => error.status(),
            Self::PlainHttp => Status(400),
            Self::HeadLate | Self::BodyLate | Self::BodySlow => Status(408),
            Self::QueuedTooLong | Self::Quarantined { .. } | Self::NoDescriptor => Status(503),
            Self::DiskFull => Status(507),
            Self::NotStored => Status(500),
        }
    }

    /// When a client should try again after a 503, in seconds.
    pub fn retry_after_s(self) -> u32 {
        match self {
            Self::Quarantined { retry_after_s } => retry_after_s,
            Self::Head(_)
            | Self::Body(_)
            | Self::PlainHttp
            | Self::HeadLate
            | Self::BodyLate
            | Self::BodySlow
            | Self::DiskFull
            | Self::QueuedTooLong
            | Self::NoDescriptor
            | Self::NotStored => Refusal::RETRY_AFTER_S,
        }
    }
}

/// A refused request, for the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule that the request broke.
    pub reason: RefusalReason,
    /// What was read of it.
    pub request: PartialHead,
    /// Its identifier, if it was complete and somebody asks for it.
    pub request_id: Option<Box<[u8]>>,
}
