//! Application metrics as lines.
//!
//! They have the prefix and the tags of the server's metrics, and the tags of their own. In the plain format, which has
//! no tags, the values of a metric's tags become further parts of its name: `orders.placed.web`. Characters that end a
//! name or a tag become underscores.
//!
//! Metrics of libraries for Prometheus ([`Naming::Verbatim`]) are not sent.

use std::collections::HashMap;
use std::fmt::Write;

use arctos_worker::shared::series::{Description, Kind, Naming, ValueHistogram};

use super::distribution::{Quantile, bits, has_bit};
use super::format::LineFormat;
use super::source::CountSource;
use crate::metrics::series::buckets::Buckets;
use crate::metrics::series::{Series, SeriesId, SeriesTotal};
use crate::metrics::statsd::Format;

/// What a line reports of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SeriesDelta {
    pub source: CountSource,
    pub id: SeriesId,
    pub rise: Rise,
}

/// The rise of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rise {
    /// A counter, from what was sent to its present sum. Differences of such numbers are not exact, so they are no deltas.
    Sum {
        /// What was sent before.
        from: f64,
        /// The present sum.
        to: f64,
    },
    /// A bucket of a distribution.
    Bucket {
        /// The index in [`ValueHistogram`].
        index: u16,
        /// How many values it gained.
        n: u64,
    },
}

/// What was sent of the series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SentSeries(HashMap<(CountSource, SeriesId), SeriesTotal>);

impl SentSeries {
    /// What was sent of one series; `None` for nothing.
    pub(super) fn of(&self, source: CountSource, id: SeriesId) -> Option<&SeriesTotal> {
        self.0.get(&(source, id))
    }

    /// Takes note that a rise was sent.
    pub(super) fn commit(&mut self, delta: SeriesDelta) {
        self.change(delta, |_, to| to, Buckets::add);
    }

    /// Takes note that a rise was lost after all.
    pub(super) fn roll_back(&mut self, delta: SeriesDelta) {
        self.change(delta, |from, _| from, Buckets::subtract);
    }

    /// Changes what was sent: to one end of a rise, or by the number of values in a bucket.
    fn change(
        &mut self,
        delta: SeriesDelta,
        end: fn(f64, f64) -> f64,
        count: fn(&mut Buckets, u16, u64),
    ) {
        match (delta.rise, self.of_mut(delta)) {
            (Rise::Sum { from, to }, SeriesTotal::Sum(sent)) => *sent = end(from, to),
            (Rise::Bucket { index, n }, SeriesTotal::Values { buckets, .. }) => {
                count(buckets, index, n);
            }
            (Rise::Sum { .. }, SeriesTotal::Values { .. })
            | (Rise::Bucket { .. }, SeriesTotal::Sum(_)) => {}
        }
    }

    fn of_mut(&mut self, delta: SeriesDelta) -> &mut SeriesTotal {
        let kind = match delta.rise {
            Rise::Sum { .. } => Kind::Counter,
            Rise::Bucket { .. } => Kind::Distribution,
        };
        let key = (delta.source, delta.id);
        self.0.entry(key).or_insert_with(|| SeriesTotal::new(kind))
    }

    /// What `total` has beyond what was sent; `None` for nothing.
    pub(super) fn beyond(
        &self,
        source: CountSource,
        id: SeriesId,
        total: &SeriesTotal,
    ) -> Option<SeriesTotal> {
        match (total, self.of(source, id)) {
            (SeriesTotal::Sum(to), sent) => {
                let from = if let Some(SeriesTotal::Sum(from)) = sent { *from } else { 0.0 };
                (*to > from).then_some(SeriesTotal::Sum(to - from))
            }
            (SeriesTotal::Values { buckets, .. }, sent) => {
                let buckets = match sent {
                    Some(SeriesTotal::Values { buckets: sent, .. }) => buckets.beyond(sent),
                    Some(SeriesTotal::Sum(_)) | None => buckets.clone(),
                };
                (!buckets.is_empty()).then_some(SeriesTotal::Values { sum: 0.0, buckets })
            }
        }
    }
}

