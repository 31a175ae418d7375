//! The routes of a sample, and their rates between two samples.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::ctl::distribution::HistogramSample;
use crate::client::ctl::units::cell;

/// The status of requests whose routes are counted together.
const UNKNOWN_STATUS: &str = "other";

/// What the server has counted of its routes. It lists at most 50 of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RouteCounts {
    /// The number of all routes, also of those that are not listed.
    pub(super) count: u64,
    routes: BTreeMap<String, Counts>,
}

/// What the server has counted of one route.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    /// By the class of the status.
    requests: BTreeMap<String, u64>,
    seconds: f64,
    /// By the upper bound in seconds, as text.
    octaves: BTreeMap<String, u64>,
}

/// The requests of a route that ended between two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RouteRate {
    pub(super) route: String,
    pub(super) per_second: f64,
    /// The sum of their durations, in seconds per second.
    pub(super) time: f64,
    /// Formatted, as the percentiles; empty if no request ended.
    pub(super) mean: String,
    pub(super) p50: String,
    pub(super) p99: String,
    /// Responses with 5xx per second; `None` if the server does not know the status of all requests.
    pub(super) errors: Option<f64>,
}

impl RouteCounts {
    /// Reads the routes of `/status`. A server that does not have them has no routes.
    pub(super) fn read(status: &Value) -> Self {
        let rows = status["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let route = |row: &Value| {
            let counts = Counts {
                requests: counts(&row["requests"]),
                seconds: row["duration_s"].as_f64()?,
                octaves: counts(&row["buckets"]),
            };
            Some((cell(row["route"].as_str()?), counts))
        };
        let routes: BTreeMap<_, _> = rows.iter().filter_map(route).collect();
        let listed = routes.len() as u64;
        Self { count: status["routes_count"].as_u64().unwrap_or(listed).max(listed), routes }
    }

    /// The number of routes that the server lists.
    pub(super) fn listed(&self) -> usize {
        self.routes.len()
    }

    /// The rates since an earlier sample of the same server, the route first on which the most time was spent. A route
    /// that the earlier sample did not list has none, unless that sample was complete.
    pub(super) fn since(&self, earlier: &Self, seconds: f64) -> Vec<RouteRate> {
        let is_complete = earlier.listed() as u64 == earlier.count;
        let none = Counts::default();
        let before = |name| earlier.routes.get(name).or(is_complete.then_some(&none));
        let mut rates: Vec<RouteRate> = self
            .routes
            .iter()
            .filter_map(|(name, now)| Some(now.rate(before(name)?, name, seconds)))
            .collect();
        // The sort is stable: equal routes stay in the order of their names.
        rates.sort_by(|one, other| {
            let by_time = other.time.total_cmp(&one.time);
            by_time.then(other.per_second.total_cmp(&one.per_second))
        });
        rates
    }
}

impl Counts {
    fn rate(&self, before: &Self, route: &str, seconds: f64) -> RouteRate {
        let requests = risen(&self.requests, &before.requests);
        let octaves = risen(&self.octaves, &before.octaves);
        let octaves = octaves.iter().filter_map(|(bound, n)| Some((bound.parse().ok()?, *n)));
        let time = (self.seconds - before.seconds).max(0.0);
        let durations = HistogramSample::of_octaves(time, octaves);
        let errors = requests.get("5xx").copied().unwrap_or_default();
        RouteRate {
            route: route.to_owned(),
            per_second: requests.values().fold(0, |sum: u64, n| sum.saturating_add(*n)) as f64
                / seconds,
            time: time / seconds,
            mean: durations.mean(),
            p50: durations.percentile(0.5),
            p99: durations.percentile(0.99),
            errors: (!self.requests.contains_key(UNKNOWN_STATUS))
                .then_some(errors as f64 / seconds),
        }
    }
}

/// An object of numbers.
fn counts(object: &Value) -> BTreeMap<String, u64> {
    let entries = object.as_object().into_iter().flatten();
    entries.filter_map(|(key, n)| Some((key.clone(), n.as_u64()?))).collect()
}

/// What has risen, and by how much.
fn risen(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let risen = |(key, n): (&String, &u64)| {
        let risen = n.saturating_sub(before.get(key).copied().unwrap_or_default());
        (risen > 0).then(|| (key.clone(), risen))
    };
    now.iter().filter_map(risen).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(name: &str, requests: Value, duration_s: f64, buckets: Value) -> Value {
        json!({
            "route": name, "requests": requests, "duration_s": duration_s, "buckets": buckets,
        })
    }

    fn read(count: u64, routes: Vec<Value>) -> RouteCounts {
        RouteCounts::read(&json!({ "routes_count": count, "routes": routes }))
    }

    #[test]
    fn rates_are_of_what_ended_between_the_samples() {
        let before = read(
            2,
            vec![
                route("/a", json!({"2xx": 100}), 1e6, json!({"1024": 100})),
                route("/b", json!({"2xx": 5}), 1.0, json!({"0.5": 5})),
            ],
        );
        let after = read(
            4,
            vec![
                route(
                    "/a",
                    json!({"2xx": 108, "5xx": 2}),
                    1e6 + 4.0,
                    json!({"0.5": 10, "1024": 100}),
                ),
                route("/b", json!({"2xx": 5}), 1.0, json!({"0.5": 5})),
                route("/new", json!({"2xx": 2}), 6.0, json!({"4": 2})),
                route("other", json!({"other": 4}), 0.5, json!({"0.125": 4})),
            ],
        );
        let rates = after.since(&before, 2.0);
        let names: Vec<_> = rates.iter().map(|rate| rate.route.as_str()).collect();
        assert_eq!(names, ["/new", "/a", "other", "/b"]);
        let [_, a, other, b] = rates.as_slice() else { panic!("{rates:?}") };
        assert_eq!((a.per_second, a.time, a.errors), (5.0, 2.0, Some(1.0)));
        assert_eq!((a.mean.as_str(), a.p50.as_str(), a.p99.as_str()), ("400ms", "375ms", "498ms"));
        assert_eq!(other.errors, None);
        let idle = RouteRate { route: "/b".to_owned(), errors: Some(0.0), ..RouteRate::default() };
        assert_eq!(b, &idle);
    }

    #[test]
    fn a_route_that_enters_a_cut_list_has_no_rate_at_first() {
        let before = read(9, vec![route("/a", json!({"2xx": 1}), 1.0, json!({"1": 1}))]);
        let after = read(9, vec![route("/b", json!({"2xx": 100}), 1.0, json!({"1": 100}))]);
        assert_eq!(after.since(&before, 1.0), []);
        assert_eq!(after.since(&after, 1.0).len(), 1);
    }

    #[test]
    fn a_server_without_routes_has_none() {
        for status in [json!({}), json!({"routes": null}), json!({"routes": [{}, 1, {"route": 7}]})]
        {
            assert_eq!(RouteCounts::read(&status), RouteCounts::default(), "{status}");
        }
        let hostile = route("/\u{1b}[2J\n", json!({"2xx": -1}), 1.0, json!([1]));
        let counts = read(0, vec![hostile]);
        assert_eq!(counts.count, 1);
        assert!(counts.routes.keys().all(|name| !name.contains(char::is_control)));
    }
}
