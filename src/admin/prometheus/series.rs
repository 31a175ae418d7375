//! The application's own metrics on the page.
//!
//! | kind | family | samples |
//! |---|---|---|
//! | counter | `arctos_NAME_total` | one for each slot that counted, and one without `worker` for what was counted before a fork |
//! | gauge | `arctos_NAME` | one, or one for each slot |
//! | distribution | `arctos_NAME`, a histogram | as a counter; its bounds are the powers of two between the lowest and the highest value of the family |
//! | of a library for Prometheus | as the library names it | one for the whole server, with the labels of the library alone |
//!
//! Prometheus rejects a page that repeats a family or a sample. Definitions may change with a reload, while the old
//! totals remain: of two families with one name, or with one name of their samples, and of two samples with the same labels,
//! the page has the newer one. A family with a name of the server's is left out.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use arctos_worker::shared::series::{Description, Kind, Naming, ValueHistogram};

use super::{Float, HistogramNames, HistogramValues, MetricsPage, Type, label};
use crate::metrics::names::{application_prometheus_name, is_of_server};
use crate::metrics::series::{CountedIn, Series, SeriesTotal, SeriesTotals};

/// The series of a family, the newest one first.
struct Family<'a> {
    kind: Kind,
    naming: Naming,
    /// The name of the metric, under which its help is known.
    metric: &'a str,
    series: Vec<&'a Series>,
}

/// Names and values.
type Labels = Vec<(String, String)>;

/// A sample that is about to be written.
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// Adds all families, in the order of their names.
pub(super) fn write(page: &mut MetricsPage, totals: &SeriesTotals, zone: Option<&str>) {
    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    let all: Vec<_> = totals.series().map(|(_, series)| series).collect();
    for series in all.into_iter().rev() {
        let description = &series.description;
        let name = family_name(series);
        let is_of_server =
            description.naming == Naming::Prefixed && is_of_server(&description.family);
        if is_of_server || !is_name(&name) || !is_writable(description) {
            continue;
        }
        let family = match families.entry(name) {
            Entry::Occupied(family) => family.into_mut(),
            Entry::Vacant(place) if page.claim(place.key(), type_of(description.kind)) => place
                .insert(Family {
                    kind: description.kind,
                    naming: description.naming,
                    metric: &description.family,
                    series: Vec::new(),
                }),
            Entry::Vacant(_) => continue,
        };
        if (family.kind, family.naming) == (description.kind, description.naming) {
            family.series.push(series);
        }
    }
    for (name, family) in families {
        let kind = type_of(family.kind);
        let help = totals.help(family.metric).unwrap_or("");
        if family.naming == Naming::Prefixed && family.kind != Kind::Gauge {
            if family.series.iter().any(|series| !series.totals.is_empty()) {
                page.describe(&name, kind, help);
                write_slots(page, &name, &family, zone);
            }
            continue;
        }
        let samples = samples(&name, &family, zone);
        if samples.is_empty() {
            continue;
        }
        page.describe(&name, kind, help);
        for sample in samples {
            let value = Float(sample.value);
            page.sample(&sample.name, &text_of(&sample.labels), None, format_args!("{value}"));
        }
    }
}

fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Counter => Type::Counter,
        Kind::Gauge | Kind::Help => Type::Gauge,
        Kind::Distribution | Kind::HistogramPart => Type::Histogram,
        Kind::SummaryPart => Type::Summary,
    }
}

fn family_name(series: &Series) -> String {
    let description = &series.description;
    let suffix = if description.kind == Kind::Counter { "_total" } else { "" };
    match description.naming {
        Naming::Prefixed => {
            format!("{}{suffix}", application_prometheus_name(&description.family))
        }
        Naming::Verbatim if description.kind == Kind::Counter => description.sample.clone(),
        Naming::Verbatim => description.family.clone(),
    }
}

/// Whether this is a name in Prometheus' text format.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    name.bytes().all(is_letter) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Whether the sample and the labels of a series have names that Prometheus accepts. It refuses the whole page for a label
/// that is there twice.
fn is_writable(Description { sample, tags, .. }: &Description) -> bool {
    let mut names = HashSet::new();
    let is_label = |(tag, _): &(String, String)| is_name(tag) && !tag.contains(':');
    let has_labels = tags.iter().all(|tag| is_label(tag) && names.insert(&tag.0));
    has_labels && (sample.is_empty() || is_name(sample))
}

/// Writes a metric of `arctos.metrics` for each slot. The samples are not kept, because there may be a million: a
/// distribution of 500 series in 64 workers has 30 for each of them.
fn write_slots(page: &mut MetricsPage, name: &str, family: &Family<'_>, zone: Option<&str>) {
    let bounds = bounds(family).into_iter().map(|bound| (bound, le(bound)));
    let names = HistogramNames::of(name, bounds);
    let mut seen = HashSet::new();
    for series in &family.series {
        for (place, total) in &series.totals {
            let mut labels = labels_in(series, *place, zone);
            let text = text_of(&labels);
            labels.sort();
            if !seen.insert(labels) {
                continue;
            }
            match total {
                SeriesTotal::Sum(value) => {
                    page.sample(name, &text, None, format_args!("{}", Float(*value)));
                }
                SeriesTotal::Values { sum, buckets } => {
                    let (mut below, mut rest) = (0_u64, buckets.iter().peekable());
                    let up_to = |bound: &f64| {
                        let end = |index| ValueHistogram::bounds(usize::from(index)).end;
                        while let Some((_, n)) = rest.next_if(|(index, _)| end(*index) <= *bound) {
                            below = below.saturating_add(n);
                        }
                        below
                    };
                    let (exemplar, sum) = (|_| None, Float(*sum));
                    let values = HistogramValues { up_to, exemplar, sum, count: buckets.count() };
                    page.histogram(&names, text, values);
                }
            }
        }
    }
}

