//! The pid file: there from the moment the server is ready until it ends.
//!
//! It is prepared under another name before anything is started, so that a folder that cannot be
//! written stops the start and not the finished server; and renamed into place, so that a reader
//! never finds half a number.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A pid file of this process; removed when dropped.
pub struct PidFile {
    path: PathBuf,
    state: State,
    text: String,
}

enum State {
    /// Written beside its place.
    Prepared(PathBuf),
    /// In its place.
    Published,
    /// A successor's, as far as it is there.
    GivenAway,
}

impl PidFile {
    /// Writes `pid` to a file beside `path`.
    pub fn prepare(path: &Path, pid: u32) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
        name.push(format!(".{pid}"));
        let beside = path.with_file_name(name);
        let text = format!("{pid}\n");
        fs::File::create(&beside)?.write_all(text.as_bytes())?;
        Ok(Self { path: path.to_owned(), state: State::Prepared(beside), text })
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
        if let State::Prepared(beside) = &self.state {
            fs::rename(beside, &self.path)?;
            self.state = State::Published;
        }
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = match &self.state {
            State::Prepared(beside) => Some(beside),
            State::GivenAway => None,
            // A successor may have put its own there.
            State::Published => match fs::read_to_string(&self.path) {
                Ok(text) if text == self.text => Some(&self.path),
                Ok(_) | Err(_) => None,
            },
        };
        if let Some(path) = ours {
            let _ = fs::remove_file(path); // Gone already, or not ours to remove: nothing is lost.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_there_only_once_published_and_gone_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arctos.pid");
        let mut file = PidFile::prepare(&path, 71).unwrap();
        assert!(!path.exists());
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
}
