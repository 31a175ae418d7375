//! [`RawOptions`] to [`Config`]: every setting read once, in the order of the table.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arctos_worker::settings::{AppSpec, HeaderMap, Limits, Settings, Timeouts};
use arctos_worker::shared::log::{Level, LogFormat};
use nix::unistd::{AccessFlags, access};

use super::app_name::app_name;
use super::binds::{admin_binds, binds};
use super::error::ConfigError;
use super::hooks::hooks;
use super::identity::privileges;
use super::options::{OptionSpec, Setting};
use super::origin::Origin;
use super::reader::{Effective, Reader, wrong};
use super::recycle::{REQUESTS, wear};
use super::source::Source;
use super::statsd::{Metrics, metrics};
use super::value::{Choice, Kind, Permissions, Size, Span, Whole, bounded};
use super::{AccessLog, Config, ListenMode, Logging, Patience, Privileges};
use crate::system::cgroup;
use crate::system::environment::Environment;

/// A configuration and how it came about.
#[derive(Debug)]
pub struct Resolved {
    /// The configuration; `None` where no application was given.
    pub config: Option<Config>,
    /// All settings, in the order of the table.
    pub effective: Vec<Effective>,
}

impl Resolved {
    /// The effective configuration: option, value and origin, a line each, in columns.
    pub fn print(&self) -> String {
        let flag = |line: &Effective| OptionSpec::of(line.setting).flag();
        let shown = |line: &Effective| match line.value.as_str() {
            "" => "-".to_owned(),
            value => value.escape_debug().to_string(),
        };
        let width = |of: &dyn Fn(&Effective) -> String| {
            self.effective.iter().map(|line| of(line).chars().count()).max().unwrap_or(0)
        };
        let (flags, values) = (width(&flag), width(&shown).min(40));
        let mut page = String::new();
        for line in &self.effective {
            let (flag, value) = (flag(line), shown(line));
            // A String takes all.
            let _ = writeln!(page, "{flag:flags$}  {value:values$}  {}", line.origin);
        }
        page
    }
}

const WORKERS: Whole = Whole { least: 1, most: 512 };
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const TIME: Span = Span { least: MILLISECOND, most: DAY, takes_zero: false };
const TIME_OR_ZERO: Span = Span { takes_zero: true, ..TIME };
/// The kernel takes an int (listen(2)).
const BACKLOG: Whole = Whole { least: 1, most: i32::MAX as u64 };
/// A head is kept in offsets of 32 bits, and in memory.
const HEAD: Size = Size { least_bytes: 64, most_bytes: 16 << 20, takes_zero: false };
const LINE: Size = Size { most_bytes: 1 << 20, ..HEAD };
/// As many as gunicorn takes.
const FIELDS: Whole = Whole { least: 1, most: 32_768 };
const BODY: Size = Size { least_bytes: 1, most_bytes: 1 << 50, takes_zero: true };
const BODY_MEMORY: Size = Size { least_bytes: 0, most_bytes: 1 << 30, takes_zero: false };
const RATE: Size = Size { least_bytes: 0, most_bytes: 1 << 30, takes_zero: false };
const CONNECTIONS: Whole = Whole { least: 1, most: 1_000_000 };
/// How long `--drain-delay auto` is in Kubernetes, whose endpoints lag behind its signals.
const KUBERNETES_DRAIN: Duration = Duration::from_secs(5);
/// A quick stop, and what a refused peer may still send: no options.
const QUICK: Duration = Duration::from_secs(2);

impl Source {
    /// Reads everything, as it is now.
    ///
    /// Errors: the first [`ConfigError`] in the order of the table.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        resolve(self)
    }

    /// The same where there has to be an application.
    ///
    /// Errors: also [`ConfigError::NoApplication`].
    pub fn read(&self) -> Result<Config, ConfigError> {
        self.resolve()?.config.ok_or(ConfigError::NoApplication)
    }
}

