//! `Via` (RFC 9110 section 7.6.3): what a message passed, and the end of loops.
//!
//! Added in both directions under the pseudonym `plimsoll`. Two Plimsolls in a row are a sound set-up, so a request is
//! taken to run in circles only when the name is there [`LOOP_MIN`] times. `hop_by_hop` does not let `Connection` remove
//! the field, or a client could switch this off.

use super::Refusal;
use crate::cause::Cause;
use crate::http1::{Head, Name, Version};

/// Who we are in `Via`.
const PSEUDONYM: &[u8] = b"plimsoll";

/// Own entries that make a loop.
pub const LOOP_MIN: usize = 5;

/// Refuses a request that runs in circles, and adds our entry.
///
/// # Errors
/// If the request has been here [`LOOP_MIN`] times.
#[inline]
pub fn request(head: &mut Head) -> Result<(), Refusal> {
    if head.has(Name::Via) && head.all(Name::Via).map(own_entries).sum::<usize>() >= LOOP_MIN {
        return Err(Refusal {
            cause: Cause::LoopDetected,
            status: 508,
            detail: "the request has passed through this proxy too often",
        });
    }
    add(head);
    Ok(())
}

/// Adds our entry to a response.
#[inline]
pub fn response(head: &mut Head) {
    add(head);
}

/// A line of our own: lines of the same name are one list, in order (RFC 9110 section 5.3).
#[inline]
fn add(head: &mut Head) {
    head.add_lines(match head.version() {
        Version::Http10 => b"Via: 1.0 plimsoll\r\n",
        Version::Http11 => b"Via: 1.1 plimsoll\r\n",
        Version::Http2 => b"Via: 2.0 plimsoll\r\n",
    });
}

/// Entries `protocol plimsoll` in a list whose comments may hold commas.
fn own_entries(list: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut escaped = false;
    let entries = list.split(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return true,
            _ => {}
        }
        false
    });
    let received_by = |entry: &[u8]| {
        let mut words = entry.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|name| {
            let name = name.split(|byte| matches!(byte, b':' | b'(')).next().unwrap_or_default();
            name.eq_ignore_ascii_case(PSEUDONYM)
        })
    };
    entries.filter(|entry| received_by(entry)).count()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fields, request as head, response as response_head};
    use super::*;

    fn vias(head: &Head) -> Vec<String> {
        fields(head).into_iter().filter(|(name, _)| name == "Via").map(|(_, value)| value).collect()
    }

    #[test]
    fn our_entry_comes_last_and_tells_the_version_received() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", vec!["1.1 plimsoll"]),
            ("GET / HTTP/1.0\r\n\r\n", vec!["1.0 plimsoll"]),
            ("GET / HTTP/1.1\r\nVia: 2 edge\r\nVia: 1.1 x\r\n\r\n", vec!["2 edge", "1.1 x", "1.1 plimsoll"]),
        ];
        for (text, expected) in cases {
            let mut head = head(text);
            assert_eq!(request(&mut head), Ok(()));
            assert_eq!(vias(&head), expected, "RFC 9110 7.6.3");
        }
        let mut head = response_head("HTTP/1.0 200 OK\r\n\r\n");
        response(&mut head);
        assert_eq!(vias(&head), ["1.0 plimsoll"]);
    }

    #[test]
    fn five_own_entries_are_a_loop() {
        let own = "1.1 plimsoll";
        let cases = [
            ([own; 4].join(", "), None, "four"),
            ([own; 5].join(", "), Some(508), "five"),
            ([own; 5].join(","), Some(508), "without spaces"),
            ([own; 5].join("\r\nVia: "), Some(508), "in lines of their own"),
            (["HTTP/1.1  PLIMSOLL:80 (x)"; 5].join(", "), Some(508), "case, port, comment, spaces"),
            (["1.1 plimsoll2"; 5].join(", "), None, "another name"),
            (["plimsoll"; 5].join(", "), None, "no protocol"),
            (format!("1.1 x ({})", [own; 5].join(", ")), None, "within a comment"),
            (format!("1.1 x (\\), {})", [own; 5].join(", ")), None, "within a comment with an escape"),
        ];
        for (via, expected, why) in cases {
            let mut head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\n\r\n"));
            assert_eq!(request(&mut head).err().map(|refusal| refusal.status), expected, "{why}");
        }
    }
}
