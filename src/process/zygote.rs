//! A zygote: a process that has loaded the application and forks workers on command, so that they share
//! the memory of it (`--preload`). There is one for each generation, because a generation is a load of the
//! code.
//!
//! This file is the supervisor's side: what has become of the process, what it was told and what it
//! said. Nothing here waits. The process's own life is in `process`, what the two write to each other in
//! `message`, what the supervisor learns of it in `news`.
//!
//! | state | event | next |
//! |---|---|---|
//! | Booting | it says that it is ready | Ready |
//! | Booting | it says that it cannot load the application | Gone |
//! | Booting | the boot timeout is over; it is asked where it is | Booting, for [`STACK_DUMP_TIME`] |
//! | Booting | that is over, too; [`Zygote::end`] | Gone, killed |
//! | Ready | an order is not answered within the boot timeout | Gone, killed |
//! | Ready | [`Zygote::end`]: the socket is shut in our direction | Ending |
//! | Ending | it does not leave in time | Gone, killed |
//! | Booting, Ready, Ending | its socket ends, or it is reaped | Gone |
//!
//! Each order is answered exactly once, by [`News::Started`] or [`News::SpawnFailed`], whatever happens to
//! the zygote. Orders wait here until it is ready, and then until the one before is answered: so no queue
//! of the kernel's can be full, and no more than one order's descriptors are under way.
//!
//! A worker is an orphan from its start, and so the supervisor's child: [`adopt_orphans`]. Its pid can be
//! read from the zygote's socket before it can be reaped, but maybe after the worker has said that it is
//! ready: whoever reaps a pid that is nobody's listens to the zygotes before they take it for a stranger's.
//!
//! A zygote has fewer rights than the supervisor, and runs code of the application's, which can write to its
//! socket. So a pid that it tells is believed only once the kernel says that it is a child of the supervisor's
//! ([`Admission`]) that was not there before the zygote ([`Elders`]), as the children are of a program that
//! called `serve()`; a moment may pass, because the process between the two has to end first. A zygote that says what cannot be is killed, and the next worker that is wanted brings another one.

mod message;
mod news;
mod orders;
mod preexisting;
mod process;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::settings::Settings;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::{Scoreboard, Side};
use arctos_worker::worker_init::Listener;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, shutdown,
    socketpair,
};
use nix::unistd;
use thiserror::Error;

use crate::process::fork::child_setup::ChildSetup;
use crate::process::fork::spawn::{ForkError, spawn_zygote};
use crate::process::fork::wait::await_end;
use crate::process::launch::Launch;
use crate::supervisor::STACK_DUMP_TIME;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
use message::{Brief, MESSAGE_BYTES, Word};
pub use news::{Delay, Lie, News, SpawnCause, ZygoteEnding};
use preexisting::Elders;

/// How long a worker may take to become the supervisor's child after its pid was told: that of one exit.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// Most messages that are read at a time, so that nobody who writes without end keeps us from all else.
const MESSAGES_AT_A_TIME: usize = 64;
/// Most descriptors of a packet (SCM_MAX_FD of the kernel).
const MOST_DESCRIPTORS: usize = 253;

/// From now on orphans below this process are its children, among them the workers of zygotes. To be called
/// once, before the first zygote is started; it holds also across execve(2).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// What a zygote hands on to each of its workers, beside the application.
#[derive(Clone, Copy)]
pub struct Inheritance<'a> {
    /// Their load of the code.
    pub generation: Generation,
    /// The server's name, for theirs in ps(1).
    pub name: &'a str,
    /// Their configuration.
    pub settings: &'a Settings,
    /// The log. A worker puts its name on its lines, and counts in its own row.
    pub log: &'a Log,
    /// Where they have their entries.
    pub scoreboard: &'a Scoreboard,
    /// Whose workers they are.
    pub supervisor: &'a Arc<SupervisorProcess>,
}

/// A worker that is wanted.
pub struct Order {
    /// Where.
    pub slot: SlotId,
    /// In which entry, which the caller has assigned to the zygote's generation.
    pub side: Side,
    /// The worker's end of its life socket, as in [`arctos_worker::worker_init::WorkerInit`].
    pub life: OwnedFd,
    /// Its end of the doorbell.
    pub doorbell: OwnedFd,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Its access log, if there is one.
    pub access_log: Option<OwnedFd>,
}

/// Why there is no zygote.
#[derive(Debug, Error)]
pub enum StartError {
    /// It cannot be spoken to.
    #[error("cannot make its socket: {0}")]
    Line(Errno),
    /// It was not forked.
    #[error(transparent)]
    Fork(#[from] ForkError),
}

/// Whether a pid that a zygote tells is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is a child of the supervisor's, and has no other place there.
    Child,
    /// It is none, and may yet become one.
    NotYet,
    /// It is somebody else.
    Stranger,
}

