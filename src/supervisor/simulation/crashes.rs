//! Simulates workers that crash in requests at some rate, or cannot boot for a while. Checks how many still serve, and
//! how soon all of them are back.

use super::*;

const WORKERS: [u16; 4] = [1, 2, 4, 16];
/// The times from fork(2) to ready.
const BOOTS_MS: [u64; 3] = [100, 1_000, 4_000];

/// A server in a world where a spawn always starts a process and no operator interferes.
struct Storm {
    machine: Supervisor,
    boot: Duration,
    now: Instant,
    dice: Jitter,
    next_pid: i32,
    /// Workers that boot, with the times when they are ready.
    booting: BTreeMap<i32, Instant>,
    /// Workers that serve, with the times when they became ready.
    ready: BTreeMap<i32, Instant>,
    /// Boots that end before this time fail.
    broken_until: Instant,
    /// The start times of processes since the last check.
    spawns: Vec<Instant>,
}

impl Storm {
    /// Returns a server whose workers are all ready.
    fn over(workers: u16, boot: Duration) -> Self {
        let now = Instant::now();
        let policy = Policy {
            workers,
            ceiling: 64,
            boot: ms(60_000),
            graceful: ms(25_000),
            quick: ms(2_000),
            drain_delay: Duration::ZERO,
            probation: PROBATION,
            preparation: Preparation::None,
        };
        let mut storm = Self {
            machine: Supervisor::start(policy, 1, now),
            boot,
            now,
            dice: Jitter::new(u64::from(workers)),
            next_pid: 100,
            booting: BTreeMap::new(),
            ready: BTreeMap::new(),
            broken_until: now,
            spawns: Vec::new(),
        };
        storm.carry_out();
        while storm.ready.len() < usize::from(workers) {
            storm.go_on(now + ms(60_000));
        }
        storm
    }

    fn deliver(&mut self, event: Event) {
        self.machine.handle(event, self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.machine.next_action() {
            let Action::Spawn { slot, side, .. } = action else {
                let is_told = matches!(action, Action::ReportReady | Action::Log(_));
                assert!(is_told, "{action:?} is unexpected");
                continue;
            };
            let pid = self.next_pid;
            self.next_pid += 1;
            self.booting.insert(pid, self.now + self.boot);
            self.spawns.push(self.now);
            self.machine.handle(Event::Started { slot, side, pid: Pid(pid) }, self.now);
        }
    }

    /// Advances to the next event, or to `end` if that is earlier.
    fn go_on(&mut self, end: Instant) {
        let booted = self.booting.iter().map(|(pid, at)| (*at, *pid)).min();
        let next = booted.map(|(at, _)| at).into_iter().chain(self.machine.next_deadline()).min();
        self.now = next.unwrap_or(end).clamp(self.now, end);
        match booted.filter(|(at, _)| *at <= self.now) {
            Some((_, pid)) => {
                self.booting.remove(&pid);
                let pid_of = Pid(pid);
                if self.now < self.broken_until {
                    let status = ExitStatus::Code(3);
                    self.deliver(Event::Exited {
                        pid: pid_of,
                        status,
                        details: ExitDetails::default(),
                    });
                } else {
                    self.ready.insert(pid, self.now);
                    self.deliver(Event::Ready { pid: pid_of });
                }
            }
            None => self.deliver(Event::Tick),
        }
    }

    fn play_until(&mut self, end: Instant, look: impl Fn(&Self)) {
        while self.now < end {
            self.go_on(end);
            look(self);
        }
    }

    /// Lets a request crash a random worker.
    fn crash(&mut self) {
        let candidates: Vec<_> = self.ready.keys().copied().collect();
        if candidates.is_empty() {
            return;
        }
        let victim = candidates[self.dice.draw() as usize % candidates.len()];
        self.ready.remove(&victim);
        let (pid, status) = (Pid(victim), ExitStatus::Signal(11));
        self.deliver(Event::Exited {
            pid,
            status,
            details: ExitDetails { had_request: true, ..ExitDetails::default() },
        });
    }
}

/// Returns the time from the end of an outage, when workers can boot again, until all workers are ready.
fn recovery_of(workers: u16, boot: Duration, outage: Duration) -> Duration {
    let mut storm = Storm::over(workers, boot);
    storm.broken_until = storm.now + outage;
    let end = storm.broken_until;
    for _ in 0..workers {
        storm.crash();
    }
    storm.play_until(end, |_| {});
    let all = usize::from(workers);
    while storm.ready.len() < all {
        storm.go_on(end + ms(60_000));
        assert!(storm.now < end + ms(60_000), "the server does not recover");
    }
    storm.now - end
}

/// Workers that were booting at the end of the outage fail. Then one slot is tried within [`PACE`], and when its worker
/// has served for a second, all slots are tried.
#[test]
fn all_workers_return_soon_after_an_outage_of_any_length() {
    for (workers, boot_ms) in WORKERS.into_iter().flat_map(|n| BOOTS_MS.map(|ms| (n, ms))) {
        for outage_s in [1, 10, 50] {
            let took = recovery_of(workers, ms(boot_ms), ms(outage_s * 1_000));
            let most = 3 * ms(boot_ms) + ms(500) + crate::supervisor::slot::SERVED_AFTER;
            assert!(took <= most, "{workers} workers, boot {boot_ms} ms: {took:?}");
        }
    }
}

/// With all slots failing, retries are neither rare nor a busy loop.
#[test]
fn slots_are_tried_every_half_second_while_no_worker_is_ready() {
    for workers in [1, 2, 4] {
        let mut storm = Storm::over(workers, ms(100));
        storm.broken_until = storm.now + ms(50_000);
        for _ in 0..workers {
            storm.crash();
        }
        let settled = storm.now + ms(10_000);
        storm.play_until(settled, |_| {});
        storm.spawns.clear();
        storm.play_until(settled + ms(30_000), |_| {});
        assert!((58..=62).contains(&storm.spawns.len()), "{workers}: {}", storm.spawns.len());
    }
}

/// With boot time B and crashes of workers that have served at rate r, at least N - ceil(r * B) - 1 workers are ready.
/// If a slot waited after a crash, a few crashes would cause an outage.
#[test]
fn a_crash_of_a_worker_that_served_costs_only_the_time_to_boot() {
    for (workers, boot_ms) in WORKERS.into_iter().flat_map(|n| BOOTS_MS.map(|ms| (n, ms))) {
        for every_ms in [100, 500, 2_000, 5_000, 30_000] {
            let mut storm = Storm::over(workers, ms(boot_ms));
            let lost = boot_ms.div_ceil(every_ms) + 1;
            let least = u64::from(workers).saturating_sub(lost);
            let end = storm.now + ms(300_000);
            while storm.now < end {
                let next = storm.now + ms(every_ms);
                storm.play_until(next, |storm| {
                    let ready = storm.ready.len() as u64;
                    assert!(
                        ready >= least,
                        "{ready} of {workers} ready; boots of {boot_ms} ms, a crash every {every_ms} ms"
                    );
                });
                storm.crash();
            }
        }
    }
}
