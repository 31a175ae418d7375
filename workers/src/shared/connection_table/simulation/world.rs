//! One life of a server: who takes the next step, what happens to it, and what must hold at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{ConnectionTable, Life};
use super::clients::{Clients, Counts};
use super::kernel::{Kernel, Peek, Pid, SUCCESSOR, SUPERVISOR};
use super::supervisor::Supervisor;
use super::worker::{Mode, Worker};
use super::{Dice, Env, Fault, PLACES};

const STEPS: u64 = 720;
/// More than any group needs to come to rest.
const PATIENCE: u32 = 20_000;

/// What differs between the lives.
struct Habits {
    workers: usize,
    max_clients: usize,
    kill_percent: u64,
    flip_percent: u64,
    /// How many clients do not wait for an answer, or send a request in parts.
    reload_percent: u64,
    upgrade_percent: u64,
    /// How often all workers drain, and start again only later.
    pause_percent: u64,
    pipeline_percent: u64,
    part_percent: u64,
    /// How often the supervisor has its turn.
    supervisor_percent: u64,
    /// How often an idle worker sweeps or looks for expired connections.
    tick_percent: u64,
    /// In steps.
    idle_timeout: u64,
    /// How often everything comes to rest, and is checked.
    rounds: u64,
}

impl Habits {
    /// Two faults are rare, so that only the runs are searched that can have them.
    fn draw(dice: &mut Dice, fault: Option<Fault>) -> Self {
        let mut one_of = |values: &[u64]| values[dice.draw() as usize % values.len()];
        let mut habits = Self {
            workers: one_of(&[1, 2, 3, 4]) as usize,
            max_clients: one_of(&[1, 3, 6, u64::from(PLACES) + 2]) as usize,
            kill_percent: one_of(&[0, 1, 1, 4]) * 10,
            flip_percent: one_of(&[0, 2, 10]),
            reload_percent: one_of(&[0, 100, 100]),
            upgrade_percent: one_of(&[0, 0, 30]),
            pause_percent: one_of(&[0, 0, 0, 10]),
            pipeline_percent: one_of(&[0, 20, 60]),
            part_percent: one_of(&[0, 30]),
            supervisor_percent: one_of(&[5, 20, 50]),
            tick_percent: one_of(&[0, 1, 10]),
            idle_timeout: one_of(&[20, 150]),
            rounds: one_of(&[2, 6, 12]),
        };
        if one_of(&[0, 1, 2, 3]) == 0 || fault == Some(Fault::DropStaleUnseen) {
            // Connections are shared and taken back all the time, and nothing else happens.
            habits.workers = habits.workers.max(3);
            habits.max_clients = 8;
            habits.supervisor_percent = 20;
            habits.rounds = 2;
            (habits.kill_percent, habits.tick_percent, habits.flip_percent) = (0, 0, 40);
            (habits.reload_percent, habits.upgrade_percent, habits.pause_percent) = (0, 0, 0);
            (habits.pipeline_percent, habits.part_percent) = (0, 0);
        }
        if fault == Some(Fault::PassBeforeDrain) {
            (habits.upgrade_percent, habits.pause_percent, habits.kill_percent) = (100, 0, 0);
        }
        habits
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    None,
    /// The successor's workers start.
    Begun,
    /// They are ready: the workers of the predecessor drain.
    HandedOver,
}

pub(super) struct World<'a> {
    env: Env<'a>,
    workers: Vec<Worker>,
    supervisors: [Supervisor; 2],
    upgrade: Upgrade,
    /// Until then, no worker starts.
    paused_until: u64,
    next_pid: u32,
    habits: Habits,
    is_stopping: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(tables: &'a [ConnectionTable; 2], seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice(seed);
        for table in tables {
            table.reset([0, 7, u32::MAX - 3][dice.draw() as usize % 3]);
        }
        let kernel = Kernel::new(1 + dice.draw() as usize % 4);
        let habits = Habits::draw(&mut dice, fault);
        let env = Env {
            kernel,
            tables: [&tables[0], &tables[1]],
            table: &tables[0],
            server: 0,
            clients: Clients::default(),
            now: 1_000,
            idle_timeout: habits.idle_timeout,
            is_slow: !dice.draw().is_multiple_of(3),
            dice,
            is_disturbed: true,
            flip_percent: habits.flip_percent,
            tick_percent: habits.tick_percent,
            fault,
            holders: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        Self {
            env,
            workers: Vec::new(),
            supervisors: [Supervisor::new(SUPERVISOR, 0), Supervisor::new(SUCCESSOR, 1)],
            upgrade: Upgrade::None,
            paused_until: 0,
            next_pid: SUCCESSOR.0 + 1,
            habits,
            is_stopping: false,
        }
    }

    pub(super) fn live(&mut self) -> Counts {
        for _ in 0..self.habits.rounds {
            self.disturb();
            self.rest(true);
            self.check_wake_ups();
            self.complete_requests();
            self.rest(false);
            self.check_wake_ups();
            self.check_at_rest();
            self.sweep();
            self.rest(false);
            self.check_after_sweep();
        }
        self.stop();
        self.env.clients.counts
    }

    // --- What happens ---

    fn disturb(&mut self) {
        self.env.is_disturbed = true;
        for _ in 0..STEPS / self.habits.rounds {
            match self.env.below(100) {
                0..=15 => self.disturb_clients(),
                16 if self.env.chance(self.habits.reload_percent) => self.replace(),
                17 if self.env.chance(self.habits.kill_percent) => self.kill_any(),
                18 if self.env.chance(self.habits.upgrade_percent) => self.begin_upgrade(),
                19 if self.env.chance(self.habits.pause_percent) => self.pause(),
                _ => self.advance(),
            }
        }
        self.env.is_disturbed = false;
        self.paused_until = 0;
    }

    /// Lets any process take one step.
    fn advance(&mut self) {
        self.spawn_missing();
        if self.env.chance(self.habits.supervisor_percent) {
            let server = self.env.below(2);
            self.supervisors[server].step(&mut self.env);
            if self.env.chance(2) {
                self.supervisors[server].sweep(&mut self.env);
            }
        } else if !self.workers.is_empty() {
            let index = self.env.below(self.workers.len());
            self.step(index);
        }
        self.tick();
    }

    fn step(&mut self, index: usize) -> bool {
        let did_something = self.workers[index].step(&mut self.env);
        if self.workers[index].mode == Mode::Exited {
            let worker = self.workers.remove(index);
            let left = self.env.kernel.descriptors(worker.pid);
            assert!(left.is_empty(), "a drained worker has all closed: {left:?}");
            self.env.clients.counts.drained += 1;
            self.end(worker);
        }
        did_something
    }

    fn tick(&mut self) {
        self.env.now += 1;
        self.env.clients.see(&mut self.env.kernel, self.env.now);
    }

    fn disturb_clients(&mut self) {
        let env = &mut self.env;
        let open: Vec<_> =
            (0..env.clients.len()).filter(|it| env.clients.is_open(&env.kernel, *it)).collect();
        if open.is_empty() || open.len() < self.habits.max_clients && env.chance(30) {
            if !self.is_stopping {
                env.clients.connect(&mut env.kernel, env.now);
            }
            return;
        }
        let client = open[env.below(open.len())];
        match env.below(40) {
            0 => env.clients.finish(&mut env.kernel, client, false),
            1 => env.clients.finish(&mut env.kernel, client, true),
            _ => {
                let may_pipeline =
                    env.clients.outstanding(client) < 4 && env.chance(self.habits.pipeline_percent);
                let is_free = env.clients.outstanding(client) == 0;
                if is_free || may_pipeline || env.clients.has_partial(client) {
                    let is_whole = !env.chance(self.habits.part_percent);
                    let parts = if is_whole { 1 } else { 2 + env.below(2) as u32 };
                    env.clients.send(&mut env.kernel, client, parts);
                }
            }
        }
        self.tick();
    }

    fn complete_requests(&mut self) {
        let env = &mut self.env;
        for client in 0..env.clients.len() {
            while env.clients.is_open(&env.kernel, client) && env.clients.has_partial(client) {
                env.clients.send(&mut env.kernel, client, 1);
            }
        }
    }

    // --- Workers come and go ---

    fn serving(&self, server: usize) -> usize {
        let is_one = |it: &&Worker| it.mode == Mode::Serving && it.server == server;
        self.workers.iter().filter(is_one).count()
    }

    /// Starts a worker of a server that has too few, and hands over once the successor has enough.
    fn spawn_missing(&mut self) -> bool {
        let servers = match self.upgrade {
            _ if self.is_stopping || self.is_paused() => 0..0,
            Upgrade::None => 0..1,
            Upgrade::Begun => 0..2,
            Upgrade::HandedOver => 1..2,
        };
        for server in servers {
            if self.serving(server) < self.habits.workers && self.spawn(server) {
                return true;
            }
        }
        let may_hand_over = !self.is_stopping && !self.is_paused();
        self.upgrade == Upgrade::Begun && may_hand_over && self.hand_over()
    }

    fn is_paused(&self) -> bool {
        self.env.now < self.paused_until
    }

    /// A reload ends the sharing, and the next one begins it again.
    fn pause(&mut self) {
        self.paused_until = self.env.now + 100;
        for server in 0..2 {
            while self.serving(server) > 0 && !self.is_stopping {
                self.drain_any(server);
            }
        }
    }

    fn begin_upgrade(&mut self) {
        if self.upgrade == Upgrade::None && !self.is_stopping {
            self.upgrade = Upgrade::Begun;
        }
    }

    fn hand_over(&mut self) -> bool {
        let is_ready = |it: &&Worker| it.server == 1 && it.mode == Mode::Serving && it.is_ready();
        if self.workers.iter().filter(is_ready).count() < self.habits.workers {
            return false;
        }
        let is_early = self.env.fault == Some(Fault::PassBeforeDrain);
        if is_early && !self.supervisors[0].is_passing {
            self.supervisors[0].is_passing = true;
            return true;
        }
        if is_early && self.env.is_disturbed && !self.env.chance(1) {
            return false;
        }
        self.supervisors[0].is_passing = true;
        self.upgrade = Upgrade::HandedOver;
        while self.serving(0) > 0 {
            self.drain_any(0);
        }
        true
    }

    fn spawn(&mut self, server: usize) -> bool {
        let is_used = |number: &u8| {
            let is_unfinished = !self.supervisors[server].is_free(*number)
                && self.env.fault != Some(Fault::ReuseNumberEarly);
            is_unfinished
                || self.workers.iter().any(|it| it.server == server && it.number == *number)
        };
        let Some(number) = (0..8).find(|number| !is_used(number)) else { return false };
        let pid = Pid(self.next_pid);
        self.next_pid += 1;
        self.env.kernel.fork(self.supervisors[server].pid, pid);
        self.supervisors[server].join(pid, number, &self.env);
        self.workers.push(Worker::new(pid, number, server));
        true
    }

    /// A reload, or a worker that has reached its limit: a new worker is ready before the old one drains.
    fn replace(&mut self) {
        let server = usize::from(self.upgrade == Upgrade::HandedOver);
        let is_ready =
            |it: &&Worker| it.server == server && it.mode == Mode::Serving && it.is_ready();
        let ready = self.workers.iter().filter(is_ready).count();
        if ready <= self.habits.workers && !self.is_stopping {
            self.spawn(server);
        } else {
            self.drain_any(server);
        }
    }

    fn drain_any(&mut self, server: usize) {
        let is_one = |it: &usize| {
            self.workers[*it].mode == Mode::Serving && self.workers[*it].server == server
        };
        let serving: Vec<_> = (0..self.workers.len()).filter(is_one).collect();
        let is_ending = self.is_stopping
            || self.is_paused()
            || server == 0 && self.upgrade == Upgrade::HandedOver;
        if serving.len() > self.habits.workers || is_ending && !serving.is_empty() {
            let index = serving[self.env.below(serving.len())];
            let worker = &mut self.workers[index];
            worker.mode = Mode::Draining;
            worker.is_quick = self.env.dice.draw().is_multiple_of(3);
            self.env.kernel.interrupt(worker.pid);
        }
    }

    fn kill_any(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let index = self.env.below(self.workers.len());
        let worker = self.workers.remove(index);
        self.env.enter(worker.server);
        self.env.clients.counts.kills += 1;
        for connection in worker.own.values().chain(&worker.serving).chain(&worker.prepared) {
            let is_lost = connection.key.filter(|_| connection.is_offered).is_none_or(|key| {
                let record = self.env.table.record(key.index).expect("a place of the table");
                !matches!(record.place.read().1, Life::Claimed(_) | Life::Idle)
            });
            if is_lost {
                let socket = self.env.kernel.socket_of(worker.pid, connection.fd);
                self.env.clients.allow_end(socket);
            }
        }
        self.end(worker);
    }

    fn end(&mut self, worker: Worker) {
        self.env.kernel.exit(worker.pid);
        self.supervisors[worker.server].reap(worker.pid, worker.number);
    }

    // --- Rest ---

    /// Lets all processes run until nothing happens any more. Some requests take longer than that, if they may.
    fn rest(&mut self, may_be_busy: bool) {
        let mut busy = BTreeSet::new();
        let mut patience = PATIENCE;
        let mut has_swept = false;
        loop {
            let mut did_something = false;
            while self.spawn_missing() {
                did_something = true;
            }
            let first = self.env.below(self.workers.len() + 2);
            for step in 0..=self.workers.len() + 1 {
                let actor = (first + step) % (self.workers.len() + 2);
                for _ in 0..=self.env.below(6) {
                    did_something |= match self.workers.get(actor) {
                        Some(worker) if busy.contains(&worker.pid) => false,
                        Some(worker)
                            if worker.is_executing() && may_be_busy && self.env.chance(30) =>
                        {
                            busy.insert(worker.pid)
                        }
                        Some(_) => self.step(actor),
                        None => self.supervisors[usize::from(actor > self.workers.len())]
                            .step(&mut self.env),
                    };
                }
                self.tick();
            }
            let is_stalled = self.supervisors.iter().any(Supervisor::is_stalled);
            if !did_something && is_stalled && !has_swept {
                self.sweep_supervisors();
                has_swept = true;
            } else if !did_something {
                return;
            }
            patience -= 1;
            assert!(patience > 0, "the group never comes to rest");
        }
    }

    fn check_wake_ups(&self) {
        let kernel = &self.env.kernel;
        for supervisor in &self.supervisors {
            let is_waiting = |it: &Worker| {
                let serves = it.mode == Mode::Serving && it.server == supervisor.server;
                serves && kernel.is_waiting(it.pid)
            };
            if self.workers.iter().any(is_waiting) {
                assert!(kernel.backlog.is_empty(), "a connection waits for accept4(2)");
                self.check_idle(supervisor);
            }
        }
    }

    fn check_idle(&self, supervisor: &Supervisor) {
        let table = self.env.tables[supervisor.server];
        for key in supervisor.holdings.keys() {
            let record = table.record(key.index).expect("a place of the table");
            let fd = *supervisor.holdings.get(key).expect("nothing is lent");
            let is_idle = record.place.read() == (key.generation, Life::Idle);
            let is_lost = is_idle && self.env.kernel.peek(supervisor.pid, fd) != Peek::Nothing;
            assert!(!is_lost, "{key:?} is idle, and nobody looks at what has arrived");
        }
    }

    fn check_at_rest(&self) {
        let Env { kernel, tables, clients, closed, .. } = &self.env;
        clients.check_at_rest(kernel, false);
        for socket in closed {
            assert!(
                kernel.sockets[*socket].has_ended(),
                "connection {socket} was closed and is open"
            );
        }
        for table in tables {
            let lives =
                (0..table.used_end()).filter_map(|index| Some(table.record(index)?.place.read().1));
            let used = lives.filter(|life| *life != Life::Free);
            let used =
                used.inspect(|life| assert_eq!(*life, Life::Idle, "nothing is claimed at rest"));
            assert_eq!(table.len() as usize, used.count());
        }
        let is_draining = |worker: &Worker| worker.mode != Mode::Serving;
        assert!(!self.workers.iter().any(is_draining), "a worker does not finish to drain");
    }

    fn sweep(&mut self) {
        for worker in &mut self.workers {
            worker.sweep();
        }
        self.sweep_supervisors();
    }

    fn sweep_supervisors(&mut self) {
        for supervisor in &mut self.supervisors {
            supervisor.sweep(&mut self.env);
        }
    }

    fn check_after_sweep(&self) {
        let Env { kernel, clients, .. } = &self.env;
        clients.check_at_rest(kernel, true);
        for supervisor in &self.supervisors {
            let held = supervisor.holdings.len();
            assert_eq!(held, self.env.tables[supervisor.server].len() as usize);
            let fds = kernel.descriptors(supervisor.pid).len();
            assert_eq!(fds, held, "{:?} has more", supervisor.pid);
        }
        assert!(self.upgrade == Upgrade::None || self.supervisors[0].holdings.is_empty());
        for worker in &self.workers {
            let held: Vec<_> = self.supervisors[worker.server].holdings.keys().collect();
            let keys: Vec<_> = worker.holdings.keys().collect();
            assert_eq!(keys, held, "{:?} holds other connections", worker.pid);
            let fds = kernel.descriptors(worker.pid);
            assert_eq!(fds.len(), keys.len() + worker.own.len(), "{:?} leaks", worker.pid);
            assert_eq!(kernel.items(worker.pid), fds, "{:?} watches others", worker.pid);
        }
        for (id, socket) in kernel.sockets.iter().enumerate() {
            let is_open = socket.references() > 0;
            assert_eq!(is_open, !socket.has_ended(), "connection {id} is not closed everywhere");
        }
    }

    /// The end of the whole server.
    fn stop(&mut self) {
        self.is_stopping = true;
        for client in 0..self.env.clients.len() {
            self.env.clients.allow_end(client);
        }
        self.env.kernel.close_listener();
        for _ in 0..self.workers.len() {
            self.disturb();
        }
        self.complete_requests();
        for server in 0..2 {
            while self.serving(server) > 0 {
                self.drain_any(server);
            }
        }
        self.rest(false);
        assert!(self.workers.is_empty(), "a worker does not end");
        self.env.now += self.env.idle_timeout + 1;
        self.sweep_supervisors();
        self.rest(false);
        self.sweep_supervisors();
        self.tick();
        for pid in [SUPERVISOR, SUCCESSOR] {
            assert!(self.env.kernel.descriptors(pid).is_empty());
        }
        assert!(self.env.kernel.sockets.iter().all(|socket| socket.references() == 0));
        for table in self.env.tables {
            let lives = (0..PLACES).filter_map(|index| table.record(index));
            assert!(lives.into_iter().all(|record| record.place.read().1 == Life::Free));
            assert!(table.is_empty());
        }
    }
}
