//! Equal values with one number, up to a maximum of different ones.

use std::collections::HashMap;
use std::hash::Hash;

/// Up to `MAX` different values, and one that stands for all others.
pub(super) struct Numbered<T, const MAX: usize> {
    numbers: HashMap<T, u32>,
}

impl<T, const MAX: usize> Default for Numbered<T, MAX> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

impl<T: Eq + Hash, const MAX: usize> Numbered<T, MAX> {
    /// The number of a value. A new one beyond the maximum has that of `other`.
    pub(super) fn number(&mut self, value: T, other: impl FnOnce() -> T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let next = self.numbers.len();
        let value = if next < MAX { value } else { other() };
        *self.numbers.entry(value).or_insert(u32::try_from(next).unwrap_or(u32::MAX))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// All values, by their numbers.
    pub(super) fn into_values(self) -> Vec<T> {
        let mut pairs: Vec<_> = self.numbers.into_iter().collect();
        pairs.sort_unstable_by_key(|(_, number)| *number);
        pairs.into_iter().map(|(value, _)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number_and_surplus_ones_another() {
        let mut words = Numbered::<&str, 2>::default();
        assert!(words.is_empty());
        let numbers = ["a", "b", "a", "c", "d", "b"].map(|word| words.number(word, || "other"));
        assert_eq!(numbers, [0, 1, 0, 2, 2, 1]);
        assert_eq!(words.into_values(), ["a", "b", "other"]);
    }
}
