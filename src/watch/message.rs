//! What the helper process tells the supervisor: one line for each message, with a tab between its parts.

use arctos_worker::shared::log::{Level, Log, Value};

/// A message of the helper process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It watches from now on.
    Watching {
        /// `inotify` or `poll`.
        engine: String,
        /// The number of directories.
        directories: usize,
    },
    /// Files have changed.
    Changed {
        /// Their number.
        count: usize,
        /// One of them.
        path: String,
    },
    /// It polls, for this reason.
    Polling {
        /// The reason.
        reason: String,
    },
    /// It does not watch everything, for this reason.
    Incomplete {
        /// The reason.
        reason: String,
    },
}

impl Message {
    /// Whether files have changed.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }

    /// Logs this message.
    pub fn log(&self, log: &Log) {
        let number = |count: usize| Value::Number(i64::try_from(count).unwrap_or(i64::MAX));
        match self {
            Self::Watching { engine, directories } => {
                let pairs =
                    [("engine", Value::Text(engine)), ("directories", number(*directories))];
                log.line(Level::Info, "reload.watching", &pairs);
            }
            Self::Changed { count, path } => {
                let pairs = [("path", Value::Text(path)), ("files", number(*count))];
                log.line(Level::Info, "reload.files_changed", &pairs);
            }
            Self::Polling { reason } => {
                log.line(Level::Warning, "reload.polling", &[("reason", Value::Text(reason))]);
            }
            Self::Incomplete { reason } => {
                let pairs = [("reason", Value::Text(reason))];
                log.line(Level::Warning, "reload.not_all_watched", &pairs);
            }
        }
    }

    /// The line of this message.
    pub fn line(&self) -> String {
        match self {
            Self::Watching { engine, directories } => {
                format!("watching\t{directories}\t{engine}\n")
            }
            Self::Changed { count, path } => format!("changed\t{count}\t{}\n", plain(path)),
            Self::Polling { reason } => format!("polling\t0\t{}\n", plain(reason)),
            Self::Incomplete { reason } => format!("incomplete\t0\t{}\n", plain(reason)),
        }
    }

    /// Reads a line without its end; `None` if it is no message.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, '\t');
        let (kind, count, text) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let text = text.to_owned();
        Some(match kind {
            "watching" => Self::Watching { engine: text, directories: count },
            "changed" => Self::Changed { count, path: text },
            "polling" => Self::Polling { reason: text },
            "incomplete" => Self::Incomplete { reason: text },
            _ => return None,
        })
    }
}

/// A path may contain anything; a message is one line, and short enough for one write(2) to a pipe.
fn plain(text: &str) -> String {
    const MAXIMUM_CHARS: usize = 500;
    let is_plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(is_plain).take(MAXIMUM_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_pipe() {
        for message in [
            Message::Watching { engine: "inotify".to_owned(), directories: 12 },
            Message::Changed { count: 3, path: "shop/views.py".to_owned() },
            Message::Polling { reason: "No space left on device".to_owned() },
            Message::Incomplete { reason: "too many directories".to_owned() },
        ] {
            let line = message.line();
            assert_eq!(Message::of_line(line.strip_suffix('\n').unwrap()), Some(message));
        }
        assert_eq!(Message::of_line("changed\tmany\tx"), None);
        assert_eq!(Message::of_line(""), None);
    }

    #[test]
    fn a_name_with_a_line_break_is_one_line() {
        let path = "a\nb\tc.py".to_owned();
        assert_eq!(Message::Changed { count: 1, path }.line(), "changed\t1\ta?b?c.py\n");
    }
}
