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
//! totals remain: of two kinds with one name, and of two samples with the same labels, the page has the newer one. A
//! family with a name of the server's is left out.

use std::collections::{BTreeMap, HashSet};

use arctos_worker::shared::series::{Kind, Naming, ValueHistogram};

use super::{Float, MetricsPage, label};
use crate::metrics::names::{application_prometheus_name, is_of_server};
use crate::metrics::series::buckets::Buckets;
use crate::metrics::series::{CountedIn, Series, SeriesTotal, SeriesTotals};

/// The series of a family, the newest one first.
struct Family<'a> {
    kind: Kind,
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
        let is_taken = description.naming == Naming::Prefixed && is_of_server(&description.family);
        if is_taken || !is_name(&name) || !description.tags.iter().all(|(tag, _)| is_name(tag)) {
            continue;
        }
        let family = families.entry(name).or_insert(Family {
            kind: description.kind,
            metric: &description.family,
            series: Vec::new(),
        });
        if family.kind == description.kind {
            family.series.push(series);
        }
    }
    for (name, family) in families {
        let samples = samples(&name, &family, zone);
        if samples.is_empty() {
            continue;
        }
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Help => "gauge",
            Kind::Distribution | Kind::HistogramPart => "histogram",
            Kind::SummaryPart => "summary",
        };
        page.describe(&name, kind, totals.help(family.metric).unwrap_or(""));
        for sample in samples {
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| label(name, value)).collect();
            let value = Float(sample.value);
            page.sample(&sample.name, &labels.join(","), None, format_args!("{value}"));
        }
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

fn samples(name: &str, family: &Family<'_>, zone: Option<&str>) -> Vec<Sample> {
    let mut samples = Vec::new();
    let bounds = bounds(family);
    for series in &family.series {
        let is_verbatim = series.description.naming == Naming::Verbatim;
        let labels = |place: CountedIn| match is_verbatim {
            true => series.description.tags.clone(),
            false => {
                let worker = place.map(|slot| ("worker".to_owned(), slot.to_string()));
                let zone = zone.map(|zone| ("zone".to_owned(), zone.to_owned()));
                let own = series.description.tags.iter().cloned();
                worker.into_iter().chain(zone).chain(own).collect()
            }
        };
        let sample_name = match &series.description.sample {
            sample if sample.is_empty() => name,
            sample => sample,
        };
        if family.kind == Kind::Gauge {
            samples.extend(series.gauge().into_iter().map(|(place, value)| {
                let mut labels = labels(place);
                if is_verbatim && let Some(slot) = place {
                    let is_taken = labels.iter().any(|(label, _)| label == "worker");
                    let label = if is_taken { "arctos_worker" } else { "worker" };
                    labels.push((label.to_owned(), slot.to_string()));
                }
                Sample { name: sample_name.to_owned(), labels, value }
            }));
        } else if is_verbatim {
            if let SeriesTotal::Sum(value) = series.sum() {
                let labels = labels(None);
                samples.push(Sample { name: sample_name.to_owned(), labels, value });
            }
        } else {
            for (place, total) in &series.totals {
                match total {
                    SeriesTotal::Sum(value) => {
                        let labels = labels(*place);
                        samples.push(Sample { name: name.to_owned(), labels, value: *value });
                    }
                    SeriesTotal::Values { sum, buckets } => {
                        histogram(name, &labels(*place), *sum, buckets, &bounds, &mut samples);
                    }
                }
            }
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

fn histogram(
    name: &str,
    labels: &[(String, String)],
    sum: f64,
    buckets: &Buckets,
    bounds: &[f64],
    samples: &mut Vec<Sample>,
) {
    let mut bucket = |le: String, value: u64| {
        let mut labels = labels.to_vec();
        labels.push(("le".to_owned(), le));
        samples.push(Sample { name: format!("{name}_bucket"), labels, value: value as f64 });
    };
    for bound in bounds {
        let below = buckets
            .iter()
            .take_while(|(index, _)| ValueHistogram::bounds(usize::from(*index)).end <= *bound);
        bucket(bound.to_string(), below.map(|(_, n)| n).sum());
    }
    bucket("+Inf".to_owned(), buckets.count());
    let mut sample = |suffix: &str, value: f64| {
        samples.push(Sample { name: format!("{name}_{suffix}"), labels: labels.to_vec(), value });
    };
    sample("sum", sum);
    sample("count", buckets.count() as f64);
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
