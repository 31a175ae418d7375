//! Simulates thousands of groups of workers that share connections: clients that send in parts, pipeline and leave,
//! workers that share, serve, take away, drain and are killed between any two steps, a slow supervisor, and the
//! successor that takes over in an upgrade.
//!
//! The table, the holdings, the distribution and the messages are the real ones; [`kernel`] models the rest. A failure
//! names its seed, and `ARCTOS_SIM_SEED=N cargo test -p arctos-worker every_simulated_group` replays that run.
//! `ARCTOS_SIM_LIVES=N` sets the number of runs.
//!
//! | checked | when |
//! |---|---|
//! | a place has one holder at most; a request is executed once at most; no connection ends without a reason | always |
//! | no idle connection has unread bytes while a worker waits, even if others are busy for long | at rest, with busy workers |
//! | each client has all its answers, or sees the end; what was closed has ended although others hold it | at rest |
//! | each process holds what is in the table, and nothing else | at rest, after a sweep |
//! | no descriptor and no place is left | after the end of the server |

mod clients;
mod kernel;
mod leaving;
mod serving;
mod succession;
mod supervisor;
mod worker;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::message::{self, Kind};
use super::{ConnectionTable, PlaceKey};
use clients::{Clients, Counts};
use kernel::{Direction, Fd, Kernel, NotSent, Pid, SocketId};
use world::World;

/// About a second of the development profile.
const LIVES: u64 = 1_000;
/// How many runs may be needed to find a fault.
const SEARCHED: u64 = 100_000;
/// The places of the table: in some runs they do not suffice.
const PLACES: u32 = 12;

/// What a careless implementation might do. The simulation has to find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A worker that releases a connection does not look whether something has arrived meanwhile.
    NoLookAfterRelease,
    /// A worker that releases a connection looks by watching it once more, so that the event comes to it alone.
    LookByWatching,
    /// The supervisor does not look for swallowed events after a death.
    NoLookAfterDeath,
    /// Closing leaves it to the last descriptor to end the connection.
    FreeWithoutShutdown,
    /// The supervisor takes over the places of a dead worker before it reads what that has offered.
    OfferAfterTakeOver,
    /// A number is used again before the supervisor has taken over what the last worker of that number had claimed.
    ReuseNumberEarly,
    /// A worker reads the first bytes of a request before it says so.
    ReadBeforeReading,
    /// A stale descriptor is closed without a look at what its event may have been.
    DropStaleUnseen,
    /// A descriptor is closed without removing it from epoll(7) first.
    CloseWithoutUnwatch,
    /// The supervisor does not look for events that a worker has ignored because it left.
    LeaveUnseen,
    /// A worker that leaves tries only once to offer its idle connections.
    ShareOnce,
    /// The supervisor does not repeat descriptors that could not be sent.
    InstallOnce,
    /// The supervisor does not repeat the places to look at that a full mailbox has no room for.
    LookOnce,
    /// The supervisor does not try again after ETOOMANYREFS.
    StallForever,
    /// The predecessor claims a connection only once it has sent it to its successor.
    ClaimAfterPass,
    /// The predecessor passes connections before its workers know that they drain.
    PassBeforeDrain,
    /// Idle connections go on to count as abandoned when a worker starts.
    StayAbandoned,
    /// Idle connections that no worker is left to serve do not end.
    KeepAbandoned,
    /// The idle timeout closes what it has claimed without asking again whether it was used.
    ExpireUnchecked,
    /// A worker notes when a connection was used only when it releases the place.
    StampLate,
    /// A worker serves its own connections before the shared ones of the same turn.
    OwnEventsFirst,
    /// A new worker keeps the descriptors that it has inherited from the supervisor.
    KeepInherited,
}