/// The names of a series in statsd.
struct SeriesName {
    /// The prefix of its lines, `prefix.name:`.
    line: String,
    /// The prefixes of its quantiles, for an agent without distributions.
    quantiles: [String; Quantile::ALL.len()],
    /// Its tags, `channel:web,city:x`; empty in the plain format.
    tags: String,
}

/// Writes the lines of series.
#[derive(Default)]
pub(super) struct SeriesLines {
    /// By the number of the series.
    names: Vec<Option<SeriesName>>,
    line: String,
}

/// Where a line goes.
pub(super) struct Destination<'a> {
    pub(super) format: &'a LineFormat,
    pub(super) kind: Format,
    pub(super) source: CountSource,
    /// The tag of the worker, `worker:3`, if the line has one.
    pub(super) worker: Option<&'a str>,
    pub(super) limit_bytes: usize,
}

impl SeriesLines {
    /// Whether a series is sent.
    pub(super) fn is_sent(series: &Series) -> bool {
        series.description.naming == Naming::Prefixed
    }

    /// Writes the value of a gauge.
    pub(super) fn gauge(
        &mut self,
        to: &Destination<'_>,
        id: SeriesId,
        series: &Series,
        value: f64,
        mut write_line: impl FnMut(&str),
    ) {
        let name = name_of(&mut self.names, id, &series.description, to);
        let suffix = to.format.gauge_suffix(&tags(to, name));
        // A sign would make it a change of the last value, which therefore is set to zero first.
        if value < 0.0 && to.kind == Format::Plain {
            self.line.clear();
            let _ = write!(self.line, "{}0{suffix}", name.line);
            write_line(&self.line);
        }
        self.line.clear();
        let _ = write!(self.line, "{}{value}{suffix}", name.line);
        write_line(&self.line);
    }

    /// Writes what a series has beyond `sent`.
    pub(super) fn rises(
        &mut self,
        to: &Destination<'_>,
        id: SeriesId,
        series: &Series,
        total: &SeriesTotal,
        sent: &mut SentSeries,
        mut write_line: impl FnMut(&str, &[SeriesDelta]),
    ) {
        let Some(risen) = sent.beyond(to.source, id, total) else { return };
        let name = name_of(&mut self.names, id, &series.description, to);
        let delta = |rise| SeriesDelta { source: to.source, id, rise };
        match (total, &risen) {
            (SeriesTotal::Sum(sum), SeriesTotal::Sum(amount)) => {
                let suffix = to.format.counter_suffix(&tags(to, name));
                self.line.clear();
                let _ = write!(self.line, "{}{amount}{suffix}", name.line);
                write_line(&self.line, &[delta(Rise::Sum { from: sum - amount, to: *sum })]);
            }
            (_, SeriesTotal::Values { buckets, .. }) => match to.kind {
                Format::Dogstatsd => packed(&mut self.line, to, name, id, buckets, write_line),
                Format::Plain => {
                    // Quantiles are gauges, so the values of a lost flush are not part of the next one.
                    for (index, n) in buckets.iter() {
                        sent.commit(delta(Rise::Bucket { index, n }));
                    }
                    let gained: Vec<_> =
                        buckets.iter().map(|(index, n)| (usize::from(index), n)).collect();
                    let suffix = to.format.gauge_suffix("");
                    for quantile in Quantile::ALL {
                        let Some(index) = quantile.bucket(&gained) else { continue };
                        let prefix = &name.quantiles[quantile as usize];
                        self.line.clear();
                        let _ = write!(self.line, "{prefix}{}{suffix}", value_of(index));
                        write_line(&self.line, &[]);
                    }
                }
            },
            (SeriesTotal::Values { .. }, SeriesTotal::Sum(_)) => {}
        }
    }
}

