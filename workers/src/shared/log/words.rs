//! Errors of the kernel in an operator's words: `No such file or directory`, and not
//! `No such file or directory (os error 2)`, which [`io::Error`] says.

use std::fmt;
use std::io;

const BEGIN: &str = " (os error ";

/// An error without the number that only a programmer looks up.
pub struct Words<'a>(pub &'a io::Error);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_numbers(self.0.to_string()))
    }
}

/// The text without all such numbers.
pub fn without_numbers(mut text: String) -> String {
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
    fn an_error_of_the_kernel_has_no_number() {
        let error = io::Error::from_raw_os_error(nix::libc::ENOENT);
        assert_eq!(Words(&error).to_string(), "No such file or directory");
        assert_eq!(Words(&io::Error::other("no such host")).to_string(), "no such host");
    }

    #[test]
    fn only_numbers_of_errors_are_left_out() {
        for (text, expected) in [
            ("a (os error 2); b (os error 13)", "a; b"),
            (" (os error 2)", ""),
            ("x (os error ) y (os error 2", "x (os error ) y (os error 2"),
        ] {
            assert_eq!(without_numbers(text.to_owned()), expected);
        }
    }
}
