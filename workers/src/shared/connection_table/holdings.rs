//! The descriptors that one process has of shared connections.
//!
//! | holding | event | next |
//! |---|---|---|
//! | none | [`Holdings::install`] | Here |
//! | Here | [`Holdings::claim`] succeeds | Lent: the caller has the descriptor |
//! | Lent | [`Holdings::put_back`] | Here |
//! | Here | the connection is gone: [`Holdings::claim`], [`Holdings::take_stale`], or [`Holdings::install`] of the next one | none: the caller closes the descriptor |
//! | Lent | [`Holdings::forget`] | none |
//!
//! `D` is the descriptor with what belongs to it. This does no I/O, so the simulation runs it with numbers.

use super::{ConnectionTable, Member, NotClaimed, PlaceGeneration, PlaceKey};

/// See the module.
pub struct Holdings<D> {
    /// By the index of the place.
    places: Vec<Option<Holding<D>>>,
    len: usize,
}

struct Holding<D> {
    generation: PlaceGeneration,
    descriptor: Descriptor<D>,
}

enum Descriptor<D> {
    Here(D),
    Lent,
}

/// The outcome of [`Holdings::install`].
#[derive(Debug, PartialEq, Eq)]
pub enum Installed<D> {
    /// The process holds the connection from now on. `stale` is what it held at this place before, to be closed.
    Held {
        /// A descriptor of the connection that the place had before.
        stale: Option<D>,
    },
    /// The connection is gone, or the process holds it already: this descriptor is to be closed.
    Refused(D),
}

/// The outcome of [`Holdings::claim`].
#[derive(Debug, PartialEq, Eq)]
pub enum Claim<D> {
    /// The caller serves the connection, then calls [`Holdings::put_back`] or [`Holdings::forget`].
    Claimed(D),
    /// Another member serves it and looks afterwards whether more has arrived.
    Taken,
    /// It is gone. The descriptor, if the process has one, is to be closed.
    Gone(Option<D>),
}

impl<D> Holdings<D> {
    /// No descriptors.
    pub fn new() -> Self {
        Self { places: Vec::new(), len: 0 }
    }

    /// The number of connections that the process holds, including those that it serves.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the process holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a descriptor that another process has sent.
    pub fn install(
        &mut self,
        table: &ConnectionTable,
        key: PlaceKey,
        descriptor: D,
    ) -> Installed<D> {
        let is_held = self.holding(key).is_some();
        if is_held || !table.has(key) || self.is_lent(key.index) {
            return Installed::Refused(descriptor);
        }
        Installed::Held { stale: self.set(key, Descriptor::Here(descriptor)) }
    }

    /// Begins to hold a connection of its own, for which the process has just allocated the place and which it serves.
    /// Returns what it held there before, to be closed.
    pub fn lend_new(&mut self, key: PlaceKey) -> Option<D> {
        self.set(key, Descriptor::Lent)
    }

    /// Claims a connection, because its event has come or because it is to be closed.
    pub fn claim(&mut self, table: &ConnectionTable, key: PlaceKey, by: Member) -> Claim<D> {
        match self.holding(key).map(|holding| &holding.descriptor) {
            None => return Claim::Gone(None), // A late event: the descriptor is closed already.
            Some(Descriptor::Lent) => return Claim::Taken,
            Some(Descriptor::Here(_)) => {}
        }
        let Some(record) = table.record(key.index) else { return Claim::Gone(self.forget(key)) };
        match record.place.claim(key.generation, by) {
            Ok(()) => {}
            Err(NotClaimed::Taken) => return Claim::Taken,
            Err(NotClaimed::Gone) => return Claim::Gone(self.forget(key)),
        }
        match self.set(key, Descriptor::Lent) {
            Some(descriptor) => Claim::Claimed(descriptor),
            None => unreachable!("the descriptor was here"),
        }
    }

    /// The connection was served and is about to be released.
    pub fn put_back(&mut self, key: PlaceKey, descriptor: D) {
        self.set(key, Descriptor::Here(descriptor));
    }

    /// The process holds the connection no longer. Returns the descriptor, unless it is lent.
    pub fn forget(&mut self, key: PlaceKey) -> Option<D> {
        self.holding(key)?;
        self.remove(key.index)
    }

    /// Takes out a descriptor that is here. One that is lent stays so.
    pub fn take(&mut self, key: PlaceKey) -> Option<D> {
        self.get(key)?;
        self.forget(key)
    }

    /// The descriptor, unless it is lent.
    pub fn get(&self, key: PlaceKey) -> Option<&D> {
        match &self.holding(key)?.descriptor {
            Descriptor::Here(descriptor) => Some(descriptor),
            Descriptor::Lent => None,
        }
    }

    /// The connection that the process holds at a place.
    pub fn at(&self, index: u32) -> Option<PlaceKey> {
        let holding = self.places.get(index as usize)?.as_ref()?;
        Some(PlaceKey { index, generation: holding.generation })
    }

