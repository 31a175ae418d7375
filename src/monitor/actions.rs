//! Carries out the actions of the state machine.

use std::os::fd::AsFd;
use std::time::Instant;

use arctos_worker::shared::log::{Level, Value};

use super::{Monitor, access_log};
use crate::listener::Listeners;
use crate::supervisor::{Action, ServiceState, Verdict};
use crate::system::pid::Pid;

/// The consequence for clients when the listeners cannot be closed for new connections.
const QUEUES_OPEN: &str = "this kernel cannot ignore new TCP connections at a stop; those that come in its \
                         last moments may be accepted and reset instead of being refused";

impl Monitor<'_> {
    /// Carries out all actions. Returns the verdict when the server is finished.
    pub(super) fn carry_out(&mut self) -> Option<Verdict> {
        let is_paused = self.supervisor.service_state() == ServiceState::Paused;
        self.server.scoreboard.header().set_paused(is_paused);
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Spawn { slot, side, generation } => self.spawn(slot, side, generation),
                Action::RunOnStart { generation } => self.run_on_start(generation),
                Action::StopOnStart => self.sources.on_start.stop(),
                Action::StartZygote { generation } => self.start_zygote(generation),
                Action::EndZygote { pid } => self.end_zygote(pid),
                Action::Command { pid, command } => self.sources.workers.command(pid, command),
                Action::Kill { pid } => self.sources.workers.kill(pid),
                Action::DumpStack { pid } => {
                    self.sources.workers.dump_stack(pid);
                    self.sources.on_start.dump_stack(pid);
                }
                Action::Configure { generation } => self.configure(generation),
                Action::Adopt { generation } => {
                    self.server.generations.adopt(generation);
                    self.server.scoreboard.header().set_generation(generation);
                }
                Action::Discard { generation } => self.server.generations.discard(generation),
                Action::ReloadEnded { outcome } => self.end_reload(outcome),
                Action::ReportReady => self.report_ready(),
                Action::ReportStopping { deadline } => self.report_stopping(deadline),
                Action::CloseQueues => self.close_queues(),
                Action::Retire { slot } => {
                    if let Some(listeners) = &self.server.listeners {
                        listeners.retire(slot);
                    }
                }
                Action::DropListeners => self.server.listeners = None,
                Action::Log(event) => self.log(&event),
                Action::Finish(verdict) => return Some(verdict),
            }
        }
        None
    }

    fn end_zygote(&mut self, pid: Pid) {
        let patience = self.server.generations.current().config.patience.quick;
        let mut reports = Vec::new();
        self.sources.zygotes.end(pid, patience, &mut reports);
        self.handle_reports(reports, Instant::now());
    }

    fn close_queues(&self) {
        // During an upgrade, another server shares the queues and accepts what is in them.
        if self.server.scoreboard.header().shares_listeners() {
            return;
        }
        let closed = self.server.listeners.as_ref().map_or(Ok(()), Listeners::close_queues);
        if let Err(error) = closed {
            let pairs = [("error", Value::Display(&error)), ("effect", Value::Text(QUEUES_OPEN))];
            self.server.log.line(Level::Debug, "listener.not_closed", &pairs);
        }
    }

    /// On USR1, after log rotation has renamed the file: reopens the access log, and sends it to the workers.
    pub(super) fn reopen_access_log(&mut self) {
        let revision = self.server.generations.current();
        let access = &revision.config.logging.access;
        if access_log::is_permanent(access) {
            return;
        }
        match access_log::open(access) {
            Ok(file) => self.server.access_log = file,
            Err(error) => {
                let pairs = [("reason", Value::Text(&error.chain()))];
                return self.server.log.line(Level::Error, "access_log.not_reopened", &pairs);
            }
        }
        if let Some(file) = &self.server.access_log {
            self.sources.workers.give_access_log(file.as_fd());
        }
        self.server.log.line(Level::Info, "access_log.reopened", &[]);
    }
}
