//! The zygote itself: loads the application, and forks a worker for each order that it hears.
//!
//! It serves nothing and runs no code of the application's once that is loaded, but for its hooks and what
//! the interpreter calls around a fork. It ends, without running exit handlers, when its socket does.
//!
//! What the application has opened stays open in each worker, because it may need it. The zygote's own
//! descriptors do not: its socket is closed in a worker, and the worker's in the zygote.

use std::fs;
use std::io::IoSliceMut;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::vec::IntoIter;

use arctos_worker::process::fork_guard;
use arctos_worker::shared::fd;
use arctos_worker::worker_init::{
    BootFailure, Listener, WorkerExit, WorkerInit, receive_stacks_pipe,
};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{
    self, ControlMessageOwned, MsgFlags, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};

use super::message::{Brief, MESSAGE_BYTES, Word};
use super::{Inheritance, MOST_DESCRIPTORS};
use crate::process::fork::child_setup::{BerthError, guarded};
use crate::process::fork::double::{Branch, fork_twice};
use crate::process::launch::{Launch, Preloaded};
use crate::process::threads::further_thread_names;
use crate::process::title::title;

/// Lives, in the child, to the end; the exit code. In a worker that was forked on the way it is the
/// worker's.
pub(super) fn live(
    launch: &dyn Launch,
    line: OwnedFd,
    inheritance: &Inheritance<'_>,
    prepared: Result<(), BerthError>,
) -> i32 {
    // Closed by the kernel, when all is over: the end of the line is the end of this process.
    let line = ManuallyDrop::new(line);
    // What the application starts by fork(2) alone has nothing of ours: neither when it is loaded, nor by its
    // hooks before a worker is forked.
    let _guarded = fork_guard::begin();
    fork_guard::guard(line.as_fd());
    inheritance.supervisor.as_fd().map(fork_guard::guard);
    let mut own = vec![0, 1, 2, line.as_raw_fd()];
    own.extend(inheritance.log.as_fd().iter().map(AsRawFd::as_raw_fd));
    let loaded = match prepared {
        Ok(()) => launch.preload(inheritance.generation, inheritance.log),
        Err(error) => Err(BootFailure::not_booted(format!("{error}\n"))),
    };
    let preloaded = match loaded {
        Ok(preloaded) => preloaded,
        Err(BootFailure { exit, report }) => {
            say(&line, &Word::Failed { exit, report });
            return exit.code();
        }
    };
    // Without /proc there is nothing to warn of.
    let threads = further_thread_names().unwrap_or_default();
    say(&line, &Word::Ready { threads, sockets: sockets_beside(&own) });
    attend(launch, &*preloaded, line, inheritance)
}

/// Forks a worker for each order.
fn attend(
    launch: &dyn Launch,
    preloaded: &dyn Preloaded,
    line: ManuallyDrop<OwnedFd>,
    inheritance: &Inheritance<'_>,
) -> i32 {
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let (brief, descriptors) = match hear(&line, &mut buffer) {
            Heard::Order(brief, descriptors) => (brief, descriptors),
            Heard::Cut(brief) => {
                // Some of its descriptors came, and nobody knows their numbers: they would stay open
                // in all workers to come.
                let number = brief.number;
                say(&line, &Word::NotStarted { number, error: Errno::EMFILE });
                return WorkerExit::NotBooted.code();
            }
            Heard::Nonsense => return WorkerExit::Internal.code(),
            Heard::End => return WorkerExit::Done.code(),
        };
        let number = brief.number;
        let tell = |forked: Result<_, Errno>| {
            let word = match forked {
                Ok(pid) => Word::Started { number, pid },
                Err(error) => Word::NotStarted { number, error },
            };
            say(&line, &word);
        };
        descriptors.as_slice().iter().for_each(|own| fork_guard::guard(own.as_fd()));
        preloaded.before_fork(brief.slot);
        match fork_twice(launch, tell) {
            Branch::Zygote => {
                descriptors.as_slice().iter().for_each(|own| fork_guard::forget(own.as_fd()));
            }
            Branch::Worker => {
                fork_guard::forget(line.as_fd());
                drop(ManuallyDrop::into_inner(line));
                return work(preloaded, brief, descriptors, inheritance);
            }
        }
    }
}

