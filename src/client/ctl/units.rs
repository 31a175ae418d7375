//! Readable times and sizes, and texts that are safe for a terminal.

/// A size in the units of the options.
pub(crate) fn size(bytes: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1_073_741_824.0, "G"), (1_048_576.0, "M"), (1024.0, "K")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.1}{letter}", bytes / unit),
        None => format!("{bytes:.0}"),
    }
}

/// A duration with three digits and a unit.
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 0.001 => (seconds * 1e6, "us"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    match value {
        value if value < 10.0 => format!("{value:.2}{unit}"),
        value if value < 100.0 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

/// A long time in its two largest units.
pub(crate) fn age(seconds: f64) -> String {
    // A negative value and NaN become 0.
    let seconds = seconds as u64;
    match (seconds / 60, seconds / 3600, seconds / 86_400) {
        (0, _, _) => format!("{seconds}s"),
        (minutes, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (minutes, hours, 0) => format!("{hours}h{:02}m", minutes % 60),
        (_, hours, days) => format!("{days}d{:02}h", hours % 24),
    }
}

/// Replaces the characters that a terminal would act on. A traceback or the path of a request may contain anything.
pub(crate) fn printable(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\n' | '\t' => letter,
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        // Characters that are invisible or change the writing direction could make a line look like another one.
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    text.chars().map(shown).collect()
}

/// Maximum length of a cell, because the server may be any program.
const CELL_CHARS: usize = 400;

/// A text on one line, cut and safe for a terminal.
pub(crate) fn cell(text: &str) -> String {
    let start: String = text.chars().take(CELL_CHARS).collect();
    printable(&start.replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_the_two_largest_units() {
        let texts = [0.4, 59.9, 60.0, 3599.0, 3600.0, 86_399.0, 86_400.0, 8_640_000.0].map(age);
        assert_eq!(texts, ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "100d00h"]);
        assert_eq!([-1.0, f64::NAN].map(age), ["0s", "0s"]);
    }

    #[test]
    fn printable_text_cannot_change_the_writing_direction() {
        assert_eq!(printable("a\u{202e}b\u{200b}\u{2066}"), "a\u{fffd}b\u{fffd}\u{fffd}");
    }

    #[test]
    fn printable_text_cannot_move_the_cursor() {
        assert_eq!(
            printable("a\n\tb\u{1b}[2J\r\u{7f}\u{9b}\u{e4}"),
            "a\n\tb\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{e4}"
        );
    }
}
