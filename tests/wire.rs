//! Every request of `tests/wire`, fed to the pure codec whole, byte by byte, and cut in two at every
//! place. `wire_server.rs` sends the same to a running worker.

#[path = "support/codec.rs"]
mod codec;
#[path = "support/corpus.rs"]
mod corpus;

use arctos_worker::settings::HeaderMap;

use codec::{Codec, Outcome};
use corpus::{Case, End};

/// Files below this are cut at every place. Above, every 97th place and all near line ends: 97 is
/// prime, so it does not walk in step with fields or chunks of one size.
const CUT_EVERYWHERE_BELOW: usize = 4096;
const STRIDE: usize = 97;

fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut codec = Codec::new(HeaderMap::Drop);
    for piece in pieces {
        codec.feed(piece);
    }
    codec.finish()
}

/// Panics with all differences at once: one run shows the whole picture.
fn check(compare: impl Fn(&Case) -> Result<(), String>) {
    let differences: Vec<String> = corpus::load()
        .iter()
        .filter_map(|case| {
            compare(case).err().map(|difference| format!("{}: {difference}", case.name))
        })
        .collect();
    assert!(differences.is_empty(), "{} cases:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_corpus_is_whole() {
    let cases = corpus::load();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let refused = cases.iter().filter(|case| matches!(case.end, End::Refused(_))).count();
    assert!(refused >= 75, "{refused} refusals");
}

#[test]
fn no_two_files_of_the_corpus_are_the_same() {
    let mut cases = corpus::load();
    cases.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    for pair in cases.windows(2) {
        assert_ne!(pair[0].bytes, pair[1].bytes, "{} and {}", pair[0].name, pair[1].name);
    }
}

#[test]
fn each_file_fed_whole_has_its_outcome() {
    check(|case| feed([&case.bytes[..]]).compare(case));
}

#[test]
fn each_file_fed_byte_by_byte_has_its_outcome() {
    check(|case| feed(case.bytes.chunks(1)).compare(case));
}

#[test]
fn each_file_cut_in_two_anywhere_ends_as_in_one_piece() {
    check(|case| {
        let whole = feed([&case.bytes[..]]);
        for at in corpus::cuts(&case.bytes, CUT_EVERYWHERE_BELOW, STRIDE) {
            let (first, second) = case.bytes.split_at(at);
            let cut = feed([first, second]);
            if cut != whole {
                return Err(format!("cut at {at}: {:?}, whole: {:?}", cut.end, whole.end));
            }
        }
        Ok(())
    });
}

#[test]
fn a_request_is_whole_with_its_last_byte_and_not_before_or_after() {
    check(|case| {
        let mut codec = Codec::new(HeaderMap::Drop);
        for byte in case.bytes.chunks(1) {
            let count = codec.requests().len();
            codec.feed(byte);
            if let [request] = &codec.requests()[count..]
                && request.ends != codec.fed()
            {
                return Err(format!("ends at {}, whole at {}", request.ends, codec.fed()));
            }
        }
        Ok(())
    });
}

#[test]
fn a_name_with_an_underscore_is_refused_when_so_configured() {
    let mut count = 0;
    for case in corpus::load() {
        let Some(before) = case.requests.iter().position(|request| request.dropped_count > 0)
        else {
            continue;
        };
        let mut codec = Codec::new(HeaderMap::Refuse);
        codec.feed(&case.bytes);
        let outcome = codec.finish();
        assert_eq!(outcome.end, End::Refused(400), "{}", case.name);
        assert_eq!(outcome.requests.len(), before, "{}", case.name);
        count += 1;
    }
    assert!(count >= 4, "{count} cases");
}
