//! Quarantine: requests that have repeatedly killed or hung workers are refused for a while.
//!
//! Requests with the same method and path have the same key. An *incident* is one request in which a worker died or
//! hung, or which was interrupted because it took too long. This is pure code: incidents and the time come in, and
//! [`Change`]s of the quarantine go out. The limits are N incidents within T (`--quarantine N/T`).
//!
//! | requests with this key are | event | change | next |
//! |---|---|---|---|
//! | unknown, suspects | an incident, fewer than N within T | | suspects |
//! | unknown, suspects | an incident, the Nth within T | [`Change::Began`] until T from now | in quarantine |
//! | suspects | T since the last incident | | unknown |
//! | in quarantine | an incident of a request that was running already | [`Change::Prolonged`] until T from now | in quarantine |
//! | in quarantine | the end | [`Change::Ended`] | unknown |
//! | any | an operator clears them, a reload succeeds, or it turns the option off | [`Change::Ended`] if in quarantine | unknown |
//! | suspects | more than [`SUSPECTS`] others had an incident since | | unknown |
//! | in quarantine | an incident that begins another quarantine, all [`PLACES`] are taken, and this one ends next | [`Change::Ended`] | unknown |
//!
//! A request that is interrupted, and then dies with its worker, is one incident. Clients decide how many different
//! paths there are, so the number of suspects and of places is limited.

mod entry;

use std::time::{Duration, Instant};

use arctos_worker::shared::request_key::RequestKey;
use arctos_worker::shared::scoreboard::QuarantineTable;

use nix::sys::signal::Signal;

use crate::supervisor::slot::{Ending, ExitStatus};
use crate::system::pid::Pid;

pub use entry::{QuarantinedRequest, RequestName};

/// How many requests can be in quarantine at once.
pub const PLACES: usize = QuarantineTable::PLACES;
/// How many suspects are remembered.
pub const SUSPECTS: usize = 256;

/// How many incidents within which time begin a quarantine, which then lasts as long (`--quarantine`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// The number of incidents, at least 1.
    pub incidents: usize,
    /// The time.
    pub within: Duration,
}

/// A request in which a worker died or hung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The key of its method and path.
    pub key: RequestKey,
    /// Its method and path.
    pub name: RequestName,
    /// The worker that ran it.
    pub pid: Pid,
    /// When it started, by the clock of the scoreboard.
    pub started: Duration,
}

/// Whether the end of a worker is an incident of the request that it was running. A worker that was asked to exit, by
/// the supervisor or by a signal, has not died in its request.
pub fn is_incident(ending: Ending, status: ExitStatus) -> bool {
    const ASKED: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];
    match (ending, status) {
        (Ending::Asked | Ending::BootFailed, _) => false,
        (Ending::Died, ExitStatus::Signal(number)) => {
            ASKED.iter().all(|asked| *asked as i32 != number)
        }
        (Ending::Died | Ending::Hung, _) => true,
    }
}

/// A change of the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Requests are in quarantine from now on.
    Began(QuarantinedRequest),
    /// A quarantine ends later than it would have.
    Prolonged(QuarantinedRequest),
    /// A quarantine has ended.
    Ended {
        /// What was in quarantine.
        request: QuarantinedRequest,
        /// Why it ended.
        cause: EndCause,
    },
}

/// Why a quarantine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// Its time is over.
    Expired,
    /// An operator has ended it.
    Released,
    /// A reload has succeeded, and the code is another one, or the option is off.
    Reloaded,
    /// Its place was needed for another request.
    Displaced,
}

impl EndCause {
    /// The word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Reloaded => "reloaded",
            Self::Displaced => "displaced",
        }
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Quarantine {
    /// `None` without `--quarantine`: nothing is recorded.
    limits: Option<QuarantineLimits>,
    /// The suspects, that with the latest incident last.
    suspects: Vec<Suspect>,
    places: [Option<QuarantinedRequest>; PLACES],
    /// The number of the next quarantine, by which operators name it.
    next_number: u16,
    changes: Vec<Change>,
}

/// Requests with fewer incidents than it takes, or whose incidents still count although they are in quarantine.
#[derive(Debug)]
struct Suspect {
    key: RequestKey,
    /// The latest incidents, oldest first.
    incidents: Vec<Recorded>,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    at: Instant,
    pid: Pid,
    started: Duration,
}

impl Quarantine {
    /// An empty quarantine.
    pub fn new(limits: Option<QuarantineLimits>) -> Self {
        Self {
            limits,
            suspects: Vec::new(),
            places: [const { None }; PLACES],
            next_number: 1,
            changes: Vec::new(),
        }
    }

