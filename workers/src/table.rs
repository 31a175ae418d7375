//! Slab of connections. A [`Token`] carries the generation of its place, so that an event that comes
//! late for a closed connection finds nobody.

/// Names one entry of a [`ConnTable`]; never valid again once the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The 64 bits that epoll(7) carries for us.
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }
    /// The inverse of [`Token::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
    /// The place in the slab: dense, below [`ConnTable::capacity`]; reused after removal.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Connections by [`Token`].
pub struct ConnTable<T> {
    _entries: Vec<Option<T>>,
}

impl<T> ConnTable<T> {
    /// An empty table.
    pub fn new() -> Self {
        todo!()
    }
    /// Entries present.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether no entry is present.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Places ever used: every live token's index is below it.
    pub fn capacity(&self) -> usize {
        todo!()
    }
    /// Adds an entry.
    pub fn insert(&mut self, _entry: T) -> Token {
        todo!()
    }
    /// The entry, unless it was removed.
    pub fn get_mut(&mut self, _token: Token) -> Option<&mut T> {
        todo!()
    }
    /// The entry, unless it was removed.
    pub fn get(&self, _token: Token) -> Option<&T> {
        todo!()
    }
    /// Takes the entry out; its token is dead from now on.
    pub fn remove(&mut self, _token: Token) -> Option<T> {
        todo!()
    }
    /// Tokens of all entries, in order of place.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        std::iter::empty()
    }
}

impl<T> Default for ConnTable<T> {
    fn default() -> Self {
        Self::new()
    }
}
