//! The dashboard of Datadog, as its API and its import accept it.

use serde_json::{Value, json};

use super::panels::{Panel, ROWS, Style, Unit};
use super::query::{By, Formula, name};
use super::{ABOUT, TITLE, file};

/// The dashboard as JSON, for metrics with this prefix.
pub fn dashboard(prefix: &str) -> String {
    let groups: Vec<_> = ROWS
        .iter()
        .map(|row| {
            let widgets: Vec<_> = row.panels.iter().map(|panel| widget(panel, prefix)).collect();
            json!({ "definition": {
                "type": "group",
                "layout_type": "ordered",
                "title": row.title,
                "widgets": widgets,
            } })
        })
        .collect();
    let variables = ["env", "service", "zone", "worker"].map(
        |tag| json!({ "name": tag, "prefix": tag, "available_values": [], "defaults": ["*"] }),
    );
    file(&json!({
        "title": TITLE,
        "description": ABOUT,
        "layout_type": "ordered",
        "reflow_type": "auto",
        "template_variables": variables,
        "widgets": groups,
    }))
}

fn widget(panel: &Panel, prefix: &str) -> Value {
    let display_type = match panel.style {
        Style::Lines => "line",
        Style::Stacked => "area",
        Style::Bars => "bars",
    };
    let requests: Vec<_> = panel
        .lines
        .iter()
        .map(|line| {
            let Formula { queries, formula } = line.query.datadog(line.by, prefix);
            let queries: Vec<_> = queries
                .iter()
                .enumerate()
                .map(|(number, query)| {
                    json!({ "data_source": "metrics", "name": name(number), "query": query })
                })
                .collect();
            let mut formula = json!({ "formula": formula });
            if line.by == By::Total {
                formula["alias"] = json!(line.name);
            }
            if let Some(unit) = unit(panel.unit) {
                formula["number_format"] =
                    json!({ "unit": { "type": "canonical_unit", "unit_name": unit } });
            }
            json!({
                "response_format": "timeseries",
                "display_type": display_type,
                "queries": queries,
                "formulas": [formula],
            })
        })
        .collect();
    json!({ "definition": {
        "type": "timeseries",
        "title": panel.title,
        "show_legend": true,
        "legend_layout": "auto",
        "requests": requests,
    } })
}

/// The unit as Datadog calls it, if it has one.
fn unit(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Count | Unit::PerSecond => None,
        Unit::Bytes | Unit::BytesPerSecond => Some("byte"),
        Unit::Fraction => Some("fraction"),
        Unit::Duration => Some("millisecond"),
        Unit::Seconds => Some("second"),
    }
}
