//! Reexec: starting the successor of this server for an upgrade, and handing over to it.
//!
//! The successor is started as this process was: with the same command line, in the same directory, from the program
//! file that is there now. It inherits the sockets by number, and one environment variable names them.
//! After that, the two processes talk over a socket pair. Each message is one byte, some with a memfd:
//!
//! | sender | byte | memfd | meaning |
//! |---|---|---|---|
//! | successor | [`READY`] | | the successor can serve |
//! | predecessor | [`COUNTED`] | totals | the counts so far |
//! | successor, before it owns everything | [`COUNTED`] | totals | the counts so far |
//! | either, at its end | [`UNSENT`] | totals | the part of the counts that was not sent to an agent |
//! | predecessor | [`YOURS`] | totals | everything now belongs to the successor |
//! | predecessor | [`KEPT`] | none, but a socket | the connections that clients keep come through this socket |
//! | predecessor | [`DYING`] | text | the requests that its dying workers were handling |
//!
//! The stream ends when the other process does. Everything belongs to a successor whose predecessor is gone, too.

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

/// The environment variable that names the inherited sockets.
pub const VARIABLE: &str = "ARCTOS_UPGRADE";
/// Sent by the successor: it can serve.
pub const READY: u8 = b'R';
/// The counts so far: those of the successor alone, or those of the predecessor and all servers before it.
pub const COUNTED: u8 = b'C';
/// The part of the counts that could not be sent to an agent.
pub const UNSENT: u8 = b'U';
/// Sent to the successor: the requests that dying workers of the predecessor were handling
/// ([`crate::supervisor::restart_storm::crash_baseline`]).
pub const DYING: u8 = b'D';
/// Sent to the successor with a socket: the connections that clients keep come through it.
pub const KEPT: u8 = b'K';
/// Sent to the successor: everything belongs to it now.
pub const YOURS: u8 = b'Y';

/// The version of the format of [`VARIABLE`].
const VERSION: u64 = 1;
/// Variables of service managers that hold the pid of the process that they are meant for.
const ADDRESSED_TO_PID: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];
/// Maximum size of the totals that are read; a thousand slots have 8 MB.
const MAX_TOTALS_BYTES: u64 = 64 << 20;

/// What a successor receives at its start.
pub struct Handover {
    /// The server that started this one.
    pub predecessor: Pid,
    /// The socket to the predecessor.
    pub socket: UnixStream,
    /// The pid file of the predecessor.
    pub pid_file: Option<PathBuf>,
    /// The listeners of the predecessor.
    pub listeners: InheritedSockets,
    /// The admin socket of the predecessor.
    pub admin: InheritedSockets,
}

/// Why [`VARIABLE`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandoverError {
    /// Its format is not the one of this version.
    #[error("{VARIABLE} is not from a server that this version can replace")]
    Format,
    /// A descriptor that it names is not usable.
    #[error("{VARIABLE} names a descriptor that is not there, or nothing of the kind")]
    Descriptor,
}

