//! A place in the table of shared connections that this worker has claimed.

use crate::shared::connection_table::{Life, Member, PlaceKey, Record};

/// How far the request of a shared connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Bytes may be read at any moment. Only this worker knows whether they were, so nobody else can go on, and an
    /// answer might be one too many.
    Receiving,
    /// Bytes were read: nobody else can read them again.
    Read,
    /// The application is called.
    Called,
    /// The first byte of the response is about to be sent.
    Replied,
    /// The last byte of the response was sent, and nothing of the next request was read: others can serve it.
    Answered,
}

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct ClaimedPlace {
    pub(super) key: PlaceKey,
    pub(super) record: &'static Record,
    /// This worker.
    pub(super) member: Member,
}

impl ClaimedPlace {
    /// Shows the progress to whoever takes over if this worker dies.
    pub(super) fn show(&self, progress: Progress) {
        let life = match progress {
            Progress::Read => Life::Reading(self.member),
            Progress::Called => Life::Running(self.member),
            Progress::Receiving | Progress::Replied => Life::Replying(self.member),
            Progress::Answered => Life::Claimed(self.member),
        };
        self.record.place.advance(self.key.generation, life);
    }
}