/// Writes a distribution bit by bit, as [`super::distribution`] explains.
fn packed(
    line: &mut String,
    to: &Destination<'_>,
    name: &SeriesName,
    id: SeriesId,
    buckets: &Buckets,
    mut write_line: impl FnMut(&str, &[SeriesDelta]),
) {
    let gained: Vec<_> = buckets.iter().map(|(index, n)| (usize::from(index), n)).collect();
    let tags = tags(to, name);
    let mut deltas = Vec::new();
    for bit in bits(&gained) {
        let suffix = to.format.distribution_suffix(&tags, bit);
        line.clear();
        for (index, _) in gained.iter().filter(|(_, n)| has_bit(*n, bit)) {
            let value = value_of(*index).to_string();
            if !line.is_empty() && line.len() + 1 + value.len() + suffix.len() > to.limit_bytes {
                line.push_str(&suffix);
                write_line(line, &deltas);
                line.clear();
                deltas.clear();
            }
            // The name ends with a colon, which also separates the values.
            line.push_str(if line.is_empty() { &name.line } else { ":" });
            line.push_str(&value);
            let index = u16::try_from(*index).unwrap_or(u16::MAX);
            let rise = Rise::Bucket { index, n: 1 << bit };
            deltas.push(SeriesDelta { source: to.source, id, rise });
        }
        line.push_str(&suffix);
        write_line(line, &deltas);
        deltas.clear();
    }
}

/// The value that represents a bucket: its middle, of which six digits are sent; 0 for the first bucket.
pub(super) fn value_of(index: usize) -> f64 {
    let bounds = ValueHistogram::bounds(index);
    if bounds.start.is_infinite() {
        return 0.0;
    }
    let middle = match bounds.end.is_infinite() {
        true => bounds.start,
        false => f64::midpoint(bounds.start, bounds.end),
    };
    format!("{middle:.5e}").parse().unwrap_or(middle)
}

/// The tags of a line, without those of every line.
fn tags(to: &Destination<'_>, name: &SeriesName) -> String {
    let own = Some(name.tags.as_str()).filter(|tags| !tags.is_empty());
    to.worker.into_iter().chain(own).collect::<Vec<_>>().join(",")
}

fn name_of<'a>(
    names: &'a mut Vec<Option<SeriesName>>,
    id: SeriesId,
    description: &Description,
    to: &Destination<'_>,
) -> &'a SeriesName {
    let index = id.index();
    if names.len() <= index {
        names.resize_with(index + 1, || None);
    }
    names[index].get_or_insert_with(|| SeriesName::new(description, to))
}

impl SeriesName {
    fn new(description: &Description, to: &Destination<'_>) -> Self {
        let mut name = description.family.clone();
        let mut tags = String::new();
        match to.kind {
            Format::Dogstatsd => {
                let pairs = description.tags.iter();
                let pairs =
                    pairs.map(|(tag, value)| format!("{tag}:{}", sanitized(value, is_in_tag)));
                tags = pairs.collect::<Vec<_>>().join(",");
            }
            Format::Plain => {
                for (_, value) in &description.tags {
                    name.push('.');
                    name.push_str(&sanitized(value, is_in_name));
                }
            }
        }
        let prefix = |name: &str| to.format.prefix_of(name);
        let quantiles = Quantile::ALL.map(|it| prefix(&format!("{name}.{}", it.name())));
        Self { line: prefix(&name), quantiles, tags }
    }
}

/// Whether the value of a tag may have this character.
fn is_in_tag(letter: char) -> bool {
    !letter.is_control() && !matches!(letter, ',' | '|' | '#')
}

/// Whether a part of a name may have this character. A dot would begin another part.
fn is_in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')
}

fn sanitized(text: &str, is_allowed: fn(char) -> bool) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    text.chars().map(|letter| if is_allowed(letter) { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
