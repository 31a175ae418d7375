//! Kinds of option values: how each is read, how an error describes it, and how it is shown.
//!
//! The three stand together so that the parser, the error messages and the effective configuration cannot disagree.
//! Nothing here knows which option it reads for.

use std::time::Duration;

use crate::system::duration::shown;
use nix::sys::stat::Mode;

/// A kind of value.
pub trait Kind {
    /// The type of a value.
    type Value;
    /// Reads a value; `None` if the text is not of this kind or out of range.
    fn read(&self, text: &str) -> Option<Self::Value>;
    /// Describes what is accepted, as the end of a sentence that starts with "expected".
    fn expected(&self) -> String;
    /// Writes a value as a text that [`Kind::read`] reads as the same value.
    fn show(&self, value: &Self::Value) -> String;
}

/// A decimal whole number.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    /// The minimum.
    pub min: u64,
    /// The maximum.
    pub max: u64,
}

impl Kind for Whole {
    type Value = u64;

    fn read(&self, text: &str) -> Option<u64> {
        digits(text)?.parse().ok().filter(|number| (self.min..=self.max).contains(number))
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
}

/// A number of bytes: `512`, `64K`, `1M`, `1G`; the units are powers of 1024.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The minimum, in bytes.
    pub min_bytes: u64,
    /// The maximum, in bytes.
    pub max_bytes: u64,
    /// Whether 0 is accepted although it is below the minimum; the option says what it means.
    pub allows_zero: bool,
}

/// The units of [`Size`], the largest first.
const SIZE_UNITS: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl Kind for Size {
    type Value = u64;

    fn read(&self, text: &str) -> Option<u64> {
        let unit = SIZE_UNITS.iter().find_map(|&(letter, bytes)| {
            let number = text.strip_suffix([letter, letter.to_ascii_lowercase()])?;
            Some((number, bytes))
        });
        let (number, unit_bytes) = unit.unwrap_or((text, 1));
        let bytes = digits(number)?.parse::<u64>().ok()?.checked_mul(unit_bytes)?;
        let fits = (self.min_bytes..=self.max_bytes).contains(&bytes);
        (fits || (bytes == 0 && self.allows_zero)).then_some(bytes)
    }

    fn expected(&self) -> String {
        let zero = if self.allows_zero && self.min_bytes > 0 { "0, or " } else { "" };
        let (least, most) = (self.show(&self.min_bytes), self.show(&self.max_bytes));
        format!("{zero}a size from {least} to {most} in bytes, or with a unit: 512, 64K, 1M, 1G")
    }

    fn show(&self, value: &u64) -> String {
        shown_size(*value)
    }
}

/// Writes a number of bytes as an option accepts it.
pub fn shown_size(value: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, bytes)| value > 0 && value.is_multiple_of(*bytes));
    match unit {
        Some((letter, bytes)) => format!("{}{letter}", value / bytes),
        None => value.to_string(),
    }
}

/// A duration: `30`, `0.5`, `500ms`, `30s`, `2m`, `1h`. A number without a unit is in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The minimum, apart from 0.
    pub min: Duration,
    /// The maximum.
    pub max: Duration,
    /// Whether 0 is accepted; the option says what it means.
    pub allows_zero: bool,
}

/// The units of [`Span`]. `ms` stands before `s`, because it ends in it.
const SPAN_UNITS: [(&str, u128); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

impl Kind for Span {
    type Value = Duration;

    fn read(&self, text: &str) -> Option<Duration> {
        let unit = SPAN_UNITS
            .iter()
            .find_map(|&(unit, nanos)| Some((text.strip_suffix(unit)?, nanos)))
            .unwrap_or((text, SPAN_UNITS[1].1));
        let span = decimal_times(unit.0, unit.1)?;
        let fits = (self.min..=self.max).contains(&span);
        (fits || (span.is_zero() && self.allows_zero)).then_some(span)
    }

    fn expected(&self) -> String {
        let zero = if self.allows_zero { "0, or " } else { "" };
        let (least, most) = (self.show(&self.min), self.show(&self.max));
        format!(
            "{zero}a time from {least} to {most}, in seconds or with a unit: 30, 0.5, 500ms, 30s, 2m"
        )
    }

    fn show(&self, value: &Duration) -> String {
        shown(*value)
    }
}

/// One of a few words, in upper or lower case.
#[derive(Clone, Copy, Debug)]
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn read(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|&(_, value)| value)
    }

    fn expected(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    fn show(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, known)| known == value);
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
}

/// `on` or `off`. It also accepts what people write into environment variables: `true`, `yes`, `1` and their opposites.
#[derive(Clone, Copy, Debug)]
pub struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn read(&self, text: &str) -> Option<bool> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        }
    }

    fn expected(&self) -> String {
        "on or off".to_owned()
    }

    fn show(&self, value: &bool) -> String {
        shown_switch(*value).to_owned()
    }
}

