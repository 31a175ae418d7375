//! Which worker has still to get which connection: the part of the supervisor that needs no I/O.
//!
//! The supervisor holds every shared connection, and one set of places for each member. A set has at most as many
//! elements as the table has places, so a worker that does not read for an hour costs no more memory than any other.
//!
//! | event | sets |
//! |---|---|
//! | a member offers a connection | it joins the sets of all other members |
//! | a connection comes from the server before this one | it joins the sets of all members |
//! | a worker starts | everything that is held joins its set |
//! | a worker dies | its set is dropped |
//! | a message was sent | its places leave the set |

use std::collections::BTreeSet;

use super::PlaceKey;
use super::header::MAX_MEMBERS;

/// See the module. Members are known by their numbers.
#[derive(Default)]
pub struct Distribution {
    members: [Option<BTreeSet<u32>>; MAX_MEMBERS],
}

impl Distribution {
    /// A worker has started. `held` are all connections that the supervisor holds.
    pub fn join(&mut self, number: u8, held: impl Iterator<Item = PlaceKey>) {
        if let Some(member) = self.members.get_mut(usize::from(number)) {
            *member = Some(held.map(|key| key.index).collect());
        }
    }

    /// A worker has ended.
    pub fn leave(&mut self, number: u8) {
        if let Some(member) = self.members.get_mut(usize::from(number)) {
            *member = None;
        }
    }

    /// A member has offered a connection: all others have to get it.
    pub fn offer(&mut self, by: u8, key: PlaceKey) {
        for (member, number) in self.members.iter_mut().zip(0..) {
            if let Some(unsent) = member {
                if number == by {
                    unsent.remove(&key.index);
                } else {
                    unsent.insert(key.index);
                }
            }
        }
    }

    /// The supervisor has a connection that no member has.
    pub fn offer_to_all(&mut self, key: PlaceKey) {
        self.members.iter_mut().flatten().for_each(|unsent| {
            unsent.insert(key.index);
        });
    }

    /// The next places whose connections this member has to get, at most `count`.
    pub fn next(&self, number: u8, count: usize) -> Vec<u32> {
        self.unsent(number).into_iter().flatten().take(count).copied().collect()
    }

    /// These places were sent to the member, or hold nothing any more.
    pub fn sent(&mut self, number: u8, places: &[u32]) {
        if let Some(Some(unsent)) = self.members.get_mut(usize::from(number)) {
            places.iter().for_each(|place| {
                unsent.remove(place);
            });
        }
    }

    /// Whether this member has to get something.
    pub fn has_unsent(&self, number: u8) -> bool {
        self.unsent(number).is_some_and(|unsent| !unsent.is_empty())
    }

    fn unsent(&self, number: u8) -> Option<&BTreeSet<u32>> {
        self.members.get(usize::from(number))?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> PlaceKey {
        PlaceKey { index, generation: 5 }
    }

    #[test]
    fn an_offered_connection_goes_to_all_others() {
        let mut distribution = Distribution::default();
        for number in [0, 1, 15] {
            distribution.join(number, [].into_iter());
        }
        distribution.offer(1, key(9));
        assert_eq!([0, 1, 15].map(|number| distribution.has_unsent(number)), [true, false, true]);
        assert!(!distribution.has_unsent(2), "no member");
        distribution.sent(0, &[9]);
        assert_eq!([0, 15].map(|number| distribution.has_unsent(number)), [false, true]);
    }

    #[test]
    fn a_connection_of_the_supervisor_goes_to_all_members() {
        let mut distribution = Distribution::default();
        for number in [0, 15] {
            distribution.join(number, [].into_iter());
        }
        distribution.offer_to_all(key(9));
        assert_eq!([0, 1, 15].map(|number| distribution.has_unsent(number)), [true, false, true]);
    }

    #[test]
    fn a_new_worker_gets_everything_in_parts() {
        let mut distribution = Distribution::default();
        distribution.join(3, (0..5).map(key));
        let first = distribution.next(3, 3);
        assert_eq!(first, [0, 1, 2]);
        assert_eq!(distribution.next(3, 3), first, "a message that could not be sent is repeated");
        distribution.sent(3, &first);
        assert_eq!(distribution.next(3, 3), [3, 4]);
    }

    #[test]
    fn a_dead_worker_gets_nothing_and_its_successor_starts_anew() {
        let mut distribution = Distribution::default();
        distribution.join(3, (0..5).map(key));
        distribution.leave(3);
        distribution.offer(0, key(7));
        assert!(!distribution.has_unsent(3));
        distribution.join(3, [key(7)].into_iter());
        assert_eq!(distribution.next(3, 9), [7]);
    }
}
