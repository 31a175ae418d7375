//! The loop of the helper process. It ends with its supervisor, which also kills it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use nix::unistd::{read, write};

use super::debounce::{Debounce, QUIET};
use super::inotify::{Change, Watches};
use super::relevance::Scope;
use super::scan::{DIRECTORIES, Scan, Targets};
use super::{Message, ReloadEngine, WatchPlan};

/// How often everything is read again when polling.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a directory that does not exist is looked for.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// File systems whose files change on another machine, of which inotify(7) learns nothing: 9P (WSL, virtual machines),
/// CIFS and SMB 2, which have no name in nix, and those of [`is_remote`].
const REMOTE: [FsType; 3] = [FsType(0x0102_1997), FsType(0xFF53_4D42), FsType(0xFE53_4D42)];

/// Watches until the supervisor has ended. `paths` is the pipe on which workers send the paths of what they imported,
/// each followed by a NUL ([`imported`]); `messages` is the pipe to the supervisor.
pub fn run(plan: &WatchPlan, paths: BorrowedFd<'_>, messages: BorrowedFd<'_>) {
    let _ = prctl::set_name(c"arctos: watcher"); // Cosmetic: a name in ps(1).
    let mut helper = Helper::start(plan, messages);
    while let Ok(()) = helper.turn(paths) {}
}

/// How changes are noticed at present.
enum Notifier {
    Inotify(Watches),
    Poll { next: Instant },
}

struct Helper<'a> {
    plan: &'a WatchPlan,
    messages: BorrowedFd<'a>,
    targets: Targets,
    notifier: Notifier,
    scan: Scan,
    debounce: Debounce,
    changed: BTreeSet<PathBuf>,
    /// Bytes of a path that has not arrived completely.
    partial: Vec<u8>,
    is_incomplete: bool,
}

impl<'a> Helper<'a> {
    fn start(plan: &'a WatchPlan, messages: BorrowedFd<'a>) -> Self {
        let mut targets = Targets::default();
        for path in &plan.extra {
            targets.add(path.clone(), Scope::Everything);
        }
        for path in &plan.sources {
            targets.add(path.clone(), Scope::Sources);
        }
        let mut helper = Self {
            plan,
            messages,
            targets,
            notifier: Notifier::Poll { next: Instant::now() + POLL_INTERVAL },
            scan: Scan::default(),
            debounce: Debounce::default(),
            changed: BTreeSet::new(),
            partial: Vec::new(),
            is_incomplete: false,
        };
        helper.choose_notifier();
        helper.look_again();
        let late = helper.scan.modified_since(plan.started_at).map(Path::to_owned).collect();
        helper.note(late);
        let engine = match helper.notifier {
            Notifier::Inotify(_) => "inotify",
            Notifier::Poll { .. } => "poll",
        };
        let directories = helper.scan.directories.len();
        helper.send(&Message::Watching { engine: engine.to_owned(), directories });
        helper
    }

    fn choose_notifier(&mut self) {
        let is_remote =
            self.plan.sources.iter().chain(&self.plan.extra).find(|path| is_remote(path));
        match (self.plan.engine, is_remote) {
            (ReloadEngine::Poll, _) => {}
            (ReloadEngine::Auto, Some(path)) => {
                let reason = format!("{} is on a network file system", path.display());
                self.send(&Message::Polling { reason });
            }
            (ReloadEngine::Auto, None) | (ReloadEngine::Inotify, _) => match Watches::new() {
                Ok(watches) => self.notifier = Notifier::Inotify(watches),
                Err(error) => self.poll_because(&error),
            },
        }
    }

