//! Functions by the time in themselves, and in total with what they call; routes by the time of their requests.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use super::names::short_file;
use super::report::{Frame, Profile, WorkerTally};

/// The number of functions, and of routes, that are shown.
const ROWS: usize = 30;

/// A function and its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TopRow {
    pub function: String,
    /// The file, and the line in which most of its own time was found; empty if it is no Python code.
    pub place: String,
    pub own_count: u64,
    pub total_count: u64,
}

/// A function, whichever of its lines was running.
type Function<'a> = (&'a str, &'a str, u32);

#[derive(Default)]
struct Times {
    own: u64,
    total: u64,
    /// By line: own and total time.
    lines: HashMap<u32, (u64, u64)>,
}

/// All functions, those with the most time of their own first.
pub fn rows(profile: &Profile) -> Vec<TopRow> {
    let mut times: HashMap<Function<'_>, Times> = HashMap::new();
    for stack in &profile.stacks {
        // A recursive function is in a stack several times, but its time passes once.
        let mut seen = HashSet::new();
        for frame in profile.frames_of(stack) {
            let times = times.entry(function(frame)).or_default();
            if seen.insert(function(frame)) {
                times.total += stack.count;
                times.lines.entry(frame.line).or_default().1 += stack.count;
            }
        }
        if let Some(frame) = profile.frames_of(stack).next_back() {
            let times = times.entry(function(frame)).or_default();
            times.own += stack.count;
            times.lines.entry(frame.line).or_default().0 += stack.count;
        }
    }
    let row = |((function, file, _), times): (Function<'_>, Times)| {
        let busiest = times.lines.iter().max_by_key(|(line, counts)| (**counts, u32::MAX - **line));
        let line = busiest.map_or(0, |(line, _)| *line);
        TopRow {
            function: function.to_owned(),
            place: if file.is_empty() {
                String::new()
            } else {
                format!("{}:{line}", short_file(file))
            },
            own_count: times.own,
            total_count: times.total,
        }
    };
    let mut rows: Vec<_> = times.into_iter().map(row).collect();
    rows.sort_unstable_by(|a, b| {
        let key = |row: &TopRow| (row.own_count, row.total_count);
        key(b).cmp(&key(a)).then_with(|| (&a.function, &a.place).cmp(&(&b.function, &b.place)))
    });
    rows
}

fn function(frame: &Frame) -> Function<'_> {
    (&frame.function, &frame.file, frame.first_line)
}

/// All routes with their samples, those with the most first.
pub fn routes(profile: &Profile) -> Vec<(&str, u64)> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for stack in &profile.stacks {
        if let Some(route) = &stack.route {
            *counts.entry(route).or_default() += stack.count;
        }
    }
    let mut routes: Vec<_> = counts.into_iter().collect();
    routes.sort_unstable_by(|(a, a_count), (b, b_count)| (b_count, a).cmp(&(a_count, b)));
    routes
}

/// The tables.
pub fn draw(profile: &Profile) -> String {
    let busy = profile.busy_count();
    let mut text = summary(profile);
    if busy == 0 {
        text += "\nNo worker ran anything that could be sampled.\n";
        return text;
    }
    text += "\n   self          total         function\n";
    let percent = |count: u64| 100.0 * count as f64 / busy as f64;
    let rows = rows(profile);
    for row in rows.iter().take(ROWS) {
        let TopRow { function, place, own_count, total_count } = row;
        let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
        let (own, total) = (percent(*own_count), percent(*total_count));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{own:5.1}% {own_count:>6} {total:6.1}% {total_count:>6}  {function}{place}"
        );
    }
    if rows.len() > ROWS {
        let _ = writeln!(text, "... and {} more functions", rows.len() - ROWS);
    }
    let routes = routes(profile);
    if !routes.is_empty() {
        text += "\n   time          route\n";
    }
    for (route, count) in routes.iter().take(ROWS) {
        let _ = writeln!(text, "{:5.1}% {count:>6}  {route}", percent(*count));
    }
    if routes.len() > ROWS {
        let _ = writeln!(text, "... and {} more routes", routes.len() - ROWS);
    }
    text
}

/// What was sampled, in a few lines.
pub fn summary(profile: &Profile) -> String {
    let mut text = format!(
        "{} samples in {:.1} s, one for every {} ms of a worker that was not idle\n",
        profile.busy_count(),
        profile.seconds,
        profile.interval_ms
    );
    for worker in &profile.workers {
        let WorkerTally { slot, busy_count, idle_count, lost_count } = worker;
        let all = (busy_count + idle_count).max(1);
        let busy = 100.0 * *busy_count as f64 / all as f64;
        let _ = write!(text, "worker {slot}: {busy:.0}% busy, {:.0}% idle", 100.0 - busy);
        let lost =
            if *lost_count > 0 { format!(", {lost_count} samples lost") } else { String::new() };
        let _ = writeln!(text, "{lost}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::Stack;
    use super::super::report::stage::profile;
    use super::*;

    #[test]
    fn functions_have_their_own_time_and_the_total() {
        let rows = rows(&profile());
        let shown: Vec<_> =
            rows.iter().map(|row| (&row.function[..], row.own_count, row.total_count)).collect();
        assert_eq!(shown, [("slow", 90, 90), ("fast<T>", 10, 10), ("main", 0, 100)]);
        assert_eq!(rows[0].place, "shop/views.py:42");
    }

    #[test]
    fn the_time_of_a_recursive_function_counts_once() {
        let mut profile = profile();
        profile.stacks[0].frames = vec![0, 1, 0, 1];
        let rows = rows(&profile);
        assert!(rows.iter().all(|row| row.total_count <= 100), "{rows:?}");
    }

    #[test]
    fn the_line_is_that_with_the_most_time_of_its_own() {
        let mut profile = profile();
        let mut second = profile.frames[1].clone();
        second.line = 43;
        profile.frames.push(second);
        profile.stacks[0].frames = vec![0, 3];
        assert_eq!(rows(&profile)[0].place, "shop/views.py:43");
    }

    #[test]
    fn the_table_has_percentages_and_idle_time() {
        let table = draw(&profile());
        assert!(table.contains("worker 0: 45% busy, 55% idle\n"), "{table}");
        assert!(table.contains("worker 1: 5% busy, 95% idle, 1 samples lost\n"), "{table}");
        assert!(
            table.contains(" 90.0%     90   90.0%     90  slow (shop/views.py:42)\n"),
            "{table}"
        );
        assert!(!table.contains("route"), "{table}");
        assert!(draw(&Profile::default()).contains("No worker ran anything"));
    }

    #[test]
    fn routes_are_a_table_of_their_own() {
        let mut profile = profile();
        for (stack, route) in profile.stacks.iter_mut().zip(["/b", "/a", "/a"]) {
            stack.route = Some(route.to_owned());
        }
        profile.stacks[1].count = 70;
        assert_eq!(routes(&profile), [("/a", 80), ("/b", 80)]);
        profile.stacks[1].count = 10;
        let table = draw(&profile);
        let expected = "\n   time          route\n 80.0%     80  /b\n 20.0%     20  /a\n";
        assert!(table.ends_with(expected), "{table}");
        let stack = |route| Stack { route: Some(format!("/{route}")), ..profile.stacks[0].clone() };
        profile.stacks = (0..ROWS + 2).map(stack).collect();
        assert!(draw(&profile).ends_with("\n... and 2 more routes\n"));
    }
}
