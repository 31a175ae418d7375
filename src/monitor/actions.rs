//! Carries out what the machine wants.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::{Command, Side, WorkerEntry};
use arctos_worker::worker_init::{Listener, WorkerInit};
use nix::errno::Errno;
use thiserror::Error;

use super::Monitor;
use crate::listener::Listeners;
use crate::monitor::children::{Child, ControlSocket};
use crate::process::fork::{self, ChildSetup, ForkError};
use crate::process::on_start::OnStartError;
use crate::process::title::worker_title;
use crate::process::zygote::ZygoteStartError;
use crate::supervisor::{Action, Event, Verdict};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// What it means that the door could not be closed.
const DOOR_OPEN: &str = "this kernel cannot ignore new TCP connections at a stop; those that come in its \
                         last moments may be accepted and reset instead of being refused";

/// What a worker is given, and the supervisor's ends of it.
pub(super) struct Equipment {
    pub(super) lines: ControlSocket,
    pub(super) life: OwnedFd,
    pub(super) doorbell: OwnedFd,
    pub(super) listeners: Vec<Listener>,
    pub(super) access_log: Option<OwnedFd>,
}

impl Equipment {
    /// The descriptors of the worker's, which a zygote that is forked meanwhile is not to keep.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend([&self.life, &self.doorbell].into_iter().chain(&self.access_log));
        own.extend(self.listeners.iter().map(|listener| &listener.socket));
    }
}

