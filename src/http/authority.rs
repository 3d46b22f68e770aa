//! Host and port, as `Host` and absolute targets have them (RFC 9110 section 7.2, RFC 3986 section 3.2).
//!
//! Stricter than the grammar, because this text chooses the route and goes to instances three times (`Host`,
//! `X-Forwarded-Host`, `Forwarded`): of registered names only letters, digits, `-`, `.`, `_` and `~` pass. Percent escapes
//! and sub-delimiters never stand in a name of the DNS, but have fooled instances (`Host: a,b` is what two merged `Host`
//! fields look like). An empty host is refused as well: RFC 9110 section 4.2.1 forbids such an `http` URI.

use std::net::Ipv6Addr;

use super::Refusal;

/// The length of the host in `text`, without `:port`.
///
/// # Errors
/// If `text` is not a host with at most one port.
#[inline]
pub(super) fn host_length(text: &[u8]) -> Result<usize, Refusal> {
    let length = match text {
        [] => return Err(Refusal::bad_request("the host is empty")),
        [b'[', rest @ ..] => bracketed(rest)?,
        // The common case in one pass: names rarely have a port, and what ends the name is looked at below.
        _ => text.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(text.len()),
    };
    match &text[length..] {
        [] => Ok(length),
        [b':', ..] if length == 0 => Err(Refusal::bad_request("the host is empty")),
        [b':', port @ ..] if is_port(port) => Ok(length),
        [b':', ..] => Err(Refusal::bad_request("the port of the host is malformed")),
        rest if rest.contains(&b'@') => Err(Refusal::bad_request("the host has user information")),
        _ => Err(Refusal::bad_request("the host is malformed")),
    }
}

/// Unreserved characters of RFC 3986 section 2.3, by table: every request has a host.
#[inline]
fn is_name_byte(byte: u8) -> bool {
    const NAME_BYTES: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < table.len() {
            let character = byte as u8;
            table[byte] = character.is_ascii_alphanumeric() || matches!(character, b'-' | b'.' | b'_' | b'~');
            byte += 1;
        }
        table
    };
    NAME_BYTES[usize::from(byte)]
}

/// The length of an IP literal with its brackets, from what follows the first one. Zones (RFC 6874) are not for others
/// than the host itself, and no other version than 6 exists.
fn bracketed(rest: &[u8]) -> Result<usize, Refusal> {
    let malformed = Refusal::bad_request("the address in brackets is malformed");
    let end = rest.iter().position(|byte| *byte == b']').ok_or(malformed)?;
    let address = std::str::from_utf8(&rest[..end]).map_err(|_| malformed)?;
    address.parse::<Ipv6Addr>().map_err(|_| malformed)?;
    Ok(end + 2)
}

/// `port = *DIGIT`: empty is allowed (RFC 3986 section 3.2.3), zero and more than 65535 cannot be connected to.
fn is_port(port: &[u8]) -> bool {
    if port.is_empty() {
        return true;
    }
    let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    digits && (1..=65535).contains(&port.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit & 15)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_at_most_one_port_pass() {
        let cases = [
            ("example.com", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com:", "example.com"),
            ("EXAMPLE.com.", "EXAMPLE.com."),
            ("localhost:65535", "localhost"),
            ("a_b-c~1.xn--bcher-kva.example:1", "a_b-c~1.xn--bcher-kva.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[::1]", "[::1]"),
            ("[2001:DB8::1]:443", "[2001:DB8::1]"),
            ("[::ffff:192.0.2.1]:", "[::ffff:192.0.2.1]"),
        ];
        for (text, host) in cases {
            assert_eq!(host_length(text.as_bytes()), Ok(host.len()), "{text}");
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        let cases = [
            ("", "RFC 9110 4.2.1: empty"),
            (":80", "RFC 9110 4.2.1: empty"),
            ("user@example.com", "RFC 9110 4.2.4: user information"),
            ("user:password@example.com", "RFC 9110 4.2.4: user information"),
            ("example.com:80@evil", "RFC 9110 4.2.4: user information"),
            ("example.com:http", "RFC 3986 3.2.3: port"),
            ("example.com:+80", "RFC 3986 3.2.3: port"),
            ("example.com:-1", "RFC 3986 3.2.3: port"),
            ("example.com:65536", "no such port"),
            ("example.com:000080", "no such port"),
            ("example.com:0", "no such port"),
            ("example.com:80:81", "two ports"),
            ("example.com:80 ", "RFC 3986 3.2.3: port"),
            ("::1", "RFC 3986 3.2.2: IPv6 without brackets"),
            ("[::1", "RFC 3986 3.2.2: bad bracket"),
            ("::1]", "RFC 3986 3.2.2: bad bracket"),
            ("[]", "RFC 3986 3.2.2: no address"),
            ("[::1]x", "RFC 3986 3.2.2: text after the bracket"),
            ("[::1]]", "RFC 3986 3.2.2: bad bracket"),
            ("[[::1]]", "RFC 3986 3.2.2: bad bracket"),
            ("[example.com]", "RFC 3986 3.2.2: a name in brackets"),
            ("[192.0.2.1]", "RFC 3986 3.2.2: IPv4 in brackets"),
            ("[fe80::1%25eth0]", "RFC 6874: a zone"),
            ("[v1.x]", "RFC 3986 3.2.2: an unknown version"),
            ("[::1\u{e9}]", "RFC 3986 3.2.2: not ASCII"),
            ("exa mple.com", "RFC 3986 3.2.2: a space"),
            ("example.com/path", "RFC 9110 7.2: a path"),
            ("example.com?query", "RFC 9110 7.2: a query"),
            ("example.com#fragment", "RFC 9110 7.2: a fragment"),
            ("http://example.com", "RFC 9110 7.2: a URI"),
            ("a.example,b.example", "two merged Host fields"),
            ("a.example, b.example", "two merged Host fields"),
            ("ex%61mple.com", "an escape"),
            ("example.com\\", "a backslash"),
            ("<script>", "RFC 3986 3.2.2"),
            ("ex\u{e4}mple.com", "not ASCII"),
        ];
        for (text, why) in cases {
            assert_eq!(host_length(text.as_bytes()).map_err(|refusal| refusal.status), Err(400), "{text:?}: {why}");
        }
    }
}
