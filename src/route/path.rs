//! Paths in the one form in which they are compared (RFC 3986 section 6.2.2).
//!
//! `/%61pi` and `/api` are the same path to every server, so a route that guards `/api` must see both. Only octets that
//! stand for unreserved characters are decoded (6.2.2.2) and the other escapes are written in upper case (6.2.2.1):
//! `%2F` stays data inside of its segment, as it does for instances that keep package names like `@scope%2fname` apart.
//! Dot segments never get here (`http::admit` refuses them).

use std::borrow::Cow;

use memchr::memchr;

/// The form of `path` that routes are compared in. Allocates only where there is an escape.
#[inline]
#[must_use]
pub fn canonical(path: &[u8]) -> Cow<'_, [u8]> {
    match memchr(b'%', path) {
        None => Cow::Borrowed(path),
        Some(first) => Cow::Owned(decode_unreserved(path, first)),
    }
}

/// Decodes from the first escape on.
fn decode_unreserved(path: &[u8], first: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    out.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let escape = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4) | low),
            _ => None,
        };
        match escape {
            Some(octet) => {
                if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
                    out.push(octet);
                } else {
                    out.extend_from_slice(&[b'%', tail[0].to_ascii_uppercase(), tail[1].to_ascii_uppercase()]);
                }
                rest = &tail[2..];
            }
            None => out.push(*byte),
        }
    }
    out
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_escapes_are_decoded_and_others_written_in_upper_case() {
        let cases: [(&str, &str, &str); 8] = [
            ("/api", "/api", "nothing to do"),
            ("/%61pi", "/api", "RFC 3986 6.2.2.2: a letter"),
            ("/%7Euser/%2d%5F%2e", "/~user/-_.", "RFC 3986 2.3: the other unreserved characters"),
            ("/a%2fb", "/a%2Fb", "RFC 3986 6.2.2.1: reserved stays, in upper case"),
            ("/%e2%82%ac", "/%E2%82%AC", "octets above ASCII stay"),
            ("/%2561", "/%2561", "decoded once, not twice"),
            ("/100%", "/100%", "no escape"),
            ("/%4", "/%4", "half an escape"),
        ];
        for (path, expected, why) in cases {
            assert_eq!(String::from_utf8_lossy(&canonical(path.as_bytes())), expected, "{why}");
        }
    }
}
