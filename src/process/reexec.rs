//! How a successor program is started, and what it is given: the other half of an upgrade.
//!
//! It is started like this process was: the same command line, in the same folder, whatever is found
//! there by now. One environment variable tells it what is its; the sockets themselves it has inherited by
//! number. From then on the two speak over a socket pair, one byte a time:
//!
//! | who | byte | with | meaning |
//! |---|---|---|---|
//! | successor | [`READY`] | | it can serve |
//! | server before | [`COUNTED`] | carried | what it has counted by now |
//! | successor, as long as it has nothing | [`COUNTED`] | carried | the same |
//! | either, at its end | [`UNSENT`] | carried | of that, what no agent was told |
//! | server before | [`YOURS`] | carried | everything is the successor's |
//! | server before | [`DYING`] | text | the requests that its workers die of |
//!
//! The end of the stream is the end of the other process. A successor whose predecessor is gone has
//! everything, too.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use arctos_worker::shared::fd;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};
use thiserror::Error;

use crate::listener::{InheritedSocket, InheritedSockets};
use crate::metrics::CarriedTotals;
use crate::system::environment::Environment;
use crate::system::pid::Pid;

/// The variable.
pub const VARIABLE: &str = "ARCTOS_UPGRADE";
/// From the successor: it can serve.
pub const READY: u8 = b'R';
/// What was counted by now: by the successor alone, or by the server before it and those before that.
pub const COUNTED: u8 = b'C';
/// Of what was counted, what could not be sent to an agent.
pub const UNSENT: u8 = b'U';
/// To the successor: what the workers of the server before die of ([`crate::supervisor::restart_storm::crash_baseline`]).
pub const DYING: u8 = b'D';
/// To the successor: it has everything.
pub const YOURS: u8 = b'Y';

/// Of the notation of the variable.
const VERSION: u64 = 1;
/// Variables of service managers that name the process they speak to.
const ADDRESSED: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];
/// The longest carried that are read: a thousand slots have 8 MB.
const BOOKS_BYTES: u64 = 64 << 20;

/// What a successor is given at its start.
pub struct Handover {
    /// From whom.
    pub predecessor: Pid,
    /// The socket to it.
    pub line: UnixStream,
    /// Where it has its pid file.
    pub pid_file: Option<PathBuf>,
    /// Where it serves.
    pub listeners: InheritedSockets,
    /// Where it answers operators.
    pub admin: InheritedSockets,
}

/// The variable makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BequestError {
    /// Not of this notation.
    #[error("{VARIABLE} is not from a server that this version can replace")]
    Notation,
    /// A descriptor that it names.
    #[error("{VARIABLE} names a descriptor that is not there, or nothing of the kind")]
    Descriptor,
}

impl Handover {
    /// Takes over what the variable names.
    ///
    /// Errors: [`BequestError`].
    pub fn read(text: &OsStr) -> Result<Self, BequestError> {
        let table = parse(text).ok_or(BequestError::Notation)?;
        let predecessor = predecessor(&table).ok_or(BequestError::Notation)?;
        let line = table["line"].as_i64().and_then(|number| i32::try_from(number).ok());
        let line = line.filter(|number| *number > 2).ok_or(BequestError::Notation)?;
        let line = UnixStream::from(fd::adopt(line).map_err(|_| BequestError::Descriptor)?);
        line.set_nonblocking(true).map_err(|_| BequestError::Descriptor)?;
        Ok(Self {
            predecessor,
            line,
            pid_file: table["pid_file"].as_str().map(PathBuf::from),
            listeners: inherited_sockets(&table["listeners"])?,
            admin: inherited_sockets(&table["admin"])?,
        })
    }
}

fn parse(text: &OsStr) -> Option<Value> {
    let table: Value = serde_json::from_str(text.to_str()?).ok()?;
    (table["version"].as_u64() == Some(VERSION)).then_some(table)
}

fn predecessor(table: &Value) -> Option<Pid> {
    table["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).map(Pid)
}

fn inherited_sockets(described: &Value) -> Result<InheritedSockets, BequestError> {
    let all = described.as_array().ok_or(BequestError::Notation)?;
    let all = all.iter().map(InheritedSocket::take_over).collect::<Option<Vec<_>>>();
    all.map(InheritedSockets::from).ok_or(BequestError::Descriptor)
}

/// Variables that speak to the server before, as they speak to this process.
pub fn readdressed(environment: &Environment) -> Vec<(&'static str, String)> {
    let table = environment.value(VARIABLE).and_then(parse);
    let Some(before) = table.as_ref().and_then(predecessor) else { return Vec::new() };
    let own = std::process::id().to_string();
    let is_meant = |name: &&str| environment.text(name) == Some(&*before.0.to_string());
    ADDRESSED.into_iter().filter(is_meant).map(|name| (name, own.clone())).collect()
}

/// What is left to a successor.
pub struct Estate<'a> {
    /// The folder that this process was started in.
    pub folder: &'a Path,
    /// Where its pid file is.
    pub pid_file: Option<&'a Path>,
    /// Duplicates of its listeners; closed here when the successor runs.
    pub listeners: Vec<InheritedSocket>,
    /// The same of the admin socket.
    pub admin: Vec<InheritedSocket>,
}

