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

/// The routes that this worker has seen. The default has none, not even [`RouteId::OTHER`], and takes no memory.
#[derive(Default)]
pub struct Routes {
    numbers: HashMap<Box<[u8]>, RouteId>,
    /// By their numbers; the first one is [`RouteId::OTHER`].
    routes: Vec<Route>,
    /// Where this process counts; `None` before the first request with a route.
    attachment: Option<Attachment>,
    other: Option<&'static ValueHistogram>,
}

/// A route, and where its durations are counted.
struct Route {
    name: Box<[u8]>,
    histograms: [Option<&'static ValueHistogram>; StatusClass::ALL.len()],
}

impl Route {
    fn new(name: &[u8]) -> Self {
        Self { name: name.into(), histograms: [None; StatusClass::ALL.len()] }
    }
}

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        let routes = vec![Route::new(OTHER.as_bytes())];
        Self { numbers: HashMap::new(), routes, attachment: None, other: None }
    }

    /// The number of a route.
    pub fn number(&mut self, name: &[u8]) -> RouteId {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let next =
            u16::try_from(self.routes.len()).ok().filter(|_| self.routes.len() <= MAX_ROUTES);
        let Some(next) = next else { return RouteId::OTHER };
        self.numbers.insert(name.into(), RouteId(next));
        self.routes.push(Route::new(name));
        RouteId(next)
    }

    /// The name of a route.
    pub fn name(&self, route: RouteId) -> &[u8] {
        self.routes.get(usize::from(route.0)).map_or(OTHER.as_bytes(), |route| &route.name)
    }

    /// Counts a request of a route.
    pub fn record(&mut self, route: RouteId, class: StatusClass, duration: Duration) {
        self.attach();
        let Some(Attachment { area, epoch, .. }) = self.attachment else { return };
        if area.epoch() != epoch {
            return; // The area belongs to another worker.
        }
        let seconds = duration.as_secs_f64();
        match self.histogram(area, route, class) {
            Some(histogram) => histogram.record(seconds),
            None => {
                area.refuse();
                if let Some(other) = self.other {
                    other.record(seconds);
                }
            }
        }
    }

    /// Forgets the rows of an area that this process does not have any more.
    fn attach(&mut self) {
        if self.attachment.is_some_and(|attachment| attachment.number == attachment::number()) {
            return;
        }
        self.attachment = attachment::current();
        self.other = None;
        for route in &mut self.routes {
            route.histograms = [None; StatusClass::ALL.len()];
        }
        if let Some(Attachment { area, .. }) = self.attachment {
            let help = describe(Kind::Help, vec![(String::new(), MEANING.to_owned())]);
            // Without room for it, the series have no help text.
            let _row = help.encode().and_then(|help| area.append(&help, RowUse::Help, false));
            // Now, because later there may be no room for it.
            self.other = append(area, OTHER, OTHER, RowUse::Other);
        }
    }

    fn histogram(
        &mut self,
        area: Area,
        route: RouteId,
        class: StatusClass,
    ) -> Option<&'static ValueHistogram> {
        if route == RouteId::OTHER {
            return None;
        }
        let Route { name, histograms } = self.routes.get_mut(usize::from(route.0))?;
        let place = &mut histograms[class as usize];
        if place.is_none() {
            let name = String::from_utf8_lossy(name);
            *place = append(area, &name, class.name(), RowUse::Series);
        }
        *place
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
    use super::*;

    #[test]
    fn a_route_has_one_number_and_keeps_its_name() {
        let mut routes = Routes::new();
        let [first, second] = [b"/a", b"/b"].map(|name| routes.number(name));
        assert_eq!((routes.number(b"/a"), routes.number(b"/b")), (first, second));
        assert_eq!((routes.name(first), routes.name(second)), (&b"/a"[..], &b"/b"[..]));
    }

    #[test]
    fn routes_beyond_the_limit_are_one() {
        let mut routes = Routes::new();
        for number in 0..2 * MAX_ROUTES {
            routes.number(format!("/{number}").as_bytes());
        }
        assert_eq!(routes.routes.len(), MAX_ROUTES + 1);
        let more = routes.number(b"/more");
        assert_eq!(routes.name(more), OTHER.as_bytes());
        assert_eq!(routes.name(routes.numbers[&b"/7"[..]]), b"/7");
    }
}