/// Each with a seed that finds it. A change of the simulation moves the seeds, so that the test searches from there on.
const FAULTS: [(Fault, u64); 22] = [
    (Fault::NoLookAfterRelease, 4),
    (Fault::LookByWatching, 393),
    (Fault::NoLookAfterDeath, 1262),
    (Fault::FreeWithoutShutdown, 0),
    (Fault::OfferAfterTakeOver, 335),
    (Fault::ReuseNumberEarly, 119),
    (Fault::ReadBeforeReading, 102),
    (Fault::DropStaleUnseen, 89675),
    (Fault::CloseWithoutUnwatch, 7),
    (Fault::LeaveUnseen, 7849),
    (Fault::ShareOnce, 62),
    (Fault::InstallOnce, 0),
    (Fault::LookOnce, 12526),
    (Fault::StallForever, 15),
    (Fault::ClaimAfterPass, 886),
    (Fault::PassBeforeDrain, 158960),
    (Fault::StayAbandoned, 189),
    (Fault::KeepAbandoned, 0),
    (Fault::ExpireUnchecked, 218),
    (Fault::StampLate, 35563),
    (Fault::OwnEventsFirst, 2262),
    (Fault::KeepInherited, 0),
];

#[test]
fn every_simulated_group_keeps_the_invariants() {
    let tables = [(); 2].map(|()| ConnectionTable::create(PLACES).unwrap());
    if let Some(seed) = number("ARCTOS_SIM_SEED") {
        World::new(&tables, seed, None).live();
        return;
    }
    let base = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) >> 16;
    let mut counts = Counts::default();
    for seed in base..base + number("ARCTOS_SIM_LIVES").unwrap_or(LIVES) {
        let lived = catch_unwind(AssertUnwindSafe(|| World::new(&tables, seed, None).live()));
        assert!(lived.is_ok(), "replay with ARCTOS_SIM_SEED={seed}");
        counts.add(lived.unwrap());
    }
    counts.check();
}

#[test]
fn the_simulation_finds_each_fault() {
    let tables = [(); 2].map(|()| ConnectionTable::create(PLACES).unwrap());
    for (fault, first) in FAULTS {
        let fails = |seed: &u64| {
            let mut world = World::new(&tables, *seed, Some(fault));
            catch_unwind(AssertUnwindSafe(|| world.live())).is_err()
        };
        let found = (first..first + SEARCHED).find(fails);
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// splitmix64
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What all processes have in common.
struct Env<'a> {
    kernel: Kernel,
    /// One for each server: the second one is the successor of the first.
    tables: [&'a ConnectionTable; 2],
    /// That of the server whose process takes a step.
    table: &'a ConnectionTable,
    server: usize,
    clients: Clients,
    dice: Dice,
    now: u64,
    /// Whether the application is slow, so that connections are shared.
    is_slow: bool,
    /// Whether things happen that need not happen: sweeps, timeouts, refused messages.
    is_disturbed: bool,
    /// How often a response makes the application count as slow, or fast.
    flip_percent: u64,
    /// How often an idle worker sweeps or looks for expired connections.
    tick_percent: u64,
    idle_timeout: u64,
    fault: Option<Fault>,
    /// Who has claimed which place, according to the steps that were taken.
    holders: BTreeMap<(usize, u32), (PlaceKey, Pid)>,
    /// Connections that were closed, so that their clients see the end whoever has duplicates.
    closed: BTreeSet<SocketId>,
}

impl Env<'_> {
    /// A process of this server takes the next step.
    fn enter(&mut self, server: usize) {
        self.server = server;
        self.table = self.tables[server];
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.dice.draw() % 100 < of_hundred
    }

    fn below(&mut self, end: usize) -> usize {
        (self.dice.draw() % end as u64) as usize
    }

    fn hold(&mut self, key: PlaceKey, by: Pid) {
        let before = self.holders.insert((self.server, key.index), (key, by));
        assert_eq!(before, None, "{by:?} claims {key:?}, which is claimed");
    }

    fn drop_hold(&mut self, key: PlaceKey, by: Pid) {
        let before = self.holders.remove(&(self.server, key.index));
        assert_eq!(before, Some((key, by)), "{by:?} gives up {key:?}");
    }

    fn is_expired(&self, key: PlaceKey) -> bool {
        let record = self.table.record(key.index).expect("a place of the table");
        let used_at = record.used_at().as_micros() as u64;
        self.now.saturating_sub(used_at) >= self.idle_timeout
    }

    fn post(
        &mut self,
        worker: Pid,
        direction: Direction,
        kind: Kind,
        keys: &[PlaceKey],
        fds: &[Fd],
    ) -> Result<(), NotSent> {
        if self.is_disturbed && !fds.is_empty() && self.chance(5) {
            return Err(NotSent::TooManyRefs);
        }
        self.kernel.post(worker, direction, message::encode(kind, keys), fds)
    }
}
