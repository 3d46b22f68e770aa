//! Replays the fuzzers' corpus (`tests/fuzz/corpus`) through the properties that they check.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "fuzz/properties.rs"]
mod properties;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("readable").path());
    entries.filter(|path| path.is_file()).collect()
}

fn replay(target: &str, property: fn(&[u8])) {
    let mut replayed = 0;
    for path in files(&format!("tests/fuzz/corpus/{target}")) {
        let bytes = fs::read(&path).expect("readable");
        // Also what a connection that breaks leaves of it.
        for length in 0..=bytes.len() {
            property(&bytes[..length]);
        }
        replayed += 1;
    }
    assert!(replayed >= 10, "{target}: {replayed} files");
}

#[test]
fn request_heads_of_the_corpus_keep_the_properties() {
    replay("request_head", properties::request_head);
}

#[test]
fn requests_of_the_corpus_reach_an_instance_as_they_were_meant() {
    replay("request_head", properties::request_rules);
    replay("request_rules", properties::request_rules);
}

#[test]
fn configurations_of_the_corpus_are_taken_or_refused_with_places_that_exist() {
    // Whole ones: each is half a thousand cuts, and a cut is a broken line like any other.
    for path in files("tests/config/invalid").into_iter().chain(files("tests/config/valid")).chain(files("config")) {
        properties::config(&fs::read(path).expect("readable"));
    }
    replay("config", properties::config);
}

#[test]
fn requests_of_http_2_of_the_corpus_become_requests_of_http_1_1() {
    replay("h2_request", properties::h2_request);
}

#[test]
fn response_heads_of_the_corpus_keep_the_properties() {
    replay("response_head", properties::response_head);
}

#[test]
fn chunked_bodies_of_the_corpus_keep_the_properties() {
    replay("chunked", properties::chunked);
}
