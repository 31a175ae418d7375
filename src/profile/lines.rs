//! The line of an instruction, from the line table of its code object.
//!
//! CPython 3.10 has pairs of a length in bytes and a difference of lines (PEP 626). Later versions have entries of a head
//! and a few bytes, of which only the differences of lines matter here (PEP 657). A table that was cut, or is nonsense,
//! ends early, and the line that was reached is the best guess.

use arctos_worker::shared::samples::message::LineFormat;

/// The line of the instruction at this byte offset, or the one that comes nearest before it.
pub fn line_at(format: LineFormat, table: &[u8], first_line: u32, offset: u32) -> u32 {
    let found = match format {
        LineFormat::Pairs => in_pairs(table, first_line.into(), offset),
        LineFormat::Locations => in_locations(table, first_line.into(), offset),
    };
    u32::try_from(found).unwrap_or(first_line)
}

/// Stands for instructions without a line of their own.
const NO_LINE: u8 = 0x80;

fn in_pairs(table: &[u8], first_line: i64, offset: u32) -> i64 {
    let (mut end, mut line, mut last) = (0, first_line, first_line);
    for pair in table.chunks_exact(2) {
        let (length, difference) = (pair[0], pair[1]);
        end += u64::from(length);
        if difference != NO_LINE {
            line += i64::from(difference.cast_signed());
            last = line;
        }
        if u64::from(offset) < end {
            break;
        }
    }
    last
}

fn in_locations(table: &[u8], first_line: i64, offset: u32) -> i64 {
    let (mut end, mut line, mut last) = (0, first_line, first_line);
    let mut rest = table;
    while let Some((&head, after)) = rest.split_first() {
        let length = after.iter().position(|byte| byte & 0x80 != 0).unwrap_or(after.len());
        let (body, next) = after.split_at(length);
        rest = next;
        end += 2 * (u64::from(head & 7) + 1);
        match head >> 3 & 15 {
            // Columns on the same line.
            0..=9 => last = line,
            kind @ 10..=12 => {
                line += i64::from(kind) - 10;
                last = line;
            }
            // A signed number: its lowest bit is the sign.
            13 | 14 => {
                let number = variable(body);
                let amount = i64::try_from(number >> 1).unwrap_or(0);
                line += if number & 1 == 1 { -amount } else { amount };
                last = line;
            }
            _ => {}
        }
        if u64::from(offset) < end {
            break;
        }
    }
    last
}

/// A number in pieces of six bits, the lowest first; bit 6 says that another one follows.
fn variable(bytes: &[u8]) -> u64 {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(6).enumerate() {
        value |= u64::from(byte & 63) << (6 * place);
        if byte & 64 == 0 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(format: LineFormat, table: &[u8], offsets: &[u32]) -> Vec<u32> {
        offsets.iter().map(|offset| line_at(format, table, 100, *offset)).collect()
    }

    #[test]
    fn pairs_are_lengths_and_differences() {
        // Lines 101 and 103, no line, then 102.
        let table = [4, 1, 6, 2, 2, 0x80, 8, 0xff];
        let offsets = [0, 2, 4, 8, 10, 12, 18, 1000, u32::MAX];
        let expected = [101, 101, 103, 103, 103, 102, 102, 102, 102];
        assert_eq!(lines(LineFormat::Pairs, &table, &offsets), expected);
    }

    #[test]
    fn locations_have_heads_of_several_kinds() {
        let entry = |kind: u8, units: u8| 0x80 | kind << 3 | (units - 1);
        let table = [
            &[entry(11, 2), 4, 8][..],      // one line further
            &[entry(0, 1), 0x12],           // the same line
            &[entry(14, 1), 6, 0, 5, 9],    // three lines further, with columns
            &[entry(15, 1)],                // no line
            &[entry(13, 1), 5],             // two lines back
            &[entry(13, 1), 0x42, 0x40, 1], // 2^12 / 2 + 1 lines further
        ]
        .concat();
        let offsets = [0, 3, 4, 6, 8, 10, 12, 500];
        let expected = [101, 101, 101, 104, 104, 102, 102 + 2049, 102 + 2049];
        assert_eq!(lines(LineFormat::Locations, &table, &offsets), expected);
    }

    #[test]
    fn nonsense_has_some_line() {
        for format in [LineFormat::Pairs, LineFormat::Locations] {
            assert_eq!(line_at(format, &[], 7, 5), 7);
            for byte in 0..=255 {
                line_at(format, &[byte; 301], 7, u32::MAX);
                line_at(format, &[byte, 0xff, 0x80], u32::MAX, 0);
            }
        }
    }
}