/// See the module.
pub struct Zygote {
    pid: Pid,
    generation: Generation,
    /// Who cannot be a worker of its.
    elders: Elders,
    /// Our end of its socket, non-blocking.
    line: OwnedFd,
    /// How long it may take, with whatever it does.
    patience: Duration,
    state: State,
    /// Orders that it does not know of yet.
    queue: VecDeque<Order>,
    /// The number of the last order that it was told.
    last_number: u32,
}

enum State {
    /// It loads the application.
    Booting { deadline: Instant, is_late: bool },
    /// It forks workers.
    Ready { underway: Option<Underway> },
    /// It has been told to leave, and may still answer what it was told before.
    Ending { underway: Option<Underway>, kill_at: Instant },
    /// Nothing will come from it any more; it may have to be reaped yet.
    Gone { ending: ZygoteEnding },
}

/// An order that it was told.
#[derive(Clone, Copy)]
struct Underway {
    number: u32,
    slot: SlotId,
    side: Side,
    deadline: Instant,
    told: Option<Told>,
}

/// It says that this process is the worker.
#[derive(Clone, Copy)]
struct Told {
    pid: Pid,
    look_at: Instant,
}

/// What is to be read from its socket.
enum Read {
    Word(Option<Word>),
    Nothing,
    End,
}

impl Underway {
    fn next_deadline(&self) -> Instant {
        self.told.map_or(self.deadline, |told| told.look_at.min(self.deadline))
    }
}

impl Zygote {
    /// Forks it: it loads the application at once. `patience` is how long that may take, and whatever it
    /// does later.
    ///
    /// Errors: [`StartError`]; then there is no process.
    pub fn start(
        launch: &dyn Launch,
        inheritance: &Inheritance<'_>,
        setup: &ChildSetup<'_>,
        patience: Duration,
        now: Instant,
    ) -> Result<Self, StartError> {
        let (line, its) = pair().map_err(StartError::Line)?;
        let ours = [line.as_fd()];
        let life = |prepared| process::live(launch, its, inheritance, prepared);
        let elders = Elders::of_caller();
        let pid = spawn_zygote(launch, setup, inheritance.log, &ours, life)?;
        Ok(Self {
            pid,
            elders: elders.and_before(pid),
            generation: inheritance.generation,
            line,
            patience,
            state: State::Booting { deadline: now + patience, is_late: false },
            queue: VecDeque::new(),
            last_number: 0,
        })
    }

    /// Its process, which the caller reaps, and then tells by [`Zygote::exited`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The load of the code that its workers have.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether orders are of use: it is, or will be, ready.
    pub fn takes_orders(&self) -> bool {
        match self.state {
            State::Booting { .. } | State::Ready { .. } => true,
            State::Ending { .. } | State::Gone { .. } => false,
        }
    }

