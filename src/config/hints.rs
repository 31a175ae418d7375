//! Hints about what an operator may have meant: variables that look like options of arctos and are none, and a
//! configuration of gunicorn, which arctos does not read. Neither is an error.

use std::fmt;
use std::path::PathBuf;

use super::advice::{Advice, advice};
use super::discovery;
use super::options::{OPTIONS, OptionSpec};
use super::origin::Origin;
use super::source::Source;

/// The file that gunicorn reads from the current directory without being asked to.
const GUNICORN_FILE: &str = "gunicorn.conf.py";
const GUNICORN_VARIABLE: &str = "GUNICORN_CMD_ARGS";
const PREFIX: &str = "ARCTOS_";

/// A hint; its text is a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A variable that belongs to no option; most likely it is misspelled.
    UnknownVariable {
        /// The variable.
        name: String,
        /// What the operator may have meant.
        advice: Advice,
    },
    /// A pyproject.toml whose settings are not read, because there is an arctos.toml.
    FileIgnored {
        /// The pyproject.toml.
        path: PathBuf,
    },
    /// A configuration of gunicorn.
    Gunicorn {
        /// The file, the variable, or both.
        found: String,
    },
}

impl Hint {
    /// The log event.
    pub fn event(&self) -> &'static str {
        match self {
            Self::UnknownVariable { .. } => "config.unknown_variable",
            Self::FileIgnored { .. } => "config.file_ignored",
            Self::Gunicorn { .. } => "config.gunicorn_ignored",
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVariable { name, advice } => {
                write!(f, "{name} is set, but no option has this variable")?;
                match advice {
                    Advice::Near(long) => {
                        write!(f, "; did you mean {}?", OptionSpec::variable_of(long))
                    }
                    Advice::Unsupported(hint) => write!(f, ": {hint}"),
                    Advice::None => Ok(()),
                }
            }
            Self::FileIgnored { path } => write!(
                f,
                "the settings in [tool.arctos] of {} are ignored, because there is an arctos.toml beside it",
                path.display()
            ),
            Self::Gunicorn { found } => write!(
                f,
                "{found} found, but arctos does not read gunicorn's configuration: `arctos migrate gunicorn` prints the same \
                 settings as arctos.toml"
            ),
        }
    }
}

impl Source {
    /// Returns the hints for this source, each once.
    ///
    /// Unknown variables are not errors, because Kubernetes sets `ARCTOS_SERVICE_HOST` and the like beside a Service
    /// named `arctos`.
    pub fn hints(&self) -> Vec<Hint> {
        let unknown = self.unknown_variables().into_iter().map(|name| {
            let key = name.trim_start_matches(PREFIX).to_lowercase().replace('_', "-");
            Hint::UnknownVariable { name: name.to_owned(), advice: advice(&key) }
        });
        unknown.chain(self.ignored_file()).chain(self.gunicorn()).collect()
    }

    fn unknown_variables(&self) -> Vec<&str> {
        let is_kubernetes = |name: &str| {
            name == "ARCTOS_PORT"
                || ["ARCTOS_SERVICE_", "ARCTOS_PORT_"].iter().any(|it| name.starts_with(it))
        };
        let known: Vec<_> = OPTIONS.iter().map(OptionSpec::variable).collect();
        let ours = self.environment().names().filter(|name| name.starts_with(PREFIX));
        ours.filter(|name| !is_kubernetes(name) && !known.iter().any(|it| it == name)).collect()
    }

    fn ignored_file(&self) -> Option<Hint> {
        let path = discovery::ignored(self.start_directory()).filter(|_| self.looks_for_file())?;
        Some(Hint::FileIgnored { path })
    }

    /// Nobody who calls `serve()` from a program, or gives a file of arctos, expects gunicorn's file to be read.
    fn gunicorn(&self) -> Option<Hint> {
        let is_ours = !self.looks_for_file() || discovery::finds_file(self.start_directory());
        let file = (!is_ours && self.start_directory().join(GUNICORN_FILE).is_file())
            .then(|| format!("./{GUNICORN_FILE}"));
        let variable =
            self.environment().value(GUNICORN_VARIABLE).map(|_| GUNICORN_VARIABLE.to_owned());
        let found: Vec<_> = file.into_iter().chain(variable).collect();
        let is_command = *self.origin() == Origin::CommandLine;
        (is_command && !found.is_empty()).then(|| Hint::Gunicorn { found: found.join(" and ") })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::options::Setting;

    fn hints(options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Vec<String> {
        let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
        let source = Source::of_command_line(given, variables.iter().copied().collect()).unwrap();
        source.hints().iter().map(Hint::to_string).collect()
    }

    #[test]
    fn an_unknown_variable_is_named_with_a_similar_one_or_what_to_do() {
        let variables = [
            ("ARCTOS_COLOUR", "x"),
            ("ARCTOS_LOGLEVEL", "x"),
            ("ARCTOS_PORT", "tcp://10.0.0.1:80"),
            ("ARCTOS_SERVICE_HOST", "10.0.0.1"),
            ("ARCTOS_THREADS", "4"),
            ("ARCTOS_WORKER", "4"),
            ("ARCTOS_WORKERS", "4"),
        ];
        let unknown = "is set, but no option has this variable";
        assert_eq!(
            hints(&[], &variables),
            [
                format!("ARCTOS_COLOUR {unknown}"),
                format!("ARCTOS_LOGLEVEL {unknown}; did you mean ARCTOS_LOG_LEVEL?"),
                format!(
                    "ARCTOS_THREADS {unknown}: a worker runs one request at a time; raise --workers \
                     instead"
                ),
                format!("ARCTOS_WORKER {unknown}; did you mean ARCTOS_WORKERS?"),
            ]
        );
    }

    #[test]
    fn a_configuration_of_gunicorn_is_one_hint() {
        let [hint] = &hints(&[], &[(GUNICORN_VARIABLE, "--workers 4")])[..] else { panic!() };
        assert!(
            hint.starts_with(
                "GUNICORN_CMD_ARGS found, but arctos does not read gunicorn's configuration: "
            ),
            "{hint}"
        );
        let keywords = [(Setting::Workers, vec![OsString::from("2")])];
        let environment = [(GUNICORN_VARIABLE, "--workers 4")].into_iter().collect();
        let program = Source::of_keywords(keywords, environment).unwrap();
        assert_eq!(program.hints(), [], "a program that calls serve() expects none of it");
    }
}
