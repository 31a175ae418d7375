//! What another server's configuration says: names and values, before they are converted.

/// The value of a setting of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerValue {
    /// None: the default of the server.
    Absent,
    /// True or false.
    Switch(bool),
    /// A text, or a number as it was written.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// Names and texts.
    Table(Vec<(String, String)>),
    /// A function of Python.
    Function(PeerFunction),
    /// Another object, as Python shows it.
    Other(String),
}

/// A function in a configuration of gunicorn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerFunction {
    /// The module that it is defined in; `None` if that is the configuration file.
    pub(super) module: Option<String>,
    /// Its name in that module.
    pub(super) name: String,
    /// Whether it can be called with one argument.
    pub(super) takes_one: bool,
}

/// One setting of another server, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerLine {
    /// Its name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: PeerValue,
    /// The expression that computed the value, if it is no literal.
    pub(super) computed: Option<String>,
}

impl PeerLine {
    /// A line with a text.
    pub(super) fn text(name: &str, value: impl Into<String>) -> Self {
        Self::new(name, PeerValue::Text(value.into()))
    }

    /// A line with a value.
    pub(super) fn new(name: &str, value: PeerValue) -> Self {
        Self { name: name.to_owned(), value, computed: None }
    }

    /// The setting as the other server's configuration has it, for a comment.
    pub(super) fn shown(&self) -> String {
        let value = self.value.shown();
        if value.is_empty() { self.name.clone() } else { format!("{} = {value}", self.name) }
    }
}

impl PeerValue {
    /// The value as a text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(list) => match list.as_slice() {
                [only] => Some(only),
                _ => None,
            },
            Self::Absent
            | Self::Switch(_)
            | Self::Table(_)
            | Self::Function(_)
            | Self::Other(_) => None,
        }
    }

    /// The values of a list, or the one text.
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::List(list) => list.clone(),
            Self::Text(text) => vec![text.clone()],
            Self::Absent
            | Self::Switch(_)
            | Self::Table(_)
            | Self::Function(_)
            | Self::Other(_) => Vec::new(),
        }
    }

    /// Whether the value turns its setting off, or leaves it at its default.
    pub(super) fn is_off(&self) -> bool {
        match self {
            Self::Absent | Self::Switch(false) => true,
            Self::List(list) => list.is_empty(),
            Self::Table(table) => table.is_empty(),
            Self::Text(text) => text.is_empty(),
            Self::Switch(true) | Self::Function(_) | Self::Other(_) => false,
        }
    }

    /// The value for a comment, shortened.
    pub(super) fn shown(&self) -> String {
        const MAX: usize = 60;
        let text = match self {
            Self::Absent => "None".to_owned(),
            Self::Switch(true) => "true".to_owned(),
            Self::Switch(false) => "false".to_owned(),
            Self::Text(text) if is_number(text) => text.clone(),
            Self::Text(text) => format!("{text:?}"),
            Self::List(list) => format!("{list:?}"),
            Self::Table(table) => {
                let pairs: Vec<String> =
                    table.iter().map(|(name, text)| format!("{name:?}: {text:?}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            Self::Function(function) => format!("{}()", function.name),
            Self::Other(text) => text.clone(),
        };
        match text.char_indices().nth(MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    }
}

/// Whether a text is a decimal number.
pub(super) fn is_number(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction)
}
