//! The bytes that turn one screen into another: only what differs, in the few sequences that every terminal
//! of the last forty years knows (ECMA-48).

use std::fmt::Write;

use ratatui_core::buffer::Buffer;
use ratatui_core::style::Modifier;

/// To another page, so that the shell's is there again afterwards; without a cursor.
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// And back.
pub(super) const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[0m\x1b[2J";

/// From `before` to `after`; from anything at all where there is no screen of the same size before.
pub(super) fn paint(before: Option<&Buffer>, after: &Buffer) -> String {
    let mut text = String::new();
    let empty = Buffer::empty(after.area);
    let before = match before.filter(|before| before.area == after.area) {
        Some(before) => before,
        None => {
            text.push_str(CLEAR);
            &empty
        }
    };
    let mut style = Modifier::empty();
    let mut place = None;
    for (x, y, cell) in before.diff(after) {
        if place != Some((x, y)) {
            // Ignored: a text takes what is written.
            let _ = write!(text, "\x1b[{};{}H", y + 1, x + 1);
        }
        if cell.modifier != style {
            style = cell.modifier;
            text.push_str(attributes(style));
        }
        text.push_str(cell.symbol());
        // Behind a wide letter the place is not known, and said anew.
        let is_narrow = cell.symbol().is_ascii();
        place = is_narrow.then_some((x + 1, y));
    }
    if !style.is_empty() {
        text.push_str(attributes(Modifier::empty()));
    }
    text
}

const fn attributes(style: Modifier) -> &'static str {
    match (
        style.contains(Modifier::BOLD),
        style.contains(Modifier::DIM),
        style.contains(Modifier::REVERSED),
    ) {
        (false, false, false) => "\x1b[0m",
        (true, false, false) => "\x1b[0;1m",
        (false, true, false) => "\x1b[0;2m",
        (_, _, true) => "\x1b[0;7m",
        (true, true, false) => "\x1b[0;1;2m",
    }
}

#[cfg(test)]
mod tests {
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;

    use super::*;

    fn buffer(text: &str, style: Style) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 2));
        buffer.set_string(1, 1, text, style);
        buffer
    }

    #[test]
    fn the_first_screen_clears_what_was_there() {
        assert_eq!(paint(None, &buffer("ab", Style::new())), "\x1b[0m\x1b[2J\x1b[2;2Hab");
        let other_size = Buffer::empty(Rect::new(0, 0, 5, 2));
        assert!(paint(Some(&other_size), &buffer("ab", Style::new())).starts_with(CLEAR));
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = buffer("abcd", Style::new());
        assert_eq!(paint(Some(&before), &before), "");
        assert_eq!(paint(Some(&before), &buffer("axcy", Style::new())), "\x1b[2;3Hx\x1b[2;5Hy");
        assert_eq!(paint(Some(&before), &buffer("abc", Style::new())), "\x1b[2;5H ");
    }

    #[test]
    fn styles_end_where_they_should() {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let text = paint(Some(&buffer("", Style::new())), &buffer("a", reversed));
        assert_eq!(text, "\x1b[2;2H\x1b[0;7ma\x1b[0m");
    }
}