    /// Goes on without inotify(7), or with what it watches by now.
    fn poll_because(&mut self, error: &io::Error) {
        let advice = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC) => "; raise fs.inotify.max_user_watches with sysctl(8)",
            Some(Errno::EMFILE) => "; raise fs.inotify.max_user_instances with sysctl(8)",
            Some(_) | None => "",
        };
        let reason = format!(
            "inotify: {}{advice}",
            Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc()
        );
        if self.plan.engine == ReloadEngine::Inotify
            && matches!(self.notifier, Notifier::Inotify(_))
        {
            return self.note_incomplete(reason);
        }
        self.notifier = Notifier::Poll { next: Instant::now() + POLL_INTERVAL };
        self.send(&Message::Polling { reason });
    }

    fn note_incomplete(&mut self, reason: String) {
        if !mem::replace(&mut self.is_incomplete, true) {
            self.send(&Message::Incomplete { reason });
        }
    }

    /// Waits for events and handles them.
    ///
    /// Errors: those of poll(2), and the end of the supervisor.
    fn turn(&mut self, paths: BorrowedFd<'_>) -> io::Result<()> {
        let timeout = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(paths, PollFlags::POLLIN)];
        if let Notifier::Inotify(watches) = &self.notifier {
            fds.push(PollFd::new(watches.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_paths = fds[0].any() == Some(true);
        drop(fds);
        self.notice();
        if has_paths {
            self.receive(paths)?;
        }
        if self.debounce.is_over(Instant::now()) {
            self.report();
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let missing = self.scan.is_missing_some.then(|| Instant::now() + MISSING_INTERVAL);
        let poll = match &self.notifier {
            Notifier::Inotify(_) => None,
            Notifier::Poll { next } => Some(*next),
        };
        [missing, poll, self.debounce.deadline()].into_iter().flatten().min()
    }

    /// Reads what has changed.
    fn notice(&mut self) {
        let now = Instant::now();
        let changes = match &mut self.notifier {
            Notifier::Poll { next } if *next > now => return,
            Notifier::Poll { .. } => vec![Change::Directories],
            Notifier::Inotify(watches) => watches.read(&self.scan.directories),
        };
        let mut is_structural = self.scan.is_missing_some;
        let mut changed = Vec::new();
        for change in changes {
            match change {
                Change::File(path) => changed.push(path),
                Change::Directories => is_structural = true,
            }
        }
        if is_structural {
            changed.extend(self.look_again());
        }
        self.note(changed);
        if let Notifier::Poll { next } = &mut self.notifier {
            // The end of a burst is looked for at shorter intervals.
            let is_idle = self.debounce == Debounce::Idle;
            *next = Instant::now() + if is_idle { POLL_INTERVAL } else { QUIET / 2 };
        }
    }

    /// Reads everything again, and returns what differs. Directories that were found are watched before they are read,
    /// so that nothing is missed in between.
    fn look_again(&mut self) -> Vec<PathBuf> {
        let mut failed = None;
        let notifier = &mut self.notifier;
        let scan = Scan::read(&self.targets, |directory| {
            if let Notifier::Inotify(watches) = notifier
                && let Err(error) = watches.add(directory)
            {
                failed.get_or_insert(error);
            }
        });
        if let Notifier::Inotify(watches) = &mut self.notifier {
            watches.retain(|directory| scan.directories.contains_key(directory));
        }
        let changes = self.scan.changes(&scan).map(Path::to_owned).collect();
        self.scan = scan;
        if let Some(error) = failed {
            self.poll_because(&error);
        }
        if self.scan.is_limited {
            let reason = format!(
                "there are more than {DIRECTORIES} directories; start arctos in the directory of the application"
            );
            self.note_incomplete(reason);
        }
        changes
    }

    /// Reads the paths that workers have sent, and watches those that are new.
    fn receive(&mut self, paths: BorrowedFd<'_>) -> io::Result<()> {
        let mut part = [0; 4096];
        loop {
            match read(paths, &mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()), // The supervisor has ended.
                Ok(count) => self.partial.extend_from_slice(&part[..count]),
                Err(Errno::EINTR) => {}
                Err(_) => break, // EAGAIN: there are no more.
            }
        }
        let mut since = None;
        while let Some(end) = self.partial.iter().position(|byte| *byte == 0) {
            let text: Vec<u8> = self.partial.drain(..=end).take(end).collect();
            let Some((time, path)) = imported(&text) else { continue };
            let is_known = self.scan.files.contains_key(&path)
                || self.scan.directories.get(&path).is_some_and(|it| it.is_tree());
            if !is_known && self.targets.add(path, Scope::Sources) {
                since = Some(since.map_or(time, |earlier: f64| earlier.min(time)));
            }
        }
        if let Some(since) = since {
            let before = mem::take(&mut self.scan);
            self.look_again();
            let (old, new) = (&before.files, &self.scan);
            let changed = before.changes(new).filter(|path| old.contains_key(*path));
            // Of the files that are new here, those that were modified after they were imported.
            let late = new.modified_since(since).filter(|path| !old.contains_key(*path));
            let changed: Vec<_> = changed.chain(late).map(Path::to_owned).collect();
            self.note(changed);
        }
        Ok(())
    }

    fn note(&mut self, changed: Vec<PathBuf>) {
        if !changed.is_empty() {
            self.changed.extend(changed);
            self.debounce.note(Instant::now());
        }
    }

    fn report(&mut self) {
        let changed = mem::take(&mut self.changed);
        let Some(path) = changed.first() else { return };
        let path = path.strip_prefix(&self.plan.directory).unwrap_or(path);
        self.send(&Message::Changed { count: changed.len(), path: path.display().to_string() });
    }

    /// Sends a message. The pipe is full only if the supervisor has many messages to read, and one of them is enough.
    fn send(&self, message: &Message) {
        let _ = write(self.messages, message.line().as_bytes());
    }
}

/// Reads what a worker has sent: the time, in seconds since 1970, before which it had not imported anything, a space, and
/// the absolute path of a module or package.
fn imported(text: &[u8]) -> Option<(f64, PathBuf)> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    let time = str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let path = PathBuf::from(OsString::from_vec(text[space + 1..].to_vec()));
    path.is_absolute().then_some((time, path))
}

/// Whether a directory or file may change on another machine.
fn is_remote(path: &Path) -> bool {
    let Ok(found) = statfs(path) else { return false };
    let kind = found.filesystem_type();
    [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&kind) || REMOTE.contains(&kind)
}