/// Checks what was given and fills in the rest.
///
/// Errors: the first [`ConfigError`] in the order of the table.
fn resolve(source: &Source) -> Result<Resolved, ConfigError> {
    let given = source.given()?;
    let environment = source.environment();
    let mut reader = Reader::new(&given, source.folder().to_owned());
    reader.path(Setting::Config)?; // Before --chdir: the file may say where that is.
    let application = application(&mut reader)?;
    let binds = binds(&mut reader, environment)?;
    let reuse_port = reader.switch(Setting::ReusePort)?;
    let modes = Choice(&[("shared", ListenMode::Shared), ("per-slot", ListenMode::PerSlot)]);
    let listen_mode = reader.one(Setting::ListenMode, modes)?;
    let backlog = bounded(reader.one(Setting::Backlog, BACKLOG)?);
    let unix_socket_mode = reader.one(Setting::UnixSocketMode, Permissions)?;
    let connections = bounded(reader.one(Setting::MaxConnections, CONNECTIONS)?);
    let admin_binds = admin_binds(&mut reader, &binds)?;
    let workers = workers(&mut reader, environment)?;
    let preload = reader.switch(Setting::Preload)?;
    let wear = wear(&mut reader)?;
    let reload_check = reload_check(&mut reader)?;
    let privileges = privileges(&mut reader)?;
    let name = reader.text(Setting::Name)?;
    let hooks = hooks(&mut reader, preload, name.as_deref())?;
    let application = application.map(|spec| AppSpec { hooks, ..spec });
    let pid_file = file_in_folder(&mut reader, Setting::Pid)?;
    let patience = patience(&mut reader, environment)?;
    let timeouts = timeouts(&mut reader)?;
    let limits = Limits {
        request_line_bytes: bounded(reader.one(Setting::LimitRequestLine, LINE)?),
        header_count: bounded(reader.one(Setting::LimitRequestFields, FIELDS)?),
        header_field_bytes: bounded(reader.one(Setting::LimitRequestFieldSize, LINE)?),
        head_bytes: bounded(reader.one(Setting::LimitRequestHead, HEAD)?),
        body_bytes: reader.one(Setting::LimitRequestBody, BODY)?,
        body_memory_bytes: bounded(reader.one(Setting::BodyMemory, BODY_MEMORY)?),
        connections,
        ..Limits::default()
    };
    let body_temp_dir = body_temp_dir(&mut reader, environment, &privileges)?;
    let requests_per_connection = bounded(reader.one(Setting::MaxRequestsPerConnection, REQUESTS)?);
    let maps = Choice(&[("drop", HeaderMap::Drop), ("refuse", HeaderMap::Refuse)]);
    let worker = Settings {
        limits: Limits { requests_per_connection, ..limits },
        timeouts,
        header_map: reader.one(Setting::HeaderMap, maps)?,
        server_header: reader.switch(Setting::ServerHeader)?,
        root_path: root_path(&mut reader)?,
        body_temp_dir,
        multiprocess: workers > 1,
        reload_check,
    };
    let logging = logging(&mut reader)?;
    let Metrics { statsd, zone } = metrics(&mut reader, environment, !admin_binds.is_empty())?;
    let config = application.map(|application| Config {
        source: source.clone(),
        application,
        binds,
        reuse_port,
        listen_mode,
        backlog,
        unix_socket_mode,
        workers,
        preload,
        limits: wear,
        privileges,
        name,
        pid_file,
        patience,
        logging,
        statsd,
        zone,
        admin_binds,
        worker,
    });
    Ok(Resolved { config, effective: reader.into_effective() })
}

fn application(reader: &mut Reader<'_>) -> Result<Option<AppSpec>, ConfigError> {
    let name = reader.text(Setting::Application)?;
    let is_factory = reader.switch(Setting::Factory)?;
    let chdir = chdir(reader)?;
    let pythonpath = pythonpath(reader)?;
    let env = env(reader)?;
    let Some(text) = name else { return Ok(None) };
    let spec = app_name(&text, is_factory).map_err(|reason| {
        let origin = reader.last(Setting::Application).map(|(_, origin)| origin.clone());
        ConfigError::Application { origin: origin.unwrap_or(Origin::CommandLine), text, reason }
    })?;
    Ok(Some(AppSpec { chdir, pythonpath, env, ..spec }))
}

fn chdir(reader: &mut Reader<'_>) -> Result<Option<PathBuf>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::Chdir) else {
        let start = reader.base().to_owned();
        reader.note(Setting::Chdir, start.display().to_string(), Origin::Default);
        // An earlier --chdir, which the file no longer has, may have led this process away.
        let is_there = std::env::current_dir().is_ok_and(|current| current == start);
        return Ok(Some(start).filter(|_| !is_there));
    };
    let folder = reader.path(Setting::Chdir)?.unwrap_or_default();
    usable_folder(Setting::Chdir, text, origin, &folder)?;
    reader.start_paths_at(folder.clone());
    Ok(Some(folder))
}

