//! Percent-encoding in paths and queries of the admin API, in both directions.

use std::fmt::Write;

/// Decodes `%XX`, and `+` too where `plus` means a space (in queries). `None` if the result is not UTF-8.
fn decode(text: &str, plus: Plus) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = (byte == b'%').then(|| bytes.get(index + 1..index + 3)).flatten();
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let Some(value) = value {
            decoded.push(value);
            index += 3;
            continue;
        }
        decoded.push(if byte == b'+' && plus == Plus::IsSpace { b' ' } else { byte });
        index += 1;
    }
    String::from_utf8(decoded).ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsPlus,
    IsSpace,
}

/// A segment of a path, decoded. `None` if it is not UTF-8.
#[must_use]
pub fn segment(text: &str) -> Option<String> {
    decode(text, Plus::IsPlus)
}

/// The value of a parameter of a query; empty where it has none (`?force`).
#[must_use]
pub fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key, Plus::IsSpace)? == name).then(|| decode(value, Plus::IsSpace)).flatten()
    })
}

/// Encodes everything but unreserved characters (RFC 3986 section 2.3): fits any place in a target.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            // Writing to a `String` cannot fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_whole_name_and_decoded() {
        let query = Some("forced=1&why=kernel+update%2C%20host%207&force&bad=%zz");
        assert_eq!(parameter(query, "why").as_deref(), Some("kernel update, host 7"));
        assert_eq!(parameter(query, "force").as_deref(), Some(""));
        assert_eq!(parameter(query, "bad").as_deref(), Some("%zz"));
        assert_eq!(parameter(query, "for"), None);
        assert_eq!(parameter(None, "why"), None);
    }

    #[test]
    fn a_segment_keeps_its_plus_and_must_be_utf8() {
        assert_eq!(segment("a+b%3A1").as_deref(), Some("a+b:1"));
        assert_eq!(segment("%ff"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text in ".*") {
            let encoded = encode(&text);
            prop_assert_eq!(segment(&encoded), Some(text.clone()));
            prop_assert_eq!(parameter(Some(&format!("why={encoded}")), "why"), Some(text));
        }
    }
}
