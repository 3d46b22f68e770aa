//! `WebSocket` over one stream of HTTP/2 (RFC 8441), to instances that know it over HTTP/1.1 only (RFC 6455).
//!
//! Over HTTP/2 an extended `CONNECT` opens it and 200 agrees; there is no handshake with a key, since nothing in between
//! could take the request for another. Over HTTP/1.1 there is one, so that we lead it: a key of ours goes to the instance,
//! and its answer counts only if it has understood the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::head::WebSocketKey;

/// What a server appends to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key of these random bytes.
#[must_use]
pub fn key(random: u128) -> WebSocketKey {
    let mut key = WebSocketKey::default();
    key.copy_from_slice(STANDARD.encode(random.to_be_bytes()).as_bytes());
    key
}

/// What the server's `Sec-WebSocket-Accept` must be (RFC 6455 section 4.2.2).
#[must_use]
pub fn accept(key: &WebSocketKey) -> String {
    STANDARD.encode(crate::tls::sha1(&[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key(0), *b"AAAAAAAAAAAAAAAAAAAAAA==");
    }
}
