//! Waking up when something changes in a directory: inotify(7).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::scan::Interest;

/// The events that are awaited in a directory.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// The events after which a directory is not where it was.
const GONE: AddWatchFlags = AddWatchFlags::IN_IGNORED
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// What an event means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This file has changed, or may have.
    File(PathBuf),
    /// Directories have changed: everything must be read again.
    Directories,
}

/// The watches.
#[derive(Debug)]
pub struct Watches {
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
    descriptors: BTreeMap<PathBuf, WatchDescriptor>,
}

impl Watches {
    /// Begins without any watch.
    ///
    /// Errors: those of inotify_init1(2), such as EMFILE when the user has too many instances.
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, directories: HashMap::new(), descriptors: BTreeMap::new() })
    }

    /// The descriptor that is readable when there are events.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches a directory, unless it is watched already.
    ///
    /// Errors: ENOSPC when the user has too many watches, ENOMEM. A directory that has vanished, or that cannot be
    /// read, is no error.
    pub fn add(&mut self, directory: &Path) -> io::Result<()> {
        if self.descriptors.contains_key(directory) {
            return Ok(());
        }
        match self.inotify.add_watch(directory, EVENTS) {
            Ok(descriptor) => {
                // The same directory under its former path.
                if let Some(path) = self.directories.insert(descriptor, directory.to_owned()) {
                    self.descriptors.remove(&path);
                }
                self.descriptors.insert(directory.to_owned(), descriptor);
                Ok(())
            }
            Err(error @ (Errno::ENOSPC | Errno::ENOMEM)) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    /// Ends the watches of directories for which `is_wanted` is false.
    pub fn retain(&mut self, is_wanted: impl Fn(&Path) -> bool) {
        let unwanted: Vec<_> =
            self.descriptors.keys().filter(|path| !is_wanted(path)).cloned().collect();
        unwanted.iter().for_each(|path| self.remove(path));
    }

    /// Reads the events that have arrived. `interests` are those of the directories.
    pub fn read(&mut self, interests: &BTreeMap<PathBuf, Interest>) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    changes
                        .extend(events.iter().filter_map(|event| self.interpret(event, interests)));
                }
                Err(Errno::EINTR) => {}
                Err(_) => return changes, // EAGAIN: there are no more.
            }
        }
    }

    fn interpret(
        &mut self,
        event: &InotifyEvent,
        interests: &BTreeMap<PathBuf, Interest>,
    ) -> Option<Change> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Some(Change::Directories);
        }
        let directory = self.directories.get(&event.wd)?.clone();
        if event.mask.intersects(GONE) {
            self.remove(&directory);
            return Some(Change::Directories);
        }
        let name = event.name.as_ref()?;
        let (path, interest) = (directory.join(name), interests.get(&directory)?);
        if !event.mask.contains(AddWatchFlags::IN_ISDIR) {
            if interest.includes(name) {
                return Some(Change::File(path));
            }
            // A link that leads, or led, to a directory.
            let leads = interest.includes_directory(name) && path.is_dir();
            let led = self.descriptors.contains_key(&path);
            return (leads || led).then_some(Change::Directories);
        }
        if event.mask.contains(AddWatchFlags::IN_ATTRIB) || !interest.includes_directory(name) {
            return None;
        }
        if event.mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            // The watches of what is below stay with the directory, wherever it is now.
            self.retain(|watched| !watched.starts_with(&path));
        }
        Some(Change::Directories)
    }

    fn remove(&mut self, directory: &Path) {
        if let Some(descriptor) = self.descriptors.remove(directory) {
            self.directories.remove(&descriptor);
            let _ = self.inotify.rm_watch(descriptor); // EINVAL: it has ended with its directory.
        }
    }
}
