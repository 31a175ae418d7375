//! The table of clients. A [`Token`] contains the generation of its place, so that a late event for a closed
//! connection finds nothing.
//!
//! The crate slab would not do, because its keys are bare indices. A place whose generations are used up is
//! retired, so a token is never used twice.

/// The key of one entry of a [`ClientTable`]. It is never valid again once the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The 64 bits that epoll(7) carries. Values whose upper 32 bits are all ones never belong to an entry: they are
    /// free for descriptors that are no connection.
    pub fn to_bits(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }
    /// The inverse of [`Token::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
    /// The place in the table, below [`ClientTable::capacity`]. It is reused after removal.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Clients by [`Token`].
pub struct ClientTable<T> {
    places: Vec<Place<T>>,
    /// The place to use next. The vacant places form a stack, so that the last one used is the first one reused.
    vacant: Option<u32>,
    len: usize,
}

struct Place<T> {
    /// The generation of the entry that is here, or of the next one.
    generation: u32,
    content: Content<T>,
}

enum Content<T> {
    Entry(T),
    Vacant { next: Option<u32> },
    Retired,
}

/// No place is ever used with this generation: it is the last one, and marks other keys.
const NO_GENERATION: u32 = u32::MAX;

impl<T> ClientTable<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self { places: Vec::new(), vacant: None, len: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of places ever used. The index of every valid token is below it.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Adds an entry.
    pub fn insert(&mut self, entry: T) -> Token {
        self.len += 1;
        if let Some(index) = self.vacant {
            let place = &mut self.places[index as usize];
            self.vacant = match std::mem::replace(&mut place.content, Content::Entry(entry)) {
                Content::Vacant { next } => next,
                Content::Entry(_) | Content::Retired => {
                    unreachable!("only vacant places are on the stack")
                }
            };
            return Token { index, generation: place.generation };
        }
        let index = u32::try_from(self.places.len()).expect("fewer places than descriptors");
        self.places.push(Place { generation: 0, content: Content::Entry(entry) });
        Token { index, generation: 0 }
    }

    /// The entry, unless it was removed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.places.get_mut(token.index())?;
        match &mut place.content {
            Content::Entry(entry) if place.generation == token.generation => Some(entry),
            Content::Entry(_) | Content::Vacant { .. } | Content::Retired => None,
        }
    }

    /// The entry, unless it was removed.
    pub fn get(&self, token: Token) -> Option<&T> {
        let place = self.places.get(token.index())?;
        match &place.content {
            Content::Entry(entry) if place.generation == token.generation => Some(entry),
            Content::Entry(_) | Content::Vacant { .. } | Content::Retired => None,
        }
    }

    /// Removes the entry. Its token is invalid from now on.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let place = &mut self.places[token.index()];
        place.generation += 1;
        let left = if place.generation == NO_GENERATION {
            Content::Retired
        } else {
            let next = self.vacant.replace(token.index);
            Content::Vacant { next }
        };
        self.len -= 1;
        match std::mem::replace(&mut place.content, left) {
            Content::Entry(entry) => Some(entry),
            Content::Vacant { .. } | Content::Retired => unreachable!("get found an entry"),
        }
    }

    /// The tokens of all entries, in the order of their places.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.places.iter().zip(0..).filter_map(|(place, index)| match place.content {
            Content::Entry(_) => Some(Token { index, generation: place.generation }),
            Content::Vacant { .. } | Content::Retired => None,
        })
    }
}

impl<T> Default for ClientTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_found_by_its_token() {
        let mut table = ClientTable::new();
        let token = table.insert("a");
        assert_eq!(table.get(token), Some(&"a"));
        assert_eq!(table.get_mut(token), Some(&mut "a"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_late_event_finds_nothing_although_the_place_is_reused() {
        let mut table = ClientTable::new();
        let old = table.insert("old");
        assert_eq!(table.remove(old), Some("old"));
        let new = table.insert("new");
        assert_eq!(new.index(), old.index());
        assert_eq!(table.get(old), None);
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"new"));
    }

    #[test]
    fn a_token_survives_its_bits() {
        let token = Token { index: 7, generation: 0x8000_0001 };
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }

    #[test]
    fn other_keys_find_nothing() {
        let mut table = ClientTable::new();
        table.insert(());
        assert_eq!(table.get(Token::from_bits(u64::MAX)), None);
        assert_eq!(table.get(Token::from_bits(u64::from(NO_GENERATION) << 32)), None);
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_not_used_again() {
        let mut table = ClientTable::new();
        let first = table.insert("first");
        table.places[0].generation = NO_GENERATION - 1;
        let last = Token { generation: NO_GENERATION - 1, ..first };
        assert_eq!(table.remove(last), Some("first"));
        let next = table.insert("next");
        assert_ne!(next.index(), first.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.tokens().collect::<Vec<_>>(), [next]);
        assert_eq!(table.capacity(), 2);
    }

    #[test]
    fn tokens_come_in_order_of_place() {
        let mut table = ClientTable::new();
        let tokens: Vec<_> = (0..4).map(|n| table.insert(n)).collect();
        table.remove(tokens[1]);
        assert_eq!(table.tokens().collect::<Vec<_>>(), [tokens[0], tokens[2], tokens[3]]);
    }

    proptest! {
        #[test]
        fn the_table_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200)) {
            let mut table = ClientTable::new();
            let mut model = HashMap::new();
            let mut given = Vec::new();
            for (number, (insert, which)) in steps.into_iter().enumerate() {
                if insert || given.is_empty() {
                    let token = table.insert(number);
                    prop_assert!(!given.contains(&token));
                    given.push(token);
                    model.insert(token, number);
                } else {
                    let token = *which.get(&given);
                    prop_assert_eq!(table.remove(token), model.remove(&token));
                }
                prop_assert_eq!(table.len(), model.len());
                for token in &given {
                    prop_assert_eq!(table.get(*token), model.get(token));
                }
            }
            prop_assert_eq!(table.tokens().count(), model.len());
        }
    }
}
