//! The options: one table from which the command line, the environment variables, the help, the
//! guide and the effective configuration all come.
//!
//! A default is a text here, read like one that a user wrote; [`crate::config`] reads both.

pub mod gunicorn;
mod table;

use std::fmt::Write;

pub use table::OPTIONS;

/// Names one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is explained by its row in OPTIONS")]
pub enum Setting {
    Application,
    Config,
    Factory,
    Chdir,
    PythonPath,
    Env,
    Bind,
    ReusePort,
    ListenMode,
    Backlog,
    UnixSocketMode,
    MaxConnections,
    AdminBind,
    Workers,
    Preload,
    MaxRequests,
    MaxRequestsJitter,
    MaxRss,
    MaxLifetime,
    ReloadCheck,
    OnStart,
    PreFork,
    PostFork,
    WorkerReady,
    WorkerExit,
    User,
    Group,
    AllowNewPrivileges,
    Umask,
    Name,
    Pid,
    Timeout,
    GracefulTimeout,
    DrainDelay,
    BootTimeout,
    KeepAlive,
    HeaderTimeout,
    BodyTimeout,
    BodyMinRate,
    WriteTimeout,
    LimitRequestLine,
    LimitRequestFields,
    LimitRequestFieldSize,
    LimitRequestHead,
    LimitRequestBody,
    BodyMemory,
    BodyTempDir,
    MaxRequestsPerConnection,
    HeaderMap,
    ServerHeader,
    RootPath,
    LogLevel,
    LogFormat,
    AccessLogfile,
    Statsd,
    StatsdHost,
    StatsdPrefix,
    StatsdInterval,
    StatsdFormat,
    StatsdWorkerTag,
    DogstatsdTags,
    Zone,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Which option.
    pub setting: Setting,
    /// Its long name without dashes.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// What its value is called.
    pub value: &'static str,
    /// How often it is given.
    pub takes: Takes,
    /// What holds without it.
    pub default: Preset,
    /// Where it stands in the help.
    pub topic: Topic,
    /// What it does.
    pub meaning: &'static str,
}

/// How often an option is given, and how its environment variable holds several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// The word that belongs to no option: MODULE:ATTR.
    Positional,
    /// Once; the last one counts.
    Once,
    /// `--flag`, `--flag=on`, `--flag=off`.
    Switch,
    /// Repeatedly; the environment variable separates by this.
    Many(char),
}

/// What holds without an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This value.
    Text(&'static str),
    /// A value that is worked out at start, in words.
    Derived(&'static str),
    /// Nothing.
    Nothing,
}

/// Headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What is served.
    Application,
    /// Where it is served.
    Listening,
    /// Who serves it.
    Processes,
    /// How long things take.
    Times,
    /// How large things are.
    Limits,
    /// How HTTP is spoken.
    Http,
    /// What is written down.
    Logging,
    /// What is counted, and where that goes.
    Metrics,
}

impl Topic {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 8] = [
        Self::Application,
        Self::Listening,
        Self::Processes,
        Self::Times,
        Self::Limits,
        Self::Http,
        Self::Logging,
        Self::Metrics,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Listening => "Listening",
            Self::Processes => "Processes",
            Self::Times => "Times",
            Self::Limits => "Limits",
            Self::Http => "HTTP",
            Self::Logging => "Logging",
            Self::Metrics => "Metrics",
        }
    }
}

impl OptionSpec {
    /// The row of a setting.
    pub fn of(setting: Setting) -> &'static Self {
        OPTIONS.iter().find(|option| option.setting == setting).expect("a test finds every setting")
    }

    /// How it is written on the command line, without its value.
    pub fn flag(&self) -> String {
        match self.takes {
            Takes::Positional => self.value.to_owned(),
            Takes::Once | Takes::Switch | Takes::Many(_) => format!("--{}", self.long),
        }
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        Self::variable_of(self.long)
    }

    /// The environment variable of the option that is called so.
    pub fn variable_of(long: &str) -> String {
        format!("ARCTOS_{}", long.replace('-', "_").to_ascii_uppercase())
    }

    /// The argument of the Python function `serve()`.
    pub fn keyword(&self) -> String {
        match self.takes {
            Takes::Positional => "app_or_path".to_owned(),
            Takes::Once | Takes::Switch | Takes::Many(_) => self.long.replace('-', "_"),
        }
    }

    /// What holds without it, as the help says it; empty for nothing.
    pub fn default_text(&self) -> &'static str {
        match self.default {
            Preset::Text(text) | Preset::Derived(text) => text,
            Preset::Nothing => "",
        }
    }
}

/// The table of options as Markdown, for the guide.
pub fn markdown() -> String {
    let mut page = String::new();
    for topic in Topic::ALL {
        let heading = topic.title();
        // A String takes all.
        let _ = write!(page, "### {heading}\n\n| option | default | meaning |\n");
        page.push_str("|---|---|---|\n");
        for option in OPTIONS.iter().filter(|option| option.topic == topic) {
            let short = option.short.map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
            let usage = match option.takes {
                Takes::Positional => format!("`{}`", option.value),
                Takes::Once | Takes::Many(_) => {
                    format!("{short}`--{} {}`", option.long, option.value)
                }
                Takes::Switch => format!("{short}`--{}`", option.long),
            };
            let repeats = match option.takes {
                Takes::Many(_) => " Repeatable.",
                Takes::Positional | Takes::Once | Takes::Switch => "",
            };
            let default = match option.default {
                Preset::Text(text) => format!("`{text}`"),
                Preset::Derived(words) => words.to_owned(),
                Preset::Nothing => String::new(),
            };
            let meaning = option.meaning.replace('|', "\\|");
            let usage = usage.replace('|', "\\|");
            // A String takes all.
            let _ = writeln!(page, "| {usage} | {default} | {meaning}{repeats} |");
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

#[cfg(test)]
mod tests;
