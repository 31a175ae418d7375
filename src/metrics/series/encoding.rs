//! Series as lines of text, for the successor in an upgrade.
//!
//! | line | meaning |
//! |---|---|
//! | `help FAMILY TEXT` | the help text of a metric |
//! | `sum SLOT DESCRIPTION SUM` | a counter; `-` stands for the slot of a process without one |
//! | `values SLOT DESCRIPTION SUM START:N ..` | a distribution: its buckets that are not 0, by their start |
//!
//! A description and other texts are in hexadecimal digits.

use std::fmt::Write;
use std::str::SplitAsciiWhitespace;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::series::{Description, Kind, ValueHistogram};

use super::buckets::Buckets;
use super::{CountedIn, SeriesTotal, SeriesTotals};

impl SeriesTotals {
    /// Appends the lines of all series.
    pub fn encode(&self, text: &mut String) {
        // Writing to a `String` cannot fail.
        for (family, help) in &self.help {
            let _ = writeln!(text, "help {} {}", Hex(family.as_bytes()), Hex(help.as_bytes()));
        }
        for series in &self.series {
            let Some(description) = series.description.encode() else { continue };
            for (counted_in, total) in &series.totals {
                let slot = counted_in.map_or("-".to_owned(), |slot| slot.to_string());
                let description = Hex(&description);
                // The shortest text that reads as the same number.
                match total {
                    SeriesTotal::Sum(sum) => {
                        let _ = writeln!(text, "sum {slot} {description} {sum:?}");
                    }
                    SeriesTotal::Values { sum, buckets } => {
                        let _ = write!(text, "values {slot} {description} {sum:?}");
                        for (index, n) in buckets.iter() {
                            let start = ValueHistogram::bounds(usize::from(index)).start;
                            let _ = write!(text, " {start:?}:{n}");
                        }
                        text.push('\n');
                    }
                }
            }
        }
    }

    /// Reads a line that begins with `kind`; `None` if it is malformed.
    pub fn decode_line(&mut self, kind: &str, fields: SplitAsciiWhitespace<'_>) -> Option<()> {
        let mut fields = fields;
        if kind == "help" {
            let (family, help) = (text_of(fields.next()?)?, text_of(fields.next().unwrap_or(""))?);
            self.set_help(family, help);
            return Some(());
        }
        let counted_in: CountedIn = match fields.next()? {
            "-" => None,
            slot => Some(SlotId(slot.parse().ok()?)),
        };
        let description = Description::decode(&bytes_of(fields.next()?)?)?;
        let sum: f64 = fields.next()?.parse().ok()?;
        let total = match (kind, description.kind) {
            ("values", Kind::Distribution) => {
                let mut buckets = Buckets::default();
                for field in fields {
                    let (start, n) = field.rsplit_once(':')?;
                    let index = ValueHistogram::index_of(start.parse().ok()?);
                    buckets.add(u16::try_from(index).ok()?, n.parse().ok()?);
                }
                SeriesTotal::Values { sum, buckets }
            }
            ("sum", Kind::Counter | Kind::HistogramPart | Kind::SummaryPart) => {
                SeriesTotal::Sum(sum)
            }
            _ => return None,
        };
        if sum.is_finite() {
            self.add_total(&description, counted_in, &total);
        }
        Some(())
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn text_of(digits: &str) -> Option<String> {
    String::from_utf8(bytes_of(digits)?).ok()
}
