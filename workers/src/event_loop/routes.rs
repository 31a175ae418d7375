//! The requests of each route: their durations by the class of the status, as series in the area of this process.
//!
//! A route has a number in this worker, so that a request keeps no text. Beyond the limit of series, all further routes
//! are counted as one whose tags are `other`, and `metrics.series_dropped` counts their requests.

use std::collections::HashMap;
use std::time::Duration;

use crate::shared::scoreboard::StatusClass;
use crate::shared::series::attachment::{self, Attachment};
use crate::shared::series::{
    Aggregation, Area, Description, Kind, Naming, OTHER, ROUTE_DURATION, ROUTE_TAG, RowUse,
    STATUS_TAG, ValueHistogram,
};

const MEANING: &str =
    "From the call of the application to the last byte handed to the kernel, by route.";
/// Routes beyond these have no number of their own.
const MAX_ROUTES: usize = 1000;

/// The number of a route in this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId(u16);

impl RouteId {
    /// All routes that have no number of their own.
    const OTHER: Self = Self(0);
}

/// The routes that this worker has seen.
pub struct Routes {
    numbers: HashMap<Box<str>, RouteId>,
    /// By their numbers. The first one is [`RouteId::OTHER`], which never has series of its own.
    routes: Vec<Route>,
    /// Where this process counts; `None` before the first request with a route.
    attachment: Option<Attachment>,
    other: Option<&'static ValueHistogram>,
}

/// A route, and where its durations are counted.
struct Route {
    name: Box<str>,
    /// By [`StatusClass`].
    series: [Series; StatusClass::ALL.len()],
}

/// The series of a route and a status in the area of this process.
#[derive(Clone, Copy)]
enum Series {
    /// There was no request yet.
    Unused,
    /// It counts here.
    Own(&'static ValueHistogram),
    /// The area has no room for it, and never will, because it is never emptied for the process that has it.
    Refused,
}

impl Route {
    fn new(name: &str) -> Self {
        Self { name: name.into(), series: [Series::Unused; StatusClass::ALL.len()] }
    }
}

impl Default for Routes {
    fn default() -> Self {
        let routes =
            vec![Route { series: [Series::Refused; StatusClass::ALL.len()], ..Route::new(OTHER) }];
        Self { numbers: HashMap::new(), routes, attachment: None, other: None }
    }
}

impl Routes {
    /// The number of a route; `None` if its name has control characters.
    pub fn number(&mut self, name: &str) -> Option<RouteId> {
        match self.numbers.get(name) {
            Some(number) => Some(*number),
            None => self.add(name),
        }
    }

    #[cold]
    fn add(&mut self, name: &str) -> Option<RouteId> {
        if name.chars().any(char::is_control) {
            return None;
        }
        let next =
            u16::try_from(self.routes.len()).ok().filter(|_| self.routes.len() <= MAX_ROUTES);
        let Some(next) = next.map(RouteId) else { return Some(RouteId::OTHER) };
        self.numbers.insert(name.into(), next);
        self.routes.push(Route::new(name));
        Some(next)
    }

    /// The name of a route.
    pub fn name(&self, route: RouteId) -> &str {
        &self.routes[usize::from(route.0)].name
    }

    /// Counts a request of a route.
    pub fn record(&mut self, route: RouteId, class: StatusClass, duration: Duration) {
        if self.attachment.is_none_or(|attachment| attachment.number != attachment::number()) {
            self.count_in(attachment::current());
        }
        self.count(route, class, duration);
    }

    fn count(&mut self, route: RouteId, class: StatusClass, duration: Duration) {
        let Some(Attachment { area, epoch, .. }) = self.attachment else { return };
        if area.epoch() != epoch {
            return; // The area belongs to another worker.
        }
        let Route { name, series } = &mut self.routes[usize::from(route.0)];
        let series = &mut series[class as usize];
        if let Series::Unused = series {
            *series = match append(area, name, class.name(), RowUse::Series) {
                Some(histogram) => Series::Own(histogram),
                None => Series::Refused,
            };
        }
        let seconds = duration.as_secs_f64();
        match series {
            Series::Own(histogram) => histogram.record(seconds),
            Series::Unused | Series::Refused => {
                area.refuse();
                if let Some(other) = self.other {
                    other.record(seconds);
                }
            }
        }
    }

