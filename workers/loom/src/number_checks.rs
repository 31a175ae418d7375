//! What holds for a number that several processes add to, in every interleaving.

use loom::sync::Arc;
use loom::thread;

use crate::number::SharedNumber;

#[test]
fn nothing_that_is_added_is_lost() {
    loom::model(|| {
        let number = Arc::new(SharedNumber::zero());
        let other = {
            let number = Arc::clone(&number);
            thread::spawn(move || {
                number.add(1.5);
                number.add(4.0);
            })
        };
        number.add(0.25);
        let seen = number.get();
        assert!(seen >= 0.25, "{seen}");
        other.join().unwrap();
        assert_eq!(number.get(), 5.75);
    });
}

/// A worker removes a gauge, sets it again and adds to it, while the supervisor reads.
#[test]
fn a_reader_sees_a_value_or_that_it_is_removed() {
    loom::model(|| {
        let number = Arc::new(SharedNumber::zero());
        let supervisor = {
            let number = Arc::clone(&number);
            thread::spawn(move || number.get_unless_removed())
        };
        number.set(2.0);
        number.remove();
        number.set(3.0);
        let seen = supervisor.join().unwrap();
        assert!(matches!(seen, None | Some(0.0 | 2.0 | 3.0)), "{seen:?}");
        assert_eq!(number.get_unless_removed(), Some(3.0));
    });
}
