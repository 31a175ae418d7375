//! What holds for a place in every interleaving.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use crate::place::{Life, Member, NotClaimed, Place, PlaceGeneration};

/// A shared connection: its place, and the bytes that wait in the kernel.
struct Connection {
    place: Place,
    /// Requests that have arrived and were not read.
    arrived: AtomicU64,
    /// Requests that were served.
    served: AtomicU64,
    /// What the holder writes and the next one reads, as the number of requests of the connection. loom reports
    /// unordered access to it.
    facts: UnsafeCell<u64>,
}

impl Connection {
    /// An idle connection.
    fn idle() -> (Arc<Self>, PlaceGeneration) {
        let connection = Self {
            place: Place::new(),
            arrived: AtomicU64::new(0),
            served: AtomicU64::new(0),
            facts: UnsafeCell::new(0),
        };
        let generation = connection.place.allocate(member(0)).unwrap();
        connection.place.release(generation);
        (Arc::new(connection), generation)
    }

    /// The kernel queues a request. Its own locks order that before the event that it reports to a worker.
    fn arrive(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn has_arrived(&self) -> bool {
        self.arrived.load(Ordering::Relaxed) > 0
    }

    /// What a worker does with the event of a connection: it serves until nothing more has arrived.
    fn handle_event(&self, generation: PlaceGeneration, worker: Member) {
        while self.place.claim(generation, worker).is_ok() {
            self.serve(generation, worker);
            self.place.release(generation);
            if !self.has_arrived() {
                return;
            }
        }
    }

    /// Serves what has arrived, as the holder.
    fn serve(&self, generation: PlaceGeneration, worker: Member) {
        while self.has_arrived() {
            self.place.advance(generation, Life::Running(worker));
            self.arrived.fetch_sub(1, Ordering::Relaxed);
            self.served.fetch_add(1, Ordering::Relaxed);
            // SAFETY: loom checks that nobody else has access at the same time.
            self.facts.with_mut(|facts| unsafe { *facts += 1 });
        }
    }
}

fn member(number: u8) -> Member {
    Member::worker(number).unwrap()
}

/// Claims the connection in another thread.
fn claim_elsewhere(
    connection: &Arc<Connection>,
    generation: PlaceGeneration,
    worker: Member,
) -> thread::JoinHandle<Result<(), NotClaimed>> {
    let connection = Arc::clone(connection);
    thread::spawn(move || connection.place.claim(generation, worker))
}

/// Runs `check` with every interleaving.
fn model(check: impl Fn() + Sync + Send + 'static) {
    loom::model(check);
}

#[test]
fn a_request_is_served_exactly_once_whoever_gets_its_event() {
    model(|| {
        let (connection, generation) = Connection::idle();
        connection.arrive();
        let workers = [1, 2].map(|number| {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.handle_event(generation, member(number)))
        });
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(connection.served.load(Ordering::Relaxed), 1);
        assert_eq!(connection.place.read(), (generation, Life::Idle));
    });
}

#[test]
fn what_arrives_while_another_worker_holds_the_place_is_served() {
    model(|| {
        let (connection, generation) = Connection::idle();
        connection.place.claim(generation, member(0)).unwrap();
        let other = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                connection.arrive();
                connection.handle_event(generation, member(1));
            })
        };
        connection.place.release(generation);
        if connection.has_arrived() {
            connection.handle_event(generation, member(0));
        }
        other.join().unwrap();
        assert_eq!(connection.served.load(Ordering::Relaxed), 1);
        assert_eq!(connection.place.read(), (generation, Life::Idle));
    });
}

#[test]
fn three_workers_serve_two_requests_once_each() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (connection, generation) = Connection::idle();
        connection.arrive();
        let workers = [1, 2].map(|number| {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                if number == 2 {
                    connection.arrive();
                }
                connection.handle_event(generation, member(number));
            })
        });
        connection.handle_event(generation, member(0));
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(connection.served.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_place_is_allocated_once() {
    model(|| {
        let place = Arc::new(Place::new());
        let other = {
            let place = Arc::clone(&place);
            thread::spawn(move || place.allocate(member(1)).is_some())
        };
        let mine = place.allocate(member(0)).is_some();
        let theirs = other.join().unwrap();
        assert_eq!(u8::from(mine) + u8::from(theirs), 1);
    });
}

#[test]
fn nobody_claims_a_connection_that_its_holder_closes() {
    model(|| {
        let (connection, generation) = Connection::idle();
        connection.place.claim(generation, member(0)).unwrap();
        let other = claim_elsewhere(&connection, generation, member(1));
        connection.place.free(generation);
        assert_ne!(other.join().unwrap(), Ok(()));
        let gone = connection.place.claim(generation, member(1));
        assert_eq!(gone, Err(NotClaimed::Gone));
    });
}

/// The place has the next connection when the late event of the old one is handled.
#[test]
fn a_late_event_does_not_claim_the_next_connection_of_the_place() {
    model(|| {
        let (connection, generation) = Connection::idle();
        connection.place.claim(generation, member(0)).unwrap();
        let other = claim_elsewhere(&connection, generation, member(1));
        connection.place.free(generation);
        let next = connection.place.allocate(member(0)).unwrap();
        connection.place.release(next);
        assert_ne!(other.join().unwrap(), Ok(()));
        assert_eq!(connection.place.read(), (next, Life::Idle));
    });
}

/// A worker closes an idle connection, and another one gets its last event.
#[test]
fn a_connection_is_closed_once() {
    model(|| {
        let (connection, generation) = Connection::idle();
        let close = move |connection: &Connection, worker| {
            let is_claimed = connection.place.claim(generation, worker).is_ok();
            if is_claimed {
                connection.place.free(generation);
            }
            u8::from(is_claimed)
        };
        let other = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || close(&connection, member(1)))
        };
        let mine = close(&connection, member(0));
        assert_eq!(mine + other.join().unwrap(), 1);
    });
}

/// The supervisor has reaped a worker that held a place, or did not, while another worker tries to claim it.
#[test]
fn the_supervisor_takes_over_what_a_dead_worker_held_and_nothing_else() {
    model(|| {
        let (connection, generation) = Connection::idle();
        let dead = claim_elsewhere(&connection, generation, member(0));
        let other = claim_elsewhere(&connection, generation, member(1));
        let did_dead_hold = dead.join().unwrap().is_ok();
        let taken = connection.place.take_over(member(0));
        let does_other_hold = other.join().unwrap().is_ok();
        assert_eq!(taken.is_some(), did_dead_hold);
        assert!(!(did_dead_hold && does_other_hold));
        if taken.is_some() {
            connection.place.release(generation);
            assert_eq!(connection.place.claim(generation, member(1)), Ok(()));
        }
    });
}

/// A new worker installs a connection from a snapshot while its holder closes it.
#[test]
fn a_worker_that_learns_of_a_closed_connection_drops_it() {
    model(|| {
        let (connection, generation) = Connection::idle();
        connection.place.claim(generation, member(0)).unwrap();
        let late = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || {
                let (current, life) = connection.place.read();
                let is_kept = current == generation && life != Life::Free;
                (is_kept, connection.place.claim(generation, member(1)))
            })
        };
        connection.place.free(generation);
        let (is_kept, claimed) = late.join().unwrap();
        assert_ne!(claimed, Ok(()));
        if !is_kept {
            assert_eq!(claimed, Err(NotClaimed::Gone), "what was gone stays gone");
        }
    });
}
