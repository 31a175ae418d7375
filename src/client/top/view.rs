//! The layout of the screen: three lines about the server, a table of its workers or routes, and a line for messages.
//!
//! Values that do not fit are left out completely, the least important first, because half a number is a wrong
//! number. Only requests, messages and addresses are cut at the edge of the screen, with an "…".

mod routes;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Modifier, Style};

use super::sample::WorkerRow;
use super::screen::{Dialog, Reachability, Screen};
use crate::client::ctl::overview::server_state;
use crate::client::ctl::units::{age, duration, size};

/// The gap between two columns, and between two values.
const GAP: usize = 2;
/// The text for a missing value.
const NOTHING: &str = "-";
/// Lines above the workers: three about the server, an empty one, and the headings.
const ABOVE: u16 = 5;
/// Minimum width at which a request is shown.
const REQUEST_WIDTH: usize = 16;
/// Minimum width at which the report of a failed reload is shown.
const REPORT_WIDTH: usize = 16;
/// Wider than any line, so that nothing is cut in a pipe. A request has at most 200 bytes.
const UNBOUNDED: u16 = 400;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

const KEYS: [&str; 7] =
    ["d dump", "r recycle", "R reload", "p profile", "t routes", "? help", "q quit"];
const HELP: [&str; 15] = [
    "arrows, j, k    select a worker",
    "p, P            samples the selected worker, or all, for 5 s, and shows its functions",
    "d               makes the selected worker write its Python stack to the log",
    "r               replaces the selected worker, once its replacement is ready",
    "R               reloads configuration and code, as HUP does; asks first",
    "t               shows the routes, by the time spent on each, or the workers again",
    "s               sorts by slot, req/s, rss, or the age of the running request",
    "Ctrl-L          repaints the screen",
    "Ctrl-Z          suspends the screen; fg continues it",
    "q, Escape       quits; the server keeps running",
    "",
    "req/s, p50, p90 and p99 cover the time between two samples; percentiles come from",
    "buckets of one octave. restarts counts the workers that ended unexpectedly.",
    "pss divides each page among the processes that map it; private pages are the",
    "worker's alone.",
];

/// A column of the table. Importance 0 is the highest.
struct Column {
    heading: &'static str,
    is_text: bool,
    importance: u8,
    cell: fn(&Screen, &WorkerRow) -> String,
}

const COLUMNS: [Column; 14] = [
    number("slot", 0, |_, worker| worker.slot.to_string()),
    number("pid", 9, |_, worker| shown(worker.pid, |pid| pid.to_string())),
    number("gen", 6, |_, worker| worker.generation.clone()),
    text("state", 1, |_, worker| worker.state.clone()),
    number("age", 10, |_, worker| shown(worker.age_s, age)),
    number("req/s", 3, |screen, worker| match pace_of(screen, worker) {
        Some(requests) => rate(requests.per_second),
        None => NOTHING.to_owned(),
    }),
    number("p99", 8, |screen, worker| match pace_of(screen, worker) {
        Some(requests) if !requests.p99.is_empty() => requests.p99.clone(),
        Some(_) | None => NOTHING.to_owned(),
    }),
    number("requests", 12, |_, worker| shown(worker.requests, |count| count.to_string())),
    number("restarts", 7, |_, worker| shown(worker.restarts, |count| count.to_string())),
    number("open", 11, |_, worker| shown(worker.open, |count| count.to_string())),
    number("rss", 4, |_, worker| shown(worker.memory.rss, size)),
    number("pss", 5, |_, worker| shown(worker.memory.pss, size)),
    number("private", 13, |_, worker| shown(worker.memory.private, size)),
    text("request", 2, |_, worker| match &worker.request {
        Some(request) => format!("{} {}", duration(request.age_s), request.line),
        None => NOTHING.to_owned(),
    }),
];

const fn number(
    heading: &'static str,
    importance: u8,
    cell: fn(&Screen, &WorkerRow) -> String,
) -> Column {
    Column { heading, is_text: false, importance, cell }
}

