//! Reads a configuration file of gunicorn, which is a Python program: in a child process with limits on its time and
//! output.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::value::{PeerFunction, PeerLine, PeerValue};
use crate::config::options::peers::{Peer, PeerSetting};

const SCRIPT: &str = include_str!("read_gunicorn_config.py");
/// The time that the file may take. Settings from a network may need a few seconds.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// What a file has set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PythonSettings {
    /// The settings of gunicorn.
    pub(super) lines: Vec<PeerLine>,
    /// Names that gunicorn ignores and that nothing in the file uses.
    pub(super) ignored: Vec<String>,
}

/// Executes the file, or the module of `python:MODULE`, in the directory.
///
/// Errors: why there are no settings, for a person.
pub(super) fn read(
    interpreter: &OsStr,
    location: &str,
    directory: Option<&Path>,
    variables: &[(String, String)],
) -> Result<PythonSettings, String> {
    let names: Vec<&str> = Peer::Gunicorn.settings().map(PeerSetting::name).collect();
    let mut command = Command::new(interpreter);
    command.args(["-B", "-c", SCRIPT, location, &names.join(",")]);
    command.arg((TIME_LIMIT.as_secs() + 1).to_string());
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| {
        format!("{location}: cannot start {}: {error}", interpreter.to_string_lossy())
    })?;
    let output = output(&mut child);
    // What the file has started ends with it.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL); // It may have ended by itself.
    }
    let _ = child.wait(); // Its answer has been read, or there is none.
    let output = output.map_err(|reason| format!("{location}: {reason}"))?;
    settings(location, &output)
}

/// Reads one line within the limits.
fn output(child: &mut Child) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + TIME_LIMIT;
    let Some(mut pipe) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waited = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, timeout) {
            Ok(0) => {
                return Err(format!("the file runs longer than {} s", TIME_LIMIT.as_secs()));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.to_string()),
        }
        let count = pipe.read(&mut part).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&part[..count]);
        if bytes.ends_with(b"\n") {
            return Ok(bytes);
        }
        if count == 0 {
            return Err("the file has ended the interpreter that read it".to_owned());
        }
        if bytes.len() > MAX_OUTPUT_BYTES {
            return Err(format!("its settings are longer than {MAX_OUTPUT_BYTES} bytes"));
        }
    }
}

/// Reads the answer of the script.
fn settings(location: &str, output: &[u8]) -> Result<PythonSettings, String> {
    let report: Value =
        serde_json::from_slice(output).map_err(|error| format!("{location}: {error}"))?;
    if let Some(error) = report["error"].as_str() {
        let line = report["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        return Err(format!("{location}{line}: {error}"));
    }
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let line = |setting: &Value| {
        let computed = setting["computed"].as_str().map(|expression| format!("`{expression}`"));
        let name = setting["name"].as_str()?;
        Some(PeerLine { computed, ..PeerLine::new(name, value(&setting["value"])) })
    };
    Ok(PythonSettings {
        lines: list("settings").iter().filter_map(line).collect(),
        ignored: list("ignored").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn value(value: &Value) -> PeerValue {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = value["value"].as_array().cloned().unwrap_or_default();
    match value["kind"].as_str() {
        Some("switch") => PeerValue::Switch(value["value"].as_bool().unwrap_or_default()),
        Some("text") => PeerValue::Text(text(&value["value"])),
        Some("list") => PeerValue::List(items.iter().map(text).collect()),
        Some("table") => {
            PeerValue::Table(items.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect())
        }
        Some("function") => PeerValue::Function(PeerFunction {
            module: value["module"].as_str().map(str::to_owned),
            name: text(&value["name"]),
            takes_one: value["takes_one"].as_bool().unwrap_or_default(),
        }),
        Some("other") => PeerValue::Other(text(&value["value"])),
        Some(_) | None => PeerValue::Absent,
    }
}
