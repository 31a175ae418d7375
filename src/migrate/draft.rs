//! A configuration of arctos in the making: what another server's settings became.

use std::collections::BTreeMap;

use super::value::{PeerLine, PeerValue};
use crate::config::options::peers::{Answer, Peer, PeerSetting, Unit};
use crate::config::options::{DefaultValue, OptionSpec, Setting, Takes};
use crate::config::value::shown_size;

/// The value of one option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    /// The values as a command line would have them.
    pub(super) values: Vec<String>,
    /// Sentences that explain the value or a difference.
    pub(super) comments: Vec<String>,
    /// Whether the option is only proposed, as a comment.
    pub(super) is_proposal: bool,
}

/// A setting without an option, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The setting as the other server's configuration has it.
    pub(super) what: String,
    /// Why it has no option, and what to do instead.
    pub(super) text: String,
}

/// What the settings of another server became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    /// The options.
    pub(super) planned: BTreeMap<Setting, Planned>,
    /// Settings that arctos does not need.
    pub(super) unneeded: Vec<Note>,
    /// Settings without an equivalent.
    pub(super) missing: Vec<Note>,
    /// Settings that neither server knows.
    pub(super) unknown: Vec<Note>,
    /// Defaults of the other server that arctos does not share.
    pub(super) defaults: Vec<Note>,
    /// What else has to be changed, each in lines.
    pub(super) remarks: Vec<Vec<String>>,
    /// How many settings became an option with the same meaning.
    pub(super) same: usize,
    /// How many settings became an option with nearly the same meaning.
    pub(super) near: usize,
}

impl Draft {
    /// Sets an option.
    pub(super) fn set(&mut self, setting: Setting, values: Vec<String>) -> &mut Planned {
        let planned = self.planned.entry(setting).or_default();
        planned.values = values;
        planned.is_proposal = false;
        planned
    }

    /// Adds a value to an option that repeats.
    pub(super) fn add(&mut self, setting: Setting, value: String) -> &mut Planned {
        let planned = self.planned.entry(setting).or_default();
        if !planned.values.contains(&value) {
            planned.values.push(value);
        }
        planned
    }

    /// Proposes an option, as a comment, unless it has a value.
    pub(super) fn propose(&mut self, setting: Setting, values: Vec<String>, comment: String) {
        let planned = self
            .planned
            .entry(setting)
            .or_insert_with(|| Planned { is_proposal: true, ..Planned::default() });
        if planned.values.is_empty() {
            planned.values = values;
        }
        planned.comments.push(comment);
    }

    /// Whether the server listens at the path of a unix socket.
    pub(super) fn binds_unix_path(&self) -> bool {
        self.planned
            .get(&Setting::Bind)
            .is_some_and(|binds| binds.values.iter().any(|bind| bind.starts_with("unix:/")))
    }

    /// Returns whether an option has a value, proposed or not.
    pub(super) fn has(&self, setting: Setting) -> bool {
        self.planned.contains_key(&setting)
    }

    /// Notes a setting that arctos does not need.
    pub(super) fn unneeded(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.unneeded.push(Note { what: what.into(), text: text.into() });
    }

    /// Notes a setting without an equivalent.
    pub(super) fn missing(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.missing.push(Note { what: what.into(), text: text.into() });
    }

    /// Notes a default that differs.
    pub(super) fn differs(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.defaults.push(Note { what: what.into(), text: text.into() });
    }

    /// Converts a line by its row of the table, whose values need no code of their own.
    pub(super) fn convert(&mut self, row: &PeerSetting, line: &PeerLine) {
        if let Answer::Same { setting } | Answer::Near { setting, .. } = row.answer
            && OptionSpec::of(setting).default == DefaultValue::Switch(false)
            && line.value == PeerValue::Switch(false)
        {
            self.same += 1;
            return;
        }
        match row.answer {
            Answer::Same { setting } => {
                if self.convert_value(setting, row.unit, line) {
                    self.same += 1;
                }
            }
            Answer::Near { setting, difference } => {
                if self.convert_value(setting, row.unit, line) {
                    self.near += 1;
                    let planned = self.planned.entry(setting).or_default();
                    planned.comments.push(format!("Difference: {difference}."));
                }
            }
            Answer::Always { why } => {
                if line.value != PeerValue::Absent {
                    self.unneeded(line.shown(), why);
                }
            }
            Answer::No { instead } => {
                if !line.value.is_off() {
                    self.missing(line.shown(), instead);
                }
            }
        }
    }

