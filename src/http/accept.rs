//! Which media type a client prefers for an answer of Plimsoll itself (RFC 9110 section 12.5.1).
//!
//! Used by `rescue` only. `Accept` is taken for a wish: where nothing that Plimsoll has is acceptable, it gets problem
//! details all the same (12.5.1 allows that), because an error that hides why helps nobody.

/// The forms in which an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/problem+json` (RFC 9457).
    ProblemJson,
    /// `text/html`.
    Html,
    /// `text/plain`.
    Text,
}

/// In the order of preference where a client has none: programs are the ones who do not say what they like.
const OFFERED: [(MediaType, &[&str]); 3] = [
    (MediaType::ProblemJson, &["application/problem+json", "application/json", "application/*", "*/*"]),
    (MediaType::Html, &["text/html", "text/*", "*/*"]),
    (MediaType::Text, &["text/plain", "text/*", "*/*"]),
];

/// The media type with the highest weight.
#[must_use]
pub(super) fn preferred(accept: Option<&[u8]>) -> MediaType {
    let Some(accept) = accept.and_then(|accept| std::str::from_utf8(accept).ok()) else {
        return MediaType::ProblemJson;
    };
    let mut best = (MediaType::ProblemJson, 0);
    for (media_type, ranges) in OFFERED {
        let weight = weight(accept, ranges);
        if weight > best.1 {
            best = (media_type, weight);
        }
    }
    best.0
}

/// The weight of the most specific of `ranges` (given in that order) that `accept` names, in thousandths.
fn weight(accept: &str, ranges: &[&str]) -> u16 {
    let named = |range: &&str| {
        accept.split(',').find_map(|item| {
            let mut parts = item.split(';').map(|part| part.trim_matches([' ', '\t']));
            parts.next()?.eq_ignore_ascii_case(range).then(|| parts.find_map(quality).unwrap_or(1000))
        })
    };
    ranges.iter().find_map(named).unwrap_or(0)
}

/// `q=0.8` in thousandths; `None`: another parameter. What is malformed counts as nothing.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit & 15));
    match whole {
        "0" if digits => Some(thousandths),
        "1" if digits && thousandths == 0 => Some(1000),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_weight_of_the_most_specific_range_wins() {
        use MediaType::{Html, ProblemJson, Text};
        let cases = [
            ("", ProblemJson, "nothing said"),
            ("*/*", ProblemJson, "curl"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Html, "browsers"),
            ("application/json, text/plain, */*", ProblemJson, "axios"),
            ("application/problem+json", ProblemJson, "RFC 9457"),
            ("application/json", ProblemJson, "RFC 9457 is JSON"),
            ("text/plain", Text, ""),
            ("text/*", Html, ""),
            ("TEXT/HTML", Html, "RFC 9110 8.3.1: case does not matter"),
            ("text/plain;q=0.5, text/html;q=0.4", Text, "RFC 9110 12.4.2: weights"),
            ("text/plain;q=0.5, text/html;q=0.500, application/json;q=0.4", Html, "equal weights: our order"),
            ("*/*;q=1, application/problem+json;q=0, application/json;q=0", Html, "RFC 9110 12.5.1: specific first"),
            ("text/html;level=1;q=0.3, text/plain;Q=0.7", Text, "other parameters"),
            ("text/html ; q=0.2 , text/plain", Text, "white space"),
            ("text/html;q=2, text/plain;q=0.1", Text, "a malformed weight"),
            ("text/html;q=0.1234, text/plain;q=0.1", Text, "RFC 9110 12.4.2: three digits at most"),
            ("image/png", ProblemJson, "nothing acceptable"),
            ("text/html;q=0, */*;q=0", ProblemJson, "nothing acceptable"),
            (",,;;=q", ProblemJson, "garbage"),
        ];
        for (accept, expected, why) in cases {
            assert_eq!(preferred(Some(accept.as_bytes())), expected, "{accept:?}: {why}");
        }
        assert_eq!(preferred(None), ProblemJson);
        assert_eq!(preferred(Some(b"text/html\xff")), ProblemJson, "not ASCII");
    }
}