/// The worker's life.
fn work(
    preloaded: &dyn Preloaded,
    brief: Brief,
    mut descriptors: IntoIter<OwnedFd>,
    inheritance: &Inheritance<'_>,
) -> i32 {
    let Inheritance { generation, name, settings, log, scoreboard, supervisor } = *inheritance;
    let slot = brief.slot;
    // Neither lacks: the supervisor has looked for the entry, and `hear` has counted.
    let Some(entry) = scoreboard.entry(slot, brief.side) else {
        return WorkerExit::Internal.code();
    };
    let mut next = || descriptors.next();
    let (Some(life), Some(doorbell)) = (next(), next()) else {
        return WorkerExit::Internal.code();
    };
    let stacks = receive_stacks_pipe(life.as_fd());
    // The supervisor may have given the order up meanwhile: the entry is another's then.
    if is_at_end(&life) {
        return WorkerExit::Done.code();
    }
    let access_log = if brief.has_access_log { next() } else { None };
    let listeners = brief.listeners.into_iter().zip(descriptors);
    let listeners = listeners.map(|((name, owner), socket)| Listener { socket, name, owner });
    let log = log.with_identity(slot, std::process::id(), generation).with_row(&entry.counters);
    let log = log.with_stacks_pipe(stacks);
    let init = WorkerInit {
        slot,
        generation,
        entry,
        header: scoreboard.header(),
        control_fd: life,
        supervisor: Arc::clone(supervisor),
        doorbell,
        listeners: listeners.collect(),
        settings: settings.clone(),
        log: log.clone(),
        access_log,
        ticker: None,
    };
    let _ = prctl::set_name(&title(name, slot)); // A name in ps(1), and no more.
    guarded(&log, "worker.panic", || preloaded.work(init).code())
}

/// What came from the supervisor.
enum Heard {
    /// An order, with all its descriptors.
    Order(Brief, IntoIter<OwnedFd>),
    /// An order, with fewer descriptors than there should be: this process can have no more.
    Cut(Brief),
    /// Nothing of ours.
    Nonsense,
    /// The supervisor is gone, or needs no zygote any more.
    End,
}

fn hear(line: &OwnedFd, buffer: &mut [u8]) -> Heard {
    let mut space = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let (length, numbers) = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match socket::recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => break (message.bytes, numbers_in(message.cmsgs())),
            Err(Errno::EINTR) => {}
            Err(_) => return Heard::End, // ECONNRESET: it was gone before all was read.
        }
    };
    if length == 0 {
        return Heard::End;
    }
    let Some(brief) = Brief::decode(&buffer[..length]) else { return Heard::Nonsense };
    let descriptors: Vec<_> = numbers.into_iter().flat_map(fd::adopt).collect();
    match descriptors.len() == brief.descriptor_count() {
        true => Heard::Order(brief, descriptors.into_iter()),
        false => Heard::Cut(brief),
    }
}

/// The descriptors of a message; none when not all of them came (MSG_CTRUNC).
fn numbers_in(messages: nix::Result<socket::CmsgIterator<'_>>) -> Vec<RawFd> {
    let mut all = Vec::new();
    for message in messages.into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            all.extend(numbers);
        }
    }
    all
}

fn say(line: &OwnedFd, word: &Word) {
    let packet = word.encode();
    // EPIPE: the supervisor is gone, as the next look at the line will tell.
    while socket::send(line.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL) == Err(Errno::EINTR) {}
}

/// Whether the other end is closed.
fn is_at_end(socket: &OwnedFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(socket.as_raw_fd(), &mut [0], flags) == Ok(0)
}

/// The sockets that are open beside these: which listen, and which are connected, to what.
fn sockets_beside(own: &[RawFd]) -> Vec<String> {
    // Without /proc there is nothing to warn of.
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    open.filter(|number| !own.contains(number)).filter_map(describe).collect()
}

/// `None` for what is neither: then there is no peer that would hear several of us.
fn describe(number: RawFd) -> Option<String> {
    if let Ok(peer) = getpeername::<SockaddrStorage>(number) {
        return Some(format!("connected to {peer}"));
    }
    let name = getsockname::<SockaddrStorage>(number).ok()?;
    let socket = fd::duplicate(number).ok()?;
    let listens = getsockopt(&socket, sockopt::AcceptConn).ok()?;
    listens.then(|| format!("listening at {name}"))
}