    /// Sets an option to the value of a line. Returns whether there is a value.
    fn convert_value(&mut self, setting: Setting, unit: Unit, line: &PeerLine) -> bool {
        let spec = OptionSpec::of(setting);
        let values = match &line.value {
            PeerValue::Absent => return false,
            PeerValue::Switch(is_on) => vec![if *is_on { "on" } else { "off" }.to_owned()],
            PeerValue::Text(text) if text.is_empty() => return false,
            PeerValue::Text(text) => vec![option_text(spec, unit, text)],
            PeerValue::List(list) if list.is_empty() => return false,
            PeerValue::List(list) => match spec.takes {
                Takes::Many(_) => list.clone(),
                Takes::Once | Takes::Switch | Takes::Positional => vec![list.join(":")],
            },
            PeerValue::Table(table) => {
                table.iter().map(|(name, value)| format!("{name}={value}")).collect()
            }
            PeerValue::Function(_) | PeerValue::Other(_) => {
                self.missing(line.shown(), "its value is no text that arctos could take");
                return false;
            }
        };
        match spec.takes {
            // Each value of a list is whole, even with several lines, such as a certificate in a variable.
            Takes::Many('\n') if matches!(line.value, PeerValue::List(_)) => {
                for value in values {
                    self.add(setting, value);
                }
            }
            Takes::Many(separator) => {
                let parts = values.iter().flat_map(|value| value.split(separator));
                for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
                    self.add(setting, part.to_owned());
                }
            }
            Takes::Once | Takes::Switch | Takes::Positional => {
                self.set(setting, values);
            }
        }
        self.explain_computed(setting, line);
        true
    }

    /// Says how a value was computed.
    pub(super) fn explain_computed(&mut self, setting: Setting, line: &PeerLine) {
        let Some(expression) = &line.computed else { return };
        let value = line.value.shown();
        let planned = self.planned.entry(setting).or_default();
        planned.comments.push(format!("Computed: {expression}, which is {value} here and now."));
    }
}

/// Writes a value as its option reads it.
fn option_text(spec: &OptionSpec, unit: Unit, text: &str) -> String {
    let number = text.parse::<u64>();
    match (spec.default, unit, number) {
        (DefaultValue::Time(_), Unit::Milliseconds, Ok(millis)) => match millis % 1000 {
            0 => format!("{}s", millis / 1000),
            _ => format!("{millis}ms"),
        },
        (DefaultValue::Time(_), _, Ok(0)) => "0".to_owned(),
        (DefaultValue::Time(_), _, Ok(seconds)) => format!("{seconds}s"),
        (DefaultValue::Size(_), Unit::Mebibytes, Ok(mebibytes)) => {
            shown_size(mebibytes.saturating_mul(1 << 20))
        }
        (DefaultValue::Size(_), _, Ok(bytes)) => shown_size(bytes),
        _ => text.to_owned(),
    }
}

/// Whether a value holds a variable that a shell, systemd or uWSGI would replace.
pub(super) fn has_variable(value: &str) -> bool {
    value.match_indices('$').any(|(index, _)| {
        let next = value[index + 1..].chars().next();
        next.is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '{' | '(' | '_'))
    })
}

