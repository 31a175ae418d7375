//! The table of the routes, in place of that of the workers or, without a terminal, below it.

use super::{ABOVE, BOLD, DIM, NOTHING, PLAIN, Page, fitting, rate};
use crate::client::ctl::columns;
use crate::client::ctl::overview::{MAX_ROUTES, further_routes};
use crate::client::ctl::routes::RouteRequests;
use crate::client::top::screen::{Reachability, Screen};

/// The text in place of the table while no request has had a route.
const NO_ROUTES: [&str; 4] = [
    "No request has had a route yet. The application names it:",
    "",
    "    environ[\"arctos.route\"] = \"/orders/{id}\"",
    "",
];
const HELPERS: &str =
    "Helpers do it for Flask, Django and Falcon: see \"Routes\" in arctos help metrics.";
const HEADINGS: [&str; 7] = ["time/s", "req/s", "mean", "p50", "p99", "5xx/s", "route"];
/// The narrowest column of numbers.
const MIN_WIDTH: usize = 6;

/// Draws the routes from this one on.
pub(super) fn draw(screen: &Screen, first: usize, page: &mut Page, bottom: u16) {
    let lines = lines(screen);
    let [headings, rows @ ..] = lines.as_slice() else {
        let text = match screen.sample.routes.listed() {
            0 => [&NO_ROUTES[..], &[HELPERS]].concat(),
            _ => vec!["The rates of routes are known after the next sample."],
        };
        for (line, text) in (ABOVE - 1..bottom).zip(text) {
            page.put(line, text, PLAIN);
        }
        return;
    };
    let style = match &screen.reachability {
        Reachability::Reachable => PLAIN,
        Reachability::Unreachable { .. } => DIM,
    };
    if ABOVE - 1 < bottom {
        page.put(ABOVE - 1, headings, BOLD);
    }
    for (at, row) in (ABOVE..bottom).zip(rows.iter().skip(first)) {
        page.put(at, row, style);
    }
}

/// The first routes, as lines after an empty one; nothing if there are none.
pub(super) fn plain(screen: &Screen) -> Vec<String> {
    let lines = lines(screen);
    let routes = lines.len().saturating_sub(1).min(MAX_ROUTES);
    if routes == 0 {
        return Vec::new();
    }
    let table = std::iter::once(String::new()).chain(lines.into_iter().take(1 + routes));
    table.chain(further_routes(&screen.sample.routes, routes)).collect()
}

/// The headings, and a line for each route; nothing without routes.
fn lines(screen: &Screen) -> Vec<String> {
    let Some(pace) = screen.pace.as_ref().filter(|pace| !pace.routes.is_empty()) else {
        return Vec::new();
    };
    let rows = pace.routes.iter().map(|route| cells(route, pace.seconds));
    let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(rows).collect();
    columns::lines(&rows, MIN_WIDTH)
}

/// The last line: which routes are visible, and the keys.
pub(super) fn keys(screen: &Screen, first: usize, width: usize, bottom: u16) -> String {
    let shown = screen.pace.as_ref().map_or(0, |pace| pace.routes.len());
    let listed = screen.sample.routes.listed();
    let room = usize::from(bottom.saturating_sub(ABOVE));
    let range = match shown > room || first > 0 {
        true => format!("{}-{} of {shown}", first + 1, (first + room).min(shown)),
        false => String::new(),
    };
    let is_cut = screen.sample.routes.count > listed as u64;
    let cut = match is_cut {
        true => {
            format!("{listed} of {} routes, with the most requests", screen.sample.routes.count)
        }
        false => String::new(),
    };
    let keys = ["t workers", "arrows scroll", "? help"].map(str::to_owned);
    fitting(&[&["by time/s".to_owned(), range], &keys[..], &[cut]].concat(), width)
}

fn cells(route: &RouteRequests, seconds: f64) -> [String; 7] {
    let text = |text: &str| if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() };
    let per_second = |count: u64| rate(count as f64 / seconds);
    [
        format!("{:.3}", route.seconds / seconds),
        per_second(route.count),
        text(&route.mean),
        text(&route.p50),
        text(&route.p99),
        route.errors.map_or_else(|| NOTHING.to_owned(), per_second),
        route.route.clone(),
    ]
}
