//! What `--reload` watches, and how.

use std::net::IpAddr;
use std::path::PathBuf;

use arctos_worker::settings::AppSpec;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::existing_path;
use super::reader::{Reader, wrong};
use super::value::Choice;
use crate::system::address::BindAddress;
use crate::system::environment::Environment;

/// How `--reload` notices changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadEngine {
    /// By inotify(7) where it works, else by polling.
    Auto,
    /// By inotify(7).
    Inotify,
    /// By reading all directories again and again.
    Poll,
}

/// What `--reload` watches besides the code of the application, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// How changes are noticed.
    pub engine: ReloadEngine,
    /// Files, and directories all of whose files are watched.
    pub extra: Vec<PathBuf>,
}

/// Reads the options of `--reload`; `None` if it is off.
pub(super) fn watching(reader: &mut Reader<'_>) -> Result<Option<Watching>, ConfigError> {
    const ENGINES: [(&str, ReloadEngine); 3] = [
        ("auto", ReloadEngine::Auto),
        ("inotify", ReloadEngine::Inotify),
        ("poll", ReloadEngine::Poll),
    ];
    let is_on = reader.switch(Setting::Reload)?;
    let extra = extra(reader)?;
    let engine = reader.one(Setting::ReloadEngine, Choice(&ENGINES))?;
    Ok(is_on.then_some(Watching { engine, extra }))
}

fn extra(reader: &mut Reader<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let base = reader.base().to_owned();
    let paths = reader.many(Setting::ReloadExtra, |text| Ok(base.join(text)))?;
    let given = reader.given(Setting::ReloadExtra);
    let origin = given.map_or(Origin::Default, |given| given.origin.clone());
    for (path, text) in paths.iter().zip(given.iter().flat_map(|given| &given.values)) {
        existing_path(Setting::ReloadExtra, text, &origin, path)?;
    }
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    reader.note(Setting::ReloadExtra, shown.join(", "), origin);
    Ok(paths)
}

/// Reads `--debug`, whose pages contain the variables of the application: nobody else may be able to connect.
pub(super) fn debug(reader: &mut Reader<'_>, binds: &[BindAddress]) -> Result<bool, ConfigError> {
    let is_on = reader.switch(Setting::Debug)?;
    let Some(open) = binds.iter().find(|address| !is_loopback(address)).filter(|_| is_on) else {
        return Ok(is_on);
    };
    let expected = format!(
        "every --bind at a loopback address such as 127.0.0.1:8000, because the page of --debug shows variables; \
         {open} may be reachable from elsewhere"
    );
    let (text, origin) = reader.last(Setting::Debug).ok_or(ConfigError::NoApplication)?;
    Err(wrong(Setting::Debug, origin, text, expected))
}

fn is_loopback(address: &BindAddress) -> bool {
    match address {
        BindAddress::Tcp { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback())
        }
        // A proxy may connect for anybody, and nothing is known of an inherited socket.
        BindAddress::Unix(_) | BindAddress::Abstract(_) | BindAddress::Fd(_) => false,
    }
}

/// Lets Flask pass exceptions on to the server, as `flask run --debug` does, unless the user has decided about that.
pub(super) fn flask_debug(spec: AppSpec, is_debug: bool, environment: &Environment) -> AppSpec {
    const NAME: &str = "FLASK_DEBUG";
    let is_decided =
        environment.value(NAME).is_some() || spec.env.iter().any(|(name, _)| name == NAME);
    let mut env = spec.env;
    if is_debug && !is_decided {
        env.push((NAME.to_owned(), "1".to_owned()));
    }
    AppSpec { env, ..spec }
}
