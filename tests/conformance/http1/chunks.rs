//! What stands in a chunked body (RFC 9112 section 7.1): one table for both directions.

use crate::http1::{assert_all, shown};
use crate::support::instance::Then;
use crate::support::{Config, Instance};

/// What becomes of a body.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// It arrives with these data.
    Whole(&'static str),
    /// It never looks whole.
    Broken,
    /// Either, because the RFC leaves it open.
    Either(&'static str),
}

use Is::{Broken, Either, Whole};

const CASES: &[(&str, &str, &[u8], Is)] = &[
    ("7.1", "chunks", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Whole("hello")),
    ("7.1", "no chunk but the last", b"0\r\n\r\n", Whole("")),
    (
        "7.1",
        "hexadecimal in both cases",
        b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
        Whole("01234567890123456789"),
    ),
    ("7.1", "leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", Whole("hello")),
    ("7.1", "many leading zeros", b"00000000000000000005\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1", "line ends as data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", Whole("\r\n\r\n")),
    ("7.1", "a last chunk as data", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", Whole("0\r\n\r\n")),
    ("7.1", "a size that is no number", b"g\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "an empty size", b"\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "an extension without a size", b";a=b\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size with an h", b"5h\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size with a plus", b"+5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a negative size", b"-5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size with a fraction", b"5.0\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size with a comma", b"5,\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size in quotes", b"\"5\"\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "two sizes", b"5 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "an underscore in the size", b"0_5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a wide digit", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a NUL in the size", b"5\0\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size beyond 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size of 64 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size that is negative in 64 bits", b"8000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a size that is 5 in 32 bits", b"100000000000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a space before the size", b" 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "a space after the size", b"5 \r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1", "a tab after the size", b"5\t\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1", "a vertical tab after the size", b"5\x0b\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "bare LF after the size", b"5\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "bare CR after the size", b"5\rhello\r\n0\r\n\r\n", Broken),
    ("7.1", "CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "bare LF after the data", b"5\r\nhello\n0\r\n\r\n", Broken),
    ("7.1", "bare CR after the data", b"5\r\nhello\r0\r\n\r\n", Broken),
    ("7.1", "LF CR after the data", b"5\r\nhello\n\r0\r\n\r\n", Broken),
    ("7.1", "two line ends after the data", b"5\r\nhello\r\n\r\n0\r\n\r\n", Broken),
    ("7.1", "two bytes that are no line end after the data", b"5\r\nhelloXX0\r\n\r\n", Broken),
    ("7.1", "no line end after the data", b"5\r\nhello0\r\n\r\n", Broken),
    ("7.1", "more data than announced", b"5\r\nhello!\r\n0\r\n\r\n", Broken),
    ("7.1", "less data than announced", b"6\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "an empty line before the first size", b"\r\n5\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1", "bare LF after the last chunk", b"5\r\nhello\r\n0\n\r\n", Broken),
    ("7.1", "bare LF at the end", b"5\r\nhello\r\n0\r\n\n", Broken),
    ("7.1", "CR CR LF at the end", b"5\r\nhello\r\n0\r\n\r\r\n", Broken),
    ("7.1", "a negative zero at the end", b"5\r\nhello\r\n-0\r\n\r\n", Broken),
    ("7.1.1", "an extension", b"5;a=b;c=\"d;e\";f\r\nhello\r\n0;last\r\n\r\n", Whole("hello")),
    ("7.1.1", "an escape in an extension", b"5;a=\"b\\\"c\"\r\nhello\r\n0\r\n\r\n", Whole("hello")),
    ("7.1.1", "white space around an extension", b"5 ; a = b\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1.1", "an extension without a name", b"5;\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1.1", "an extension without a value", b"5;a=\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1.1", "an extension that is no token", b"5;(a)=b\r\nhello\r\n0\r\n\r\n", Either("hello")),
    ("7.1.1", "bare LF in an extension", b"5;a=b\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.1", "bare LF in an extension, with a whole line behind", b"5;a\n1\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.1", "bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.1", "a line end in a quoted extension", b"5;a=\"\r\nhello\r\n0\r\n\r\n\"\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.1", "an open quoted extension", b"5;a=\"b\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.1", "a NUL in an extension", b"5;a\0b\r\nhello\r\n0\r\n\r\n", Broken),
    ("7.1.2", "a trailer", b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n", Whole("hello")),
    ("7.1.2", "several trailers", b"5\r\nhello\r\n0\r\nX: 1\r\nx:2\r\nY:\r\n\r\n", Whole("hello")),
    ("7.1.2", "a trailer without a colon", b"5\r\nhello\r\n0\r\nnothing\r\n\r\n", Broken),
    ("7.1.2", "a trailer without a name", b"5\r\nhello\r\n0\r\n: 1\r\n\r\n", Broken),
    ("7.1.2", "a folded trailer", b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", Broken),
    ("7.1.2", "a space before the first trailer", b"5\r\nhello\r\n0\r\n X: 1\r\n\r\n", Broken),
    ("7.1.2", "bare LF in trailers", b"5\r\nhello\r\n0\r\nX: 1\n\r\n", Broken),
    ("7.1.2", "bare CR in trailers", b"5\r\nhello\r\n0\r\nX: 1\r2\r\n\r\n", Broken),
    ("7.1.2", "a NUL in a trailer", b"5\r\nhello\r\n0\r\nX: 1\x002\r\n\r\n", Broken),
    ("7.1.2", "a space in a trailer's name", b"5\r\nhello\r\n0\r\nX y: 1\r\n\r\n", Broken),
    ("7.1.2", "a space before a trailer's colon", b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n", Broken),
];

/// Extensions, sizes and trailers without end.
fn endless() -> [(&'static str, &'static str, Vec<u8>, Is); 3] {
    [
        (
            "7.1.1",
            "an extension without end",
            format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(64 * 1024)).into(),
            Broken,
        ),
        ("7.1", "a size without end", format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(64 * 1024)).into(), Broken),
        (
            "7.1.2",
            "trailers without end",
            format!("0\r\n{}\r\n", "X: vvvvvvvvvvvvvvvv\r\n".repeat(5000)).into(),
            Broken,
        ),
    ]
}

fn cases() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>, Is)> {
    CASES.iter().map(|(section, name, bytes, is)| (*section, *name, bytes.to_vec(), *is)).chain(endless())
}

/// A request that would be smuggled if the body before it ended elsewhere.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn chunked_requests_arrive_whole_or_are_refused() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    assert_all(cases().map(|(section, name, bytes, is)| {
        let fail = |got: String| {
            Err(format!(
                "RFC 9112 {section}: {name}\n    sent:     {}\n    expected: {is:?}\n    got:      {got}",
                shown(&bytes)
            ))
        };
        api.forget();
        let mut client = proxy.connect();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        // The proxy may have refused before it has read all.
        drop(client.wire.write([head, &bytes[..], SMUGGLED].concat()));
        let answer = match client.wire.read_response_to("POST") {
            Ok(answer) => answer,
            Err(error) => return fail(format!("no answer: {error}")),
        };
        let forwarded = answer.field("instance").is_some();
        let data = match is {
            Whole(data) => data,
            Either(data) if forwarded => data,
            Broken | Either(_) if forwarded => return fail("forwarded".to_owned()),
            Broken | Either(_) if !matches!(answer.status(), 400 | 413 | 431) => return fail(answer.head.start),
            Broken | Either(_) => {
                let whole = api.received().iter().any(|request| request.body.is_some());
                return if whole { fail("refused, but the instance got it whole".to_owned()) } else { Ok(()) };
            }
        };
        // It is a request of its own here, and must have its own answer.
        match client.wire.read_response_to("GET") {
            Ok(next) if next.status() == 200 => {}
            next => return fail(format!("the next request has {next:?}")),
        }
        match api.received().first().and_then(|request| request.body.clone()) {
            Some(body) if body == data.as_bytes() => Ok(()),
            other => fail(format!("{} {other:?}", answer.head.start)),
        }
    }));
}

#[test]
fn chunked_responses_arrive_whole_or_are_cut_off() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).evidence("failures", 0).retry("retries", 0).start();
    assert_all(cases().map(|(section, name, bytes, is)| {
        let fail = |got: String| {
            Err(format!(
                "RFC 9112 {section}: {name}\n    sent:     {}\n    expected: {is:?}\n    got:      {got}",
                shown(&bytes)
            ))
        };
        let body = bytes.clone();
        api.serve(move |exchange| {
            exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            exchange.write(&body)?;
            // What is sent later would be taken for a part of a broken body, so that its end could not be told.
            Ok(Then::Close)
        });
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.wire.read_response_to("GET");
        match (is, answer) {
            (Whole(data) | Either(data), Ok(answer)) if answer.status() == 200 && answer.text() == data => Ok(()),
            (Broken | Either(_), Ok(answer)) if answer.status() == 502 => Ok(()),
            (Broken | Either(_), Err(_)) => Ok(()),
            (_, Ok(answer)) => fail(format!("{} {:?}", answer.head.start, answer.text())),
            (_, Err(error)) => fail(format!("no response: {error}")),
        }
    }));
}