    /// Counts in this area from now on, and forgets the series of the former one.
    fn count_in(&mut self, attachment: Option<Attachment>) {
        self.attachment = attachment;
        self.other = None;
        for route in self.routes.iter_mut().skip(1) {
            route.series = [Series::Unused; StatusClass::ALL.len()];
        }
        if let Some(Attachment { area, .. }) = self.attachment {
            let help = describe(Kind::Help, vec![(String::new(), MEANING.to_owned())]);
            // Without room for it, the series have no help text.
            let _row = help.encode().and_then(|help| area.append(&help, RowUse::Help, false));
            // Now, because later there may be no room for it.
            self.other = append(area, OTHER, OTHER, RowUse::Other);
        }
    }
}

fn append(
    area: Area,
    route: &str,
    status: &str,
    purpose: RowUse,
) -> Option<&'static ValueHistogram> {
    let tags = [(ROUTE_TAG, route), (STATUS_TAG, status)];
    let tags = tags.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let description = describe(Kind::Distribution, tags).encode()?;
    area.histogram(area.append(&description, purpose, true)?)
}

fn describe(kind: Kind, tags: Vec<(String, String)>) -> Description {
    Description {
        kind,
        aggregation: Aggregation::Sum,
        naming: Naming::Prefixed,
        family: ROUTE_DURATION.to_owned(),
        sample: String::new(),
        tags,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shared::series::{Capacity, SeriesMemory};

    const MS: Duration = Duration::from_millis(1);

    fn number(routes: &mut Routes, name: &str) -> RouteId {
        routes.number(name).unwrap()
    }

    #[test]
    fn a_route_has_one_number_and_keeps_its_name() {
        let mut routes = Routes::default();
        let [first, second] = ["/a", "/b"].map(|name| number(&mut routes, name));
        assert_eq!((number(&mut routes, "/a"), number(&mut routes, "/b")), (first, second));
        assert_eq!((routes.name(first), routes.name(second)), ("/a", "/b"));
    }

    #[test]
    fn routes_beyond_the_limit_are_one() {
        let mut routes = Routes::default();
        for count in 0..2 * MAX_ROUTES {
            let name = format!("/{count}");
            let route = number(&mut routes, &name);
            let kept = if count < MAX_ROUTES { &*name } else { OTHER };
            assert_eq!(routes.name(route), kept);
        }
        assert_eq!(routes.routes.len(), MAX_ROUTES + 1);
        assert_eq!(number(&mut routes, "/more"), RouteId::OTHER);
        let seventh = number(&mut routes, "/7");
        assert_eq!(routes.name(seventh), "/7");
    }

    #[test]
    fn a_name_with_control_characters_is_no_route() {
        let mut routes = Routes::default();
        for name in ["/a\n", "\0/a", "/a\u{7f}", "/\u{85}a", "\t"] {
            assert_eq!(routes.number(name), None, "{name:?}");
        }
        assert_eq!(routes.routes.len(), 1);
        for name in ["", " ", "/日本/{id}", "/a\"b\\", "/\u{fffd}", OTHER] {
            let route = number(&mut routes, name);
            assert_eq!(routes.name(route), name);
        }
    }

    /// The area of a new worker, which holds this many series.
    fn attachment(series: u32) -> Attachment {
        let area = SeriesMemory::create(1, Capacity::for_series(series)).unwrap().area(0).unwrap();
        area.clear(1).unwrap();
        Attachment { number: 1, area, epoch: 1 }
    }

    fn counting_in(attachment: Attachment) -> Routes {
        let mut routes = Routes::default();
        routes.count_in(Some(attachment));
        routes
    }

    /// The number of requests of each series, by the route and the status.
    fn counts(area: Area) -> BTreeMap<(String, String), u32> {
        let rows = (0..area.row_count()).filter_map(|index| area.row(index));
        let series = rows.filter_map(|row| Some((area.histogram(row)?, area.description(row)?)));
        let mut counts = BTreeMap::new();
        for (histogram, description) in series {
            let description = Description::decode(&description).unwrap();
            assert_eq!(description.family, ROUTE_DURATION);
            let [(route_tag, route), (status_tag, status)] =
                <[_; 2]>::try_from(description.tags).unwrap();
            assert_eq!((&*route_tag, &*status_tag), (ROUTE_TAG, STATUS_TAG));
            *counts.entry((route, status)).or_default() += histogram.buckets().sum::<u32>();
        }
        counts
    }

    fn expected(counts: &[(&str, &str, u32)]) -> BTreeMap<(String, String), u32> {
        let key = |route: &str, status: &str| (route.to_owned(), status.to_owned());
        counts.iter().map(|(route, status, count)| (key(route, status), *count)).collect()
    }

    #[test]
    fn a_request_counts_in_the_series_of_its_route_and_status() {
        let attachment = attachment(8);
        let mut routes = counting_in(attachment);
        let [a, b] = ["/a", "/b"].map(|name| number(&mut routes, name));
        for (route, class) in [
            (a, StatusClass::Success),
            (b, StatusClass::Success),
            (a, StatusClass::Success),
            (a, StatusClass::None),
        ] {
            routes.count(route, class, MS);
        }
        let found = [("/a", "2xx", 2), ("/a", "none", 1), ("/b", "2xx", 1), (OTHER, OTHER, 0)];
        assert_eq!(counts(attachment.area), expected(&found));
        assert_eq!(attachment.area.refused(), 0);
    }

    #[test]
    fn requests_beyond_the_limit_of_series_count_as_one_series() {
        let attachment = attachment(2);
        let mut routes = counting_in(attachment);
        let names = ["/a", "/b", "/c", "/d"].map(|name| number(&mut routes, name));
        for _ in 0..3 {
            for route in names {
                routes.count(route, StatusClass::Success, MS);
            }
        }
        // Of a route that has a series, but not for this status.
        routes.count(names[0], StatusClass::ServerError, MS);
        let rows = attachment.area.row_count();
        let found = [("/a", "2xx", 3), ("/b", "2xx", 3), (OTHER, OTHER, 7)];
        assert_eq!(counts(attachment.area), expected(&found));
        assert_eq!(attachment.area.refused(), 7);
        routes.count(names[3], StatusClass::Success, MS);
        assert_eq!((attachment.area.row_count(), attachment.area.refused()), (rows, 8));
    }

    #[test]
    fn a_route_too_long_for_a_description_counts_as_one_of_the_others() {
        let attachment = attachment(8);
        let mut routes = counting_in(attachment);
        let names = ["x".repeat(200), "x".repeat(10_000), "日".repeat(10_000)];
        for name in &names {
            let route = number(&mut routes, name);
            assert_eq!(routes.name(route), name);
            routes.count(route, StatusClass::Success, MS);
        }
        let found = [(&*names[0], "2xx", 1), (OTHER, OTHER, 2)];
        assert_eq!(counts(attachment.area), expected(&found));
    }

    #[test]
    fn a_route_that_is_named_other_has_series_of_its_own() {
        let attachment = attachment(8);
        let mut routes = counting_in(attachment);
        let other = number(&mut routes, OTHER);
        routes.count(other, StatusClass::Success, MS);
        routes.count(RouteId::OTHER, StatusClass::Success, MS);
        let found = [(OTHER, "2xx", 1), (OTHER, OTHER, 1)];
        assert_eq!(counts(attachment.area), expected(&found));
        assert_eq!(attachment.area.refused(), 1);
    }

    #[test]
    fn in_another_area_the_routes_have_their_series_again() {
        let first = attachment(1);
        let mut routes = counting_in(first);
        let [a, b] = ["/a", "/b"].map(|name| number(&mut routes, name));
        for route in [a, b] {
            routes.count(route, StatusClass::Success, MS);
        }
        let second = attachment(8);
        routes.count_in(Some(second));
        for route in [a, b] {
            routes.count(route, StatusClass::Success, MS);
        }
        assert_eq!(counts(first.area), expected(&[("/a", "2xx", 1), (OTHER, OTHER, 1)]));
        let found = [("/a", "2xx", 1), ("/b", "2xx", 1), (OTHER, OTHER, 0)];
        assert_eq!(counts(second.area), expected(&found));
    }

    #[test]
    fn nothing_is_counted_in_the_area_of_another_worker_or_in_none() {
        let attachment = attachment(8);
        let mut routes = counting_in(attachment);
        let route = number(&mut routes, "/a");
        attachment.area.clear(2).unwrap();
        routes.count(route, StatusClass::Success, MS);
        assert_eq!((attachment.area.row_count(), attachment.area.refused()), (0, 0));
        routes.count_in(None);
        routes.count(route, StatusClass::Success, MS);
        assert_eq!(attachment.area.row_count(), 0);
    }
}