/// Starts the successor: its process, and our end of the socket to it.
///
/// Signals are as at any start: no handler outlives execve(2), and none is blocked. Of our descriptors it
/// has the standard ones and what it is given.
///
/// Errors: whatever stands in the way of execve(2), or /proc.
pub fn launch(estate: Estate<'_>) -> io::Result<(Pid, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let all = estate.listeners.iter().chain(&estate.admin);
    for descriptor in all.map(InheritedSocket::as_fd).chain([theirs.as_fd()]) {
        // They are duplicates for this alone, and nothing is started before they are closed.
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let describe =
        |all: &[InheritedSocket]| all.iter().map(InheritedSocket::describe).collect::<Vec<_>>();
    let table = json!({
        "version": VERSION,
        "pid": std::process::id(),
        "line": theirs.as_raw_fd(),
        "pid_file": estate.pid_file.and_then(Path::to_str),
        "listeners": describe(&estate.listeners),
        "admin": describe(&estate.admin),
    });
    let words = command_line(fs::read("/proc/self/cmdline")?);
    let Some((first, rest)) = words.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let child = Command::new(program(first, estate.folder))
        .arg0(first)
        .args(rest)
        .current_dir(estate.folder)
        .env(VARIABLE, table.to_string())
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::Unsupported)?;
    Ok((Pid(pid), ours))
}

/// The words of a command line, as proc(5) has them: each ends with a NUL.
fn command_line(mut bytes: Vec<u8>) -> Vec<OsString> {
    if bytes.pop_if(|last| *last == 0).is_none() && bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// Where a program is: as it was found at the start, by a path or by `PATH`.
fn program(first: &OsStr, folder: &Path) -> PathBuf {
    let path = Path::new(first);
    match path.components().count() {
        0 | 1 => path.to_owned(),
        _ => folder.join(path),
    }
}

/// Tells the successor something, and what was counted by now.
///
/// Errors: it is gone, or has not listened for long.
pub fn tell(line: &UnixStream, word: u8, carried: &CarriedTotals) -> Result<(), Errno> {
    tell_text(line, word, &carried.encode())
}

/// The same with any text.
pub fn tell_text(line: &UnixStream, word: u8, text: &str) -> Result<(), Errno> {
    let memory = memfd_create(c"arctos-carried", MFdFlags::MFD_CLOEXEC)?;
    let mut memory = fs::File::from(memory);
    memory.write_all(text.as_bytes()).map_err(|error| errno(&error))?;
    fd::send_descriptor(line.as_fd(), word, memory.as_fd())
}

/// Tells the server before that this one can serve. EPIPE: it is gone, which is heard anyway.
pub fn tell_ready(mut line: &UnixStream) {
    let _ = line.write(&[READY]);
}

/// The carried that came with a word; `None` where they make no sense.
pub fn read_books(memory: OwnedFd) -> Option<CarriedTotals> {
    CarriedTotals::decode(&read_text(memory)?)
}

/// The text that came with a word.
pub fn read_text(memory: OwnedFd) -> Option<String> {
    let memory = fs::File::from(memory);
    let bytes = memory.metadata().ok()?.len();
    // The offset is the writer's, too, and at the end.
    let mut text = vec![0; usize::try_from(bytes).ok().filter(|_| bytes <= BOOKS_BYTES)?];
    memory.read_exact_at(&mut text, 0).ok()?;
    String::from_utf8(text).ok()
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::fd::Message;

    use super::*;

    #[test]
    fn a_command_line_has_its_empty_words() {
        let words = |bytes: &[u8]| command_line(bytes.to_vec());
        assert_eq!(
            words(b"python\0-m\0arctos\0\0--zone\0"),
            ["python", "-m", "arctos", "", "--zone"]
        );
        assert_eq!(words(b"a\0"), ["a"]);
        assert_eq!(words(b""), [] as [&str; 0]);
    }

    #[test]
    fn a_program_is_looked_for_where_it_was_at_the_start() {
        let folder = Path::new("/srv/shop");
        for (first, expected) in [
            ("/usr/bin/python3", "/usr/bin/python3"),
            (".venv/bin/python", "/srv/shop/.venv/bin/python"),
            ("./arctos", "/srv/shop/./arctos"),
            ("python3", "python3"),
        ] {
            assert_eq!(program(first.as_ref(), folder), Path::new(expected));
        }
    }

    #[test]
    fn a_variable_of_another_kind_is_refused() {
        for text in ["", "x", "{}", r#"{"version": 2, "pid": 1, "line": 5}"#] {
            assert_eq!(Handover::read(text.as_ref()).err(), Some(BequestError::Notation), "{text}");
        }
        let none = r#"{"version": 1, "pid": 1, "line": 100000, "listeners": [], "admin": []}"#;
        assert_eq!(Handover::read(none.as_ref()).err(), Some(BequestError::Descriptor));
    }

    #[test]
    fn what_a_service_manager_has_said_to_the_server_before_is_said_to_this_one() {
        let table = r#"{"version": 1, "pid": 42}"#;
        let environment = [(VARIABLE, table), ("LISTEN_PID", "42"), ("WATCHDOG_PID", "7")];
        let own = std::process::id().to_string();
        assert_eq!(readdressed(&environment.into_iter().collect()), [("LISTEN_PID", own)]);
        assert_eq!(readdressed(&[("LISTEN_PID", "42")].into_iter().collect()), []);
    }

    #[test]
    fn books_arrive_with_their_word() {
        let (before, after) = UnixStream::pair().unwrap();
        tell(&before, YOURS, &CarriedTotals::default()).unwrap();
        let Message::Said { word: YOURS, descriptor: Some(memory) } =
            fd::receive_message(after.as_fd())
        else {
            panic!("nothing came");
        };
        assert_eq!(read_books(memory), Some(CarriedTotals::default()));
        drop(after);
        assert_eq!(tell(&before, YOURS, &CarriedTotals::default()), Err(Errno::EPIPE));
    }

    #[test]
    fn what_is_no_memory_with_books_is_none() {
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(read_books(reader.into()), None);
    }
}
