//! `Strict-Transport-Security` (RFC 6797): browsers that have seen it come by TLS only.
//!
//! It is about the host, and the listener is where a host is served, so the listener's line takes the place of what an
//! instance says: of two such fields a browser reads the first alone (section 8.1). It never goes out on an answer that
//! goes without TLS (section 7.2), where anybody on the way could have written it.

use crate::config::model::Hsts;
use crate::http1::Head;

/// The field as a line, with its end.
#[must_use]
pub fn line(hsts: &Hsts) -> Vec<u8> {
    let seconds = hsts.max_age.as_secs();
    let below = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    format!("Strict-Transport-Security: max-age={seconds}{below}{preload}\r\n").into_bytes()
}

/// Puts our line, if there is one, in the place of what an instance says.
#[inline]
pub fn response(head: &mut Head, line: &[u8]) {
    if !line.is_empty() {
        head.remove_text(b"Strict-Transport-Security");
        head.add_lines(line);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{fields, response as head};
    use super::*;

    #[test]
    fn the_line_says_what_is_configured() {
        let hsts = |include_subdomains, preload| {
            let line = line(&Hsts { max_age: Duration::from_secs(31_536_000), include_subdomains, preload });
            String::from_utf8(line).expect("text")
        };
        let begin = "Strict-Transport-Security: max-age=31536000";
        assert_eq!(hsts(false, false), format!("{begin}\r\n"));
        assert_eq!(hsts(true, true), format!("{begin}; includeSubDomains; preload\r\n"));
    }

    #[test]
    fn ours_takes_the_place_of_all_that_an_instance_says() {
        let text =
            "HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nA: b\r\nStrict-Transport-Security: x\r\n\r\n";
        let mut changed = head(text);
        response(&mut changed, b"Strict-Transport-Security: max-age=0\r\n");
        let ours = [("A", "b"), ("Strict-Transport-Security", "max-age=0")];
        assert_eq!(fields(&changed), ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut kept = head(text);
        response(&mut kept, b"");
        assert_eq!(fields(&kept).len(), 3);
    }
}