/// Whether a value is just the variable `name`, with or without a default: `$PORT`, `${PORT:-8000}`, `$(PORT)`.
pub(super) fn is_variable(value: &str, name: &str) -> bool {
    let Some(rest) = value.strip_prefix('$') else { return false };
    let inner = rest
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .or_else(|| rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')));
    let inner = inner.unwrap_or(rest);
    inner.split([':', '-']).next() == Some(name)
}

/// Adds what a shell calls one in a hundred lines: an option that concurrency by threads becomes.
///
/// `threads` is the number of requests that each of `workers` ran at once.
pub(super) fn set_concurrency(draft: &mut Draft, peer: Peer, workers: Option<u64>, threads: u64) {
    const MOST: u64 = 64;
    let title = peer.title();
    let each = workers.unwrap_or(1);
    let product = each.saturating_mul(threads);
    if product > MOST {
        let comment = format!(
            "{title} ran up to {each} * {threads} = {product} requests at once; arctos runs one in each worker. \
             Estimate the number from the load: requests per second * seconds per request, and a reserve."
        );
        let workers = vec![each.to_string()];
        draft.propose(Setting::Workers, workers, comment);
        return;
    }
    let planned = draft.set(Setting::Workers, vec![product.to_string()]);
    planned.comments.push(format!(
        "{title} ran up to {each} * {threads} = {product} requests at once; arctos runs one in each worker, and {product} \
         workers keep that. Each needs memory of its own: start with fewer if that is short, or share it with preload."
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(peer: Peer, name: &str, value: PeerValue) -> Draft {
        let mut draft = Draft::default();
        draft.convert(peer.setting(name).unwrap(), &PeerLine::new(name, value));
        draft
    }

    #[test]
    fn values_get_the_unit_of_the_option() {
        for (peer, name, value, setting, expected) in [
            (Peer::Gunicorn, "graceful_timeout", "90", Setting::GracefulTimeout, "90s"),
            (Peer::Gunicorn, "keepalive", "0.5", Setting::KeepAlive, "0.5"),
            (Peer::Granian, "http1-header-read-timeout", "1500", Setting::HeaderTimeout, "1500ms"),
            (Peer::Granian, "http1-header-read-timeout", "30000", Setting::HeaderTimeout, "30s"),
            (Peer::Granian, "workers-max-rss", "512", Setting::MaxRss, "512M"),
            (Peer::Uwsgi, "reload-on-rss", "2048", Setting::MaxRss, "2G"),
            (Peer::Uwsgi, "limit-post", "10485760", Setting::LimitRequestBody, "10M"),
            (Peer::Uwsgi, "max-worker-lifetime", "3600", Setting::MaxLifetime, "3600s"),
            (Peer::Uwsgi, "harakiri", "0", Setting::Timeout, "0"),
        ] {
            let draft = converted(peer, name, PeerValue::Text(value.to_owned()));
            assert_eq!(draft.planned[&setting].values, [expected], "{name}");
        }
    }

    #[test]
    fn what_is_off_needs_no_note() {
        for value in [PeerValue::Absent, PeerValue::Switch(false)] {
            assert_eq!(converted(Peer::Gunicorn, "daemon", value), Draft::default());
        }
        assert_eq!(converted(Peer::Gunicorn, "daemon", PeerValue::Switch(true)).missing.len(), 1);
    }

    #[test]
    fn lists_become_repeated_values() {
        let list = PeerValue::List(vec!["A=1".to_owned(), "B=x,y".to_owned()]);
        let draft = converted(Peer::Gunicorn, "raw_env", list);
        assert_eq!(draft.planned[&Setting::Env].values, ["A=1", "B=x,y"]);
        let text = PeerValue::Text("/a, /b".to_owned());
        let draft = converted(Peer::Gunicorn, "pythonpath", text);
        assert_eq!(draft.planned[&Setting::PythonPath].values, ["/a", "/b"]);
    }

    #[test]
    fn variables_of_a_shell_are_recognized() {
        assert!(has_variable("0.0.0.0:$PORT") && has_variable("$(HOME)/x") && !has_variable("5$"));
        for text in ["$PORT", "${PORT}", "${PORT:-8000}", "$(PORT)"] {
            assert!(is_variable(text, "PORT"), "{text}");
        }
        assert!(!is_variable("$PORTAL", "PORT"));
    }
}