/// Writes a switch as an option accepts it.
pub fn shown_switch(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Permission bits: octal with a leading 0 (`022`, `0o22`), or hexadecimal (`0x12`).
///
/// A number without the leading 0 is refused: gunicorn reads `22` as decimal, which is 026, and almost everybody who
/// writes it means 022.
#[derive(Clone, Copy, Debug)]
pub struct Permissions;

impl Kind for Permissions {
    type Value = Mode;

    fn read(&self, text: &str) -> Option<Mode> {
        let after_zero = text.strip_prefix('0')?;
        let bits = match after_zero.split_at_checked(1) {
            None => 0,
            Some(("x" | "X", hexadecimal)) => radix(hexadecimal, 16)?,
            Some(("o" | "O", octal)) => radix(octal, 8)?,
            Some(_) => radix(after_zero, 8)?,
        };
        (bits <= 0o777).then(|| Mode::from_bits_truncate(bits))
    }

    fn expected(&self) -> String {
        "an octal number with a leading 0 from 0 to 0777, such as 022".to_owned()
    }

    fn show(&self, value: &Mode) -> String {
        format!("{:#05o}", value.bits()).replacen("0o", "0", 1)
    }
}

/// Converts a number that its kind has limited to what the type holds.
pub(super) fn bounded<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number)
        .ok()
        .expect("each kind of number is bounded to the type that it is read into")
}

/// Returns the text if it is only digits, at least one: `str::parse` would also accept a sign.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Reads a number of only digits, at least one: `from_str_radix` would also accept a sign.
fn radix(text: &str, radix: u32) -> Option<u32> {
    let is_number = text.chars().all(|letter| letter.is_digit(radix));
    is_number.then(|| u32::from_str_radix(text, radix).ok()).flatten()
}

/// Reads `1*DIGIT [ "." 1*DIGIT ]` and multiplies it by `unit_nanos`, in integers, so that no float rounds it.
fn decimal_times(text: &str, unit_nanos: u128) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole = digits(whole)?.parse::<u32>().ok()?;
    let places = u32::try_from(digits(fraction)?.len()).ok().filter(|places| *places <= 9)?;
    let part = fraction.parse::<u128>().ok()? * unit_nanos / 10_u128.pow(places);
    let nanos = u64::try_from(u128::from(whole) * unit_nanos + part).ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span =
        Span { min: Duration::from_millis(1), max: Duration::from_secs(86_400), allows_zero: true };
    const SIZE: Size = Size { min_bytes: 0, max_bytes: 1 << 40, allows_zero: false };

    #[test]
    fn a_whole_number_has_no_sign_no_space_and_stays_in_range() {
        let kind = Whole { min: 1, max: 512 };
        assert_eq!(kind.read("512"), Some(512));
        for wrong in ["0", "513", "+1", "-1", " 1", "1.0", "", "many", "99999999999999999999"] {
            assert_eq!(kind.read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_take_units_of_1024_in_either_case() {
        for (text, bytes) in [("512", 512), ("64K", 65_536), ("1m", 1 << 20), ("1G", 1 << 30)] {
            assert_eq!(SIZE.read(text), Some(bytes), "{text}");
        }
        for wrong in ["K", "1KB", "1.5M", "-1", "1 K", "99999999999999999G", ""] {
            assert_eq!(SIZE.read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn zero_can_be_a_value_below_the_minimum() {
        let kind = Size { min_bytes: 16, max_bytes: 64, allows_zero: true };
        assert_eq!((kind.read("0"), kind.read("15"), kind.read("16")), (Some(0), None, Some(16)));
    }

    #[test]
    fn times_are_seconds_unless_a_unit_says_otherwise() {
        for (text, millis) in
            [("30", 30_000), ("0.5", 500), ("500ms", 500), ("30s", 30_000), ("2m", 120_000)]
        {
            assert_eq!(SPAN.read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(SPAN.read("0.5m"), Some(Duration::from_secs(30)));
        assert_eq!(SPAN.read("0"), Some(Duration::ZERO));
    }

    #[test]
    fn times_that_a_float_parser_would_accept_are_refused() {
        for wrong in ["1e3", "inf", "nan", "-1", "+1", ".5", "5.", "1_000", "25h", "", "s", "0.1ms"]
        {
            assert_eq!(SPAN.read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_shown_value_reads_as_the_same_value() {
        for text in ["0", "1", "500ms", "0.0125s", "90s", "2h"] {
            let value = SPAN.read(text).unwrap();
            assert_eq!(SPAN.read(&SPAN.show(&value)), Some(value), "{text}");
        }
        for text in ["0", "8190", "64K", "1G", "1536M"] {
            let value = SIZE.read(text).unwrap();
            assert_eq!(SIZE.read(&SIZE.show(&value)), Some(value), "{text}");
        }
        for text in ["0", "022", "0660"] {
            let value = Permissions.read(text).unwrap();
            assert_eq!(Permissions.read(&Permissions.show(&value)), Some(value), "{text}");
        }
    }

    #[test]
    fn permissions_need_the_leading_zero_that_says_octal() {
        let bits = |text: &str| Permissions.read(text).map(|mode| mode.bits());
        assert_eq!(bits("022"), Some(0o22));
        assert_eq!(bits("0o27"), Some(0o27));
        assert_eq!(bits("0x12"), Some(0o22));
        assert_eq!(bits("0"), Some(0));
        for wrong in ["22", "18", "08", "01000", "0x", "0o", "-022", ""] {
            assert_eq!(bits(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_choice_lists_its_words() {
        let kind = Choice(&[("debug", 1), ("info", 2), ("error", 3)]);
        assert_eq!(kind.read("INFO"), Some(2));
        assert_eq!(kind.read("loud"), None);
        assert_eq!(kind.expected(), "debug, info or error");
    }
}
