//! Conformance: tables from the RFCs, over raw sockets, against the built binary.
//!
//! Each case names the section that decides it: RFC 9110 is the semantics of HTTP, RFC 9112 is HTTP/1.1, RFC 9113 is
//! HTTP/2, RFC 3986 is URIs. A case that fails shows the bytes sent, what was expected, and what came. Where an RFC
//! leaves a choice, the case takes every outcome that it allows, and nothing in between.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(clippy::print_stderr, reason = "what a failing test shows beside its assertion")]
#![allow(clippy::too_many_lines, reason = "tables")]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the black-box tests use the rest of it")]
mod support;

mod http1;
mod http2;

/// Fails with all that is wrong.
#[track_caller]
fn assert_all(judged: impl Iterator<Item = Result<(), String>>) {
    let (mut count, mut wrong) = (0, Vec::new());
    for result in judged {
        count += 1;
        wrong.extend(result.err());
    }
    assert!(wrong.is_empty(), "{} of {count} cases fail:\n  {}", wrong.len(), wrong.join("\n  "));
}

/// Bytes as they are written in the tables, cut where they are many.
fn shown(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 300;
    let cut = if bytes.len() > BYTES_MAX { "…" } else { "" };
    format!("\"{}{cut}\"", bytes[..bytes.len().min(BYTES_MAX)].escape_ascii())
}