    /// The descriptors that other children close: its socket, and those of orders that it was not told.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.line);
        for order in &self.queue {
            own.extend([&order.life, &order.doorbell].into_iter().chain(&order.access_log));
            own.extend(order.listeners.iter().map(|listener| &listener.socket));
        }
    }

    /// Whether it is gone without having said why, killed where its socket alone was.
    pub fn has_died(&self) -> bool {
        matches!(self.state, State::Gone { ending: ZygoteEnding::Died })
    }

    /// Readable when there is something to [`Zygote::listen`] to; `None` when nothing will come.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match self.state {
            State::Booting { .. } | State::Ready { .. } | State::Ending { .. } => {
                Some(self.line.as_fd())
            }
            State::Gone { .. } => None,
        }
    }

    /// When [`Zygote::judge`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Booting { deadline, .. } => Some(*deadline),
            State::Ready { underway } => underway.as_ref().map(Underway::next_deadline),
            State::Ending { underway, kill_at } => {
                let look = underway.as_ref().map(Underway::next_deadline);
                Some(look.map_or(*kill_at, |look| look.min(*kill_at)))
            }
            State::Gone { .. } => None,
        }
    }

    /// Orders a worker. What is returned is what came of it at once: nothing, as a rule.
    pub fn spawn(&mut self, order: Order, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        match self.state {
            State::Booting { .. } | State::Ready { underway: Some(_) } => {
                self.queue.push_back(order);
            }
            State::Ready { underway: None } => {
                self.queue.push_back(order);
                self.pass_on(now, &mut news);
            }
            State::Ending { .. } => news.push(failed(order, SpawnCause::Withdrawn)),
            State::Gone { ending } => news.push(failed(order, cause_of(ending))),
        }
        news
    }

    /// Takes in what it said. `admit` says whether a pid is to be believed.
    pub fn listen(&mut self, admit: &dyn Fn(Pid) -> Admission, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        self.look(admit, now, &mut news);
        if self.hear(admit, now, &mut news) {
            // Without its socket it is of no use; as a rule, it is about to be gone. Its pid is its own
            // until it is reaped.
            self.kill();
            self.lose(&mut news);
        }
        news
    }

    /// Whose time is up? Not to be called when we have been stopped ourselves.
    pub fn judge(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        let reason = match &mut self.state {
            State::Booting { deadline, is_late } if *deadline <= now && !*is_late => {
                (*deadline, *is_late) = (now + STACK_DUMP_TIME, true);
                // SIGUSR2 makes it write its Python stack to the log. Its pid is its own until it is
                // reaped; ESRCH: it waits for that.
                let _ = kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2);
                news.push(News::NotReady { limit: self.patience });
                return news;
            }
            State::Booting { deadline, .. } if *deadline <= now => Delay::Revision,
            State::Ready { underway: Some(order) } if order.deadline <= now => {
                if let Some(Told { pid, .. }) = order.told {
                    self.distrust(Lie::Stranger { pid }, &mut news);
                    return news;
                }
                Delay::Fork
            }
            State::Ending { kill_at, .. } if *kill_at <= now => Delay::Leave,
            State::Booting { .. }
            | State::Ready { .. }
            | State::Ending { .. }
            | State::Gone { .. } => return news,
        };
        self.kill();
        news.push(News::Killed { reason });
        self.give_up(SpawnCause::Late, ZygoteEnding::Told, &mut news);
        news
    }

    /// It is not needed any more. Orders that it does not know of are given up; one that it knows of is
    /// still answered. It may take so long to leave.
    pub fn end(&mut self, patience: Duration, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        match &mut self.state {
            // It would not hear us: killing it loses nothing.
            State::Booting { .. } => {
                self.kill();
                self.give_up(SpawnCause::Withdrawn, ZygoteEnding::Asked, &mut news);
            }
            State::Ready { underway } => {
                let underway = underway.take();
                self.state = State::Ending { underway, kill_at: now + patience };
                // ENOTCONN: it is gone already, as its socket will tell.
                let _ = shutdown(self.line.as_raw_fd(), Shutdown::Write);
                let orders = self.queue.drain(..);
                news.extend(orders.map(|order| failed(order, SpawnCause::Withdrawn)));
            }
            State::Ending { .. } | State::Gone { .. } => {}
        }
        news
    }

    /// It was reaped. The last news are among what is returned: [`News::Ended`] is the very last.
    pub fn exited(
        &mut self,
        status: ExitStatus,
        admit: &dyn Fn(Pid) -> Admission,
        now: Instant,
    ) -> Vec<News> {
        let mut news = Vec::new();
        // What it said before its end. A process that the application has forked off it may hold its
        // socket open: that is not its end, but there is nothing to wait for.
        self.look(admit, now, &mut news);
        self.hear(admit, now, &mut news);
        let ending = self.lose(&mut news);
        news.push(News::Ended { status, ending });
        news
    }

    /// Kills and reaps it.
    pub fn put_down(self) {
        self.kill();
        await_end(self.pid);
    }

    /// Whether the socket has ended.
    fn hear(
        &mut self,
        admit: &dyn Fn(Pid) -> Admission,
        now: Instant,
        news: &mut Vec<News>,
    ) -> bool {
        let mut buffer = vec![0; MESSAGE_BYTES];
        for _ in 0..MESSAGES_AT_A_TIME {
            if self.awaited().is_none() {
                return false;
            }
            match self.read(&mut buffer) {
                Read::Word(Some(word)) => self.heed(word, admit, now, news),
                Read::Word(None) => self.distrust(Lie::Nonsense, news),
                Read::End => return true,
                Read::Nothing => return false,
            }
        }
        false
    }

    fn read(&self, buffer: &mut [u8]) -> Read {
        loop {
            match socket::recv(self.line.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Read::End,
                Ok(length) => return Read::Word(Word::decode(&buffer[..length])),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Read::Nothing,
                Err(_) => return Read::End, // ECONNRESET: it died with an order unread.
            }
        }
    }

    fn heed(
        &mut self,
        word: Word,
        admit: &dyn Fn(Pid) -> Admission,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        let is_booting = matches!(self.state, State::Booting { .. });
        match word {
            Word::Ready { threads, sockets } if is_booting => {
                news.push(News::Ready { threads, sockets });
                self.state = State::Ready { underway: None };
                self.pass_on(now, news);
            }
            Word::Failed { exit, report } if is_booting => {
                news.push(News::Failed { exit, report });
                self.give_up(SpawnCause::NotLoaded(exit), ZygoteEnding::Told, news);
            }
            Word::Ready { .. } | Word::Failed { .. } => self.distrust(Lie::Belated, news),
            Word::Started { number, .. } | Word::NotStarted { number, .. }
                if is_booting || self.last_number.wrapping_sub(number) > u32::MAX / 2 =>
            {
                self.distrust(Lie::Unordered, news);
            }
            Word::Started { number, pid } => {
                if let Some(order) = self.underway(number)
                    && order.told.is_none()
                {
                    order.told = Some(Told { pid, look_at: now });
                    order.deadline = order.deadline.min(now + ARRIVAL);
                    self.look(admit, now, news);
                }
            }
            Word::NotStarted { number, error } => {
                // The process between may have been killed right after it had told: then there is one.
                self.look(admit, now, news);
                if let Some(Underway { slot, side, .. }) = self.answered(number) {
                    let cause = SpawnCause::Fork(error);
                    news.push(News::SpawnFailed { slot, side, cause });
                    self.pass_on(now, news);
                }
            }
        }
    }

    /// Looks whether the process that it has told of is the supervisor's child.
    fn look(&mut self, admit: &dyn Fn(Pid) -> Admission, now: Instant, news: &mut Vec<News>) {
        let order = match &mut self.state {
            State::Ready { underway } | State::Ending { underway, .. } => underway.as_mut(),
            State::Booting { .. } | State::Gone { .. } => None,
        };
        let Some(order) = order else { return };
        let Some(told) = &mut order.told else { return };
        let (pid, number) = (told.pid, order.number);
        let admission = if self.elders.contain(pid) { Admission::Stranger } else { admit(pid) };
        match admission {
            Admission::Child => {
                if let Some(Underway { slot, side, .. }) = self.answered(number) {
                    news.push(News::Started { slot, side, pid });
                    self.pass_on(now, news);
                }
            }
            Admission::NotYet => told.look_at = now + LOOK,
            Admission::Stranger => self.distrust(Lie::Stranger { pid }, news),
        }
    }

    /// It has said what cannot be.
    fn distrust(&mut self, lie: Lie, news: &mut Vec<News>) {
        self.kill();
        news.push(News::Distrusted { lie });
        self.give_up(SpawnCause::Distrusted, ZygoteEnding::Told, news);
    }

    /// Its socket has ended, or it has.
    fn lose(&mut self, news: &mut Vec<News>) -> ZygoteEnding {
        let ending = match self.state {
            State::Booting { .. } | State::Ready { .. } => ZygoteEnding::Died,
            State::Ending { .. } => ZygoteEnding::Asked,
            State::Gone { ending } => ending,
        };
        self.give_up(SpawnCause::Gone, ending, news);
        ending
    }

    /// Nothing is expected of it any more.
    fn give_up(&mut self, cause: SpawnCause, ending: ZygoteEnding, news: &mut Vec<News>) {
        let before = std::mem::replace(&mut self.state, State::Gone { ending });
        match before {
            State::Ready { underway: Some(Underway { slot, side, .. }) }
            | State::Ending { underway: Some(Underway { slot, side, .. }), .. } => {
                news.push(News::SpawnFailed { slot, side, cause });
            }
            State::Booting { .. }
            | State::Ready { underway: None }
            | State::Ending { underway: None, .. }
            | State::Gone { .. } => {}
        }
        news.extend(self.queue.drain(..).map(|order| failed(order, cause)));
    }

    /// SIGKILL. While it loads the application, to what that has started, too; later the workers may need
    /// those. Only before it is reaped: its pid is not another's yet.
    fn kill(&self) {
        let pid = unistd::Pid::from_raw(self.pid.0);
        let killed = match self.state {
            State::Booting { .. } => match killpg(pid, Signal::SIGKILL) {
                // Its group does not exist yet.
                Err(Errno::ESRCH) => kill(pid, Signal::SIGKILL),
                killed => killed,
            },
            State::Ready { .. } | State::Ending { .. } | State::Gone { .. } => {
                kill(pid, Signal::SIGKILL)
            }
        };
        let _ = killed; // It fails only for one that was reaped.
    }
}

fn failed(order: Order, cause: SpawnCause) -> News {
    News::SpawnFailed { slot: order.slot, side: order.side, cause }
}

fn cause_of(ending: ZygoteEnding) -> SpawnCause {
    match ending {
        ZygoteEnding::Asked => SpawnCause::Withdrawn,
        ZygoteEnding::Told | ZygoteEnding::Died => SpawnCause::Gone,
    }
}

/// Our end, non-blocking, and the zygote's.
fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (line, its) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&line, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((line, its))
}

#[cfg(test)]
mod tests;
