//! What an access log wants to know of a response and of the environ, which are gone when its line is written.
//!
//! Which values these are is decided once, by the format ([`Wanted`]); they are kept in its order.

use std::ops::Range;

use crate::http::ResponseHead;
use crate::settings::Wanted;

/// The maximum length of a value that is kept.
const VALUE_BYTES: usize = 4096;

/// Header fields of one response, and variables of one environ. The memory is used again.
#[derive(Debug, Default)]
pub struct KeptValues {
    bytes: Vec<u8>,
    response_headers: Vec<Option<Range<usize>>>,
    variables: Vec<Option<Range<usize>>>,
}

impl KeptValues {
    /// Forgets the values of the former request.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.response_headers.clear();
        self.variables.clear();
    }

    /// Keeps the fields that are wanted of a response: the last one, where a field is repeated.
    pub fn keep_response(&mut self, head: &ResponseHead, wanted: &Wanted) {
        self.response_headers.clear();
        for name in &wanted.response_headers {
            let is_wanted =
                |(field, _): &(&[u8], &[u8])| field.eq_ignore_ascii_case(name.as_bytes());
            let value = head.fields().filter(is_wanted).last().map(|(_, value)| value);
            let range = value.map(|value| add(&mut self.bytes, value));
            self.response_headers.push(range);
        }
    }

    /// Keeps the next variable that is wanted, in UTF-8.
    pub fn keep_variable(&mut self, value: Option<&[u8]>) {
        let range = value.map(|value| add(&mut self.bytes, value));
        self.variables.push(range);
    }

    /// The value of a field of the response, by its index in [`Wanted::response_headers`].
    pub fn response_header(&self, index: usize) -> Option<&[u8]> {
        self.get(&self.response_headers, index)
    }

    /// The value of a variable, by its index in [`Wanted::variables`].
    pub fn variable(&self, index: usize) -> Option<&[u8]> {
        self.get(&self.variables, index)
    }

    /// How much memory the values hold.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn get(&self, ranges: &[Option<Range<usize>>], index: usize) -> Option<&[u8]> {
        Some(&self.bytes[ranges.get(index)?.clone()?])
    }
}

/// Appends a value, or as much of it as is kept, and returns its place.
fn add(bytes: &mut Vec<u8>, value: &[u8]) -> Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(&value[..value.len().min(VALUE_BYTES + 1)]);
    start..bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_repeated_field_is_kept_in_the_order_of_the_format() {
        let mut head = ResponseHead::default();
        head.start(b"200 OK").unwrap();
        for (name, value) in [("ETag", "\"a\""), ("Set-Cookie", "a=1"), ("set-cookie", "b=2")] {
            head.add(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let names = ["set-cookie", "age", "etag"];
        let wanted =
            Wanted { response_headers: names.map(str::to_owned).into(), variables: vec![] };
        let mut kept = KeptValues::default();
        kept.keep_response(&head, &wanted);
        kept.keep_variable(None);
        kept.keep_variable(Some(b"value"));
        let fields = [0, 1, 2, 3].map(|index| kept.response_header(index));
        assert_eq!(fields, [Some(&b"b=2"[..]), None, Some(b"\"a\""), None]);
        assert_eq!((kept.variable(0), kept.variable(1)), (None, Some(&b"value"[..])));
        kept.clear();
        assert_eq!((kept.response_header(0), kept.variable(1)), (None, None));
    }

    #[test]
    fn a_long_value_is_cut_but_shows_that_it_was_longer() {
        let mut kept = KeptValues::default();
        kept.keep_variable(Some(&[b'x'; 10_000]));
        assert_eq!(kept.variable(0).unwrap().len(), VALUE_BYTES + 1);
    }
}
