//! What `--reload` watches, and how.

use std::path::PathBuf;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::existing_path;
use super::reader::Reader;
use super::value::Choice;

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