const fn text(
    heading: &'static str,
    importance: u8,
    cell: fn(&Screen, &WorkerRow) -> String,
) -> Column {
    Column { heading, is_text: true, importance, cell }
}

/// Draws a screen of this size.
pub(super) fn draw(screen: &Screen, width: u16, height: u16) -> Buffer {
    let mut page = Page::new(width, height);
    server(screen, &mut page);
    let bottom = height.saturating_sub(1);
    match screen.dialog {
        Dialog::Help => {
            for (line, text) in (ABOVE - 1..bottom).zip(HELP) {
                page.put(line, text, PLAIN);
            }
        }
        Dialog::Profile => {
            for (line, text) in (ABOVE - 1..bottom).zip(&screen.profile) {
                page.put(line, text, PLAIN);
            }
        }
        Dialog::Routes { first } => routes::draw(screen, first, &mut page, bottom),
        Dialog::Nothing | Dialog::Reload => workers(screen, &mut page, bottom),
    }
    if height > 1 {
        last_line(screen, &mut page, bottom);
    }
    page.buffer
}

/// Draws a screen without a terminal: with all workers and the first routes, and without a selection or keys. Lines are
/// cut at `width`, if there is one.
pub(super) fn plain(screen: &Screen, width: Option<u16>) -> String {
    let count = u16::try_from(screen.sample.workers.len()).unwrap_or(u16::MAX);
    let below_workers = ABOVE.saturating_add(count);
    let routes = routes::plain(screen);
    let height = below_workers.saturating_add(u16::try_from(routes.len()).unwrap_or(u16::MAX));
    let width = width.unwrap_or(UNBOUNDED);
    let mut page = Page::new(width, height);
    server(screen, &mut page);
    workers(screen, &mut page, below_workers);
    for (line, text) in (below_workers..height).zip(routes) {
        page.put(line, &text, PLAIN);
    }
    let lines = (0..height).map(|line| page.text(line));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The cells of the screen, written line by line.
struct Page {
    buffer: Buffer,
}

impl Page {
    fn new(width: u16, height: u16) -> Self {
        Self { buffer: Buffer::empty(Rect::new(0, 0, width, height)) }
    }

    fn width(&self) -> usize {
        usize::from(self.buffer.area.width)
    }

    /// Writes a line from its start, and cuts it at the edge.
    fn put(&mut self, line: u16, text: &str, style: Style) {
        if line >= self.buffer.area.height || self.width() == 0 {
            return;
        }
        let last = self.buffer.area.width - 1;
        let (end, _) = self.buffer.set_stringn(0, line, text, self.width(), style);
        let is_cut = end >= last && text.chars().count() > self.width();
        if is_cut {
            self.buffer.set_stringn(last, line, "…", 1, style);
        }
    }

    fn restyle(&mut self, line: u16, style: Style) {
        // A line outside of the buffer is ignored.
        let line = Rect::new(0, line, self.buffer.area.width, 1).intersection(self.buffer.area);
        self.buffer.set_style(line, style);
    }

    fn text(&self, line: u16) -> String {
        let width = self.buffer.area.width;
        (0..width).filter_map(|x| self.buffer.cell((x, line)).map(|cell| cell.symbol())).collect()
    }
}

/// The values that fit, the most important first.
fn fitting(values: &[String], width: usize) -> String {
    let mut line = String::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        let gap = if line.is_empty() { 0 } else { GAP };
        if line.chars().count() + gap + value.chars().count() <= width {
            line.push_str(&" ".repeat(gap));
            line.push_str(value);
        } else if line.is_empty() {
            line.push_str(value);
        }
    }
    line
}

