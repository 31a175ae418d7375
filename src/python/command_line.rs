//! The table of options, for the commands of frameworks that start `arctos` (`arctos.contrib`).

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::cli;
use crate::config::options::{OPTIONS, OptionSpec, Takes};

/// A row of the table: long name, short name, placeholder of the value, how often it may be given, heading, help.
type Row = (&'static str, Option<char>, &'static str, &'static str, &'static str, String);

/// Returns all options of the command line, in the order of its help.
#[pyfunction]
pub(super) fn option_table() -> Vec<Row> {
    OPTIONS.iter().filter_map(row).collect()
}

fn row(option: &OptionSpec) -> Option<Row> {
    let takes = match option.takes {
        Takes::Positional => return None,
        Takes::Once => "once",
        Takes::Switch => "switch",
        Takes::Many(_) => "many",
    };
    let OptionSpec { long, short, value, topic, .. } = *option;
    Some((long, short, value, takes, topic.title(), option.help()))
}

/// Returns the long names of the options that these arguments, the environment or the configuration file give; none if
/// these are wrong, which arctos then reports.
#[pyfunction]
pub(super) fn given_options(arguments: Vec<OsString>) -> Vec<&'static str> {
    let line = std::iter::once("arctos".into()).chain(arguments);
    let given = cli::given_settings(line, std::env::vars_os().collect()).unwrap_or_default();
    given.into_iter().map(|setting| OptionSpec::of(setting).long).collect()
}
