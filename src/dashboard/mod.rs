//! Dashboards for Grafana and Datadog, and alert rules for Prometheus, made of the metrics that this version has.
//!
//! | file | owns |
//! |---|---|
//! | `metric` | any metric of the server, with its names |
//! | `query` | what a line of a panel shows, in the languages of Prometheus and Datadog |
//! | `panels` | the rows and panels of both dashboards, and the metrics that are on none |
//! | `grafana`, `datadog` | the JSON that these import |
//! | `alerts` | the alert rules |
//!
//! A panel names the variant of a metric and never its text, so that a metric which is renamed or removed cannot be
//! forgotten here. A unit test finds metrics that are new.
mod alerts;
mod datadog;
mod grafana;
mod metric;
mod panels;
mod query;

pub use alerts::rules;
pub use datadog::dashboard as datadog;
pub use grafana::dashboard as grafana;

/// The name of both dashboards.
const TITLE: &str = "arctos";
/// What both dashboards say about themselves.
const ABOUT: &str = concat!(
    "Servers of arctos. Made by arctos dashboard, version ",
    env!("CARGO_PKG_VERSION"),
    ". arctos help observability says what to look at."
);

/// The JSON as a file: indented, so that two versions can be compared.
fn file(json: &serde_json::Value) -> String {
    format!("{json:#}\n")
}
