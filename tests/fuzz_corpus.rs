//! Replays the corpora of the fuzz targets: what `scripts/fuzz` found to be worth keeping, and the files of
//! `tests/wire`, for each target that takes the bytes of a client.
//!
//! The targets need libFuzzer, but what they check does not: `workers/fuzz/src` is compiled here as a module.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::fuzz;
use crate::support::corpus::load;

/// Calls the target with every input, and panics with the names of all inputs that it panics for.
fn replay(name: &str, target: fn(&[u8]), further: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers/fuzz/corpus").join(name);
    let kept = fs::read_dir(&directory).expect("the target has a corpus").map(|entry| {
        let path = entry.expect("an entry").path();
        (path.display().to_string(), fs::read(&path).expect("a file"))
    });
    let inputs: Vec<_> = kept.chain(further).collect();
    assert!(inputs.len() > 4, "{} inputs in {}", inputs.len(), directory.display());
    let fails = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err();
    let failed: Vec<_> =
        inputs.iter().filter(|(_, bytes)| fails(bytes)).map(|(name, _)| &name[..]).collect();
    assert!(failed.is_empty(), "{} inputs of {name}:\n{}", failed.len(), failed.join("\n"));
}

/// The files of `tests/wire` that are not so large that cutting them at every byte takes a second.
fn wire_files() -> impl Iterator<Item = (String, Vec<u8>)> {
    load().into_iter().map(|case| (case.name, case.bytes)).filter(|(_, bytes)| bytes.len() < 20_000)
}

/// What follows the first head of each wire file.
fn wire_bodies() -> impl Iterator<Item = (String, Vec<u8>)> {
    wire_files().filter_map(|(name, bytes)| {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        Some((name, bytes[end + 4..].to_vec()))
    })
}

/// The header lines of the first request of each wire file.
fn wire_fields() -> impl Iterator<Item = (String, Vec<u8>)> {
    wire_files().filter_map(|(name, bytes)| {
        let start = bytes.windows(2).position(|window| window == b"\r\n")? + 2;
        let length = bytes[start..].windows(4).position(|window| window == b"\r\n\r\n")?;
        Some((name, bytes[start..start + length].to_vec()))
    })
}

/// The programs of the targets are not compiled here, so that no test needs libFuzzer.
#[test]
fn each_target_calls_its_function_and_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers/fuzz");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file");
    let manifest = read("Cargo.toml");
    let (_, programs) = manifest.split_once("[[bin]]").expect("a program");
    let names: Vec<_> = programs.split("name = \"").skip(1).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names.into_iter().filter_map(|rest| rest.split_once('"').map(|(name, _)| name)) {
        let call = format!("fuzz_target!(|bytes: &[u8]| arctos_fuzz::{name}(bytes));");
        assert!(read(&format!("targets/{name}.rs")).contains(&call), "{name}");
        let replay = format!("replay(\"{name}\", fuzz::{name}, ");
        assert!(include_str!("fuzz_corpus.rs").contains(&replay), "{name} is not replayed");
    }
}

#[test]
fn the_corpus_of_heads_holds() {
    replay("head", fuzz::head, wire_files());
}

#[test]
fn the_corpus_of_framings_holds() {
    replay("framing", fuzz::framing, wire_fields());
}

#[test]
fn the_corpus_of_chunks_holds() {
    replay("chunks", fuzz::chunks, wire_bodies());
}

#[test]
fn the_corpus_of_connections_holds() {
    replay("connection", fuzz::connection, wire_files());
}

#[test]
fn the_corpus_of_forwarded_headers_holds() {
    replay("forwarded", fuzz::forwarded, wire_fields());
}

#[test]
fn the_corpus_of_proxy_headers_holds() {
    replay("proxy", fuzz::proxy, wire_files());
}

#[test]
fn the_corpus_of_requests_for_files_holds() {
    replay("static_files", fuzz::static_files, []);
}

#[test]
fn the_corpus_of_admin_requests_holds() {
    replay("admin", fuzz::admin, wire_files());
}

#[test]
fn the_corpus_of_access_log_formats_holds() {
    replay("access_log", fuzz::access_log, []);
}

#[test]
fn the_corpus_of_statsd_texts_holds() {
    replay("statsd", fuzz::statsd, []);
}

#[cfg(feature = "tls")]
#[test]
fn the_corpus_of_tls_records_holds() {
    replay("tls", fuzz::tls, []);
}

#[test]
fn the_corpus_of_config_files_holds() {
    replay("config", fuzz::config, []);
}
