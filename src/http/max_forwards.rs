//! `Max-Forwards` (RFC 9110 section 7.6.2): how far `OPTIONS` and `TRACE` may go.
//!
//! With zero left, Plimsoll itself is the final recipient and answers; other methods have no such limit. The answer to
//! `TRACE` leaves out what could be a secret (section 9.3.8).

use super::Refusal;
use super::date::HttpDate;
use super::rescue::ALLOWED;
use crate::http1::{Head, Method, Name, Persistence};

/// Where a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// To an instance.
    Forward,
    /// Nowhere: see [`write_answer`].
    AnswerHere,
}

/// Counts the request down.
///
/// # Errors
/// If the field is there twice, or is no number.
#[inline]
pub fn apply(head: &mut Head) -> Result<Onward, Refusal> {
    if !head.has(Name::MaxForwards) || !matches!(head.method(), Method::Options | Method::Trace) {
        return Ok(Onward::Forward);
    }
    let mut values = head.all(Name::MaxForwards);
    let left = match (values.next(), values.next()) {
        (Some(digits), None) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            // More than we can count is as good as the most that we can.
            digits.iter().fold(0_u32, |left, digit| left.saturating_mul(10).saturating_add(u32::from(digit & 15)))
        }
        _ => return Err(Refusal::bad_request("Max-Forwards is not one number")),
    };
    drop(values);
    let Some(left) = left.checked_sub(1) else { return Ok(Onward::AnswerHere) };
    head.remove(Name::MaxForwards);
    head.add("Max-Forwards", &[left.to_string().as_bytes()]);
    Ok(Onward::Forward)
}

/// Fields that a `TRACE` does not show.
const SECRET: [Name; 3] = [Name::Authorization, Name::ProxyAuthorization, Name::Cookie];

/// Answers a request that goes no further: the methods to `OPTIONS`, the request itself to `TRACE`. `lines` are further
/// fields.
pub fn write_answer(out: &mut Vec<u8>, head: &Head, persistence: Persistence, lines: &[u8], date: &HttpDate) {
    let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let connection: &[u8] = if persistence == Persistence::Close { b"close" } else { b"keep-alive" };
    write(&[b"HTTP/1.1 200 OK\r\nDate: ", date.text(), b"\r\nConnection: ", connection, b"\r\n", lines]);
    if head.method() != Method::Trace {
        write(&[b"Allow: ", ALLOWED.as_bytes(), b"\r\nContent-Length: 0\r\n\r\n"]);
        return;
    }
    let mut shown = [head.method_text(), b" ", head.target(), b" HTTP/1.1\r\n"].concat();
    for field in head.fields().filter(|field| !SECRET.contains(&field.name)) {
        shown.extend_from_slice(&[field.text, b": ", field.value, b"\r\n"].concat());
    }
    shown.extend_from_slice(b"\r\n");
    let length = shown.len().to_string();
    write(&[b"Content-Type: message/http\r\nContent-Length: ", length.as_bytes(), b"\r\n\r\n", &shown]);
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::testing::{fields, request};
    use super::*;

    #[test]
    fn options_and_trace_are_counted_down() {
        let cases = [
            ("OPTIONS", "5", Ok(Onward::Forward), "4", "7.6.2"),
            ("TRACE", "1", Ok(Onward::Forward), "0", "7.6.2"),
            ("OPTIONS", "007", Ok(Onward::Forward), "6", "7.6.2: 1*DIGIT"),
            ("OPTIONS", "99999999999999999999", Ok(Onward::Forward), "4294967294", "7.6.2: our maximum"),
            ("OPTIONS", "0", Ok(Onward::AnswerHere), "0", "7.6.2"),
            ("TRACE", "0", Ok(Onward::AnswerHere), "0", "7.6.2"),
            ("GET", "0", Ok(Onward::Forward), "0", "7.6.2: other methods may ignore it"),
            ("GET", "x", Ok(Onward::Forward), "x", "7.6.2: other methods may ignore it"),
            ("OPTIONS", "", Err(400), "", "not a number"),
            ("OPTIONS", "-1", Err(400), "-1", "not a number"),
            ("TRACE", "1, 2", Err(400), "1, 2", "two numbers"),
            ("TRACE", "1\r\nMax-Forwards: 1", Err(400), "1", "two fields"),
        ];
        for (method, value, expected, left, why) in cases {
            let mut head = request(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n"));
            assert_eq!(apply(&mut head).map_err(|refusal| refusal.status), expected, "{why}");
            let sent = fields(&head).into_iter().find(|(name, _)| name == "Max-Forwards").expect("the field").1;
            assert_eq!(sent, left, "{method} {value}: RFC 9110 {why}");
        }
        let mut head = request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(apply(&mut head), Ok(Onward::Forward), "no limit");
    }

    #[test]
    fn the_last_recipient_answers() {
        let answer = |text: &str| {
            let mut out = Vec::new();
            write_answer(&mut out, &request(text), Persistence::KeepAlive, b"", &HttpDate::at(UNIX_EPOCH));
            String::from_utf8(out).expect("text")
        };
        let options = answer("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
        assert!(options.starts_with("HTTP/1.1 200 OK\r\n") && options.contains("\r\nAllow: GET, "), "{options}");
        assert!(options.ends_with("\r\nContent-Length: 0\r\n\r\n"), "RFC 9110 9.3.7: {options}");
        let trace = answer("TRACE /x HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nAuthorization: secret\r\nX: 1\r\n\r\n");
        let (head, body) = trace.split_once("\r\n\r\n").expect("a whole head");
        assert_eq!(body, "TRACE /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", "RFC 9110 9.3.8");
        assert!(head.contains("\r\nContent-Type: message/http\r\n"), "{head}");
        assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    }
}
