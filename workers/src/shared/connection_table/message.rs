//! What the supervisor and the workers of a group tell each other about shared connections. Both are of the same
//! build, so the integers are in the byte order of the machine.
//!
//! | kind | from | to | descriptors | meaning |
//! |---|---|---|---|---|
//! | [`Kind::Offer`] | the worker that shares them | the supervisor | one for each key | keep these, and pass them to the others |
//! | [`Kind::Install`] | the supervisor | the other workers | one for each key | watch these |
//! | [`Kind::Look`] | the supervisor | all workers | none | something has arrived at these, and its event may be lost |
//! | [`Kind::Look`], without keys | a worker | the supervisor | none | look for what I may have taken: it was shared again at another place |
//! | [`Kind::Leave`] | a worker that drains | the supervisor | none; no keys | send me nothing more, and look for what I may have taken |

use super::PlaceKey;

const KEY_BYTES: usize = 8;

/// The maximum number of keys in a message.
pub const MAX_KEYS: usize = 250;
/// The maximum length of a message.
pub const MESSAGE_BYTES: usize = 1 + MAX_KEYS * KEY_BYTES;

/// What a message means. The module has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table of the module says what they mean")]
pub enum Kind {
    Offer = b'O',
    Install = b'I',
    Look = b'L',
    Leave = b'X',
}

/// Writes a message. Keys beyond [`MAX_KEYS`] are left out.
pub fn encode(kind: Kind, keys: &[PlaceKey]) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    for key in keys.iter().take(MAX_KEYS) {
        bytes.extend(key.index.to_ne_bytes());
        bytes.extend(key.generation.to_ne_bytes());
    }
    bytes
}

/// Reads a message; `None` if it is none.
pub fn decode(bytes: &[u8]) -> Option<(Kind, impl Iterator<Item = PlaceKey> + '_)> {
    let (&kind, rest) = bytes.split_first()?;
    let kind = [Kind::Offer, Kind::Install, Kind::Look, Kind::Leave]
        .into_iter()
        .find(|&it| it as u8 == kind)?;
    let (keys, []) = rest.as_chunks::<KEY_BYTES>() else { return None };
    let key = |bytes: &[u8; KEY_BYTES]| {
        let [a, b, c, d, e, f, g, h] = *bytes;
        let index = u32::from_ne_bytes([a, b, c, d]);
        PlaceKey { index, generation: u32::from_ne_bytes([e, f, g, h]) }
    };
    Some((kind, keys.iter().map(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let keys: Vec<_> =
            (0..3).map(|n| PlaceKey { index: n << 9, generation: u32::MAX - n }).collect();
        for kind in [Kind::Offer, Kind::Install, Kind::Look, Kind::Leave] {
            let bytes = encode(kind, &keys);
            let (read_kind, read_keys) = decode(&bytes).unwrap();
            assert_eq!((read_kind, read_keys.collect::<Vec<_>>()), (kind, keys.clone()));
        }
    }

    #[test]
    fn a_message_has_room_for_the_maximum_of_keys() {
        let keys = vec![PlaceKey { index: 1, generation: 2 }; MAX_KEYS + 1];
        let bytes = encode(Kind::Install, &keys);
        assert_eq!(bytes.len(), MESSAGE_BYTES);
        assert_eq!(decode(&bytes).unwrap().1.count(), MAX_KEYS);
    }

    #[test]
    fn anything_else_is_no_message() {
        for bytes in [&b""[..], b"?", b"O1234567", b"I123456789"] {
            assert!(decode(bytes).is_none(), "{bytes:?}");
        }
    }
}
