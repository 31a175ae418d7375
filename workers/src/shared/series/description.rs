//! The description of a series: what a row is about, as bytes in shared memory.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | the kind |
//! | 1 | how the values of several processes make one |
//! | 1 | how its name becomes that of a metric |
//! | 2 + n, any number of times | length in bytes, little-endian, and text: the family, the sample, then names and values of tags in turn |
//!
//! A [`Kind::Help`] row has the help text in place of the tags, and no value. It stands before the first series of its
//! family.

/// The longest description in bytes.
pub const MAX_BYTES: usize = 2048;
/// The value of every tag of the series that counts what has no series of its own.
pub const OTHER: &str = "other";
/// The label that tells the buckets of a Prometheus histogram apart.
const BOUND: &str = "le";

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Only increases.
    Counter = 1,
    /// Has a value at any time.
    Gauge = 2,
    /// Many values, of which the distribution counts.
    Distribution = 3,
    /// A part of a Prometheus histogram: its name ends in `_bucket`, `_count` or `_sum`.
    HistogramPart = 4,
    /// A part of a Prometheus summary: its name ends in `_count` or `_sum`.
    SummaryPart = 5,
    /// The meaning of a family, for people.
    Help = 6,
}

/// How the values of several processes make the value of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Aggregation {
    /// They are added. The only one for what is no gauge.
    Sum = 1,
    /// The highest one.
    Max = 2,
    /// The lowest one.
    Min = 3,
    /// The one that was set last.
    Last = 4,
    /// Each is a value of its own.
    Each = 5,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Counter,
        Self::Gauge,
        Self::Distribution,
        Self::HistogramPart,
        Self::SummaryPart,
        Self::Help,
    ];
}

impl Aggregation {
    const ALL: [Self; 5] = [Self::Sum, Self::Max, Self::Min, Self::Last, Self::Each];
}

/// How the name of a metric is made from that of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Naming {
    /// As the server's own: with the prefix, and in Prometheus with underscores and the suffix of its kind.
    Prefixed = 1,
    /// In Prometheus exactly as given, because a library for Prometheus has made it.
    Verbatim = 2,
}

impl Naming {
    const ALL: [Self; 2] = [Self::Prefixed, Self::Verbatim];
}

/// The description of a series, read or about to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Description {
    /// What the series is.
    pub kind: Kind,
    /// How its values make one.
    pub aggregation: Aggregation,
    /// How its name is made.
    pub naming: Naming,
    /// The name of the metric, as the application gave it.
    pub family: String,
    /// The name of this value in Prometheus if it is not the family's, as `latency_bucket`; otherwise empty.
    pub sample: String,
    /// Names and values of tags in the order of their definition; for [`Kind::Help`], one pair of nothing and the text.
    pub tags: Vec<(String, String)>,
}

impl Description {
    /// The bytes; `None` if there are too many.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![self.kind as u8, self.aggregation as u8, self.naming as u8];
        let tags = self.tags.iter().flat_map(|(name, value)| [name, value]);
        for text in [&self.family, &self.sample].into_iter().chain(tags) {
            let length = u16::try_from(text.len()).ok()?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        (bytes.len() <= MAX_BYTES).then_some(bytes)
    }

    /// What the limit of series counts: the histogram or the summary that this is a part of, or this series.
    pub fn whole(&self) -> Self {
        match self.kind {
            Kind::HistogramPart | Kind::SummaryPart => {
                let tags = self.tags.iter().filter(|(name, _)| name != BOUND).cloned().collect();
                Self { sample: String::new(), tags, ..self.clone() }
            }
            Kind::Counter | Kind::Gauge | Kind::Distribution | Kind::Help => self.clone(),
        }
    }

    /// The series that counts instead of this one if there are too many: this one if it has no tags, or is that series.
    pub fn other(&self) -> Self {
        let other = |(name, value): &(String, String)| {
            let value = if name == BOUND { value } else { OTHER };
            (name.clone(), value.to_owned())
        };
        Self { tags: self.tags.iter().map(other).collect(), ..self.clone() }
    }

