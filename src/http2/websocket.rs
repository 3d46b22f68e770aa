//! `WebSocket` over one stream of HTTP/2 (RFC 8441), to instances that know it over HTTP/1.1 only (RFC 6455).
//!
//! Over HTTP/2 an extended `CONNECT` opens it and 200 agrees; there is no handshake with a key, since nothing in between
//! could take the request for another. Over HTTP/1.1 there is one, so that we lead it: a key of ours goes to the instance,
//! and its answer counts only if it has understood the key.

use super::head::WebSocketKey;

/// What a server appends to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key of these random bytes.
#[must_use]
pub fn key(random: u128) -> WebSocketKey {
    let mut key = WebSocketKey::default();
    key.copy_from_slice(&base64(&random.to_be_bytes()));
    key
}

/// What the server's `Sec-WebSocket-Accept` must be (RFC 6455 section 4.2.2).
#[must_use]
pub fn accept(key: &WebSocketKey) -> Vec<u8> {
    base64(&crate::tls::sha1(&[key, GUID].concat()))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let bits = (0..3).fold(0_u32, |bits, index| bits << 8 | u32::from(chunk.get(index).copied().unwrap_or(0)));
            let digit = |index: usize| {
                if index > chunk.len() { b'=' } else { DIGITS[(bits >> (18 - 6 * index) & 63) as usize] }
            };
            [digit(0), digit(1), digit(2), digit(3)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_section_10() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key(0), *b"AAAAAAAAAAAAAAAAAAAAAA==");
    }
}
