//! The table of the routes, in place of that of the workers.

use super::{ABOVE, BOLD, DIM, GAP, NOTHING, PLAIN, Page, fitting, rate};
use crate::client::top::routes::RouteRate;
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
    let rates = rates(screen);
    if rates.is_empty() {
        let text = match screen.sample.routes.listed() {
            0 => [&NO_ROUTES[..], &[HELPERS]].concat(),
            _ => vec!["The rates of routes are known after the next sample."],
        };
        for (line, text) in (ABOVE - 1..bottom).zip(text) {
            page.put(line, text, PLAIN);
        }
        return;
    }
    let rows: Vec<[String; 7]> = rates.iter().map(cells).collect();
    let headings = HEADINGS.map(str::to_owned);
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or_default().max(MIN_WIDTH)
    });
    let style = match &screen.reachability {
        Reachability::Reachable => PLAIN,
        Reachability::Unreachable { .. } => DIM,
    };
    if ABOVE - 1 < bottom {
        page.put(ABOVE - 1, &line(&headings, &widths), BOLD);
    }
    for (at, row) in (ABOVE..bottom).zip(rows.iter().skip(first)) {
        page.put(at, &line(row, &widths), style);
    }
}

/// The last line: which routes are visible, and the keys.
pub(super) fn keys(screen: &Screen, first: usize, width: usize, bottom: u16) -> String {
    let (shown, listed) = (rates(screen).len(), screen.sample.routes.listed());
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

fn rates(screen: &Screen) -> &[RouteRate] {
    screen.pace.as_ref().map_or(&[], |pace| &pace.routes)
}

fn cells(route: &RouteRate) -> [String; 7] {
    let text = |text: &str| if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() };
    [
        format!("{:.3}", route.time),
        rate(route.per_second),
        text(&route.mean),
        text(&route.p50),
        text(&route.p99),
        route.errors.map_or_else(|| NOTHING.to_owned(), rate),
        route.route.clone(),
    ]
}

/// The numbers flush right, and the route, which the edge of the screen may cut.
fn line(cells: &[String; 7], widths: &[usize; 7]) -> String {
    let [numbers @ .., route] = cells;
    let numbers = numbers.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
    let cells: Vec<String> = numbers.chain([route.clone()]).collect();
    cells.join(&" ".repeat(GAP))
}