fn server(screen: &Screen, page: &mut Page) {
    let sample = &screen.sample;
    let width = page.width();
    match &screen.reachability {
        Reachability::Reachable => {
            let line = [
                server_state(&sample.state, sample.state_s, sample.age_s),
                format!("generation {}", sample.generation),
                sample.pid.map(|pid| format!("pid {pid}")).unwrap_or_default(),
                format!("arctos {}", sample.version),
                screen.address.clone(),
            ];
            page.put(0, &fitting(&line, width), BOLD);
        }
        Reachability::Unreachable { since_last, text } => {
            let ago = age(since_last.as_secs_f64());
            page.put(0, &format!("no response for {ago}, trying again: {text}"), REVERSED);
        }
    }
    let backlog = sample.backlog.map(|queue| format!("backlog {} of {}", queue.len, queue.max));
    let ready = format!("{} of {} ready", sample.ready, sample.target);
    let reload = format!("reload {}", sample.reload);
    let quarantined = sample.quarantined.as_ref().map(|count| format!("{count} in quarantine"));
    let busy = format!("{} busy", sample.busy_count());
    let restarts = format!("restarts {}", sample.restarts());
    let others: Vec<String> =
        quarantined.into_iter().chain([busy]).chain(backlog).chain([restarts]).collect();
    let line = match sample.reload.has_failed {
        // A failure matters most. Its report may be long, so it comes last, where it may be cut.
        true => {
            let brief = format!("reload {}", sample.reload.brief);
            let gaps = GAP * (others.len() + 1);
            let all =
                others.iter().chain([&ready]).map(|value| value.chars().count()).sum::<usize>();
            if all + gaps + reload.chars().count() <= width {
                fitting(&[&[ready], &others[..], &[reload]].concat(), width)
            } else {
                let short = fitting(&[&[ready, brief], &others[..]].concat(), width);
                let report = sample.reload.report.as_deref().unwrap_or_default();
                let room = width.saturating_sub(short.chars().count() + GAP);
                match room < REPORT_WIDTH || report.is_empty() {
                    true => short,
                    false => format!("{short}{}{report}", " ".repeat(GAP)),
                }
            }
        }
        false => fitting(&[&[ready], &others[..], &[reload]].concat(), width),
    };
    page.put(1, &line, PLAIN);
    page.put(2, &requests(screen, width), PLAIN);
    if screen.reachability != Reachability::Reachable {
        page.restyle(1, DIM);
        page.restyle(2, DIM);
    }
}

/// The rate, percentiles, and the history in the rest of the line.
fn requests(screen: &Screen, width: usize) -> String {
    let Some(pace) = &screen.pace else { return "req/s -".to_owned() };
    let all = &pace.all;
    let percentile = |name: &str, value: &str| {
        format!("{name} {}", if value.is_empty() { NOTHING } else { value })
    };
    let line = [
        format!("req/s {}", rate(all.per_second)),
        percentile("p50", &all.p50),
        percentile("p90", &all.p90),
        percentile("p99", &all.p99),
        match screen.sample.memory.as_str() {
            "" => String::new(),
            memory => format!("memory {memory}"),
        },
    ];
    let mut line = fitting(&line, width);
    let room = width.saturating_sub(line.chars().count() + GAP);
    // The history is shown only if all numbers fit.
    if screen.history.len() > 1 && room > 0 && line.contains("p99") {
        line.push_str(&" ".repeat(GAP));
        line.extend(history(screen, room));
    }
    line
}

/// The requests per second of each sample, as bars.
fn history(screen: &Screen, room: usize) -> impl Iterator<Item = char> {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = screen.history.iter().skip(screen.history.len().saturating_sub(room));
    let maximum = values.clone().copied().fold(0.0, f64::max);
    values.map(move |value| {
        let part = if maximum > 0.0 { value / maximum } else { 0.0 };
        // Rounded up, so that a small value is visible.
        BARS[((part * 8.0).ceil() as usize).min(8)]
    })
}