    /// A reload has succeeded: the code that the incidents belong to is replaced.
    pub fn reload(&mut self, limits: Option<QuarantineLimits>) {
        self.limits = limits;
        self.suspects.clear();
        self.end_where(EndCause::Reloaded, |_| true);
    }

    /// An operator ends one quarantine, or all of them and every suspicion. Returns how many have ended.
    pub fn release(&mut self, number: Option<u16>) -> usize {
        match number {
            Some(number) => {
                let ended = self.iter().find(|request| request.number == number);
                let key = ended.map(|request| request.key);
                self.suspects.retain(|suspect| Some(suspect.key) != key);
                self.end_where(EndCause::Released, |request| request.number == number)
            }
            None => {
                self.suspects.clear();
                self.end_where(EndCause::Released, |_| true)
            }
        }
    }

    /// Records an incident.
    pub fn record(&mut self, incident: Incident, now: Instant) {
        let Some(limits) = self.limits else { return };
        let Incident { key, name, pid, started } = incident;
        let recorded = Recorded { at: now, pid, started };
        let Some(count) = self.count(key, recorded, limits) else { return };
        let until = now + limits.within;
        if let Some(request) = self.places.iter_mut().flatten().find(|request| request.key == key) {
            request.incidents += 1;
            request.until = until;
            self.changes.push(Change::Prolonged(request.clone()));
        } else if count >= limits.incidents {
            let incidents = u64::try_from(count).unwrap_or(u64::MAX);
            let (place, number) = (self.vacant_place(), self.number());
            let request = QuarantinedRequest { place, number, key, name, incidents, until };
            self.changes.push(Change::Began(request.clone()));
            self.places[place] = Some(request);
        }
    }

    /// Adds an incident to those of its key, and returns how many count; `None` if this one was counted already.
    fn count(
        &mut self,
        key: RequestKey,
        recorded: Recorded,
        limits: QuarantineLimits,
    ) -> Option<usize> {
        let index = self.suspects.iter().position(|suspect| suspect.key == key);
        let mut suspect = match index {
            Some(index) => self.suspects.remove(index),
            None => Suspect { key, incidents: Vec::new() },
        };
        let is_same = |it: &Recorded| (it.pid, it.started) == (recorded.pid, recorded.started);
        let is_new = !suspect.incidents.iter().any(is_same);
        if is_new {
            suspect.incidents.push(recorded);
        }
        suspect.incidents.retain(|it| it.at + limits.within > recorded.at);
        let excess = suspect.incidents.len().saturating_sub(limits.incidents);
        suspect.incidents.drain(..excess);
        let count = suspect.incidents.len();
        self.suspects.push(suspect);
        if self.suspects.len() > SUSPECTS {
            self.suspects.remove(0);
        }
        is_new.then_some(count)
    }

    /// Returns a place, and ends the quarantine that would end next if all are taken.
    fn vacant_place(&mut self) -> usize {
        if let Some(place) = self.places.iter().position(Option::is_none) {
            return place;
        }
        let next = self.iter().min_by_key(|request| request.until).map(|request| request.place);
        let place = next.unwrap_or_default();
        self.end_where(EndCause::Displaced, |request| request.place == place);
        place
    }

    /// Returns a number that no other quarantine has.
    fn number(&mut self) -> u16 {
        loop {
            let number = self.next_number;
            self.next_number = self.next_number.checked_add(1).unwrap_or(1);
            if self.iter().all(|request| request.number != number) {
                return number;
            }
        }
    }

    /// Ends what is over, and forgets suspects whose incidents count no more.
    pub fn check_deadlines(&mut self, now: Instant) {
        self.end_where(EndCause::Expired, |request| request.until <= now);
        let Some(limits) = self.limits else { return };
        let is_over = |suspect: &Suspect| {
            suspect.incidents.last().is_none_or(|last| last.at + limits.within <= now)
        };
        self.suspects.retain(|suspect| !is_over(suspect));
    }

    /// When [`Quarantine::check_deadlines`] is due. Suspects are forgotten whenever it is called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.iter().map(|request| request.until).min()
    }

    /// What is in quarantine.
    pub fn iter(&self) -> impl Iterator<Item = &QuarantinedRequest> {
        self.places.iter().flatten()
    }

    /// The limits; `None` without `--quarantine`.
    pub fn limits(&self) -> Option<QuarantineLimits> {
        self.limits
    }

    /// Returns the changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn end_where(
        &mut self,
        cause: EndCause,
        is_ended: impl Fn(&QuarantinedRequest) -> bool,
    ) -> usize {
        let before = self.changes.len();
        for place in &mut self.places {
            if let Some(request) = place.take_if(|request| is_ended(request)) {
                self.changes.push(Change::Ended { request, cause });
            }
        }
        self.changes.len() - before
    }
}

#[cfg(test)]
mod tests;
