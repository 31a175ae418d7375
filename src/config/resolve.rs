//! Resolves a [`Source`] to a [`Config`]: every setting is read once, in the order of the table.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use arctos_worker::settings::{AccessLogSettings, AppSpec, Settings};
use arctos_worker::shared::log::{Level, LogFormat};

use super::access_log::access_log;
use super::application::application;
use super::binds::{admin_binds, binds};
use super::call_limits::call_limits;
use super::development::{debug, flask_debug, watching};
use super::error::ConfigError;
use super::hooks::hooks;
use super::identity::privileges;
use super::options::{OptionSpec, Setting};
use super::origin::Origin;
use super::paths::file_in_directory;
use super::place;
use super::quarantine;
use super::reader::{Effective, Reader, wrong};
use super::recycle::{Memory, recycle_limits};
use super::source::{NO_FILE, Source};
use super::statsd::metrics;
use super::times::patience;
use super::tls::tls;
use super::value::{Choice, Kind, Permissions, Whole, bounded};
use super::worker::{Earlier, max_connections, reload_check, worker};
use super::{Config, ListenMode, Logging, Readiness};
use crate::system::cgroup;
use crate::system::environment::Environment;

/// A configuration, with the effective value and the origin of each setting.
#[derive(Debug)]
pub struct Resolved {
    /// The configuration; `None` if no application was given.
    pub config: Option<Config>,
    /// All settings, in the order of the table.
    pub effective: Vec<Effective>,
}

impl Resolved {
    /// Formats the effective configuration: a line for each option, with its value and origin in columns.
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
            // Writing to a String cannot fail.
            let _ = writeln!(page, "{flag:flags$}  {value:values$}  {}", line.origin);
        }
        page
    }
}

const WORKERS: Whole = Whole { min: 1, max: 512 };
/// The kernel takes an int (listen(2)).
const BACKLOG: Whole = Whole { min: 1, max: i32::MAX as u64 };
const READY_BACKLOG: Whole = Whole { min: 0, ..BACKLOG };

impl Source {
    /// Reads everything again: the file, the cgroup, the user database, the directories.
    ///
    /// Errors: the first [`ConfigError`] in the order of the table.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        resolve(self)
    }

    /// Like [`Source::resolve`], for a caller that needs an application.
    ///
    /// Errors: also [`ConfigError::NoApplication`].
    pub fn read(&self) -> Result<Config, ConfigError> {
        self.resolve()?.config.ok_or(ConfigError::NoApplication)
    }
}

