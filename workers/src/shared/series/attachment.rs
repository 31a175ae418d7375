//! The area in which this process counts.
//!
//! | process | area |
//! |---|---|
//! | a worker | that of its entry, from the fork on |
//! | a zygote | one of its own, for what the application counts while it is imported |
//! | a child of the application | that of its worker, as long as the worker has it |
//! | a child that sends what it counts | one of its own ([`count_alone`]) |
//! | an embedded server | that of its only entry, as long as it serves |
//! | any other | one that nobody reads ([`take_local`]), until a server of this process does |
//! | a child of any other | that of its parent, which alone reports it |
//!
//! A metric keeps the rows that it has found. It compares [`number`] first, which changes whenever the process gets
//! another area.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::DEFAULT_LIMIT;
use super::area::{Area, Capacity, SeriesMemory};

/// An area that this process has got.
#[derive(Clone, Copy)]
pub struct Attachment {
    /// The number of this attachment in this process; never 0.
    pub number: u32,
    /// The area.
    pub area: Area,
    /// The epoch of the area at that moment.
    pub epoch: u32,
}

/// What this process counts in. Nobody holds the lock during a fork: the thread that does holds the interpreter's.
struct Current {
    attachment: Option<Attachment>,
    /// The process that has created the memory of the attachment; `None` if a server has.
    creator: Option<u32>,
    /// Memory that nobody has taken.
    local: Option<Local>,
}

/// Memory that a process has created for itself.
struct Local {
    memory: SeriesMemory,
    creator: u32,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);
static CURRENT: Mutex<Current> =
    Mutex::new(Current { attachment: None, creator: None, local: None });

/// From now on, this process counts in `area`; with `None`, in one that nobody reads.
pub fn attach(area: Option<Area>) {
    let mut current = lock();
    current.creator = None;
    current.attach(area);
}

/// How often this process has got another area; 0 before the first time.
#[inline]
pub fn number() -> u32 {
    NUMBER.load(Ordering::Acquire)
}

/// The area of this process, which creates one if it has none; `None` if it cannot.
pub fn current() -> Option<Attachment> {
    let mut current = lock();
    if current.attachment.is_none() {
        current.create_local().ok()?;
    }
    current.attachment
}

/// From now on, this process counts in memory that it has created itself, unless a server has given it an area. A child
/// leaves that of its parent: several children that read it would each report what all of them have counted.
///
/// Errors: the kernel gives no address space.
pub fn count_alone() -> io::Result<()> {
    let mut current = lock();
    let is_own = current.creator.is_none_or(is_this_process);
    match current.attachment {
        Some(_) if is_own => Ok(()),
        Some(_) | None => current.create_local(),
    }
}

/// The memory in which this process has counted without a server, for the server that begins: it has one area, and the
/// process may go on to count there. `None` if there is none, it was taken already, or it belongs to the parent, as in
/// several servers that a program forks after it has counted: each of them would report the same counts.
pub fn take_local() -> Option<SeriesMemory> {
    lock().local.take().filter(|local| is_this_process(local.creator)).map(|local| local.memory)
}

fn is_this_process(pid: u32) -> bool {
    pid == std::process::id()
}

fn lock() -> MutexGuard<'static, Current> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Current {
    fn create_local(&mut self) -> io::Result<()> {
        let memory = SeriesMemory::create(1, Capacity::for_series(DEFAULT_LIMIT))?;
        let creator = std::process::id();
        self.local = Some(Local { memory, creator });
        self.creator = Some(creator);
        self.attach(memory.area(0));
        Ok(())
    }

    fn attach(&mut self, area: Option<Area>) {
        let number = NUMBER.load(Ordering::Relaxed) + 1;
        self.attachment = area.map(|area| Attachment { number, area, epoch: area.epoch() });
        NUMBER.store(number, Ordering::Release);
    }
}
