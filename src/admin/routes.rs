//! The routes of `/status`: what the requests of each route have taken since the server started.
//!
//! All numbers only grow, so the difference of two responses is what happened between them. The list is bounded,
//! because a client fetches it every second: it has the routes with the most requests, and always the one that counts
//! all routes beyond `--metrics-series`.

use std::collections::BTreeMap;

use arctos_worker::shared::series::{
    Kind, Naming, OTHER, ROUTE_DURATION, ROUTE_TAG, STATUS_TAG, ValueHistogram,
};
use serde_json::{Map, Value, json};

use crate::metrics::series::buckets::Buckets;
use crate::metrics::series::{Series, SeriesTotal, SeriesTotals};

/// The largest number of routes in a response.
const MAX_ROUTES: usize = 50;
/// The number of buckets of a [`ValueHistogram`] between two powers of two.
const STEPS: usize = 16;

/// The routes of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutesStatus {
    /// The number of all routes.
    pub count: usize,
    /// Those with the most requests, in this order.
    pub routes: Vec<RouteStatus>,
}

/// The requests of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteStatus {
    /// The name that the application has given it.
    pub route: String,
    /// The number of requests by the class of their status.
    pub requests: BTreeMap<String, u64>,
    /// The sum of their durations.
    pub seconds: f64,
    /// The number of requests by their duration.
    pub buckets: Buckets,
}

