//! What instances may answer: what is ambiguous becomes 502 or an aborted body, never a clean-looking response.

#![allow(clippy::too_many_lines, reason = "tables")]

use std::io;

use crate::support::instance::Then;
use crate::support::message::Response;
use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Instance, Proxy};

/// What the client sees.
#[derive(Debug, Clone, Copy)]
enum Sees {
    /// A 502 of Plimsoll's own.
    BadGateway,
    /// A response that visibly ends too early; or a 502, when that was seen in time.
    Abort,
    /// This status and body, and the next request gets its own answer.
    Clean(u16, &'static str),
    /// A clean one with this body or a 502.
    CleanOr502(&'static str),
}

use Sees::{Abort, BadGateway, Clean, CleanOr502};

type Case = (&'static str, &'static str, &'static str, &'static [u8], Then, Sees);

#[track_caller]
fn check(cases: &[Case]) {
    let api = Instance::named("a");
    // Bad answers are failures in traffic; they must not eject the only instance.
    let proxy = Config::of(&[&api]).evidence("failures", 0).retry("retries", 0).start();
    let wrong: Vec<_> = cases.iter().filter_map(|case| judge(&proxy, &api, case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn judge(proxy: &Proxy, api: &Instance, &(section, name, method, bytes, then, sees): &Case) -> Result<(), String> {
    let fail = |what: String| Err(format!("  {section} {name}: {what}"));
    api.serve(move |exchange| {
        exchange.read_body()?;
        if exchange.head.word(1) == "/next" {
            return exchange.respond(200, "", b"next");
        }
        exchange.write(bytes)?;
        Ok(then)
    });
    let mut client = proxy.connect();
    client.send(format!("{method} /case HTTP/1.1\r\nHost: a\r\n\r\n"));
    let answer = client.wire.read_response_to(method);
    let judged = match (sees, &answer) {
        (BadGateway | CleanOr502(_), Ok(answer)) if is_502(answer) => Ok(()),
        (Abort, Ok(answer)) if is_502(answer) => Ok(()),
        (Abort, Err(error)) if is_cut(error) => return Ok(()),
        (Clean(status, body), Ok(answer)) if answer.status() == status && answer.text() == body => Ok(()),
        (CleanOr502(body), Ok(answer)) if answer.status() == 200 && answer.text() == body => Ok(()),
        (_, Ok(answer)) => fail(format!("{sees:?}, but got {} {:?}", answer.head.start, answer.text())),
        (_, Err(error)) => fail(format!("{sees:?}, but got no response: {error}")),
    };
    judged?;
    let next = if answer.is_ok_and(|answer| answer.closes()) { proxy.get("/next") } else { client.get("/next") };
    if next.text() != "next" {
        return fail(format!("the next request got {} {:?}", next.status(), next.text()));
    }
    Ok(())
}

fn is_502(answer: &Response) -> bool {
    answer.status() == 502 && !answer.cause().is_empty()
}

fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

#[test]
fn malformed_response_heads_become_502() {
    check(&[
        ("9112 4", "garbage", "GET", b"garbage\r\n\r\n", Then::Close, BadGateway),
        ("9112 4", "binary garbage", "GET", b"\x16\x03\x01\x00\x05hello\r\n\r\n", Then::Close, BadGateway),
        (
            "9112 4",
            "a status of letters",
            "GET",
            b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 4",
            "a status of two digits",
            "GET",
            b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 4",
            "a status of four digits",
            "GET",
            b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        ("9110 15", "status 000", "GET", b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", Then::KeepAlive, BadGateway),
        ("9110 15", "status 099", "GET", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", Then::KeepAlive, BadGateway),
        ("9112 2.3", "HTTP/2.0", "GET", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", Then::KeepAlive, BadGateway),
        (
            "9112 2.3",
            "lower-case version",
            "GET",
            b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        ("9112 4", "two spaces", "GET", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", Then::KeepAlive, BadGateway),
        ("9112 2.2", "bare LFs", "GET", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", Then::KeepAlive, BadGateway),
        (
            "9112 2.2",
            "one bare LF",
            "GET",
            b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 2.2",
            "bare CR in a value",
            "GET",
            b"HTTP/1.1 200 OK\r\nX: 1\r2\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 5.5",
            "NUL in a value",
            "GET",
            b"HTTP/1.1 200 OK\r\nX: 1\x002\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 5.2",
            "obs-fold",
            "GET",
            b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 5.1",
            "an empty name",
            "GET",
            b"HTTP/1.1 200 OK\r\n: 1\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 5.1",
            "a name that is no token",
            "GET",
            b"HTTP/1.1 200 OK\r\nX(y): 1\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 5.1",
            "a space before a colon",
            "GET",
            b"HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            CleanOr502("hi"),
        ),
        (
            "9112 5",
            "a line without a colon",
            "GET",
            b"HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        ("9112 8", "an end within the head", "GET", b"HTTP/1.1 200 OK\r\nContent-Le", Then::Close, BadGateway),
        ("9112 8", "an end before the head", "GET", b"", Then::Close, BadGateway),
        ("9112 8", "a reset before the head", "GET", b"", Then::Reset, BadGateway),
        (
            "9110 15.2",
            "an end after a 1xx",
            "GET",
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9110 15.2.2",
            "a 101 that nobody asked for",
            "GET",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tea\r\n\r\nmore",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 4",
            "no reason",
            "GET",
            b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            Clean(200, "hi"),
        ),
        (
            "9112 4",
            "no reason and no space",
            "GET",
            b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            CleanOr502("hi"),
        ),
        (
            "9110 15",
            "an unknown status",
            "GET",
            b"HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            Clean(299, "hi"),
        ),
    ]);
}

#[test]
fn ambiguous_response_framing_becomes_502() {
    check(&[
        (
            "9112 6.3",
            "two differing lengths",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 6.3",
            "a list of differing lengths",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nhi!",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 6.3",
            "two equal lengths",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            CleanOr502("hi"),
        ),
        (
            "9110 8.6",
            "a negative length",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 8.6",
            "a length with a plus",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 8.6",
            "a length of letters",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhi",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9110 8.6",
            "an empty length",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhi",
            Then::Close,
            BadGateway,
        ),
        (
            "9110 8.6",
            "a length beyond 64 bits",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
            Then::Close,
            BadGateway,
        ),
        (
            "9112 6.3",
            "length and coding",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 6.1",
            "a coding on HTTP/1.0",
            "GET",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Then::Close,
            BadGateway,
        ),
        (
            "9112 6.1",
            "chunked twice",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 6.1",
            "an unknown coding",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: tea, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Then::KeepAlive,
            BadGateway,
        ),
        (
            "9112 6.3",
            "a prefix before chunked",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Then::Close,
            BadGateway,
        ),
        (
            "9112 6.1",
            "an empty coding",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nhi",
            Then::Close,
            BadGateway,
        ),
        (
            "9110 7.6.1",
            "Connection names Content-Length",
            "GET",
            b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi",
            Then::KeepAlive,
            CleanOr502("hi"),
        ),
    ]);
}

#[test]
fn bodies_cut_short_are_never_clean() {
    check(&[
        (
            "9112 8",
            "a body shorter than its length",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "a body that ends with a reset",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Then::Reset,
            Abort,
        ),
        ("9112 8", "no body at all", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Then::Close, Abort),
        (
            "9112 8",
            "an end within a chunk",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end between chunks",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end within the last chunk",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end within trailers",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9112 7.1",
            "a size that is no number",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1",
            "a negative size",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1",
            "a size beyond 64 bits",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1",
            "no line end after the data",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1",
            "bare LF after the size",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1",
            "bare LF after the data",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        (
            "9112 7.1.2",
            "a malformed trailer",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno colon\r\n\r\n",
            Then::KeepAlive,
            Abort,
        ),
        ("9112 6.3", "a reset in a body until close", "GET", b"HTTP/1.1 200 OK\r\n\r\nhello", Then::Reset, Abort),
    ]);
}

#[test]
fn framing_is_understood_as_the_rfc_says() {
    check(&[
        ("9112 6.3", "a length", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Then::KeepAlive, Clean(200, "hello")),
        ("9112 7.1", "chunks", "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Then::KeepAlive, Clean(200, "hello")),
        ("9112 6.3", "until close", "GET", b"HTTP/1.1 200 OK\r\n\r\nhello", Then::Close, Clean(200, "hello")),
        ("9112 6.3", "until close on HTTP/1.0", "GET", b"HTTP/1.0 200 OK\r\n\r\nhello", Then::Close, Clean(200, "hello")),
        ("9112 6.3", "a length on HTTP/1.0", "GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Then::Close, Clean(200, "hello")),
        ("9112 6.3", "an empty body until close", "GET", b"HTTP/1.1 200 OK\r\n\r\n", Then::Close, Clean(200, "")),
        ("9112 9.6", "close after a length", "GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", Then::Close, Clean(200, "hello")),
        ("9110 9.3.2", "HEAD with a length", "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Then::KeepAlive, Clean(200, "")),
        ("9110 9.3.2", "HEAD with a coding", "HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Then::KeepAlive, Clean(200, "")),
        ("9110 9.3.2", "HEAD with nothing", "HEAD", b"HTTP/1.1 200 OK\r\n\r\n", Then::KeepAlive, Clean(200, "")),
        ("9110 15.3.5", "204", "GET", b"HTTP/1.1 204 No Content\r\n\r\n", Then::KeepAlive, Clean(204, "")),
        ("9110 15.4.5", "304 with a length", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Then::KeepAlive, Clean(304, "")),
        ("9110 15.2", "100 before the answer", "GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Then::KeepAlive, Clean(200, "hi")),
        ("9110 15.2", "102 and 103 before the answer", "GET", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Then::KeepAlive, Clean(200, "hi")),
    ]);
}

#[test]
fn bytes_that_an_instance_sends_unasked_reach_nobody() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let cases: &[(&str, &str, String)] = &[
        (
            "9112 9.2",
            "a second response after a length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi{EVIL}"),
        ),
        (
            "9112 9.2",
            "a second response after chunks",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{EVIL}"),
        ),
        ("9110 15.3.5", "a body after 204", "HTTP/1.1 204 No Content\r\n\r\nevil".to_owned()),
        ("9110 15.3.5", "a response after 204", format!("HTTP/1.1 204 No Content\r\n\r\n{EVIL}")),
        ("9110 15.4.5", "a body after 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil".to_owned()),
        ("9110 15.4.5", "a response after 304", format!("HTTP/1.1 304 Not Modified\r\n\r\n{EVIL}")),
        ("9110 15.3.5", "a length on 204", format!("HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n{EVIL}")),
    ];
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).evidence("failures", 0).set("runtime", "workers", 1).start();
    for (section, name, bytes) in cases {
        let bytes = bytes.clone();
        api.serve(move |exchange| {
            if exchange.head.word(1) == "/next" {
                return exchange.respond(200, "", b"next");
            }
            exchange.write(&bytes)?;
            Ok(Then::KeepAlive)
        });
        let mut client = proxy.connect();
        let first = client.get("/case");
        assert!(!first.text().contains("evil"), "{section} {name}: {}", first.text());
        for _ in 0..3 {
            let next = if first.closes() { proxy.get("/next") } else { client.get("/next") };
            assert_eq!(next.text(), "next", "{section} {name}");
        }
    }
    // After the answer to HEAD, a body that must not be there.
    api.serve(|exchange| match exchange.head.word(0) {
        "HEAD" => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").map(|()| Then::KeepAlive),
        _ => exchange.respond(200, "", b"next"),
    });
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 200);
    assert_eq!(client.get("/next").text(), "next");
}

#[test]
fn instance_that_speaks_while_idle_loses_the_connection() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    api.serve(|exchange| {
        let then = exchange.respond(200, "", b"fine")?;
        if exchange.head.word(1) == "/first" {
            // Later than the answer, so that the connection lies idle when the bytes come.
            pause(millis(50));
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?;
        }
        Ok(then)
    });
    assert_eq!(proxy.get("/first").text(), "fine");
    eventually("the connection that spoke is closed", || (api.open() == 0).then_some(()));
    for _ in 0..3 {
        assert_eq!(proxy.get("/second").text(), "fine");
    }
    let received = api.received();
    assert_ne!(received[0].connection, received[1].connection);
}

#[test]
fn response_heads_over_their_limits_become_502() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api])
        .connection("response_head_bytes_max", "\"4KiB\"")
        .connection("response_fields_max", 20)
        .evidence("failures", 0)
        .start();
    for (name, fields) in
        [("too many bytes", format!("X: {}\r\n", "v".repeat(5000))), ("too many fields", "X: 1\r\n".repeat(30))]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        api.serve(move |exchange| exchange.write(&bytes).map(|()| Then::Close));
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_bad_response"), "{name}");
    }
}
