//! What clients may send: each case names the section that decides it. RFC 9110 is semantics, RFC 9112 is HTTP/1.1.
//!
//! Refused requests are answered with their status, the connection is closed, nothing that came after them is taken for
//! a request, and no instance has seen them whole.

#![allow(clippy::too_many_lines, reason = "tables")]

use crate::support::message::Response;
use crate::support::{Config, Instance, Proxy};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// Answered by Plimsoll with one of these, connection closed, not forwarded whole.
    Refused(&'static [u16]),
    /// Answered by the instance.
    Forwarded,
    /// Either, because the RFC leaves it open; but nothing in between.
    Either(&'static [u16]),
}

use Is::{Either, Forwarded, Refused};

const BAD: Is = Refused(&[400]);

type Case = (&'static str, &'static str, &'static [u8], Is);

/// A request that would be smuggled if the one before it ended elsewhere.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[track_caller]
fn check(cases: &[Case]) {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let wrong: Vec<_> = cases.iter().filter_map(|case| judge(&proxy, &api, case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn judge(proxy: &Proxy, api: &Instance, &(section, name, bytes, is): &Case) -> Result<(), String> {
    api.forget();
    let mut client = proxy.connect();
    let fail = |what: String| Err(format!("  {section} {name}: {what}"));
    // The proxy may have refused before it has read all.
    drop(client.wire.write(bytes));
    if !matches!(is, Forwarded) {
        drop(client.wire.write(SMUGGLED));
    }
    let answer = match client.wire.read_response_to("GET") {
        Ok(answer) => answer,
        Err(error) => return fail(format!("no answer: {error}")),
    };
    let received = api.received();
    if received.iter().any(|request| request.head.start.contains("smuggled")) && !is_forwarded(is, &answer) {
        return fail("the next request was smuggled".to_owned());
    }
    let statuses = match is {
        Forwarded => &[][..],
        Refused(statuses) | Either(statuses) => statuses,
    };
    if is_forwarded(is, &answer) {
        if answer.status() != 200 {
            return fail(format!("refused with {}", describe(&answer)));
        }
        // The request after it is one then; its answer is awaited, so that it does not come up in the next case.
        let next = matches!(is, Either(_)) && !answer.closes();
        if next && let Err(error) = client.wire.read_response_to("GET") {
            return fail(format!("the next request was not answered: {error}"));
        }
        return Ok(());
    }
    if !statuses.contains(&answer.status()) {
        return fail(format!("{} instead of {statuses:?}", describe(&answer)));
    }
    if answer.cause().is_empty() {
        return fail(format!("{} without a cause in Proxy-Status", answer.status()));
    }
    if received.iter().any(|request| request.body.is_some()) {
        return fail("refused, but the instance got it whole".to_owned());
    }
    match client.wire.read_to_end() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => fail(format!("more after the refusal: {:?}", String::from_utf8_lossy(&rest))),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => fail(format!("not closed: {error}")),
    }
}

fn is_forwarded(is: Is, answer: &Response) -> bool {
    match is {
        Forwarded => true,
        Either(_) => answer.field("instance").is_some(),
        Refused(_) => false,
    }
}

fn describe(answer: &Response) -> String {
    format!("{} {:?}", answer.status(), answer.cause())
}

#[test]
fn line_ends_and_forbidden_bytes_in_heads_are_refused() {
    check(&[
        ("9112 2.2", "bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", BAD),
        ("9112 2.2", "bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", BAD),
        ("9112 2.2", "bare LFs alone", b"GET / HTTP/1.1\nHost: a\n\n", BAD),
        ("9112 2.2", "bare LF before the request line", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n", BAD),
        ("9112 2.2", "bare CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BAD),
        ("9112 2.2", "space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "one CRLF before the request line", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 2.2", "two CRLFs before the request line", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Either(&[400])),
        ("9110 5.5", "NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", BAD),
        ("9110 5.1", "NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: 1\r\n\r\n", BAD),
        ("9112 3.2", "NUL in the target", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9110 5.5", "control byte in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", BAD),
        ("9110 5.5", "DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", BAD),
        ("9112 5.2", "obs-fold with a space", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", BAD),
        ("9112 5.2", "obs-fold with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n", BAD),
        (
            "9112 5.2",
            "obs-fold of Transfer-Encoding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        ("9110 5.5", "tab within a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\t2\r\n\r\n", Forwarded),
        ("9110 5.5", "obs-text in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\xff\r\n\r\n", Forwarded),
        ("9110 5.5", "empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", Forwarded),
    ]);
}

#[test]
fn malformed_request_lines_are_refused() {
    const VERSION: Is = Refused(&[400, 505]);
    check(&[
        ("9112 3", "no version", b"GET /\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "two spaces before the version", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "tabs for spaces", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "a fourth word", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "nothing but a method", b"GET\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.3", "lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", VERSION),
        ("9112 2.3", "HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", VERSION),
        ("9112 2.3", "HTTP/0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", VERSION),
        ("9112 2.3", "HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", VERSION),
        ("9112 2.3", "HTTP/1", b"GET / HTTP/1\r\nHost: a\r\n\r\n", VERSION),
        ("9112 2.3", "another protocol", b"GET / HTCPCP/1.1\r\nHost: a\r\n\r\n", VERSION),
        ("9113 3.4", "the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION),
        ("9110 9.1", "a method that is no token", b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9110 9.1", "a method with a colon", b"GE:T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9110 9.1", "an unknown method", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9110 9.1", "methods are case-sensitive", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 3.2", "a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.3", "authority-form for GET", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.4", "asterisk-form for GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.4", "asterisk-form for OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 3.2", "a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2", "a fragment in the target", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2", "DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.2", "absolute-form", b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 3.2.2", "absolute-form without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 3.2.2", "absolute-form without a host", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9110 4.2.4", "absolute-form with userinfo", b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.2", "absolute-form with a bad port", b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2.2", "absolute-form needs Host as well", b"GET http://a/ HTTP/1.1\r\n\r\n", BAD),
        ("9110 9.3.6", "CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refused(&[501])),
        ("9110 9.3.8", "TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(&[405])),
        (
            "9110 10.1.1",
            "an unknown expectation",
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n",
            Refused(&[417]),
        ),
    ]);
}

#[test]
fn missing_repeated_or_malformed_hosts_are_refused() {
    check(&[
        ("9112 3.2", "no Host", b"GET / HTTP/1.1\r\n\r\n", BAD),
        ("9112 3.2", "no Host on HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", Forwarded),
        ("9112 3.2", "two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD),
        ("9112 3.2", "two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BAD),
        ("9112 3.2", "two Hosts on HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", BAD),
        ("9112 3.2", "a list of hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BAD),
        ("9110 7.2", "port that is no number", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", BAD),
        ("9110 7.2", "port above 65535", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", BAD),
        ("9110 7.2", "negative port", b"GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", BAD),
        ("9110 7.2", "two ports", b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", BAD),
        ("9110 7.2", "userinfo", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BAD),
        ("9110 7.2", "userinfo with a password", b"GET / HTTP/1.1\r\nHost: u:p@a\r\n\r\n", BAD),
        ("9110 7.2", "open bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BAD),
        ("9110 7.2", "text after a bracket", b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", BAD),
        ("9110 7.2", "bracket without an address", b"GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n", BAD),
        ("9110 7.2", "empty bracket", b"GET / HTTP/1.1\r\nHost: []\r\n\r\n", BAD),
        ("9110 7.2", "IPv6 without brackets", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", BAD),
        ("9110 7.2", "a space within", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BAD),
        ("9110 7.2", "a tab within", b"GET / HTTP/1.1\r\nHost: a\tb\r\n\r\n", BAD),
        ("9110 7.2", "a slash", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD),
        ("9110 7.2", "a question mark", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", BAD),
        ("9110 7.2", "a hash", b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", BAD),
        ("9110 7.2", "a backslash", b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", BAD),
        ("9110 7.2", "a port alone", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", BAD),
        ("9110 7.2", "a scheme", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", BAD),
        ("9112 5.1", "space before Host's colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD),
        ("9110 7.2", "IPv6 with a port", b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", Forwarded),
        ("9110 7.2", "IPv4 with a port", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", Forwarded),
        ("9110 7.2", "white space around it", b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", Forwarded),
        ("9110 7.2", "no white space before it", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", Forwarded),
    ]);
}

#[test]
fn malformed_fields_are_refused() {
    check(&[
        ("9112 5.1", "space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", BAD),
        ("9112 5.1", "tab before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\t: 1\r\n\r\n", BAD),
        ("9110 5.1", "empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", BAD),
        ("9110 5.1", "a name that is no token", b"GET / HTTP/1.1\r\nHost: a\r\nX(y): 1\r\n\r\n", BAD),
        ("9110 5.1", "a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX y: 1\r\n\r\n", BAD),
        ("9110 5.1", "a high byte in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n", BAD),
        ("9112 5", "a line without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", BAD),
        ("9110 7.6.1", "Connection names Host", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", BAD),
        ("9110 7.6.1", "Connection names Host among others", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, hOST\r\n\r\n", BAD),
        ("9110 7.6.1", "Connection names Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nhi", BAD),
        ("9110 7.6.1", "Connection names Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        ("9110 7.6.1", "the second Connection names a framing field", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi", BAD),
    ]);
}

#[test]
fn ambiguous_lengths_and_codings_are_refused() {
    check(&[
        (
            "9112 6.1",
            "length and coding",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "coding and length",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "coding and length 0",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.3",
            "two differing lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
            BAD,
        ),
        (
            "9112 6.3",
            "a list of differing lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 3\r\n\r\nhi!",
            BAD,
        ),
        (
            "9112 6.3",
            "two equal lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            Either(&[400]),
        ),
        (
            "9112 6.3",
            "a list of equal lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nhi",
            Either(&[400]),
        ),
        ("9110 8.6", "a length with a plus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nhi", BAD),
        ("9110 8.6", "a negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\nhi", BAD),
        ("9110 8.6", "a hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\nhi", BAD),
        ("9110 8.6", "an empty length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", BAD),
        (
            "9110 8.6",
            "a length with a space within",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\nhi",
            BAD,
        ),
        ("9110 8.6", "a length with a comma after", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2,\r\n\r\nhi", BAD),
        ("9110 8.6", "a length with a fraction", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2.0\r\n\r\nhi", BAD),
        (
            "9110 8.6",
            "a length beyond 64 bits",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551618\r\n\r\nhi",
            Refused(&[400, 413]),
        ),
        ("9110 8.6", "a length of letters", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: two\r\n\r\nhi", BAD),
        ("9110 8.6", "a length in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"2\"\r\n\r\nhi", BAD),
        (
            "9110 8.6",
            "a length with a vertical tab",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b2\r\n\r\nhi",
            BAD,
        ),
        (
            "9112 5.1",
            "a space before the length's colon",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\nhi",
            BAD,
        ),
        (
            "9112 5.1",
            "a space before the coding's colon",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "a coding on HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.3",
            "identity",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            Refused(&[400, 501]),
        ),
        ("9112 6.3", "gzip as the final coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", BAD),
        (
            "9112 6.3",
            "gzip after chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "gzip before chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Refused(&[501]),
        ),
        (
            "9112 6.1",
            "gzip and chunked in two fields",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(&[501]),
        ),
        (
            "9112 6.1",
            "an unknown coding before chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: tea, chunked\r\n\r\n0\r\n\r\n",
            Refused(&[501]),
        ),
        (
            "9112 6.1",
            "chunked twice",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "chunked in two fields",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "chunked and identity in two fields",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.3",
            "a prefix before chunked",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            Refused(&[400, 501]),
        ),
        (
            "9112 7",
            "chunked with a parameter",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
            Refused(&[400, 501]),
        ),
        (
            "9112 7",
            "chunked in quotes",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            Refused(&[400, 501]),
        ),
        (
            "9112 7",
            "chunked after a vertical tab",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        ("9112 6.1", "an empty coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", BAD),
        (
            "9112 7",
            "codings are case-insensitive",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
            Forwarded,
        ),
        (
            "9110 5.6.1",
            "an empty list element",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
            Either(&[400]),
        ),
        ("9112 6.3", "a GET with a body", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", Forwarded),
        ("9110 8.6", "leading zeros", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi", Forwarded),
    ]);
}

#[test]
fn malformed_chunks_are_refused() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(64 * 1024));
    let long_trailers = format!("0\r\n{}\r\n", format!("X: {}\r\n", "v".repeat(1000)).repeat(100));
    let cases: &[(&str, &str, &str, Is)] = &[
        ("9112 7.1", "a size that is no number", "g\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "an empty size", "\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a size with a plus", "+5\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a negative size", "-5\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a space before the size", " 5\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "a space after the size", "5 \r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "an underscore in the size", "0_5\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "bare LF after the size", "5\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "bare CR after the size", "5\rhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "bare LF after the data", "5\r\nhello\n0\r\n\r\n", BAD),
        ("9112 7.1", "no line end after the data", "5\r\nhello0\r\n\r\n", BAD),
        ("9112 7.1", "more data than announced", "5\r\nhello!\r\n0\r\n\r\n", BAD),
        ("9112 7.1", "bare LF after the last chunk", "5\r\nhello\r\n0\n\r\n", BAD),
        ("9112 7.1.1", "bare LF in an extension", "5;a=b\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1.1", "bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1.1", "NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n", BAD),
        ("9112 7.1.1", "an extension without end", &long_extension, Refused(&[400, 413, 431])),
        ("9112 7.1.2", "a trailer without a colon", "5\r\nhello\r\n0\r\nnothing\r\n\r\n", BAD),
        ("9112 7.1.2", "a folded trailer", "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", BAD),
        ("9112 7.1.2", "bare LF in trailers", "5\r\nhello\r\n0\r\nX: 1\n\r\n", BAD),
        ("9112 7.1.2", "a space in a trailer's name", "5\r\nhello\r\n0\r\nX y: 1\r\n\r\n", BAD),
        ("9112 7.1.2", "trailers without end", &long_trailers, Refused(&[400, 413, 431])),
        ("9112 7.1", "hexadecimal in both cases", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", Forwarded),
        ("9112 7.1", "leading zeros", "0005\r\nhello\r\n000\r\n\r\n", Forwarded),
        ("9112 7.1.1", "an extension", "5;a=b;c=\"d;e\";f\r\nhello\r\n0;last\r\n\r\n", Forwarded),
        ("9112 7.1.2", "a trailer", "5\r\nhello\r\n0\r\nX: 1\r\n\r\n", Forwarded),
    ];
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut wrong = Vec::new();
    for &(section, name, body, is) in cases {
        let bytes: &'static [u8] = format!("{HEAD}{body}").into_bytes().leak();
        wrong.extend(judge(&proxy, &api, &(section, name, bytes, is)).err());
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn dot_segments_are_refused_also_encoded_ones() {
    check(&[
        ("3986 5.2.4", "up", b"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "up at the start", b"GET /../b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "up at the end", b"GET /a/.. HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "stay", b"GET /a/./b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "stay at the end", b"GET /a/. HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 2.3", "both encoded", b"GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 2.3", "one encoded", b"GET /a/.%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 2.3", "stay, encoded", b"GET /%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "up, before a query", b"GET /a/..?x HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 5.2.4", "up, in absolute-form", b"GET http://a/x/../b HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("3986 3.3", "dots within a segment", b"GET /a..b/...c/d. HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("3986 3.4", "dots in a query", b"GET /a?x=/../b HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("3986 3.3", "empty segments", b"GET //a//b HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
    ]);
}

#[test]
fn limits_are_refused_with_a_status_of_their_own() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api])
        .listener("request_head_bytes_max", "\"4KiB\"")
        .listener("request_target_bytes_max", "\"1KiB\"")
        .listener("request_fields_max", 20)
        .listener("request_body_bytes_max", "\"1KiB\"")
        .start();
    let many = |count: usize| "X: 1\r\n".repeat(count);
    let cases = [
        ("a target over its limit", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(1024)), Refused(&[414])),
        ("a target without end", format!("GET /{}", "t".repeat(5000)), Refused(&[414])),
        (
            "a head over its limit",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(4096)),
            Refused(&[431]),
        ),
        ("a head without end", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "v".repeat(8000)), Refused(&[431])),
        ("too many fields", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many(20)), Refused(&[431])),
        (
            "an announced body over its limit",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n".to_owned(),
            Refused(&[413]),
        ),
        (
            "a chunked body over its limit",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n0\r\n\r\n",
                "b".repeat(1025)
            ),
            Refused(&[413]),
        ),
        ("a target at its limit", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(1023)), Forwarded),
        ("as many fields as allowed", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many(19)), Forwarded),
        (
            "a body at its limit",
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "b".repeat(1024)),
            Forwarded,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, text, is) in cases {
        wrong.extend(judge(&proxy, &api, &("limits", name, text.into_bytes().leak(), is)).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn head_that_drips_byte_by_byte_is_taken_like_a_whole_one() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    for byte in
        b"\r\nPOST /drip HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: 1\r\n\r\n"
    {
        client.send([*byte]);
    }
    assert_eq!(client.response().status(), 200);
    assert_eq!(api.last().body.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn default_limits_are_those_of_the_reference() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head = |bytes: usize, fields: usize| {
        let fields = "X-Filler: 1\r\n".repeat(fields.saturating_sub(2));
        let begin = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}X-Long: ");
        let long = "v".repeat(bytes.saturating_sub(begin.len() + 4));
        format!("{begin}{long}\r\n\r\n")
    };
    assert_eq!(proxy.send(head(32 * 1024, 0)).status(), 200);
    assert_eq!(proxy.send(head(32 * 1024 + 1, 0)).status(), 431);
    assert_eq!(proxy.send(head(0, 100)).status(), 200);
    assert_eq!(proxy.send(head(0, 101)).status(), 431);
    assert_eq!(proxy.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(8 * 1024 - 1))).status(), 200);
    assert_eq!(proxy.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(8 * 1024))).status(), 414);
}

#[test]
fn long_head_that_drips_costs_no_more_than_its_length() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let cpu = || proxy.metric("process_cpu_seconds_total", &[]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let before = cpu();
    for _ in 0..20_000 {
        client.send("v");
    }
    assert_eq!(client.send("\r\n\r\n").response().status(), 200);
    // 20,000 reads of a byte; looking at all of the head anew with each would be 200 million bytes and more.
    assert!(cpu() - before < 5.0, "{} s", cpu() - before);
}

#[test]
fn client_that_ends_within_its_body_is_refused_and_the_instance_gets_no_whole_request() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    for (framing, part) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
    ] {
        api.forget();
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{part}"));
        client.wire.half_close().unwrap();
        if let Ok(answer) = client.wire.read_response_to("POST") {
            assert_eq!(answer.status(), 400, "{framing}");
        }
        assert!(api.received().iter().all(|request| request.body.is_none()), "{framing}");
    }
}

#[test]
fn refusal_reaches_a_client_that_goes_on_sending() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("request_body_bytes_max", "\"1KiB\"").start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    for _ in 0..20 {
        drop(client.wire.write([b'x'; 5000]));
    }
    assert_eq!(client.response().status(), 413);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let api = Instance::named("a").serving(|exchange| {
        let path = exchange.head.word(1).to_owned();
        exchange.respond(200, "", path.as_bytes())
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    for path in ["/1", "/2", "/3", "/4"] {
        assert_eq!(client.response().text(), path);
    }
}
