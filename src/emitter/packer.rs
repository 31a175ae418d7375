//! Packs lines into datagrams, each with the deltas that its lines report.

use std::collections::VecDeque;

use super::baseline::Delta;
use super::series::SeriesDelta;

/// Lines joined by newlines, and their deltas.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Datagram {
    pub text: String,
    /// The deltas that count as sent once the datagram is accepted.
    pub deltas: Vec<Delta>,
    /// The same for application metrics.
    pub series: Vec<SeriesDelta>,
}

/// Packs lines into datagrams.
pub(super) struct Packer {
    limit_bytes: usize,
    full: VecDeque<Datagram>,
    open: Datagram,
}

impl Packer {
    /// Packs datagrams of at most `limit_bytes`. A longer line gets a datagram of its own.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, full: VecDeque::new(), open: Datagram::default() }
    }

    pub(super) fn line(&mut self, line: &str, deltas: impl IntoIterator<Item = Delta>) {
        if !self.open.text.is_empty() {
            if self.open.text.len() + 1 + line.len() <= self.limit_bytes {
                self.open.text.push('\n');
            } else {
                let next = Datagram {
                    text: String::with_capacity(self.limit_bytes),
                    deltas: Vec::with_capacity(self.open.deltas.len()),
                    series: Vec::new(),
                };
                self.full.push_back(std::mem::replace(&mut self.open, next));
            }
        }
        self.open.text.push_str(line);
        self.open.deltas.extend(deltas);
    }

    /// Adds a line for an application metric.
    pub(super) fn series_line(&mut self, line: &str, deltas: &[SeriesDelta]) {
        self.line(line, []);
        self.open.series.extend_from_slice(deltas);
    }

    /// Returns all datagrams in the order of their lines.
    pub(super) fn finish(mut self) -> VecDeque<Datagram> {
        if !self.open.text.is_empty() {
            self.full.push_back(self.open);
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::scoreboard::Counter;
    use proptest::prelude::*;

    use super::super::baseline::SumKey;
    use super::super::source::CountSource;
    use super::*;

    fn delta(n: u64) -> Delta {
        Delta { source: CountSource::All, key: SumKey::Count(Counter::ReqDone), n }
    }

    #[test]
    fn a_datagram_is_filled_to_the_last_byte() {
        let mut packer = Packer::new(7);
        for line in ["abc", "def", "g"] {
            packer.line(line, []);
        }
        let texts: Vec<_> = packer.finish().into_iter().map(|datagram| datagram.text).collect();
        assert_eq!(texts, ["abc\ndef", "g"]);
    }

    #[test]
    fn a_line_that_is_too_long_gets_its_own_datagram() {
        let mut packer = Packer::new(4);
        for line in ["a", "long line", "b", "c"] {
            packer.line(line, []);
        }
        let texts: Vec<_> = packer.finish().into_iter().map(|datagram| datagram.text).collect();
        assert_eq!(texts, ["a", "long line", "b\nc"]);
    }

    proptest! {
        #[test]
        fn lines_keep_their_order_their_deltas_and_the_limit(
            lines in prop::collection::vec("[a-z]{1,40}", 0..60),
            limit in 40..200usize,
        ) {
            let mut packer = Packer::new(limit);
            for line in &lines {
                packer.line(line, [delta(line.len() as u64)]);
            }
            let mut unpacked = Vec::new();
            for datagram in packer.finish() {
                prop_assert!(datagram.text.len() <= limit);
                let inside: Vec<_> = datagram.text.split('\n').map(str::to_owned).collect();
                let carried: Vec<_> = datagram.deltas.iter().map(|delta| delta.n).collect();
                prop_assert_eq!(carried, inside.iter().map(|line| line.len() as u64).collect::<Vec<_>>());
                unpacked.extend(inside);
            }
            prop_assert_eq!(unpacked, lines);
        }
    }
}
