//! HTTP/1.1 in both directions: what clients send to the proxy, what instances send to it, and what it makes of both.

mod chunks;
mod connections;
mod passing;
mod requests;
mod responses;

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
