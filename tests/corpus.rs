//! Replays the fuzzers' corpus (`tests/fuzz/corpus`) through the properties that they check.

use std::fs;
use std::path::Path;

#[path = "fuzz/properties.rs"]
mod properties;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        let bytes = fs::read(&path).expect("readable");
        // Also what a connection that breaks leaves of it.
        for length in 0..=bytes.len() {
            property(&bytes[..length]);
        }
        replayed += 1;
    }
    assert!(replayed >= 10, "{}: {replayed} files", folder.display());
}

#[test]
fn request_heads_of_the_corpus_keep_the_properties() {
    replay("request_head", properties::request_head);
}

#[test]
fn response_heads_of_the_corpus_keep_the_properties() {
    replay("response_head", properties::response_head);
}

#[test]
fn chunked_bodies_of_the_corpus_keep_the_properties() {
    replay("chunked", properties::chunked);
}
