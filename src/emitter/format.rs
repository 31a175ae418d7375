//! How lines look: cadence writes what stands before and behind each value, once.
//!
//! A flush of 64 workers has a thousand lines, of which only the values are new. cadence takes 0.12 us
//! for a counter and 0.4 us for a distribution of four values, which is most of what a flush may cost; a
//! line put together of its pieces takes less than 0.1 us, with all that is accounted for it. Its client
//! gets a sink that does nothing, because what it formats is also what it returns. Its other sinks are
//! never used: they start threads, wait, or hide that an agent is absent.

use std::cell::OnceCell;

use arctos_worker::shared::scoreboard::Counter;
use cadence::prelude::*;
use cadence::{Metric, MetricResult, NopMetricSink, StatsdClient};

use super::distribution::Quantile;
use crate::metrics::statsd::{Format, Statsd};
use crate::metrics::{Distribution, Gauge};

/// Stands for any name and any value.
const NAME: &str = "name";
const VALUE: u64 = 0;

/// Begins of lines, `prefix.name:`.
pub(super) struct LinePrefixes {
    counters: [String; Counter::ALL.len()],
    gauges: [String; Gauge::ALL.len()],
    distributions: [String; Distribution::ALL.len()],
    quantiles: [[String; Quantile::ALL.len()]; Distribution::ALL.len()],
}

impl LinePrefixes {
    fn new(client: &StatsdClient) -> Self {
        let quantiles = |distribution: Distribution| {
            Quantile::ALL.map(|quantile| {
                head(client, &format!("{}.{}", distribution.statsd_name(), quantile.name()))
            })
        };
        Self {
            counters: Counter::ALL.map(|counter| head(client, counter.statsd_name())),
            gauges: Gauge::ALL.map(|gauge| head(client, gauge.statsd_name())),
            distributions: Distribution::ALL.map(|spread| head(client, spread.statsd_name())),
            quantiles: Distribution::ALL.map(quantiles),
        }
    }

    /// Of a counter.
    pub(super) fn counter(&self, counter: Counter) -> &str {
        &self.counters[counter as usize]
    }

    /// Of a gauge.
    pub(super) fn gauge(&self, gauge: Gauge) -> &str {
        &self.gauges[gauge as usize]
    }

    /// Of a distribution.
    pub(super) fn distribution(&self, distribution: Distribution) -> &str {
        &self.distributions[distribution as usize]
    }

    /// Of a distribution that is sent as gauges.
    pub(super) fn quantile(&self, distribution: Distribution, quantile: Quantile) -> &str {
        &self.quantiles[distribution as usize][quantile as usize]
    }
}

/// Ends of lines with certain tags: `|c|#worker:3,zone:x`.
pub(super) struct LineSuffixes {
    counter: String,
    /// By the value of the tag `reason`.
    reasoned: Vec<(&'static str, String)>,
    gauge: String,
    /// The tags alone.
    tags: String,
    /// By the bit of the sample rate, of which few are ever needed.
    distribution: [OnceCell<String>; u64::BITS as usize],
}

impl LineSuffixes {
    /// Of a counter, which may have one more tag.
    pub(super) fn counter(&self, counter: Counter) -> &str {
        let Some(reason) = counter.reason() else { return &self.counter };
        let found = self.reasoned.iter().find(|(known, _)| *known == reason);
        found.map_or(&self.counter, |(_, tail)| tail)
    }

    /// Of any gauge.
    pub(super) fn gauge(&self) -> &str {
        &self.gauge
    }

    /// Of a distribution whose values each stand for 2^`bit`.
    pub(super) fn distribution(&self, shapes: &LineFormat, bit: u32) -> &str {
        self.distribution[bit as usize].get_or_init(|| shapes.distribution_tail(&self.tags, bit))
    }
}

/// Writes heads and tails.
pub(super) struct LineFormat {
    client: StatsdClient,
    format: Format,
    /// Tags of every line, joined.
    tags: String,
    /// Whatever cadence does not know of.
    end: String,
    /// `prefix.`[`NAME`]`:`
    head: String,
    /// All there are.
    pub heads: LinePrefixes,
}

impl LineFormat {
    /// As configured.
    pub(super) fn new(statsd: &Statsd) -> Self {
        let client = StatsdClient::from_sink(&statsd.prefix, NopMetricSink);
        let zone = statsd.zone.iter().map(|zone| format!("zone:{zone}"));
        let tags: Vec<_> = zone.chain(statsd.tags.iter().cloned()).collect();
        let (tags, end) = match statsd.format {
            Format::Dogstatsd => {
                let environment = statsd.external_env.as_ref();
                (tags.join(","), environment.map_or(String::new(), |text| format!("|e:{text}")))
            }
            Format::Plain => (String::new(), String::new()),
        };
        let heads = LinePrefixes::new(&client);
        let head = head(&client, NAME);
        Self { client, format: statsd.format, tags, end, head, heads }
    }

