//! How long a body is, and whether the connection may be kept: RFC 9112 §6 and §9.3 for both directions, here alone.
//!
//! Whatever two readers could understand in two ways is an error, also where RFC 9112 would let a recipient choose:
//! a proxy cannot know what the reader behind it chooses. So of a length and a coding at once, neither wins; repeated
//! lengths are refused even when they are equal; and a coding that is not `chunked` alone is refused in responses,
//! too, where §6.3 would let it run until the connection closes.

use super::field::{is_token, list};
use super::head::{Head, Method, Version};
use super::name::{Name, NameSet};

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// That many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection; responses only.
    UntilClose,
}

/// Why the framing of a message cannot be trusted. In a request all mean 400, except for
/// [`FramingError::UnknownCoding`]: 501.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FramingError {
    /// RFC 9112 §6.1: the classic of request smuggling.
    #[error("both `Content-Length` and `Transfer-Encoding`")]
    BothLengthAndEncoding,
    /// RFC 9112 §6.3.
    #[error("several `Content-Length` values that differ")]
    DifferingLengths,
    /// RFC 9110 §8.6 leaves it to the recipient to refuse these.
    #[error("`Content-Length` repeated")]
    RepeatedLength,
    /// Not digits alone, or more than 64 bits hold.
    #[error("malformed `Content-Length`")]
    BadLength,
    /// RFC 9112 §6.3.
    #[error("final transfer coding is not `chunked`")]
    FinalCodingNotChunked,
    /// RFC 9112 §6.1.
    #[error("transfer coding `chunked` applied twice")]
    ChunkedTwice,
    /// No coding at all, not a token, or `chunked` with parameters (RFC 9112 §7).
    #[error("malformed `Transfer-Encoding`")]
    BadEncoding,
    /// A coding before `chunked`: 501 for a request (RFC 9112 §6.1).
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// RFC 9112 §6.1: the version has no such field, so the framing is faulty.
    #[error("`Transfer-Encoding` in HTTP/1.0")]
    EncodingOnHttp10,
    /// A `Connection` option that would make the next recipient drop the framing (RFC 9110 §7.6.1).
    #[error("`Connection` names a framing field")]
    ConnectionNamesFraming,
}

/// How long the body of a request is (RFC 9112 §6.3).
///
/// # Errors
/// The framing is ambiguous or unknown; the connection must be closed after the answer.
pub fn request_body(head: &Head) -> Result<BodyLength, FramingError> {
    Ok(declared_length(head)?.unwrap_or(BodyLength::None))
}

