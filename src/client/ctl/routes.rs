//! The routes of `/status`: their requests since the start of the server, or between two samples.

use std::collections::BTreeMap;

use serde_json::Value;

use super::distribution::HistogramSample;
use super::units::cell;

/// The status of requests whose routes are counted together.
const UNKNOWN_STATUS: &str = "other";

/// What the server has counted of its routes. It lists at most 50 of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteCounts {
    /// The number of all routes, also of those that are not listed.
    pub(crate) count: u64,
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

/// The requests of a route that ended in some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteRequests {
    pub(crate) route: String,
    pub(crate) count: u64,
    /// The sum of their durations.
    pub(crate) seconds: f64,
    /// Formatted, as the percentiles; empty if no request ended.
    pub(crate) mean: String,
    pub(crate) p50: String,
    pub(crate) p99: String,
    /// The number of responses with 5xx; `None` if the server does not know the status of all requests.
    pub(crate) errors: Option<u64>,
}

impl RouteCounts {
    /// Reads the routes of `/status`. A server that does not have them has no routes.
    pub(crate) fn read(status: &Value) -> Self {
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
    pub(crate) fn listed(&self) -> usize {
        self.routes.len()
    }

    /// The requests since the start of the server, the route first on which the most time was spent.
    pub(crate) fn since_start(&self) -> Vec<RouteRequests> {
        self.since(&Self::default())
    }

    /// The requests since an earlier sample of the same server, in the same order. A route that the earlier sample did
    /// not list is left out, unless that sample was complete.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<RouteRequests> {
        let is_complete = earlier.listed() as u64 == earlier.count;
        let none = Counts::default();
        let before = |name| earlier.routes.get(name).or(is_complete.then_some(&none));
        let mut requests: Vec<RouteRequests> = self
            .routes
            .iter()
            .filter_map(|(name, now)| Some(now.since(before(name)?, name)))
            .collect();
        // The sort is stable: equal routes stay in the order of their names.
        requests.sort_by(|one, other| {
            let by_time = other.seconds.total_cmp(&one.seconds);
            by_time.then(other.count.cmp(&one.count))
        });
        requests
    }
}

impl Counts {
    fn since(&self, before: &Self, route: &str) -> RouteRequests {
        let requests = risen(&self.requests, &before.requests);
        let octaves = risen(&self.octaves, &before.octaves);
        let octaves = octaves.iter().filter_map(|(bound, n)| Some((bound.parse().ok()?, *n)));
        let seconds = (self.seconds - before.seconds).max(0.0);
        let durations = HistogramSample::of_octaves(seconds, octaves);
        let errors = requests.get("5xx").copied().unwrap_or_default();
        RouteRequests {
            route: route.to_owned(),
            count: requests.values().fold(0, |sum: u64, n| sum.saturating_add(*n)),
            seconds,
            mean: durations.mean(),
            p50: durations.percentile(0.5),
            p99: durations.percentile(0.99),
            errors: (!self.requests.contains_key(UNKNOWN_STATUS)).then_some(errors),
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
    fn requests_are_those_that_ended_between_the_samples() {
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
        let requests = after.since(&before);
        let names: Vec<_> = requests.iter().map(|it| it.route.as_str()).collect();
        assert_eq!(names, ["/new", "/a", "other", "/b"]);
        let [_, a, other, b] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((a.count, a.seconds, a.errors), (10, 4.0, Some(2)));
        assert_eq!((a.mean.as_str(), a.p50.as_str(), a.p99.as_str()), ("400ms", "375ms", "498ms"));
        assert_eq!(other.errors, None);
        let b_idle =
            RouteRequests { route: "/b".to_owned(), errors: Some(0), ..Default::default() };
        assert_eq!(b, &b_idle);
        let all = after.since_start();
        assert_eq!(
            (all[0].route.as_str(), all[0].count, all[0].p99.as_str()),
            ("/a", 110, "1018s")
        );
    }

    #[test]
    fn a_route_that_enters_a_cut_list_is_left_out_at_first() {
        let before = read(9, vec![route("/a", json!({"2xx": 1}), 1.0, json!({"1": 1}))]);
        let after = read(9, vec![route("/b", json!({"2xx": 100}), 1.0, json!({"1": 100}))]);
        assert_eq!(after.since(&before), []);
        assert_eq!(after.since(&after).len(), 1);
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
