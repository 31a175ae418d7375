//! The options: one table that the command line, the environment variables, the help, the guide and the effective
//! configuration all read.
//!
//! A default stands in the table and nowhere else, or is a constant of the setting that it is the default of. It is
//! read as the text that a user would have written.

pub mod peers;
mod table;

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use super::value::{shown_size, shown_switch};
use crate::system::duration;

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
    ReadyMaxBacklog,
    ReadyMinWorkers,
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
    TimeoutFor,
    TimeoutGrace,
    Quarantine,
    GracefulTimeout,
    DrainDelay,
    BootTimeout,
    KeepAlive,
    HeaderTimeout,
    BodyTimeout,
    BodyMinRate,
    WriteTimeout,
    MaxQueueTime,
    SlowRequest,
    LimitRequestLine,
    LimitRequestFields,
    LimitRequestFieldSize,
    LimitRequestHead,
    LimitRequestBody,
    BodyMemory,
    BodyMemoryTotal,
    BodyTempDir,
    MaxRequestsPerConnection,
    Certfile,
    Keyfile,
    CaCerts,
    CertReqs,
    HeaderMap,
    ServerHeader,
    RequestIdHeader,
    AbandonOnHalfClose,
    KeepaliveMode,
    RootPath,
    ForwardedAllowIps,
    ForwardedHeaders,
    ProxyProtocol,
    ProxyAllowFrom,
    Static,
    SendfileRoot,
    LogLevel,
    LogFormat,
    AccessLogfile,
    AccessLogformat,
    AccessLogSample,
    AccessLogExclude,
    Statsd,
    StatsdHost,
    StatsdPrefix,
    StatsdInterval,
    StatsdFormat,
    StatsdWorkerTag,
    DogstatsdTags,
    Zone,
    MetricsSeries,
    Reload,
    ReloadExtra,
    ReloadEngine,
    Debug,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The option that this row describes.
    pub setting: Setting,
    /// Its long name, without the leading dashes.
    pub long: &'static str,
    /// Its one-letter name.
    pub short: Option<char>,
    /// The placeholder of its value in the help.
    pub value: &'static str,
    /// How often it may be given.
    pub takes: Takes,
    /// Its value when it is not given.
    pub default: DefaultValue,
    /// The heading of the help that it stands under.
    pub topic: Topic,
    /// The help text.
    pub meaning: &'static str,
}

/// How often an option may be given, and how its environment variable separates several values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// The positional argument, MODULE:ATTR.
    Positional,
    /// Once; the last one counts.
    Once,
    /// `--flag`, `--flag=on`, `--flag=off`.
    Switch,
    /// Any number of times; this character separates the values in the environment variable.
    Many(char),
}

/// The value of an option that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// A word, as the option takes it.
    Word(&'static str),
    /// A number.
    Count(u64),
    /// A number of bytes.
    Size(u64),
    /// A duration.
    Time(Duration),
    /// Whether it is on.
    Switch(bool),
    /// A value that is worked out at start, described in words.
    Derived(&'static str),
    /// No value.
    None,
}

impl DefaultValue {
    /// The value as a user would write it; empty if there is none, or if it is worked out at start.
    pub fn text(&self) -> Cow<'static, str> {
        match *self {
            Self::Word(text) => text.into(),
            Self::Count(number) => number.to_string().into(),
            Self::Size(bytes) => shown_size(bytes).into(),
            Self::Time(time) => duration::shown(time).into(),
            Self::Switch(is_on) => shown_switch(is_on).into(),
            Self::Derived(_) | Self::None => "".into(),
        }
    }

    /// The default as the help shows it; empty if there is none.
    pub fn in_words(&self) -> Cow<'static, str> {
        match *self {
            Self::Derived(words) => words.into(),
            Self::Word(_)
            | Self::Count(_)
            | Self::Size(_)
            | Self::Time(_)
            | Self::Switch(_)
            | Self::None => self.text(),
        }
    }
}

/// Headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`title` shows what each is called")]
pub enum Topic {
    Application,
    Listening,
    Processes,
    Times,
    Limits,
    Tls,
    Http,
    Logging,
    Metrics,
    Development,
}

impl Topic {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 10] = [
        Self::Application,
        Self::Listening,
        Self::Processes,
        Self::Times,
        Self::Limits,
        Self::Tls,
        Self::Http,
        Self::Logging,
        Self::Metrics,
        Self::Development,
    ];

    /// The text of the heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Listening => "Listening",
            Self::Processes => "Processes",
            Self::Times => "Times",
            Self::Limits => "Limits",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Logging => "Logging",
            Self::Metrics => "Metrics",
            Self::Development => "Development",
        }
    }
}

impl OptionSpec {
    /// Returns the row of a setting.
    pub fn of(setting: Setting) -> &'static Self {
        OPTIONS.iter().find(|option| option.setting == setting).expect("a test finds every setting")
    }

    /// The option as the command line writes it, without its value.
    pub fn flag(&self) -> String {
        match self.takes {
            Takes::Positional => self.value.to_owned(),
            Takes::Once | Takes::Switch | Takes::Many(_) => format!("--{}", self.long),
        }
    }

    /// The help as plain text, with the default.
    pub fn help(&self) -> String {
        let default = match self.default.in_words() {
            text if text.is_empty() => String::new(),
            text => format!(" [default: {text}]"),
        };
        format!("{}{default}", self.meaning).replace('`', "")
    }

    /// The first sentence of the help text.
    pub fn summary(&self) -> &'static str {
        self.meaning.split_once(". ").map_or(self.meaning, |(first, _)| first).trim_end_matches('.')
    }

    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        Self::variable_of(self.long)
    }

    /// The name of the environment variable of an option, given the option's long name.
    pub fn variable_of(long: &str) -> String {
        format!("ARCTOS_{}", long.replace('-', "_").to_ascii_uppercase())
    }

    /// The name of the corresponding argument of the Python function `serve()`.
    pub fn keyword(&self) -> String {
        match self.takes {
            Takes::Positional => "app_or_path".to_owned(),
            Takes::Once | Takes::Switch | Takes::Many(_) => self.long.replace('-', "_"),
        }
    }
}

/// The table of options as Markdown, for the guide.
pub fn markdown() -> String {
    let mut page = String::new();
    for topic in Topic::ALL {
        let heading = topic.title();
        // Writing to a String cannot fail.
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
            let default = match option.default.text() {
                text if text.is_empty() => option.default.in_words().into_owned(),
                text => format!("`{text}`"),
            };
            let meaning = option.meaning.replace('|', "\\|");
            let usage = usage.replace('|', "\\|");
            // Writing to a String cannot fail.
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
