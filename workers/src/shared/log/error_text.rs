//! Errors of the kernel as an operator reads them: `No such file or directory`, and not `No such file or directory (os
//! error 2)`, as [`io::Error`] displays it. Nothing else in the project removes these numbers.

use std::fmt;
use std::io;

const BEGIN: &str = " (os error ";

/// Displays an error without its number.
pub struct ErrorText<'a>(pub &'a io::Error);

impl fmt::Display for ErrorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_error_numbers(self.0.to_string()))
    }
}

/// The text without the numbers of errors.
pub fn without_error_numbers(mut text: String) -> String {
    let mut from = 0;
    while let Some(at) = text[from..].find(BEGIN).map(|at| from + at) {
        let rest = &text[at + BEGIN.len()..];
        let number = rest.bytes().take_while(u8::is_ascii_digit).count();
        if number > 0 && rest[number..].starts_with(')') {
            text.replace_range(at..at + BEGIN.len() + number + 1, "");
            from = at;
        } else {
            from = at + BEGIN.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_kernel_is_displayed_without_its_number() {
        let error = io::Error::from_raw_os_error(nix::libc::ENOENT);
        assert_eq!(ErrorText(&error).to_string(), "No such file or directory");
        assert_eq!(ErrorText(&io::Error::other("no such host")).to_string(), "no such host");
    }

    #[test]
    fn only_numbers_of_errors_are_removed() {
        for (text, expected) in [
            ("a (os error 2); b (os error 13)", "a; b"),
            (" (os error 2)", ""),
            ("x (os error ) y (os error 2", "x (os error ) y (os error 2"),
        ] {
            assert_eq!(without_error_numbers(text.to_owned()), expected);
        }
    }
}
