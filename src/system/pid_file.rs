//! The pid file, which exists from the moment the server is ready until it exits.
//!
//! Before anything is started, a file is written beside its final path and removed again, so that a directory without
//! write permission stops the start and not a server that is ready. Once the server is ready, another file is written
//! and renamed to the final path, so that a reader never finds half a number.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// The number of file names that are tried. The names are random, so a name that exists was put there on purpose.
const ATTEMPTS: usize = 16;
/// More bytes than the number of a process has.
const MAX_BYTES: u64 = 64;

/// The pid file of this process. Dropping it removes the file.
pub struct PidFile {
    path: PathBuf,
    state: FileState,
    text: String,
}

enum FileState {
    /// The file does not exist yet.
    Prepared,
    /// The file is at its final path.
    Published,
    /// The file belongs to a successor.
    GivenAway,
}

impl PidFile {
    /// Checks that a file can be written beside `path`, and removes it: a server that is killed while it boots would
    /// never remove it.
    pub fn prepare(path: &Path, pid: u32) -> io::Result<Self> {
        let prepared =
            Self { path: path.to_owned(), state: FileState::Prepared, text: format!("{pid}\n") };
        fs::remove_file(prepared.write_beside()?)?;
        Ok(prepared)
    }

    /// Writes a new file beside the final path. Nobody can predict its name: in a directory that others can write to,
    /// they could otherwise plant a link, and the pid would overwrite the file that it points to.
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

    /// Returns the process that an existing pid file names, if it is alive and is not this one. After a restart, the
    /// process of a container has the same number as before.
    pub fn running_owner(path: &Path, own: u32) -> Option<u32> {
        let named = read(path)?.trim().parse::<u32>().ok().filter(|pid| *pid != own)?;
        let pid = i32::try_from(named).ok().filter(|pid| *pid > 0)?;
        match kill(Pid::from_raw(pid), None) {
            Ok(()) | Err(Errno::EPERM) => Some(named),
            Err(_) => None, // ESRCH
        }
    }

    /// Takes over the file of the process `pid`, which gave it away. Dropping it removes the file, unless another file
    /// is at its path by then.
    pub fn take_over(path: &Path, pid: u32) -> Self {
        Self { path: path.to_owned(), state: FileState::Published, text: format!("{pid}\n") }
    }

    /// Leaves the file to a successor.
    pub fn give_away(&mut self) {
        self.state = FileState::GivenAway;
    }

    /// The final path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file to its final path and replaces what an earlier server left there.
    pub fn publish(&mut self) -> io::Result<()> {
        match self.state {
            FileState::Prepared => {
                let beside = self.write_beside()?;
                if let Err(error) = fs::rename(&beside, &self.path) {
                    let _ = fs::remove_file(beside); // The failure is that it cannot be renamed.
                    return Err(error);
                }
                self.state = FileState::Published;
                Ok(())
            }
            FileState::Published | FileState::GivenAway => Ok(()),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = match &self.state {
            FileState::Prepared | FileState::GivenAway => None,
            // A successor may have written its own file there.
            FileState::Published => match read(&self.path) {
                Some(text) if text == self.text => Some(&self.path),
                Some(_) | None => None,
            },
        };
        if let Some(path) = ours {
            let _ = fs::remove_file(path); // It is gone already, or it may not be removed: nothing is lost.
        }
    }
}

/// Reads a pid file. It follows no link, waits for no writer of a FIFO, and reads no long file to its end.
fn read(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_exists_only_after_it_is_published_and_until_the_drop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(count, 0, "who is killed now leaves nothing");
        file.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "71\n");
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_that_never_was_ready_leaves_the_file_of_another_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        fs::write(&path, "70\n").unwrap();
        drop(PidFile::prepare(&path, 71).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "70\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_successors_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        fs::write(&path, "72\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "72\n");
    }

    #[test]
    fn a_file_that_was_given_away_is_replaced_or_removed_by_its_new_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
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
    fn a_missing_directory_is_found_before_the_start() {
        assert!(PidFile::prepare(Path::new("/nonexistent/arctos.pid"), 71).is_err());
    }

    /// The temporary name used to be predictable.
    #[test]
    fn a_planted_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        let secret = directory.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        for name in ["arctos.pid", "arctos.pid.71"] {
            std::os::unix::fs::symlink(&secret, directory.path().join(name)).unwrap();
        }
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root's");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        drop(file);
        assert!(fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn the_running_owner_is_a_living_process_other_than_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        let own = std::process::id();
        assert_eq!(PidFile::running_owner(&path, own), None);
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
            assert_eq!(PidFile::running_owner(&path, own), expected, "{text:?}");
        }
    }

    #[test]
    fn a_pipe_at_the_path_of_the_file_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        file.publish().unwrap();
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(PidFile::running_owner(&path, 72), None);
        drop(file);
        assert!(path.exists());
    }
}
