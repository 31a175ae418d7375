//! What holds for a number that several processes add to, in every interleaving.

use loom::sync::Arc;
use loom::thread;

use crate::number::SharedNumber;

#[test]
fn nothing_that_is_added_is_lost() {
    loom::model(|| {
        let number = Arc::new(SharedNumber::new());
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