impl Handover {
    /// Takes over the sockets that the variable names.
    ///
    /// Errors: [`HandoverError`].
    pub fn read(text: &OsStr) -> Result<Self, HandoverError> {
        let table = parse(text).ok_or(HandoverError::Format)?;
        let predecessor = predecessor(&table).ok_or(HandoverError::Format)?;
        let number = table["line"].as_i64().and_then(|number| i32::try_from(number).ok());
        let number = number.filter(|number| *number > 2).ok_or(HandoverError::Format)?;
        if names_a_number_twice(&table) {
            return Err(HandoverError::Format);
        }
        let socket = UnixStream::from(fd::adopt(number).map_err(|_| HandoverError::Descriptor)?);
        socket.set_nonblocking(true).map_err(|_| HandoverError::Descriptor)?;
        Ok(Self {
            predecessor,
            socket,
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

/// Whether a table names a descriptor more than once. Each would get two owners, and the second one that is dropped
/// would close a file that has the number by then.
fn names_a_number_twice(table: &Value) -> bool {
    let listed = [&table["listeners"], &table["admin"]].into_iter().filter_map(Value::as_array);
    let listed = listed.flatten().map(|socket| &socket["fd"]);
    let mut numbers: Vec<_> =
        std::iter::once(&table["line"]).chain(listed).map(Value::as_i64).collect();
    numbers.sort_unstable();
    numbers.windows(2).any(|pair| pair[0] == pair[1])
}

fn inherited_sockets(described: &Value) -> Result<InheritedSockets, HandoverError> {
    let all = described.as_array().ok_or(HandoverError::Format)?;
    let all = all.iter().map(InheritedSocket::take_over).collect::<Option<Vec<_>>>();
    all.map(InheritedSockets::from).ok_or(HandoverError::Descriptor)
}

/// The service manager's variables that were meant for the predecessor, readdressed to this process.
pub fn readdressed(environment: &Environment) -> Vec<(&'static str, String)> {
    let table = environment.value(VARIABLE).and_then(parse);
    let Some(predecessor) = table.as_ref().and_then(predecessor) else { return Vec::new() };
    let own = std::process::id().to_string();
    let is_meant = |name: &&str| environment.text(name) == Some(&*predecessor.0.to_string());
    ADDRESSED_TO_PID.into_iter().filter(is_meant).map(|name| (name, own.clone())).collect()
}

/// What a successor is given.
pub struct SuccessorSetup<'a> {
    /// The directory that this process was started in.
    pub directory: &'a Path,
    /// The pid file of this server.
    pub pid_file: Option<&'a Path>,
    /// Duplicates of the listeners, closed here once the successor runs.
    pub listeners: Vec<InheritedSocket>,
    /// Duplicates of the admin socket.
    pub admin: Vec<InheritedSocket>,
}

/// Starts the successor. Returns its process, and our end of the socket to it.
///
/// Its signals are as at any start: no handler survives execve(2), and none is blocked. It inherits the standard
/// descriptors and those of `setup`.
///
/// Errors: those of execve(2), and of reading /proc/self/cmdline.
pub fn launch(setup: SuccessorSetup<'_>) -> io::Result<(Pid, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let all = setup.listeners.iter().chain(&setup.admin);
    for descriptor in all.map(InheritedSocket::as_fd).chain([theirs.as_fd()]) {
        // These duplicates exist only for the successor, and are closed before another program is started.
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let describe =
        |all: &[InheritedSocket]| all.iter().map(InheritedSocket::describe).collect::<Vec<_>>();
    let table = json!({
        "version": VERSION,
        "pid": std::process::id(),
        "line": theirs.as_raw_fd(),
        "pid_file": setup.pid_file.and_then(Path::to_str),
        "listeners": describe(&setup.listeners),
        "admin": describe(&setup.admin),
    });
    let arguments = command_line(fs::read("/proc/self/cmdline")?);
    let Some((first, rest)) = arguments.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let child = Command::new(program(first, setup.directory))
        .arg0(first)
        .args(rest)
        .current_dir(setup.directory)
        .env(VARIABLE, table.to_string())
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::Unsupported)?;
    Ok((Pid(pid), ours))
}

/// Splits a command line from /proc, where each argument ends with a NUL (proc(5)).
fn command_line(mut bytes: Vec<u8>) -> Vec<OsString> {
    if bytes.pop_if(|last| *last == 0).is_none() && bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|argument| OsString::from_vec(argument.to_vec())).collect()
}

/// The path of a program, found as at the start: relative to the directory of the start, or by `PATH`.
fn program(first: &OsStr, directory: &Path) -> PathBuf {
    let path = Path::new(first);
    match path.components().count() {
        0 | 1 => path.to_owned(),
        _ => directory.join(path),
    }
}

/// Sends a message with totals to the other server.
///
/// Errors: EPIPE if it is gone; EAGAIN if it has not read for long.
pub fn send_totals(socket: &UnixStream, message: u8, totals: &CarriedTotals) -> Result<(), Errno> {
    send_text(socket, message, &totals.encode())
}

/// Sends a message with a text, like [`send_totals`].
pub fn send_text(socket: &UnixStream, message: u8, text: &str) -> Result<(), Errno> {
    let memory = memfd_create(c"arctos-carried", MFdFlags::MFD_CLOEXEC)?;
    let mut memory = fs::File::from(memory);
    memory.write_all(text.as_bytes()).map_err(|error| errno(&error))?;
    fd::send_descriptor(socket.as_fd(), message, memory.as_fd())
}

/// Tells the predecessor that this server can serve. EPIPE: it is gone, which the socket reports anyway.
pub fn send_ready(mut socket: &UnixStream) {
    let _ = socket.write(&[READY]);
}

/// Reads the totals that came with a message; `None` if they do not decode.
pub fn read_totals(memory: OwnedFd) -> Option<CarriedTotals> {
    CarriedTotals::decode(&read_text(memory)?)
}

/// Reads the text that came with a message; `None` if it is too long or not UTF-8.
pub fn read_text(memory: OwnedFd) -> Option<String> {
    let memory = fs::File::from(memory);
    let bytes = memory.metadata().ok()?.len();
    // The offset is shared with the writer, who left it at the end.
    let mut text = vec![0; usize::try_from(bytes).ok().filter(|_| bytes <= MAX_TOTALS_BYTES)?];
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
    fn a_command_line_keeps_its_empty_arguments() {
        let arguments = |bytes: &[u8]| command_line(bytes.to_vec());
        assert_eq!(
            arguments(b"python\0-m\0arctos\0\0--zone\0"),
            ["python", "-m", "arctos", "", "--zone"]
        );
        assert_eq!(arguments(b"a\0"), ["a"]);
        assert_eq!(arguments(b""), [] as [&str; 0]);
    }

    #[test]
    fn a_program_is_found_as_it_was_at_the_start() {
        let directory = Path::new("/srv/shop");
        for (first, expected) in [
            ("/usr/bin/python3", "/usr/bin/python3"),
            (".venv/bin/python", "/srv/shop/.venv/bin/python"),
            ("./arctos", "/srv/shop/./arctos"),
            ("python3", "python3"),
        ] {
            assert_eq!(program(first.as_ref(), directory), Path::new(expected));
        }
    }

    #[test]
    fn a_variable_in_another_format_is_rejected() {
        for text in ["", "x", "{}", r#"{"version": 2, "pid": 1, "line": 5}"#] {
            assert_eq!(Handover::read(text.as_ref()).err(), Some(HandoverError::Format), "{text}");
        }
        let none = r#"{"version": 1, "pid": 1, "line": 100000, "listeners": [], "admin": []}"#;
        assert_eq!(Handover::read(none.as_ref()).err(), Some(HandoverError::Descriptor));
    }

    #[test]
    fn a_descriptor_that_is_named_twice_is_not_taken_over() {
        let (reader, _writer) = io::pipe().unwrap();
        let number = reader.as_raw_fd();
        let socket = format!(r#"{{"bind": "x", "fd": {number}}}"#);
        for (line, listeners, admin) in [
            (number, socket.clone(), String::new()),
            (100_000, socket.clone(), socket.clone()),
            (100_000, format!("{socket}, {socket}"), String::new()),
        ] {
            let text = format!(
                r#"{{"version": 1, "pid": 1, "line": {line}, "listeners": [{listeners}], "admin": [{admin}]}}"#
            );
            let refused = Handover::read(text.as_ref()).err();
            assert_eq!(refused, Some(HandoverError::Format), "{text}");
        }
        assert!(nix::sys::stat::fstat(&reader).is_ok(), "it is still open");
    }

    #[test]
    fn service_manager_variables_of_the_predecessor_are_readdressed() {
        let table = r#"{"version": 1, "pid": 42}"#;
        let environment = [(VARIABLE, table), ("LISTEN_PID", "42"), ("WATCHDOG_PID", "7")];
        let own = std::process::id().to_string();
        assert_eq!(readdressed(&environment.into_iter().collect()), [("LISTEN_PID", own)]);
        assert_eq!(readdressed(&[("LISTEN_PID", "42")].into_iter().collect()), []);
    }

    #[test]
    fn totals_arrive_with_their_message() {
        let (before, after) = UnixStream::pair().unwrap();
        send_totals(&before, YOURS, &CarriedTotals::default()).unwrap();
        let Message::Received { word: YOURS, descriptor: Some(memory) } =
            fd::receive_message(after.as_fd())
        else {
            panic!("nothing came");
        };
        assert_eq!(read_totals(memory), Some(CarriedTotals::default()));
        drop(after);
        assert_eq!(send_totals(&before, YOURS, &CarriedTotals::default()), Err(Errno::EPIPE));
    }

    #[test]
    fn a_descriptor_without_totals_is_rejected() {
        let (reader, _writer) = io::pipe().unwrap();
        assert_eq!(read_totals(reader.into()), None);
    }
}
