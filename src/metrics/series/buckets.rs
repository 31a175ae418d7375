//! The counts of a histogram's buckets, of which most are zero.

use arctos_worker::shared::series::ValueHistogram;

/// Counts by the index of their bucket in [`ValueHistogram`]. Only buckets that are not zero take memory: a thousand
/// distributions of many workers have a few dozen each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(Vec<(u16, u64)>);

impl Buckets {
    /// The count of a bucket.
    pub fn get(&self, index: u16) -> u64 {
        self.position(index).map_or(0, |place| self.0[place].1)
    }

    /// All buckets that are not zero, those of the lowest values first.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The sum of all counts.
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |sum, (_, n)| sum.saturating_add(n))
    }

    /// Whether all counts are zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds to a bucket. An index that no bucket has is left out.
    pub fn add(&mut self, index: u16, n: u64) {
        if n == 0 || usize::from(index) >= ValueHistogram::BUCKETS {
            return;
        }
        match self.position(index) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(n),
            Err(place) => self.0.insert(place, (index, n)),
        }
    }

    /// Subtracts from a bucket, down to zero.
    pub fn subtract(&mut self, index: u16, n: u64) {
        if let Ok(place) = self.position(index) {
            self.0[place].1 = self.0[place].1.saturating_sub(n);
            if self.0[place].1 == 0 {
                self.0.remove(place);
            }
        }
    }

    /// What these counts have beyond `other`.
    pub fn beyond(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        for (index, n) in other.iter() {
            rest.subtract(index, n);
        }
        rest
    }

    fn position(&self, index: u16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&index, |(index, _)| *index)
    }
}

impl Extend<(u16, u64)> for Buckets {
    fn extend<T: IntoIterator<Item = (u16, u64)>>(&mut self, counts: T) {
        counts.into_iter().for_each(|(index, n)| self.add(index, n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(u16, u64)]) -> Buckets {
        let mut buckets = Buckets::default();
        buckets.extend(counts.iter().copied());
        buckets
    }

    #[test]
    fn counts_add_up_in_the_order_of_the_buckets() {
        let sum = buckets(&[(7, 1), (3, 2), (7, 4), (9999, 1), (5, 0)]);
        assert_eq!(sum.iter().collect::<Vec<_>>(), [(3, 2), (7, 5)]);
        assert_eq!((sum.count(), sum.get(7), sum.get(5)), (7, 5, 0));
    }

    #[test]
    fn a_difference_holds_what_rose() {
        let rest =
            buckets(&[(1, 5), (2, 2), (3, 1)]).beyond(&buckets(&[(1, 3), (2, 2), (3, 9), (4, 1)]));
        assert_eq!(rest, buckets(&[(1, 2)]));
        assert!(buckets(&[(1, 1)]).beyond(&buckets(&[(1, 1)])).is_empty());
    }
}
