//! The pid file: there from the moment the server is ready until it ends.
//!
//! Before anything is started a file is written beside its place and removed again, so that a folder that cannot
//! be written stops the start and not the finished server. Once the server is ready, another one is written and
//! renamed into place at once, so that a reader never finds half a number.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Names that are tried; that one is taken is no accident.
const ATTEMPTS: usize = 16;
/// More than the number of a process has.
const MOST_BYTES: u64 = 64;

/// A pid file of this process; removed when dropped.
pub struct PidFile {
    path: PathBuf,
    state: State,
    text: String,
}

enum State {
    /// Not there yet.
    Prepared,
    /// In its place.
    Published,
    /// A successor's, as far as it is there.
    GivenAway,
}

impl PidFile {
    /// Finds out whether a file can be written beside `path`, and leaves none: a server that is killed while it
    /// boots would never remove it.
    pub fn prepare(path: &Path, pid: u32) -> io::Result<Self> {
        let prepared =
            Self { path: path.to_owned(), state: State::Prepared, text: format!("{pid}\n") };
        fs::remove_file(prepared.write_beside()?)?;
        Ok(prepared)
    }

    /// Writes a new file beside its place, whose name nobody can know before: in a folder that others can write to,
    /// a link of theirs would have it written into a file of ours.
    fn write_beside(&self) -> io::Result<PathBuf> {
        let name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        for _ in 0..ATTEMPTS {
            let mut beside = name.to_os_string();
            let pid = self.text.trim_end();
            beside.push(format!(".{pid}.{:016x}", RandomState::new().build_hasher().finish()));
            let beside = self.path.with_file_name(beside);
            let made = File::options().write(true).create_new(true).mode(0o644).open(&beside);
            match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(mut file) => {
                    return match file.write_all(self.text.as_bytes()) {
                        Ok(()) => Ok(beside),
                        Err(error) => {
                            let _ = fs::remove_file(beside); // The failure is that it cannot be written.
                            Err(error)
                        }
                    };
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The process that a file which is there already names, if it lives and is not this one: after a restart, the
    /// process of a container has the number that it had before.
    pub fn occupant(path: &Path, own: u32) -> Option<u32> {
        let named = read(path)?.trim().parse::<u32>().ok().filter(|pid| *pid != own)?;
        let pid = i32::try_from(named).ok().filter(|pid| *pid > 0)?;
        match kill(Pid::from_raw(pid), None) {
            Ok(()) | Err(Errno::EPERM) => Some(named),
            Err(_) => None, // ESRCH
        }
    }

    /// That of the process `pid`, which has given it away: removed when dropped, unless another one is
    /// in its place by then.
    pub fn take_over(path: &Path, pid: u32) -> Self {
        Self { path: path.to_owned(), state: State::Published, text: format!("{pid}\n") }
    }

    /// Leaves it where it is, to a successor.
    pub fn give_away(&mut self) {
        self.state = State::GivenAway;
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, over whatever an earlier server left there.
    pub fn publish(&mut self) -> io::Result<()> {
        match self.state {
            State::Prepared => {
                let beside = self.write_beside()?;
                if let Err(error) = fs::rename(&beside, &self.path) {
                    let _ = fs::remove_file(beside); // The failure is that it cannot be renamed.
                    return Err(error);
                }
                self.state = State::Published;
                Ok(())
            }
            State::Published | State::GivenAway => Ok(()),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = match &self.state {
            State::Prepared | State::GivenAway => None,
            // A successor may have put its own there.
            State::Published => match read(&self.path) {
                Some(text) if text == self.text => Some(&self.path),
                Some(_) | None => None,
            },
        };
        if let Some(path) = ours {
            let _ = fs::remove_file(path); // Gone already, or not ours to remove: nothing is lost.
        }
    }
}

/// What such a file says. Neither a link is followed, nor a FIFO waited at, nor a long file read.
fn read(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_only_once_published_and_gone_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 0, "who is killed now leaves nothing");
        file.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "71\n");
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_that_never_was_ready_leaves_the_file_of_another_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        fs::write(&path, "70\n").unwrap();
        drop(PidFile::prepare(&path, 71).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "70\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_successors_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        fs::write(&path, "72\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "72\n");
    }

    #[test]
    fn a_file_that_was_given_away_is_replaced_or_removed_by_who_took_it_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        for is_wanted in [true, false] {
            let mut file = PidFile::prepare(&path, 71).unwrap();
            file.publish().unwrap();
            file.give_away();
            drop(file);
            assert_eq!(fs::read_to_string(&path).unwrap(), "71\n");
            let mut next = is_wanted.then(|| PidFile::prepare(&path, 72).unwrap());
            if let Some(next) = &mut next {
                next.publish().unwrap();
            }
            drop(PidFile::take_over(&path, 71));
            assert_eq!(path.exists(), is_wanted);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_found_out_before_the_start() {
        assert!(PidFile::prepare(Path::new("/nonexistent/arctos.pid"), 71).is_err());
    }

    /// What a file is called before it is published used to be known in advance.
    #[test]
    fn a_link_that_somebody_has_planted_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let secret = folder.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        for name in ["arctos.pid", "arctos.pid.71"] {
            std::os::unix::fs::symlink(&secret, folder.path().join(name)).unwrap();
        }
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        drop(file);
        assert!(fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn whom_a_file_names_is_found_out_where_it_lives_and_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let own = std::process::id();
        assert_eq!(PidFile::occupant(&path, own), None);
        for (text, expected) in [
            (format!("{own}\n"), None),
            ("1\n".to_owned(), Some(1)),
            ("1".to_owned(), Some(1)),
            (format!("{}\n", i32::MAX), None),
            (format!("{}\n", u32::MAX), None),
            ("0\n".to_owned(), None),
            ("-1\n".to_owned(), None),
            ("old server\n".to_owned(), None),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(PidFile::occupant(&path, own), expected, "{text:?}");
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(PidFile::occupant(&path, 72), None);
        drop(file);
        assert!(path.exists());
    }
}