/// Commas separate, as in gunicorn. Folders that are not there are Python's to ignore.
fn pythonpath(reader: &mut Reader<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let base = reader.base().to_owned();
    let lists = reader.many(Setting::PythonPath, |list| {
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(|part| base.join(part)).collect::<Vec<_>>())
    })?;
    let folders = lists.concat();
    let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    note_list(reader, Setting::PythonPath, &shown);
    Ok(folders)
}

fn env(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let pairs = reader.many(Setting::Env, |text| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| "KEY=VALUE".to_owned())?;
        Ok((key.to_owned(), value.to_owned()))
    })?;
    // Names only: the values are where secrets are, and this is printed.
    let names: Vec<_> = pairs.iter().map(|(key, _)| format!("{key}=...")).collect();
    note_list(reader, Setting::Env, &names);
    Ok(pairs)
}

fn note_list(reader: &mut Reader<'_>, setting: Setting, values: &[String]) {
    let origin = reader.given(setting).map_or(Origin::Default, |given| given.origin.clone());
    reader.note(setting, values.join(", "), origin);
}

fn workers(reader: &mut Reader<'_>, environment: &Environment) -> Result<u16, ConfigError> {
    if let Some(count) = reader.given_as(Setting::Workers, WORKERS)? {
        return Ok(bounded(count));
    }
    let (count, origin) = if let Some(text) = environment.value("WEB_CONCURRENCY") {
        let origin = Origin::Environment("WEB_CONCURRENCY".to_owned());
        let count = text.to_str().and_then(|text| WORKERS.read(text));
        let expected = || wrong(Setting::Workers, &origin, text, WORKERS.expected());
        (count.ok_or_else(expected)?, origin)
    } else {
        // Unreadable is unlimited: where /proc is missing there is nothing to obey.
        let cpus = cgroup::cpus(|path| fs::read_to_string(path).ok());
        // Two at least: one alone would leave nobody while it is replaced or busy.
        (cpus.whole().clamp(2, WORKERS.most), Origin::Cpus(cpus))
    };
    reader.note(Setting::Workers, count.to_string(), origin);
    Ok(bounded(count))
}

fn patience(reader: &mut Reader<'_>, environment: &Environment) -> Result<Patience, ConfigError> {
    let request = reader.one(Setting::Timeout, TIME_OR_ZERO)?;
    let graceful = reader.one(Setting::GracefulTimeout, TIME)?;
    let drain_delay = drain_delay(reader, environment, graceful)?;
    let boot = reader.one(Setting::BootTimeout, TIME)?;
    Ok(Patience { request, boot, graceful, drain_delay, quick: QUICK })
}

fn drain_delay(
    reader: &mut Reader<'_>,
    environment: &Environment,
    graceful: Duration,
) -> Result<Duration, ConfigError> {
    let auto = OsStr::new("auto");
    let (text, origin) = reader.last(Setting::DrainDelay).unwrap_or((auto, &Origin::Default));
    if text.eq_ignore_ascii_case(auto) {
        let is_kubernetes = environment.value("KUBERNETES_SERVICE_HOST").is_some();
        // Never more than half of the budget: requests need the other half.
        let delay = if is_kubernetes { KUBERNETES_DRAIN.min(graceful / 2) } else { Duration::ZERO };
        let origin = if is_kubernetes { Origin::Kubernetes } else { origin.clone() };
        reader.note(Setting::DrainDelay, format!("auto ({})", TIME.show(&delay)), origin);
        return Ok(delay);
    }
    let delay = text.to_str().and_then(|text| TIME_OR_ZERO.read(text)).ok_or_else(|| {
        wrong(Setting::DrainDelay, origin, text, format!("auto, or {}", TIME_OR_ZERO.expected()))
    })?;
    if delay >= graceful {
        return Err(ConfigError::DelayTooLong {
            origin: origin.clone(),
            text: text.to_string_lossy().into_owned(),
            graceful: TIME.show(&graceful),
        });
    }
    reader.note(Setting::DrainDelay, TIME.show(&delay), origin.clone());
    Ok(delay)
}

fn timeouts(reader: &mut Reader<'_>) -> Result<Timeouts, ConfigError> {
    let keep_alive = reader.one(Setting::KeepAlive, TIME)?;
    let head = reader.one(Setting::HeaderTimeout, TIME)?;
    let body = reader.one(Setting::BodyTimeout, TIME)?;
    let rate_bytes = u128::from(reader.one(Setting::BodyMinRate, RATE)?);
    let window_bytes = rate_bytes * body.as_millis() / 1000;
    Ok(Timeouts {
        head,
        body,
        body_rate_bytes: u64::try_from(window_bytes).expect("1 GB/s for a day fits 64 bits"),
        keep_alive,
        write: reader.one(Setting::WriteTimeout, TIME)?,
        linger: Timeouts::default().linger,
        linger_total: Timeouts::default().linger_total,
    })
}

