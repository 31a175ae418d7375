//! What holds for a key and its end in every interleaving.

use loom::sync::Arc;
use loom::thread;

use crate::keyed_end::KeyedEnd;

/// The supervisor replaces one key by another, and then by the first one again, while a worker reads.
#[test]
fn a_reader_never_finds_the_end_of_another_key() {
    // Without a bound, this takes two minutes.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let keyed = Arc::new(KeyedEnd::new());
        keyed.change(1, 10);
        let worker = {
            let keyed = Arc::clone(&keyed);
            thread::spawn(move || [1, 2].map(|key| keyed.end_of(key)))
        };
        keyed.change(2, 20);
        keyed.change(1, 11);
        let [first, second] = worker.join().unwrap();
        assert!(matches!(first, None | Some(10 | 11)), "{first:?}");
        assert!(matches!(second, None | Some(20)), "{second:?}");
        assert_eq!((keyed.key(), keyed.end_of(1), keyed.end_of(2)), (1, Some(11), None));
    });
}

/// The end of a quarantine moves while a worker reads.
#[test]
fn a_reader_finds_the_old_end_or_the_new_one_or_nothing() {
    loom::model(|| {
        let keyed = Arc::new(KeyedEnd::new());
        keyed.change(1, 10);
        let worker = {
            let keyed = Arc::clone(&keyed);
            thread::spawn(move || keyed.end_of(1))
        };
        keyed.change(1, 20);
        assert!(matches!(worker.join().unwrap(), None | Some(10 | 20)));
    });
}

/// A worker has overwritten everything. The next change makes it whole.
#[test]
fn the_writer_needs_nothing_of_what_was_there() {
    loom::model(|| {
        let keyed = KeyedEnd::new();
        for word in [u64::MAX, 1, 2] {
            keyed.overwrite(word);
            keyed.change(7, 70);
            assert_eq!(keyed.end_of(7), Some(70));
        }
    });
}
