//! A request that is not for the application: which rule it broke, and what was read of it.

use crate::http::{BodyError, HeadError, PartialHead, Status};

/// The rule that a refused request broke. Displays as a sentence without a byte of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// Its head is malformed, too long, or asks for what is not served.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Its body is malformed or too long.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The head was not whole in time.
    #[error("the head did not arrive in time")]
    HeadLate,
    /// No byte of the body came for too long.
    #[error("the body did not arrive in time")]
    BodyLate,
    /// The body came too slowly.
    #[error("the body arrived too slowly")]
    BodySlow,
    /// The disk has no room for the body.
    #[error("there is no room to store the body")]
    DiskFull,
    /// The body could not be stored or read back.
    #[error("the body could not be stored")]
    NotStored,
}

impl RefusalReason {
    /// The status that answers it.
    pub fn status(self) -> Status {
        match self {
            Self::Head(error) => error.status(),
            Self::Body(error) => error.status(),
            Self::HeadLate | Self::BodyLate | Self::BodySlow => Status(408),
            Self::DiskFull => Status(507),
            Self::NotStored => Status(500),
        }
    }
}

/// A refused request, for the logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule that it broke.
    pub reason: RefusalReason,
    /// What was read of it.
    pub request: PartialHead,
}