fn body_temp_dir(
    reader: &mut Reader<'_>,
    environment: &Environment,
    privileges: &Privileges,
) -> Result<PathBuf, ConfigError> {
    let tmpdir = Origin::Environment("TMPDIR".to_owned());
    let (text, origin) = match (reader.last(Setting::BodyTempDir), environment.value("TMPDIR")) {
        (Some(given), _) => given,
        (None, Some(folder)) => (folder, &tmpdir),
        (None, None) => (OsStr::new("/tmp"), &Origin::Default),
    };
    let folder = reader.base().join(text);
    usable_folder(Setting::BodyTempDir, text, origin, &folder)?;
    if privileges.user.is_none() {
        let writable = access(&folder, AccessFlags::W_OK | AccessFlags::X_OK);
        writable.map_err(|error| {
            not_usable(Setting::BodyTempDir, text, origin, &folder, error.into())
        })?;
    }
    reader.note(Setting::BodyTempDir, folder.display().to_string(), origin.clone());
    Ok(folder)
}

/// A file to be made: its folder must be there.
fn file_in_folder(
    reader: &mut Reader<'_>,
    setting: Setting,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = reader.path(setting)? else { return Ok(None) };
    if let (Some((text, origin)), Some(folder)) = (reader.last(setting), path.parent()) {
        usable_folder(setting, text, origin, folder)?;
    }
    Ok(Some(path))
}

fn usable_folder(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    folder: &Path,
) -> Result<(), ConfigError> {
    let found = match fs::metadata(folder) {
        Ok(found) if found.is_dir() => access(folder, AccessFlags::X_OK).map_err(io::Error::from),
        Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) => Err(error),
    };
    found.map_err(|error| not_usable(setting, text, origin, folder, error))
}

fn not_usable(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    folder: &Path,
    error: io::Error,
) -> ConfigError {
    let text = text.to_string_lossy().into_owned();
    ConfigError::Folder { setting, origin: origin.clone(), text, folder: folder.to_owned(), error }
}

fn root_path(reader: &mut Reader<'_>) -> Result<String, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::RootPath) else {
        reader.note(Setting::RootPath, String::new(), Origin::Default);
        return Ok(String::new());
    };
    let is_path = |path: &&str| {
        let is_plain =
            path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"%".contains(&byte));
        let starts_once = path.starts_with('/') && !path.contains("//");
        path.is_empty() || (is_plain && starts_once && !path.ends_with('/'))
    };
    let Some(path) = text.to_str().filter(is_path) else {
        let expected = "a path such as /shop, with a slash in front and none at its end; \
                        leave the option out for the root";
        return Err(wrong(Setting::RootPath, origin, text, expected.to_owned()));
    };
    reader.note(Setting::RootPath, path.to_owned(), origin.clone());
    Ok(path.to_owned())
}

/// Origin-form (RFC 9112 §3.2.1) of visible ASCII; a fragment is never sent.
fn reload_check(reader: &mut Reader<'_>) -> Result<Option<String>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::ReloadCheck) else {
        reader.note(Setting::ReloadCheck, String::new(), Origin::Default);
        return Ok(None);
    };
    let is_target = |path: &&str| {
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    let Some(path) = text.to_str().filter(is_target) else {
        let expected = "a path with a slash in front, such as /health or /health?deep=1, in ASCII";
        return Err(wrong(Setting::ReloadCheck, origin, text, expected.to_owned()));
    };
    reader.note(Setting::ReloadCheck, path.to_owned(), origin.clone());
    Ok(Some(path.to_owned()))
}

fn logging(reader: &mut Reader<'_>) -> Result<Logging, ConfigError> {
    let levels = Choice(&[
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warning", Level::Warning),
        ("error", Level::Error),
        ("critical", Level::Critical),
    ]);
    let level = reader.one(Setting::LogLevel, levels)?;
    let formats = Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let format = reader.one(Setting::LogFormat, formats)?;
    let access = match reader.last(Setting::AccessLogfile) {
        Some((text, origin)) if text == "-" => {
            let shown = "- (standard output)".to_owned();
            reader.note(Setting::AccessLogfile, shown, origin.clone());
            AccessLog::Stdout
        }
        Some(_) | None => match file_in_folder(reader, Setting::AccessLogfile)? {
            Some(path) => AccessLog::File(path),
            None => AccessLog::Off,
        },
    };
    Ok(Logging { level, format, access })
}
