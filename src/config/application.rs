//! The application and its surroundings: MODULE:ATTR, `--factory`, `--chdir`, `--pythonpath` and `--env`.

use std::path::PathBuf;

use arctos_worker::settings::AppSpec;

use super::app_name::app_name;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::usable_directory;
use super::reader::Reader;

pub(super) fn application(reader: &mut Reader<'_>) -> Result<Option<AppSpec>, ConfigError> {
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
        // An earlier --chdir, which the file no longer has, may have changed the directory of this process.
        let is_there = std::env::current_dir().is_ok_and(|current| current == start);
        return Ok(Some(start).filter(|_| !is_there));
    };
    let directory = reader.path(Setting::Chdir)?.unwrap_or_default();
    usable_directory(Setting::Chdir, text, origin, &directory)?;
    reader.start_paths_at(directory.clone());
    Ok(Some(directory))
}

/// Reads `--pythonpath`. Commas separate directories, as in gunicorn. Python ignores directories that do not exist.
fn pythonpath(reader: &mut Reader<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let base = reader.base().to_owned();
    let lists = reader.many(Setting::PythonPath, |list| {
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(|part| base.join(part)).collect::<Vec<_>>())
    })?;
    let directories = lists.concat();
    let shown: Vec<_> =
        directories.iter().map(|directory| directory.display().to_string()).collect();
    note_list(reader, Setting::PythonPath, &shown);
    Ok(directories)
}

fn env(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let pairs = reader.many(Setting::Env, |text| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| "KEY=VALUE".to_owned())?;
        Ok((key.to_owned(), value.to_owned()))
    })?;
    // The effective configuration is printed, and the values may be secrets.
    let names: Vec<_> = pairs.iter().map(|(key, _)| format!("{key}=...")).collect();
    note_list(reader, Setting::Env, &names);
    Ok(pairs)
}

fn note_list(reader: &mut Reader<'_>, setting: Setting, values: &[String]) {
    let origin = reader.given(setting).map_or(Origin::Default, |given| given.origin.clone());
    reader.note(setting, values.join(", "), origin);
}