/// Checks the given values and fills in the others.
///
/// Errors: the first [`ConfigError`] in the order of the table.
fn resolve(source: &Source) -> Result<Resolved, ConfigError> {
    let given = source.given()?;
    let environment = source.environment();
    let mut reader = Reader::new(&given, source.start_directory().to_owned());
    config_file(&mut reader)?; // Before --chdir, which may stand in the file.
    let application = application(&mut reader)?;
    let watching = watching(&mut reader)?;
    let development = watching.is_some().then_some(Setting::Reload);
    let binds = binds(&mut reader, environment)?;
    let debug = debug(&mut reader, &binds)?;
    let development = development.or(debug.then_some(Setting::Debug));
    let reuse_port = reader.switch(Setting::ReusePort)?;
    let modes = Choice(&[("shared", ListenMode::Shared), ("per-slot", ListenMode::PerSlot)]);
    let listen_mode = reader.one(Setting::ListenMode, modes)?;
    let backlog = bounded(reader.one(Setting::Backlog, BACKLOG)?);
    let unix_socket_mode = reader.one(Setting::UnixSocketMode, Permissions)?;
    let connections = max_connections(&mut reader)?;
    let admin_binds = admin_binds(&mut reader, &binds)?;
    let readiness = readiness(&mut reader)?;
    let tls = tls(&mut reader)?;
    let workers = workers(&mut reader, environment, development)?;
    let preload = reader.switch(Setting::Preload)?;
    let memory = Memory { limit_bytes: memory_limit_bytes, workers, is_shared: preload };
    let recycle_limits = recycle_limits(&mut reader, memory)?;
    let reload_check = reload_check(&mut reader)?;
    let privileges = privileges(&mut reader)?;
    let name = reader.text(Setting::Name)?;
    let hooks = hooks(&mut reader, preload, name.as_deref())?;
    let application = application.map(|spec| AppSpec { hooks, ..spec });
    let application = application.map(|spec| flask_debug(spec, debug, environment));
    let pid_file = file_in_directory(&mut reader, Setting::Pid)?;
    let call_limits = call_limits(&mut reader)?;
    let patience = patience(&mut reader, environment, watching.is_some())?;
    let quarantine = reader.one(Setting::Quarantine, quarantine::Limits)?;
    let is_multiprocess = workers > 1;
    let earlier = Earlier { connections, reload_check, is_multiprocess, call_limits, debug };
    let worker = worker(&mut reader, environment, &privileges, earlier)?;
    let (logging, access_log) = logging(&mut reader, name.as_deref())?;
    let worker = Settings { access_log, ..worker };
    let metrics = metrics(&mut reader, environment, !admin_binds.is_empty())?;
    let effective = reader.into_effective();
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
        limits: recycle_limits,
        quarantine,
        privileges,
        name,
        pid_file,
        patience,
        logging,
        statsd: metrics.statsd,
        metrics_series: bounded(metrics.series),
        zone: metrics.zone,
        admin_binds,
        readiness,
        watching,
        tls,
        worker,
        effective: effective.clone(),
    });
    Ok(Resolved { config, effective })
}

fn config_file(reader: &mut Reader<'_>) -> Result<(), ConfigError> {
    if let Some((text, origin)) = reader.last(Setting::Config)
        && text == NO_FILE
    {
        reader.note(Setting::Config, NO_FILE.to_owned(), origin.clone());
        return Ok(());
    }
    reader.path(Setting::Config).map(drop)
}

/// Without /proc, no limit is known.
fn memory_limit_bytes() -> Option<u64> {
    cgroup::memory_limit(read_file).map(|limit| limit.bytes)
}

fn read_file(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn readiness(reader: &mut Reader<'_>) -> Result<Readiness, ConfigError> {
    let max_backlog = bounded(reader.one(Setting::ReadyMaxBacklog, READY_BACKLOG)?);
    Ok(Readiness {
        max_backlog: Some(max_backlog).filter(|max| *max > 0),
        min_workers: bounded(reader.one(Setting::ReadyMinWorkers, WORKERS)?),
    })
}

fn workers(
    reader: &mut Reader<'_>,
    environment: &Environment,
    development: Option<Setting>,
) -> Result<u16, ConfigError> {
    if let Some(count) = reader.given_as(Setting::Workers, WORKERS)? {
        return Ok(bounded(count));
    }
    let (count, origin) = if let Some(text) = environment.value("WEB_CONCURRENCY") {
        let origin = Origin::Environment("WEB_CONCURRENCY".to_owned());
        let count = text.to_str().and_then(|text| WORKERS.read(text));
        let expected = || wrong(Setting::Workers, &origin, text, WORKERS.expected());
        (count.ok_or_else(expected)?, origin)
    } else if let Some(setting) = development {
        (1, Origin::Because(setting)) // A change reaches all requests at once.
    } else {
        let (count, reason) = place::workers(cgroup::cpus(read_file), memory_limit_bytes());
        (count.min(WORKERS.max), Origin::Place(reason))
    };
    reader.note(Setting::Workers, count.to_string(), origin);
    Ok(bounded(count))
}

fn logging(
    reader: &mut Reader<'_>,
    name: Option<&str>,
) -> Result<(Logging, AccessLogSettings), ConfigError> {
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
    let (access, settings) = access_log(reader, name)?;
    Ok((Logging { level, format, access }, settings))
}