    /// Reads a description; `None` if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[kind, aggregation, naming], mut rest) = bytes.split_first_chunk()?;
        let kind = variant(Kind::ALL, |known| known as u8, kind)?;
        let aggregation = variant(Aggregation::ALL, |known| known as u8, aggregation)?;
        let naming = variant(Naming::ALL, |known| known as u8, naming)?;
        let family = take_text(&mut rest)?;
        let sample = take_text(&mut rest)?;
        let mut tags = Vec::new();
        while !rest.is_empty() {
            tags.push((take_text(&mut rest)?, take_text(&mut rest)?));
        }
        Some(Self { kind, aggregation, naming, family, sample, tags })
    }
}

/// The variant that this byte stands for.
fn variant<T: Copy, const N: usize>(all: [T; N], byte_of: fn(T) -> u8, byte: u8) -> Option<T> {
    all.into_iter().find(|known| byte_of(*known) == byte)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn orders() -> Description {
        Description {
            kind: Kind::Counter,
            aggregation: Aggregation::Sum,
            naming: Naming::Prefixed,
            family: "orders.placed".into(),
            sample: String::new(),
            tags: vec![("channel".into(), "web".into()), ("city".into(), "Zürich".into())],
        }
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let bytes = orders().encode().unwrap();
        assert_eq!(Description::decode(&bytes), Some(orders()));
    }

    #[test]
    fn the_buckets_of_a_histogram_are_one_series_and_keep_their_bounds() {
        let bucket = |queue: &str, le: &str| Description {
            kind: Kind::HistogramPart,
            sample: "jobs_bucket".into(),
            tags: vec![("queue".into(), queue.into()), ("le".into(), le.into())],
            ..orders()
        };
        assert_eq!(bucket("mail", "1").whole(), bucket("mail", "+Inf").whole());
        assert_ne!(bucket("mail", "1").whole(), bucket("sms", "1").whole());
        assert_eq!(bucket("mail", "1").other(), bucket(OTHER, "1"));
        assert_eq!(orders().whole(), orders());
        let untagged = Description { tags: Vec::new(), ..orders() };
        assert_eq!(untagged.other(), untagged);
    }

    #[test]
    fn a_cut_or_unknown_description_is_none() {
        let bytes = orders().encode().unwrap();
        let readable = (0..bytes.len()).filter(|&end| Description::decode(&bytes[..end]).is_some());
        // Tags that are missing altogether leave a description.
        assert_eq!(readable.collect::<Vec<_>>(), [3 + 15 + 2, 3 + 15 + 2 + 9 + 5]);
        for (place, byte) in [(0, 0), (0, 9), (1, 0), (1, 6), (2, 0), (5, 0xff)] {
            let mut other = bytes.clone();
            other[place] = byte;
            assert_eq!(Description::decode(&other), None, "{place}");
        }
    }

    #[test]
    fn a_description_that_is_too_long_is_not_written() {
        for length in [MAX_BYTES, 1 << 17] {
            let tags = vec![("id".into(), "x".repeat(length))];
            assert_eq!(Description { tags, ..orders() }.encode(), None);
        }
    }

    /// `arctos.metrics` permits names of these lengths.
    #[test]
    fn the_other_of_a_metric_with_the_longest_names_has_a_description() {
        let tag = |index| (format!("{index:x<80}"), "x".repeat(200));
        let family = "f".repeat(200);
        let longest = Description { family, tags: (0..20).map(tag).collect(), ..orders() };
        assert_eq!(longest.encode(), None);
        assert!(longest.other().encode().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_description_or_none(bytes in vec(any::<u8>(), 0..200)) {
            if let Some(read) = Description::decode(&bytes) {
                prop_assert_eq!(read.encode(), Some(bytes));
            }
        }
    }
}
