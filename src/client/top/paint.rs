//! The bytes that turn one screen into another. Only cells that differ are written, with the few sequences that
//! every terminal knows (ECMA-48).

use std::fmt::Write;

use ratatui_core::buffer::Buffer;
use ratatui_core::style::Modifier;

/// Switches to the alternate screen and hides the cursor, so that the shell's screen can be restored.
pub(super) const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Switches back to the shell's screen and shows the cursor.
pub(super) const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[0m\x1b[2J";

/// Writes the difference from `before` to `after`, or all of `after` if `before` has another size.
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
    let mut cursor = None;
    for (x, y, cell) in before.diff(after) {
        if cursor != Some((x, y)) {
            // Ignored: writing to a string cannot fail.
            let _ = write!(text, "\x1b[{};{}H", y + 1, x + 1);
        }
        if cell.modifier != style {
            style = cell.modifier;
            text.push_str(attributes(style));
        }
        text.push_str(cell.symbol());
        // The position after a wide character is unknown, and is set again.
        let is_narrow = cell.symbol().is_ascii();
        cursor = is_narrow.then_some((x + 1, y));
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
    fn the_first_screen_clears_the_terminal() {
        assert_eq!(paint(None, &buffer("ab", Style::new())), "\x1b[0m\x1b[2J\x1b[2;2Hab");
        let other_size = Buffer::empty(Rect::new(0, 0, 5, 2));
        assert!(paint(Some(&other_size), &buffer("ab", Style::new())).starts_with(CLEAR));
    }

    #[test]
    fn only_cells_that_differ_are_written() {
        let before = buffer("abcd", Style::new());
        assert_eq!(paint(Some(&before), &before), "");
        assert_eq!(paint(Some(&before), &buffer("axcy", Style::new())), "\x1b[2;3Hx\x1b[2;5Hy");
        assert_eq!(paint(Some(&before), &buffer("abc", Style::new())), "\x1b[2;5H ");
    }

    #[test]
    fn a_style_ends_after_its_text() {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let text = paint(Some(&buffer("", Style::new())), &buffer("a", reversed));
        assert_eq!(text, "\x1b[2;2H\x1b[0;7ma\x1b[0m");
    }
}