fn workers(screen: &Screen, page: &mut Page, bottom: u16) {
    let rows = screen.rows();
    let table: Vec<Vec<String>> = COLUMNS
        .iter()
        .map(|column| rows.iter().map(|row| (column.cell)(screen, row)).collect())
        .collect();
    let widths: Vec<usize> = COLUMNS
        .iter()
        .zip(&table)
        .map(|(column, cells)| {
            let widest = cells.iter().map(|cell| cell.chars().count()).max();
            widest.unwrap_or_default().max(column.heading.len())
        })
        .collect();
    let kept = kept(&widths, page.width());
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = kept.iter().map(|index| {
            let (cell, width) = (cell(*index), widths[*index]);
            if COLUMNS[*index].is_text {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        line.trim_end().to_owned()
    };
    if ABOVE - 1 < bottom {
        page.put(ABOVE - 1, &line(&|index| COLUMNS[index].heading.to_owned()), BOLD);
    }
    let room = usize::from(bottom.saturating_sub(ABOVE));
    let selected = screen.selected_line();
    let first = first_shown(selected, room);
    for (line_index, row) in (first..rows.len().min(first + room)).enumerate() {
        let Ok(offset) = u16::try_from(line_index) else { return };
        let style = match &screen.reachability {
            Reachability::Reachable => PLAIN,
            Reachability::Unreachable { .. } => DIM,
        };
        page.put(ABOVE + offset, &line(&|index| table[index][row].clone()), style);
        if selected == Some(row) {
            page.restyle(ABOVE + offset, REVERSED);
        }
    }
}

/// The most important columns that fit, in the order of the table.
fn kept(widths: &[usize], width: usize) -> Vec<usize> {
    let mut by_importance: Vec<usize> = (0..COLUMNS.len()).collect();
    by_importance.sort_by_key(|index| COLUMNS[*index].importance);
    let mut used = 0;
    let mut kept = Vec::new();
    for index in by_importance {
        // The last column may be cut.
        let minimum = if index == COLUMNS.len() - 1 { REQUEST_WIDTH } else { widths[index] };
        let gap = if kept.is_empty() { 0 } else { GAP };
        if used + gap + minimum > width {
            break;
        }
        used += gap + minimum;
        kept.push(index);
    }
    kept.sort_unstable();
    kept
}

/// The first row that is shown, so that the selected one is visible.
fn first_shown(selected: Option<usize>, room: usize) -> usize {
    selected.unwrap_or_default().saturating_sub(room.saturating_sub(1))
}

fn last_line(screen: &Screen, page: &mut Page, bottom: u16) {
    let (text, style) = match (screen.dialog, &screen.message) {
        (Dialog::Reload, _) => {
            ("Reload configuration and code, worker by worker? y/n".to_owned(), REVERSED)
        }
        (Dialog::Help | Dialog::Profile, _) => ("press any key to return".to_owned(), DIM),
        (Dialog::Routes { first }, _) => (routes::keys(screen, first, page.width(), bottom), DIM),
        (Dialog::Nothing, Some(message)) => (message.clone(), PLAIN),
        (Dialog::Nothing, None) => (keys(screen, page.width(), bottom), DIM),
    };
    page.put(bottom, &text, style);
}

fn keys(screen: &Screen, width: usize, bottom: u16) -> String {
    let room = usize::from(bottom.saturating_sub(ABOVE));
    let count = screen.sample.workers.len();
    let first = first_shown(screen.selected_line(), room);
    let range = match count > room {
        true => format!("{}-{} of {count}", first + 1, (first + room).min(count)),
        false => String::new(),
    };
    let mut values = vec![format!("s by {}", screen.sort.name()), range];
    values.extend(KEYS.map(str::to_owned));
    fitting(&values, width)
}

fn pace_of<'a>(screen: &'a Screen, worker: &WorkerRow) -> Option<&'a super::pace::RequestRate> {
    screen.pace.as_ref()?.slots.get(&worker.slot)
}

fn shown<T>(value: Option<T>, show: fn(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), show)
}

/// A short rate, with one decimal below 100.
fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

#[cfg(test)]
mod tests;