/// Why a worker could not be spawned.
#[derive(Debug, Error)]
pub(super) enum SpawnError {
    #[error("cannot make its life socket or doorbell: {0}")]
    ControlSocket(io::Error),
    #[error("cannot duplicate its listeners: {0}")]
    Listeners(io::Error),
    #[error("cannot duplicate the access log: {0}")]
    AccessLog(io::Error),
    #[error("its generation has been given up")]
    Generation,
    #[error("there is no entry for it on the scoreboard")]
    Scoreboard,
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error("cannot begin --on-start: {0}")]
    OnStart(#[from] OnStartError),
    #[error("cannot become the parent of orphans: {0}")]
    Orphans(io::Error),
    #[error("cannot start its zygote: {0}")]
    Zygote(#[from] ZygoteStartError),
}

impl Monitor<'_> {
    /// Does what the machine wants, to the last action; the verdict when it is the end.
    pub(super) fn carry_out(&mut self) -> Option<Verdict> {
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Spawn { slot, side, generation } => {
                    match self.hold(slot, side, generation) {
                        Ok(true) => {}
                        Ok(false) => self.spawn_or_refuse(slot, side, generation),
                        Err(error) => self.not_spawned(slot, side, generation, &error.into()),
                    }
                }
                Action::Command { pid, command } => self.command(pid, command),
                Action::Kill { pid } => self.kill(pid),
                Action::DumpStack { pid } => self.dump_stack(pid),
                Action::Configure { generation } => self.configure(generation),
                Action::Adopt { generation } => self.adopt(generation),
                Action::Discard { generation } => {
                    self.generations.discard(generation);
                    self.end_opening(Some(generation));
                    self.end_zygotes(|of| of == generation);
                }
                Action::ReloadEnded { outcome } => self.report_reload(outcome),
                Action::ReportReady => self.report_ready(),
                Action::ReportStopping { deadline } => self.report_stopping(deadline),
                // During an upgrade, the queues are another server's, too: it takes what is in them.
                Action::CloseDoor if self.scoreboard.header().shares_listeners() => {}
                Action::CloseDoor => {
                    let closed = self.listeners.as_ref().map_or(Ok(()), Listeners::close_door);
                    if let Err(error) = closed {
                        let pairs =
                            [("error", Value::Display(&error)), ("effect", Value::Text(DOOR_OPEN))];
                        self.log.line(Level::Debug, "listener.door_open", &pairs);
                    }
                }
                Action::Retire { slot } => {
                    if let Some(listeners) = &self.listeners {
                        listeners.retire(slot);
                    }
                }
                Action::DropListeners => self.listeners = None,
                Action::Log(notice) => self.tell(&notice),
                Action::Finish(verdict) => return Some(verdict),
            }
        }
        None
    }

    /// Spawns a worker, and answers the machine.
    pub(super) fn spawn_or_refuse(&mut self, slot: SlotId, side: Side, generation: Generation) {
        if let Err(error) = self.spawn(slot, side, generation) {
            self.not_spawned(slot, side, generation, &error);
        }
    }

    fn not_spawned(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
        error: &SpawnError,
    ) {
        let pairs = [
            ("slot", Value::Number(i64::from(slot.0))),
            ("generation", Value::Number(i64::from(generation.0))),
            ("reason", Value::Display(error)),
        ];
        self.log.line(Level::Error, "worker.spawn_failed", &pairs);
        let who = format!("worker {}", slot.0);
        self.blame(&who, format!("{who} could not be started: {error}"));
        self.refuse(slot, side);
    }

    /// There will be no worker for this spawn.
    pub(super) fn refuse(&mut self, slot: SlotId, side: Side) {
        let verdict = Verdict::NotBooted;
        self.supervisor.handle(Event::SpawnFailed { slot, side, verdict }, Instant::now());
    }

    /// Forks a worker, or orders it from a zygote. On success the machine is, or will be, told.
    fn spawn(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
    ) -> Result<(), SpawnError> {
        let entry = self.scoreboard.entry(slot, side).ok_or(SpawnError::Scoreboard)?;
        let loaded = self.generations.of(generation).ok_or(SpawnError::Generation)?;
        let equipment = self.equip(slot, entry)?;
        entry.assign(generation);
        if loaded.load.config.preload {
            return self.order(slot, side, generation, &loaded, equipment);
        }
        let Equipment { lines, life, doorbell, listeners, access_log } = equipment;
        let init = WorkerInit {
            slot,
            generation,
            entry,
            header: self.scoreboard.header(),
            control_fd: life,
            supervisor: Arc::clone(&self.process),
            doorbell,
            listeners,
            settings: loaded.load.config.worker.clone(),
            log: self.log.clone(),
            access_log,
            ticker: None,
        };
        let setup = ChildSetup {
            signals: &self.signals,
            identity: &loaded.identity,
            title: worker_title(loaded.load.config.process_name(), slot),
            own: self.own_descriptors_beside(&lines),
        };
        let pid = fork::spawn(&*loaded.load.launch, init, &setup)?;
        let now = Instant::now();
        self.children.push(Child::new(pid, slot, lines, now));
        self.supervisor.handle(Event::Started { slot, side, pid }, now);
        Ok(())
    }

    fn equip(&self, slot: SlotId, entry: &'static WorkerEntry) -> Result<Equipment, SpawnError> {
        let (lines, life, doorbell) =
            ControlSocket::open(entry).map_err(SpawnError::ControlSocket)?;
        let listeners = match &self.listeners {
            Some(listeners) => listeners.for_slot(slot).map_err(SpawnError::Listeners)?,
            None => Vec::new(),
        };
        let access_log = self.access_log.as_ref().map(OwnedFd::try_clone).transpose();
        let access_log = access_log.map_err(SpawnError::AccessLog)?;
        Ok(Equipment { lines, life, doorbell, listeners, access_log })
    }

    fn command(&self, pid: Pid, command: Command) {
        let Some(member) = self.children.iter().find(|member| member.pid == pid) else { return };
        if let Err(error) = member.command(command) {
            self.complain("worker.command_failed", member, error);
        }
    }

    fn kill(&mut self, pid: Pid) {
        self.tell_last_stacks(pid, Instant::now());
        let Some(member) = self.children.iter().find(|member| member.pid == pid) else { return };
        match member.kill() {
            Ok(()) | Err(Errno::ESRCH) => {} // ESRCH: not with a pid that was not reaped.
            Err(error) => self.complain("worker.kill_failed", member, error),
        }
    }

    pub(super) fn complain(&self, event: &str, member: &Child, error: Errno) {
        let pairs = [
            ("slot", Value::Number(i64::from(member.slot.0))),
            ("pid", Value::Number(i64::from(member.pid.0))),
            ("generation", Value::Number(i64::from(member.entry.generation().0))),
            ("reason", Value::Display(&error)),
        ];
        self.log.line(Level::Error, event, &pairs);
    }
}