/// How long the body of a response to a request of method `to` is (RFC 9112 §6.3). `CONNECT` is not forwarded, so its
/// rule is not here.
///
/// Responses to HEAD and those with 1xx, 204 and 304 have no body whatever their fields say, but fields that contradict
/// each other are refused in them, too. In 1xx and 204 the framing fields must not be passed on (RFC 9110 §8.6).
///
/// # Errors
/// The framing is ambiguous or unknown; the connection must not be used again.
pub fn response_body(head: &Head, to: Method) -> Result<BodyLength, FramingError> {
    let declared = declared_length(head)?;
    if to == Method::Head || !status_allows_body(head.status()) {
        return Ok(BodyLength::None);
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

/// Whether the connection may carry another message after this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It may.
    KeepAlive,
    /// It ends with this message.
    Close,
}

/// Whether the sender of this message wants the connection kept (RFC 9112 §9.3). `close` wins over `keep-alive`.
#[must_use]
pub fn persistence(head: &Head) -> Persistence {
    let options = head.connection();
    match head.version() {
        _ if options.close => Persistence::Close,
        Version::Http11 | Version::Http2 => Persistence::KeepAlive,
        Version::Http10 if options.keep_alive => Persistence::KeepAlive,
        Version::Http10 => Persistence::Close,
    }
}

/// Whether a response of this status can have a body (RFC 9110 §6.4.1).
fn status_allows_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

const FRAMING_FIELDS: NameSet = NameSet::of(&[Name::ContentLength, Name::TransferEncoding]);

fn declared_length(head: &Head) -> Result<Option<BodyLength>, FramingError> {
    if head.connection().names.intersects(FRAMING_FIELDS) {
        return Err(FramingError::ConnectionNamesFraming);
    }
    match (head.has(Name::ContentLength), head.has(Name::TransferEncoding)) {
        (false, false) => Ok(None),
        (true, false) => content_length(head).map(|length| Some(BodyLength::Length(length))),
        (false, true) => transfer_encoding(head).map(|()| Some(BodyLength::Chunked)),
        (true, true) => Err(FramingError::BothLengthAndEncoding),
    }
}

/// The one `Content-Length`. Equal values in a list or in several fields could be taken as one (RFC 9110 §8.6), but
/// nothing sound sends them, and passing them on would leave the choice to the next reader.
fn content_length(head: &Head) -> Result<u64, FramingError> {
    if head.has_once(Name::ContentLength)
        && let Some(length) = head.first(Name::ContentLength).and_then(parse_length)
    {
        return Ok(length);
    }
    let mut length = None;
    let mut repeated = false;
    for value in head.all(Name::ContentLength).flat_map(|value| value.split(|byte| *byte == b',')) {
        let value = parse_length(value.trim_ascii()).ok_or(FramingError::BadLength)?;
        match length {
            None => length = Some(value),
            Some(first) if first == value => repeated = true,
            Some(_) => return Err(FramingError::DifferingLengths),
        }
    }
    match length {
        Some(length) if !repeated => Ok(length),
        Some(_) => Err(FramingError::RepeatedLength),
        None => Err(FramingError::BadLength),
    }
}

/// How many digits the largest number of 64 bits has.
const DIGITS_MAX: usize = 20;

/// `1*DIGIT` (RFC 9110 §8.6) in 64 bits: no sign, no white space.
fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    // Checked for overflow only where there can be one: every response has a length of a few digits.
    if text.len() < DIGITS_MAX {
        return text
            .iter()
            .try_fold(0, |length, byte| byte.is_ascii_digit().then(|| length * 10 + u64::from(byte - b'0')));
    }
    text.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether the `Transfer-Encoding` fields say `chunked` and nothing else. All fields of the name are one list, in
/// which empty members count for nothing (RFC 9110 §5.6.1), except for a last one: some readers ignore it, others take
/// `chunked,` for a body that is not chunked (hyper's client does).
fn transfer_encoding(head: &Head) -> Result<(), FramingError> {
    if head.version() == Version::Http10 {
        return Err(FramingError::EncodingOnHttp10);
    }
    let (mut codings, mut chunked, mut last_is_chunked) = (0, 0, false);
    let empty_last =
        head.all(Name::TransferEncoding).last().is_none_or(|value| value.is_empty() || value.ends_with(b","));
    for coding in head.all(Name::TransferEncoding).flat_map(list) {
        let name = coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        last_is_chunked = name.eq_ignore_ascii_case(b"chunked");
        if !is_token(name) || coding.contains(&b'"') || (last_is_chunked && name.len() != coding.len()) {
            return Err(FramingError::BadEncoding);
        }
        codings += 1;
        chunked += u32::from(last_is_chunked);
    }
    match (codings, chunked) {
        (0, _) => Err(FramingError::BadEncoding),
        _ if !last_is_chunked || empty_last => Err(FramingError::FinalCodingNotChunked),
        (1, 1) => Ok(()),
        (_, 1) => Err(FramingError::UnknownCoding),
        _ => Err(FramingError::ChunkedTwice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(start_line: &str, fields: &str) -> Head {
        let bytes = format!("{start_line}\r\n{fields}\r\n").into_bytes();
        let end = bytes.len();
        let head = if start_line.starts_with("HTTP") {
            Head::response(bytes, 0, end, 100)
        } else {
            Head::request(bytes, 0, end, 100)
        };
        head.unwrap_or_else(|(error, _)| panic!("{start_line} {fields}: {error}"))
    }

    /// Fields, what they declare, and where that is written.
    type Declared = (&'static str, Result<Option<BodyLength>, FramingError>, &'static str);

    const DECLARED: &[Declared] = &[
        ("", Ok(None), "RFC 9112 6.3: nothing declared"),
        ("Content-Length: 0\r\n", Ok(Some(BodyLength::Length(0))), "RFC 9112 6.3 rule 6"),
        ("Content-Length: 42\r\n", Ok(Some(BodyLength::Length(42))), "RFC 9112 6.3 rule 6"),
        ("content-length:\t42 \r\n", Ok(Some(BodyLength::Length(42))), "RFC 9112 5.1: white space around"),
        ("Content-Length: 0042\r\n", Ok(Some(BodyLength::Length(42))), "RFC 9110 8.6: 1*DIGIT"),
        ("Content-Length: 18446744073709551615\r\n", Ok(Some(BodyLength::Length(u64::MAX))), "RFC 9110 8.6: large"),
        ("Content-Length: 18446744073709551616\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: overflow"),
        ("Content-Length: 99999999999999999999999\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: overflow"),
        ("Content-Length: \r\n", Err(FramingError::BadLength), "RFC 9110 8.6: 1*DIGIT"),
        ("Content-Length: +5\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: no sign"),
        ("Content-Length: -5\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: no sign"),
        ("Content-Length: 5 5\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: no white space"),
        ("Content-Length: 0x5\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: decimal"),
        ("Content-Length: 5.0\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: whole"),
        ("Content-Length: 5_0\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: digits"),
        ("Content-Length: \"5\"\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: no quotes"),
        ("Content-Length: 5;q=1\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: no parameters"),
        ("Content-Length: \u{665}\r\n", Err(FramingError::BadLength), "RFC 9110 8.6: ASCII digits"),
        ("Content-Length: 5,6\r\n", Err(FramingError::DifferingLengths), "RFC 9112 6.3 rule 5"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(FramingError::DifferingLengths), "RFC 9112 6.3 rule 5"),
        ("Content-Length: 5, 5\r\n", Err(FramingError::RepeatedLength), "RFC 9110 8.6: may be refused"),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Err(FramingError::RepeatedLength),
            "RFC 9110 8.6: may be refused",
        ),
        ("Content-Length: 5\r\nContent-Length: 05\r\n", Err(FramingError::RepeatedLength), "RFC 9110 8.6"),
        ("Content-Length: 5,\r\n", Err(FramingError::BadLength), "RFC 9112 6.3 rule 5: not all valid"),
        ("Content-Length: 5\r\nContent-Length: \r\n", Err(FramingError::BadLength), "RFC 9112 6.3 rule 5"),
        ("Content-Length: 5\r\nContent-Length: x\r\n", Err(FramingError::BadLength), "RFC 9112 6.3 rule 5"),
        ("Transfer-Encoding: chunked\r\n", Ok(Some(BodyLength::Chunked)), "RFC 9112 6.3 rule 4"),
        ("transfer-encoding: CHUNKED\r\n", Ok(Some(BodyLength::Chunked)), "RFC 9112 7: case does not matter"),
        ("Transfer-Encoding: ,, chunked\r\n", Ok(Some(BodyLength::Chunked)), "RFC 9110 5.6.1: empty members"),
        (
            "Transfer-Encoding: chunked,\r\n",
            Err(FramingError::FinalCodingNotChunked),
            "two readings of an empty last member",
        ),
        ("Transfer-Encoding: chunked , \r\n", Err(FramingError::FinalCodingNotChunked), "two readings"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: \r\n",
            Err(FramingError::FinalCodingNotChunked),
            "two readings",
        ),
        ("Transfer-Encoding: \r\nTransfer-Encoding: chunked\r\n", Ok(Some(BodyLength::Chunked)), "RFC 9110 5.6.1"),
        ("Transfer-Encoding: \r\n", Err(FramingError::BadEncoding), "RFC 9112 6.1: no coding"),
        ("Transfer-Encoding: ,,\r\n", Err(FramingError::BadEncoding), "RFC 9112 6.1: no coding"),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(FramingError::ChunkedTwice), "RFC 9112 6.1"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(FramingError::ChunkedTwice),
            "RFC 9112 6.1",
        ),
        ("Transfer-Encoding: chunked, identity\r\n", Err(FramingError::FinalCodingNotChunked), "RFC 9112 6.3 rule 4"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            Err(FramingError::FinalCodingNotChunked),
            "RFC 9112 6.3",
        ),
        ("Transfer-Encoding: gzip\r\n", Err(FramingError::FinalCodingNotChunked), "RFC 9112 6.3 rule 4"),
        ("Transfer-Encoding: identity\r\n", Err(FramingError::FinalCodingNotChunked), "RFC 9112 appendix C.3: removed"),
        ("Transfer-Encoding: xchunked\r\n", Err(FramingError::FinalCodingNotChunked), "RFC 9112 6.3 rule 4"),
        ("Transfer-Encoding: chunke\r\n", Err(FramingError::FinalCodingNotChunked), "RFC 9112 6.3 rule 4"),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(FramingError::UnknownCoding), "RFC 9112 6.1: 501"),
        ("Transfer-Encoding: identity, chunked\r\n", Err(FramingError::UnknownCoding), "RFC 9112 6.1: 501"),
        ("Transfer-Encoding: gzip;q=1, chunked\r\n", Err(FramingError::UnknownCoding), "RFC 9112 7: parameters"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(FramingError::UnknownCoding), "RFC 9112 6.1"),
        ("Transfer-Encoding: chunked;a=b\r\n", Err(FramingError::BadEncoding), "RFC 9112 7.1: no parameters"),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(FramingError::BadEncoding), "RFC 9112 7: a token"),
        ("Transfer-Encoding: chunked foo\r\n", Err(FramingError::BadEncoding), "RFC 9112 7: a token"),
        ("Transfer-Encoding: gzip;a=\"x,\", chunked\r\n", Err(FramingError::BadEncoding), "RFC 9112 7: quoted commas"),
        ("Transfer-Encoding: chunked\u{a0}\r\n", Err(FramingError::BadEncoding), "RFC 9112 7: a token"),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(FramingError::BothLengthAndEncoding),
            "RFC 9112 6.1: both",
        ),
        (
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
            Err(FramingError::BothLengthAndEncoding),
            "RFC 9112 6.1: both",
        ),
        (
            "Connection: close, Content-Length\r\nContent-Length: 5\r\n",
            Err(FramingError::ConnectionNamesFraming),
            "RFC 9110 7.6.1",
        ),
        (
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            Err(FramingError::ConnectionNamesFraming),
            "RFC 9110 7.6.1",
        ),
        ("Transfer_Encoding: chunked\r\n", Ok(None), "RFC 9110 5.1: another name"),
    ];

    #[test]
    fn both_directions_declare_bodies_as_rfc_9112_section_6_3_says() {
        for (fields, declared, why) in DECLARED {
            let request = request_body(&head("POST / HTTP/1.1", fields));
            assert_eq!(request, declared.map(|length| length.unwrap_or(BodyLength::None)), "{why}: {fields}");
            let response = response_body(&head("HTTP/1.1 200 OK", fields), Method::Get);
            assert_eq!(response, declared.map(|length| length.unwrap_or(BodyLength::UntilClose)), "{why}: {fields}");
        }
    }

    #[test]
    fn responses_that_cannot_have_a_body_have_none_but_must_not_contradict_themselves() {
        let cases = [
            ("HTTP/1.1 200 OK", Method::Head, "RFC 9112 6.3 rule 1: HEAD"),
            ("HTTP/1.1 100 Continue", Method::Post, "RFC 9112 6.3 rule 1: 1xx"),
            ("HTTP/1.1 103 Early Hints", Method::Get, "RFC 9112 6.3 rule 1: 1xx"),
            ("HTTP/1.1 204 No Content", Method::Get, "RFC 9112 6.3 rule 1: 204"),
            ("HTTP/1.1 304 Not Modified", Method::Get, "RFC 9112 6.3 rule 1: 304"),
        ];
        for (line, to, why) in cases {
            for (fields, declared, _) in DECLARED {
                let body = response_body(&head(line, fields), to);
                assert_eq!(body, declared.map(|_| BodyLength::None), "{why}: {fields}");
            }
        }
        for line in ["HTTP/1.1 205 Reset Content", "HTTP/1.1 404 Not Found", "HTTP/1.1 500 x"] {
            assert_eq!(response_body(&head(line, ""), Method::Get), Ok(BodyLength::UntilClose), "{line}");
        }
    }

    #[test]
    fn a_coding_in_http_1_0_is_refused_in_both_directions() {
        let fields = "Transfer-Encoding: chunked\r\n";
        let expected = Err(FramingError::EncodingOnHttp10);
        assert_eq!(request_body(&head("POST / HTTP/1.0", fields)), expected, "RFC 9112 6.1");
        assert_eq!(response_body(&head("HTTP/1.0 200 OK", fields), Method::Get), expected, "RFC 9112 6.1");
        assert_eq!(response_body(&head("HTTP/1.0 200 OK", ""), Method::Get), Ok(BodyLength::UntilClose));
    }

    #[test]
    fn connections_persist_as_rfc_9112_section_9_3_says() {
        use Persistence::{Close, KeepAlive};
        let cases = [
            ("1.1", "", KeepAlive),
            ("1.1", "Connection: keep-alive\r\n", KeepAlive),
            ("1.1", "Connection: close\r\n", Close),
            ("1.1", "Connection: keep-alive, close\r\n", Close),
            ("1.1", "Connection: keep-alive\r\nConnection: Close\r\n", Close),
            ("1.0", "", Close),
            ("1.0", "Connection: Keep-Alive\r\n", KeepAlive),
            ("1.0", "Connection: keep-alive, close\r\n", Close),
            ("1.0", "Proxy-Connection: keep-alive\r\n", Close),
        ];
        for (version, fields, expected) in cases {
            assert_eq!(persistence(&head(&format!("GET / HTTP/{version}"), fields)), expected, "{version} {fields}");
            assert_eq!(persistence(&head(&format!("HTTP/{version} 200 OK"), fields)), expected, "{version} {fields}");
        }
    }
}
