//! Where the bytes of a peer are cut into reads, and how many bytes a socket takes.

/// A sequence of numbers that depends only on its seed (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    /// A sequence that the bytes determine, so that an input alone reproduces a finding.
    pub(crate) fn of(bytes: &[u8], salt: u64) -> Self {
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// The next number, below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}

/// Ways to cut `bytes`, each as the ends of its pieces: whole, byte by byte, in two, and in a few.
pub(crate) fn cuts(bytes: &[u8]) -> Vec<Vec<usize>> {
    let end = bytes.len();
    let mut numbers = Numbers::of(bytes, 0);
    let mut cut = |count: usize| {
        let mut ends: Vec<usize> = (0..count).map(|_| numbers.below(end + 1)).collect();
        ends.push(end);
        ends.sort_unstable();
        ends.dedup();
        ends
    };
    vec![vec![end], (1..=end).collect(), cut(1), cut(1), cut(2), cut(5)]
}

/// The pieces that these ends cut `bytes` into.
pub(crate) fn pieces<'a>(bytes: &'a [u8], ends: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| &bytes[start..end])
}