/// The labels of a series in a slot: those of the server, and its own.
fn labels_in(series: &Series, place: CountedIn, zone: Option<&str>) -> Labels {
    let worker = place.map(|slot| ("worker".to_owned(), slot.to_string()));
    let zone = zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
    let own = series.description.tags.iter().cloned();
    worker.into_iter().chain(zone).chain(own).collect()
}

fn text_of(labels: &[(String, String)]) -> String {
    let labels: Vec<_> = labels.iter().map(|(name, value)| label(name, value)).collect();
    labels.join(",")
}

/// The samples of gauges, and of a library's metrics.
fn samples(name: &str, family: &Family<'_>, zone: Option<&str>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for series in &family.series {
        let is_verbatim = family.naming == Naming::Verbatim;
        let labels = |place: CountedIn| match is_verbatim {
            true => series.description.tags.clone(),
            false => labels_in(series, place, zone),
        };
        let sample_name = match &series.description.sample {
            sample if sample.is_empty() => name,
            sample => sample,
        };
        if family.kind == Kind::Gauge {
            samples.extend(series.gauge().into_iter().map(|(place, value)| {
                let mut labels = labels(place);
                if is_verbatim && let Some(slot) = place {
                    let is_free = |name: &&str| labels.iter().all(|(label, _)| label != name);
                    if let Some(label) = ["worker", "arctos_worker"].into_iter().find(is_free) {
                        labels.push((label.to_owned(), slot.to_string()));
                    }
                }
                Sample { name: sample_name.to_owned(), labels, value }
            }));
        } else if let SeriesTotal::Sum(value) = series.sum() {
            let labels = labels(None);
            samples.push(Sample { name: sample_name.to_owned(), labels, value });
        }
    }
    if family.kind == Kind::HistogramPart {
        accumulate(&mut samples);
    }
    let mut seen = HashSet::new();
    samples.retain(|sample| {
        let mut labels = sample.labels.clone();
        labels.sort();
        seen.insert((sample.name.clone(), labels))
    });
    samples
}

/// The powers of two that bound the values of a distribution: the same for all its series, so that they can be added,
/// and growing with its values only.
fn bounds(family: &Family<'_>) -> Vec<f64> {
    let totals = family.series.iter().flat_map(|series| series.totals.values());
    let used = totals.flat_map(|total| match total {
        SeriesTotal::Values { buckets, .. } => buckets.iter().map(|(index, _)| index).collect(),
        SeriesTotal::Sum(_) => Vec::new(),
    });
    let used: Vec<_> = used.map(usize::from).collect();
    let (Some(low), Some(high)) = (used.iter().min(), used.iter().max()) else {
        return Vec::new();
    };
    let all = (1..ValueHistogram::BUCKETS).map(|index| ValueHistogram::bounds(index).start);
    let powers: Vec<_> = all.step_by(16).collect();
    let first = powers.partition_point(|power| *power < ValueHistogram::bounds(*low).end);
    let last = powers.partition_point(|power| *power < ValueHistogram::bounds(*high).end);
    powers[first..powers.len().min(last + 1)].to_vec()
}

/// A bound as the value of its label: always with a point, as libraries for Prometheus write it, because labels are compared
/// as text.
fn le(bound: f64) -> String {
    let text = bound.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// Makes the buckets of a library's histograms cumulative, in the order of their bounds, and adds their counts.
fn accumulate(samples: &mut Vec<Sample>) {
    let mut histograms: BTreeMap<Labels, Vec<(f64, Sample)>> = BTreeMap::new();
    for sample in std::mem::take(samples) {
        let bound = sample.labels.iter().find(|(name, _)| name == "le");
        match bound.and_then(|(_, le)| le.parse::<f64>().ok()) {
            Some(bound) => {
                let mut key = sample.labels.clone();
                key.retain(|(name, _)| name != "le");
                histograms.entry(key).or_default().push((bound, sample));
            }
            None => samples.push(sample),
        }
    }
    for (labels, mut buckets) in histograms {
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let Some(family) = buckets.first().and_then(|(_, it)| it.name.strip_suffix("_bucket"))
        else {
            continue;
        };
        let name = format!("{family}_count");
        let mut count = 0.0;
        for (_, bucket) in &mut buckets {
            count += bucket.value;
            bucket.value = count;
        }
        samples.extend(buckets.into_iter().map(|(_, bucket)| bucket));
        samples.push(Sample { name, labels, value: count });
    }
}

#[cfg(test)]
mod tests;
