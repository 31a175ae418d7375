//! The dashboard of Grafana, for a data source of Prometheus.
//!
//! It is what Grafana exports, with a variable for the data source, so that it can be imported in the browser as well
//! as put into a directory of provisioned dashboards.

mod application;

use arctos_worker::shared::scoreboard::Counter;
use serde_json::{Value, json};

use application::{KINDS, Kind};

use super::panels::{Line, Panel, ROWS, Style, Unit};
use super::query::By;
use super::{ABOUT, TITLE, file};
use crate::metrics::Gauge;
use crate::metrics::names::counter_prometheus_name;

/// Panels side by side, of 24 units together.
const COLUMNS: usize = 3;
const WIDTH: usize = 24 / COLUMNS;
const HEIGHT: usize = 8;
/// What is marked in all panels: the name, its counter, and the color.
const EVENTS: [(&str, Counter, &str); 3] = [
    ("Reloads", Counter::ReloadOk, "blue"),
    ("Failed reloads", Counter::ReloadFailed, "orange"),
    ("Deaths of workers", Counter::WorkerRestartsExit, "red"),
];

/// The dashboard as JSON.
pub fn dashboard() -> String {
    file(&json!({
        "title": TITLE,
        "uid": TITLE,
        "description": ABOUT,
        "tags": [TITLE],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "",
        "annotations": { "list": EVENTS.map(annotation) },
        "templating": { "list": variables() },
        "panels": panels(),
    }))
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn annotation((name, counter, color): (&str, Counter, &str)) -> Value {
    let metric = counter_prometheus_name(counter);
    let selected = format!(r#"{metric}{{job=~"$job",instance=~"$instance",zone=~"$zone"}}"#);
    json!({
        "name": name,
        "datasource": source(),
        "enable": true,
        "iconColor": color,
        "expr": format!("sum by (instance) (changes({selected}[$__rate_interval])) > 0"),
        "titleFormat": name,
        "textFormat": "{{instance}}",
    })
}

/// Each variable is filtered by those before it. Everything is selected at first, even what lacks the label.
fn variables() -> Vec<Value> {
    let server = Gauge::WorkersTarget.prometheus_name();
    let worker = Gauge::ConnOpen.prometheus_name();
    let labels = [
        ("job", server.clone()),
        ("zone", format!(r#"{server}{{job=~"$job"}}"#)),
        ("instance", format!(r#"{server}{{job=~"$job",zone=~"$zone"}}"#)),
        ("worker", format!(r#"{worker}{{job=~"$job",zone=~"$zone",instance=~"$instance"}}"#)),
    ];
    let data_source = json!({
        "name": "datasource",
        "label": "data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    });
    let labels = labels.map(|(label, series)| {
        let query = format!("label_values({series}, {label})");
        json!({
            "name": label,
            "type": "query",
            "datasource": source(),
            "query": { "query": query, "refId": label },
            "refresh": 2,
            "sort": 3,
            "multi": true,
            "includeAll": true,
            "allValue": ".*",
            "current": { "text": ["All"], "value": ["$__all"] },
        })
    });
    let applications = KINDS.iter().map(Kind::variable);
    std::iter::once(data_source).chain(labels).chain(applications).collect()
}

fn panels() -> Vec<Value> {
    let mut panels: Vec<Value> = Vec::new();
    let mut top = 0;
    for row in ROWS {
        panels.push(title(row.title, panels.len() + 1, top));
        top += 1;
        for (number, shown) in row.panels.iter().enumerate() {
            let (x, y) = (number % COLUMNS * WIDTH, top + number / COLUMNS * HEIGHT);
            let mut made = panel(shown);
            made["id"] = json!(panels.len() + 1);
            made["gridPos"] = json!({ "x": x, "y": y, "w": WIDTH, "h": HEIGHT });
            panels.push(made);
        }
        top += row.panels.len().div_ceil(COLUMNS) * HEIGHT;
    }
    panels.push(application(panels.len() + 1, top));
    panels
}

/// The title of a row.
fn title(title: &str, id: usize, top: usize) -> Value {
    json!({
        "id": id,
        "type": "row",
        "title": title,
        "collapsed": false,
        "gridPos": { "x": 0, "y": top, "w": 24, "h": 1 },
        "panels": [],
    })
}

/// The row for the metrics of the application. It is closed, because there may be none; it then contains its panels.
fn application(id: usize, top: usize) -> Value {
    let mut row = title("Metrics of the application", id, top);
    let panels: Vec<_> = KINDS
        .iter()
        .enumerate()
        .map(|(number, kind)| {
            let mut panel = kind.panel();
            panel["id"] = json!(id + 1 + number);
            panel["gridPos"] =
                json!({ "x": 0, "y": top + 1 + number * HEIGHT, "w": WIDTH, "h": HEIGHT });
            panel
        })
        .collect();
    row["collapsed"] = json!(true);
    row["panels"] = json!(panels);
    row
}

fn panel(panel: &Panel) -> Value {
    let (draw_style, opacity, stacking) = match panel.style {
        Style::Lines => ("line", 0, "none"),
        Style::Stacked => ("line", 30, "normal"),
        Style::Bars => ("bars", 80, "normal"),
    };
    let targets: Vec<_> = panel
        .lines
        .iter()
        .zip('A'..='Z')
        .map(|(line, letter)| {
            json!({
                "refId": letter.to_string(),
                "datasource": source(),
                "expr": line.query.prometheus(line.by),
                "legendFormat": legend(line),
                "editorMode": "code",
                "range": true,
                "exemplar": line.query.shows_exemplars(),
            })
        })
        .collect();
    json!({
        "type": "timeseries",
        "title": panel.title,
        "description": description(panel),
        "datasource": source(),
        "fieldConfig": {
            "defaults": {
                "unit": unit(panel.unit),
                "min": 0,
                "custom": {
                    "drawStyle": draw_style,
                    "fillOpacity": opacity,
                    "lineWidth": 1,
                    "showPoints": "never",
                    "spanNulls": false,
                    "stacking": { "mode": stacking, "group": "A" },
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        },
        "targets": targets,
    })
}

/// What the panel tells, and the meaning of each of its metrics.
fn description(panel: &Panel) -> String {
    let mut text = panel.about.to_owned();
    let mut described = Vec::new();
    for metric in panel.lines.iter().flat_map(|line| line.query.metrics()) {
        if !described.contains(&metric.statsd_name()) {
            described.push(metric.statsd_name());
            text.push_str(&format!("\n\n`{}`: {}", metric.prometheus_name(), metric.meaning()));
        }
    }
    text
}

fn legend(line: &Line) -> &'static str {
    match line.by {
        By::Worker => "{{instance}} w{{worker}}",
        By::Reason => "{{reason}}",
        By::Status => "{{status}}",
        By::Route => "{{route}}",
        By::Total => line.name,
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "short",
        Unit::PerSecond => "cps",
        Unit::BytesPerSecond => "Bps",
        Unit::Bytes => "bytes",
        Unit::Fraction => "percentunit",
        Unit::Duration | Unit::Seconds => "s",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(&dashboard()).unwrap()
    }

    #[test]
    fn panels_have_ids_of_their_own_and_do_not_overlap() {
        let dashboard = parsed();
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: HashSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let mut cells = HashSet::new();
        for panel in panels {
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24);
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{}", panel["title"]);
                }
            }
        }
    }

    #[test]
    fn every_variable_of_a_query_is_defined() {
        let dashboard = parsed();
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let mut defined: HashSet<_> =
            variables.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        defined.insert("__rate_interval".to_owned());
        let text = dashboard["panels"].to_string() + &dashboard["annotations"].to_string();
        let used: HashSet<_> = text
            .split('$')
            .skip(1)
            .map(|rest| rest.trim_start_matches('{'))
            .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            .map(str::to_owned)
            .collect();
        assert_eq!(used, defined);
    }

    #[test]
    fn a_panel_explains_each_of_its_metrics_once() {
        let dashboard = parsed();
        let panels = dashboard["panels"].as_array().unwrap();
        let panel = panels.iter().find(|panel| panel["title"] == "Share of errors").unwrap();
        let description = panel["description"].as_str().unwrap();
        assert_eq!(description.matches("`arctos_resp_status_5xx_total`: Responses").count(), 1);
    }
}