impl RouteStatus {
    fn requests_count(&self) -> u64 {
        self.requests.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

impl RoutesStatus {
    /// The routes among all series.
    pub fn of(totals: &SeriesTotals) -> Self {
        let mut by_name: BTreeMap<&str, RouteStatus> = BTreeMap::new();
        for (_, series) in totals.series() {
            let Some((name, status)) = tags(series) else { continue };
            let SeriesTotal::Values { sum, buckets } = series.sum() else { continue };
            let route = by_name.entry(name).or_default();
            let requests = route.requests.entry(status.to_owned()).or_default();
            *requests = requests.saturating_add(buckets.count());
            route.seconds += sum;
            route.buckets.extend(buckets.iter());
        }
        // A worker reserves the row of `other` before there is a request for it.
        by_name.retain(|_, route| route.requests_count() > 0);
        let name = |(name, route): (&str, _)| RouteStatus { route: name.to_owned(), ..route };
        let mut routes: Vec<RouteStatus> = by_name.into_iter().map(name).collect();
        let count = routes.len();
        routes.sort_by_key(|route| (route.route != OTHER, u64::MAX - route.requests_count()));
        routes.truncate(MAX_ROUTES);
        routes.sort_by_key(|route| u64::MAX - route.requests_count());
        Self { count, routes }
    }
}

/// The route and the status of a series; `None` for a series of something else.
fn tags(series: &Series) -> Option<(&str, &str)> {
    let description = &series.description;
    let is_of_routes = description.kind == Kind::Distribution
        && description.naming == Naming::Prefixed
        && description.family == ROUTE_DURATION;
    let tag = |wanted: &str| {
        description.tags.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    tag(ROUTE_TAG).zip(tag(STATUS_TAG)).filter(|_| is_of_routes)
}

/// The list in `/status`. A bucket counts the durations from half of its bound to its bound, which is a power of two.
pub(super) fn list(routes: &RoutesStatus) -> Value {
    let route = |route: &RouteStatus| {
        json!({
            "route": route.route,
            "requests": route.requests,
            // In microseconds: most requests take less than a millisecond.
            "duration_s": (route.seconds * 1e6).round() / 1e6,
            "buckets": octaves(&route.buckets),
        })
    };
    routes.routes.iter().map(route).collect()
}

fn octaves(buckets: &Buckets) -> Value {
    let mut counts: Vec<(f64, u64)> = Vec::new();
    for (index, n) in buckets.iter() {
        let bound = upper_bound(usize::from(index));
        match counts.last_mut() {
            Some((last, count)) if *last == bound => *count = count.saturating_add(n),
            Some(_) | None => counts.push((bound, n)),
        }
    }
    let text = |bound: f64| match bound.is_finite() {
        true => bound.to_string(),
        false => "+Inf".to_owned(),
    };
    let counts = counts.into_iter().map(|(bound, n)| (text(bound), Value::from(n)));
    Value::Object(counts.collect::<Map<_, _>>())
}

/// The power of two above a bucket.
fn upper_bound(index: usize) -> f64 {
    let octave = index.div_ceil(STEPS);
    match 1 + STEPS * octave {
        start if start < ValueHistogram::BUCKETS => ValueHistogram::bounds(start).start,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::identity::SlotId;
    use arctos_worker::shared::series::{Aggregation, Description};

    use super::*;

    fn description(route: &str, status: &str) -> Description {
        let tags = [(ROUTE_TAG, route), (STATUS_TAG, status)];
        Description {
            kind: Kind::Distribution,
            aggregation: Aggregation::Sum,
            naming: Naming::Prefixed,
            family: ROUTE_DURATION.to_owned(),
            sample: String::new(),
            tags: tags.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }

    fn values(values: &[f64]) -> SeriesTotal {
        let mut buckets = Buckets::default();
        buckets.extend(values.iter().map(|it| (ValueHistogram::index_of(*it) as u16, 1)));
        SeriesTotal::Values { sum: values.iter().sum(), buckets }
    }

    #[test]
    fn a_route_has_the_requests_of_all_workers_and_classes() {
        let mut totals = SeriesTotals::default();
        let [ok, failed] = ["2xx", "5xx"].map(|status| description("/a", status));
        totals.add_total(&ok, Some(SlotId(0)), &values(&[0.3, 0.3]));
        totals.add_total(&ok, Some(SlotId(1)), &values(&[0.26, 1.0]));
        totals.add_total(&failed, Some(SlotId(0)), &values(&[1.9, 1e300]));
        totals.add_total(&description(OTHER, OTHER), Some(SlotId(0)), &values(&[]));
        let mine = Description { family: "orders".to_owned(), ..description("/b", "2xx") };
        totals.add_total(&mine, None, &values(&[1.0]));
        let routes = RoutesStatus::of(&totals);
        assert_eq!((routes.count, routes.routes.len()), (1, 1));
        assert_eq!(routes.routes[0].requests_count(), 6);
        let found = list(&routes);
        assert_eq!(found[0]["route"], "/a");
        assert_eq!(found[0]["requests"], json!({ "2xx": 4, "5xx": 2 }));
        assert_eq!(found[0]["buckets"], json!({ "0.5": 3, "2": 2, "+Inf": 1 }));
    }

    #[test]
    fn every_bucket_lies_below_its_bound_and_above_the_half() {
        for index in 1..ValueHistogram::BUCKETS {
            let bounds = ValueHistogram::bounds(index);
            let bound = upper_bound(index);
            if bound.is_finite() {
                assert!(bounds.end <= bound && bounds.start >= bound / 2.0, "{index}: {bound}");
            } else {
                assert!(index + STEPS >= ValueHistogram::BUCKETS, "{index}");
            }
        }
        assert_eq!(upper_bound(0), ValueHistogram::bounds(1).start);
    }

    #[test]
    fn the_routes_with_the_most_requests_and_other_are_listed() {
        let mut totals = SeriesTotals::default();
        totals.add_total(&description(OTHER, OTHER), None, &values(&[0.1]));
        for number in 0..100 {
            let requests = vec![0.5; number + 2];
            totals.add_total(&description(&format!("/{number}"), "2xx"), None, &values(&requests));
        }
        let routes = RoutesStatus::of(&totals);
        assert_eq!((routes.count, routes.routes.len()), (101, MAX_ROUTES));
        assert_eq!(routes.routes[0].route, "/99");
        assert_eq!(routes.routes[MAX_ROUTES - 2].route, "/51");
        assert_eq!(routes.routes[MAX_ROUTES - 1].route, OTHER);
    }
}