    /// All connections that the process holds, in the order of their places.
    pub fn keys(&self) -> impl Iterator<Item = PlaceKey> + '_ {
        self.places.iter().zip(0..).filter_map(|(holding, index)| {
            holding.as_ref().map(|holding| PlaceKey { index, generation: holding.generation })
        })
    }

    /// Takes out the descriptors of connections that are gone.
    pub fn take_stale(&mut self, table: &ConnectionTable) -> Vec<D> {
        let stale: Vec<PlaceKey> =
            self.keys().filter(|key| self.get(*key).is_some() && !table.has(*key)).collect();
        stale.into_iter().filter_map(|key| self.forget(key)).collect()
    }

    fn holding(&self, key: PlaceKey) -> Option<&Holding<D>> {
        let holding = self.places.get(key.index as usize)?.as_ref()?;
        (holding.generation == key.generation).then_some(holding)
    }

    fn is_lent(&self, index: u32) -> bool {
        let holding = self.places.get(index as usize).and_then(Option::as_ref);
        holding.is_some_and(|holding| matches!(holding.descriptor, Descriptor::Lent))
    }

    fn set(&mut self, key: PlaceKey, descriptor: Descriptor<D>) -> Option<D> {
        let index = key.index as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        let before = self.remove(key.index);
        self.len += 1;
        self.places[index] = Some(Holding { generation: key.generation, descriptor });
        before
    }

    fn remove(&mut self, index: u32) -> Option<D> {
        let holding = self.places.get_mut(index as usize)?.take()?;
        self.len -= 1;
        match holding.descriptor {
            Descriptor::Here(descriptor) => Some(descriptor),
            Descriptor::Lent => None,
        }
    }
}

impl<D> Default for Holdings<D> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u8 = 1;
    const OTHER: u8 = 2;

    fn member(number: u8) -> Member {
        Member::worker(number).unwrap()
    }

    /// A table with one idle connection that another member has shared.
    fn shared() -> (ConnectionTable, PlaceKey) {
        let table = ConnectionTable::create(4).unwrap();
        let key = table.allocate(member(OTHER), 0).unwrap();
        table.record(key.index).unwrap().place.release(key.generation);
        (table, key)
    }

    fn close(table: &ConnectionTable, key: PlaceKey) {
        table.record(key.index).unwrap().place.claim(key.generation, member(OTHER)).unwrap();
        table.free(key);
    }

    #[test]
    fn an_installed_connection_is_claimed_served_and_claimed_again() {
        let (table, key) = shared();
        let mut holdings = Holdings::new();
        assert_eq!(holdings.install(&table, key, "fd"), Installed::Held { stale: None });
        for _ in 0..2 {
            assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Claimed("fd"));
            assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Taken);
            holdings.put_back(key, "fd");
            table.record(key.index).unwrap().place.release(key.generation);
        }
        assert_eq!((holdings.len(), holdings.get(key)), (1, Some(&"fd")));
    }

    #[test]
    fn a_connection_is_installed_once() {
        let (table, key) = shared();
        let mut holdings = Holdings::new();
        holdings.install(&table, key, "fd");
        assert_eq!(holdings.install(&table, key, "again"), Installed::Refused("again"));
        assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Claimed("fd"));
        assert_eq!(holdings.install(&table, key, "lent"), Installed::Refused("lent"));
    }

    #[test]
    fn a_connection_that_is_gone_is_not_installed() {
        let (table, key) = shared();
        close(&table, key);
        let mut holdings = Holdings::new();
        assert_eq!(holdings.install(&table, key, "fd"), Installed::Refused("fd"));
        let beyond = PlaceKey { index: 4, generation: 0 };
        assert_eq!(holdings.install(&table, beyond, "fd"), Installed::Refused("fd"));
    }

    #[test]
    fn the_next_connection_of_a_place_replaces_the_last_one() {
        let (table, key) = shared();
        let mut holdings = Holdings::new();
        holdings.install(&table, key, "old");
        close(&table, key);
        let next = table.allocate(member(OTHER), 0).unwrap();
        let installed = holdings.install(&table, next, "new");
        assert_eq!(installed, Installed::Held { stale: Some("old") });
        assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Gone(None), "a late event");
        assert_eq!((holdings.len(), holdings.get(next)), (1, Some(&"new")));
    }

    #[test]
    fn the_descriptor_of_a_gone_connection_is_given_back_once() {
        let (table, key) = shared();
        let mut holdings = Holdings::new();
        holdings.install(&table, key, "fd");
        close(&table, key);
        assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Gone(Some("fd")));
        assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Gone(None));
        assert!(holdings.is_empty());
    }

    #[test]
    fn only_what_is_gone_is_stale() {
        let (table, key) = shared();
        let kept = table.allocate(member(OTHER), 1).unwrap();
        let mut holdings = Holdings::new();
        holdings.install(&table, key, "gone");
        holdings.install(&table, kept, "kept");
        close(&table, key);
        assert_eq!(holdings.take_stale(&table), ["gone"]);
        assert_eq!(holdings.keys().collect::<Vec<_>>(), [kept]);
        assert!(holdings.take_stale(&table).is_empty());
    }

    #[test]
    fn a_connection_of_its_own_is_lent_from_the_start() {
        let table = ConnectionTable::create(1).unwrap();
        let key = table.allocate(member(ME), 0).unwrap();
        let mut holdings = Holdings::new();
        assert_eq!(holdings.lend_new(key), None);
        holdings.put_back(key, "fd");
        table.record(0).unwrap().place.release(key.generation);
        assert_eq!(holdings.claim(&table, key, member(ME)), Claim::Claimed("fd"));
        assert_eq!(holdings.forget(key), None);
        table.free(key);
        assert!(holdings.is_empty());
    }
}
