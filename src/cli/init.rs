//! The command line of `arctos init [PATH]`, and what it does: it writes a configuration file with every option.

mod project;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arctos_worker::shared::log::ErrorText;
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command, ValueHint};

use super::{Invocation, UsageError};
use crate::config::template::{Found, template};

/// The first word of such a command line. A module of this name is served as `init:app`.
pub(super) const WORD: &str = "init";
const PATH: &str = "path";
const DEFAULT_PATH: &str = "arctos.toml";
const PYPROJECT: &str = "pyproject.toml";
const NOTES: &str = "It looks for a Django project, a Flask application or a factory in the directory of PATH and, \
     if it finds one, sets app. Every other option is commented out.\n\
     Exit codes: 0 success; 1 PATH exists or cannot be written; 2 the command line is wrong.";

/// What `arctos init` is asked to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitCommand {
    path: PathBuf,
}

/// Why no file was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is such a file, which somebody may have edited.
    #[error("{} exists, and arctos init overwrites nothing; arctos init - prints the text", .0.display())]
    Exists(PathBuf),
    /// The error of the kernel.
    #[error("cannot write {}: {}", .path.display(), ErrorText(.error))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl InitCommand {
    /// Writes the file, or returns its text if the path is `-`. The returned text is for standard output.
    ///
    /// Errors: [`InitError`]; a file that exists is left as it is.
    pub fn run(&self) -> Result<String, InitError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        let found = project::application(directory);
        let text = template(found.as_ref());
        if self.path.as_os_str() == "-" {
            return Ok(text);
        }
        // O_EXCL also refuses a link that leads nowhere.
        let file = OpenOptions::new().write(true).create_new(true).open(&self.path);
        let written = file.and_then(|mut file| {
            let written = file.write_all(text.as_bytes());
            if written.is_err() {
                // A part of it would be read at the next start, and keep the next `arctos init` from writing all of it.
                let _ = fs::remove_file(&self.path); // The first error is the one to report.
            }
            written
        });
        match written {
            Ok(()) => Ok(self.said(found.as_ref(), directory)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(InitError::Exists(self.path.clone()))
            }
            Err(error) => Err(InitError::Unwritable { path: self.path.clone(), error }),
        }
    }

    fn said(&self, found: Option<&Found>, directory: &Path) -> String {
        let path = self.path.display();
        let mut text = match found {
            Some(Found { application, file }) => {
                format!("Wrote {path} with app = \"{application}\", found in {file}.\n")
            }
            None => format!("Wrote {path}. Set app in it: no application was found here.\n"),
        };
        let is_found_by_itself = self.path.file_name().is_some_and(|name| name == DEFAULT_PATH);
        if is_found_by_itself && project::has_settings(&directory.join(PYPROJECT)) {
            text.push_str("The settings in [tool.arctos] of pyproject.toml are now ignored.\n");
        }
        let config = if is_found_by_itself { String::new() } else { format!(" --config {path}") };
        text.push_str(&format!("Check it with: arctos --check{config}\n"));
        text
    }
}

/// Parses what follows `init`.
pub(super) fn parse(words: &[OsString]) -> Result<Invocation, UsageError> {
    let words = std::iter::once(OsString::from("arctos init")).chain(words.iter().cloned());
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return super::help_or_mistake(&error),
    };
    let path = matches.get_one::<OsString>(PATH).map_or(DEFAULT_PATH.into(), PathBuf::from);
    Ok(Invocation::Init(InitCommand { path }))
}

/// The command line.
pub(super) fn command() -> Command {
    let path = Arg::new(PATH)
        .value_name("PATH")
        .help(format!("File to write; - prints the text instead [default: {DEFAULT_PATH}]"))
        .value_parser(ValueParser::os_string())
        .value_hint(ValueHint::FilePath);
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help);
    Command::new("arctos init")
        .about("Write a configuration file with every option, its default and a line of help.")
        .after_help(NOTES)
        .arg(path)
        .arg(help.help("Print this help"))
        .disable_help_flag(true)
}

#[cfg(test)]
mod tests;