    /// Ends of lines with the tags of every line, after `own`, if there is one.
    pub(super) fn tails(&self, own: Option<String>) -> LineSuffixes {
        let parts = own.into_iter().chain(Some(self.tags.clone()).filter(|tags| !tags.is_empty()));
        let tags = parts.collect::<Vec<_>>().join(",");
        let reasons = Counter::ALL.into_iter().filter_map(Counter::reason);
        let reasons = reasons.filter(|_| self.format == Format::Dogstatsd);
        let counter = |more: &[&str]| {
            let mut line = self.client.count_with_tags(NAME, VALUE);
            for tags in [tags.as_str()].iter().chain(more).filter(|tags| !tags.is_empty()) {
                line = line.with_tag_value(tags);
            }
            self.tail(line.try_send())
        };
        let mut gauge = self.client.gauge_with_tags(NAME, VALUE);
        if !tags.is_empty() {
            gauge = gauge.with_tag_value(&tags);
        }
        LineSuffixes {
            counter: counter(&[]),
            reasoned: reasons
                .map(|reason| (reason, counter(&[&format!("reason:{reason}")])))
                .collect(),
            gauge: self.tail(gauge.try_send()),
            tags,
            distribution: [const { OnceCell::new() }; u64::BITS as usize],
        }
    }

    fn distribution_tail(&self, tags: &str, bit: u32) -> String {
        let mut line = self.client.distribution_with_tags(NAME, VALUE);
        if bit > 0 {
            // Exact, and written in full: `f64` shows no exponents.
            line = line.with_sampling_rate(0.5_f64.powi(bit.cast_signed()));
        }
        if !tags.is_empty() {
            line = line.with_tag_value(tags);
        }
        self.tail(line.try_send())
    }

    fn tail(&self, formatted: MetricResult<impl Metric>) -> String {
        let formatted = formatted.expect("every u64 is a value, and the sink takes all");
        let line = formatted.as_metric_str().strip_prefix(&self.head);
        let tail = line.and_then(|line| line.strip_prefix(&VALUE.to_string()));
        format!("{}{}", tail.expect("lines of one name begin alike"), self.end)
    }
}

fn head(client: &StatsdClient, name: &str) -> String {
    let line = client.count(name, VALUE).expect("every u64 is a value, and the sink takes all");
    let line = line.as_metric_str().strip_suffix(&format!("{VALUE}|c"));
    line.expect("a line without tags ends so").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emitter::tests::{plain, tagged};

    #[test]
    fn a_line_is_what_cadence_would_write_in_one_piece() {
        let shapes = LineFormat::new(&tagged());
        let tails = shapes.tails(Some("worker:3".to_owned()));
        let counter = Counter::WorkerRestartsBoot;
        let line = format!("{}17{}", shapes.heads.counter(counter), tails.counter(counter));
        let whole = shapes.client.count_with_tags("worker.restarts", 17u64);
        let whole = whole.with_tag_value("worker:3").with_tag("zone", "x").with_tag("app", "y");
        let whole = whole.with_tag("reason", "boot").try_send().unwrap();
        assert_eq!(line, whole.as_metric_str());
    }

    #[test]
    fn sample_rates_are_written_in_full_and_read_as_powers_of_two() {
        let shapes = LineFormat::new(&plain());
        let tails = shapes.tails(None);
        assert_eq!(tails.distribution(&shapes, 0), "|d");
        assert_eq!(tails.distribution(&shapes, 1), "|d|@0.5");
        for bit in 1..u64::BITS {
            let rate = tails.distribution(&shapes, bit).strip_prefix("|d|@").unwrap();
            assert!(rate.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{rate}");
            let rate: f64 = rate.parse().unwrap();
            assert_eq!((1.0 / rate) as u64, 1 << bit);
        }
    }

    #[test]
    fn no_tags_at_all_leave_no_trace() {
        let tails = LineFormat::new(&plain()).tails(None);
        assert_eq!(tails.counter(Counter::ReqDone), "|c");
        assert_eq!(tails.counter(Counter::WorkerRestartsExit), "|c");
        assert_eq!(tails.gauge(), "|g");
    }

    #[test]
    fn an_empty_prefix_has_no_dot_and_a_long_one_is_kept() {
        let name = |prefix: &str| {
            let shapes = LineFormat::new(&Statsd { prefix: prefix.to_owned(), ..plain() });
            shapes.heads.counter(Counter::ReqDone).to_owned()
        };
        assert_eq!(name(""), "req.done:");
        assert_eq!(name(&"p".repeat(90)), format!("{}.req.done:", "p".repeat(90)));
    }
}
