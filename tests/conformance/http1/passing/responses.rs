//! Responses, interim ones, and trailers.

use super::*;

#[test]
fn trailers_pass_and_none_that_could_do_harm() {
    check(&[
        (
            "9110 6.5",
            "of a request",
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 42\r\n\r\n",
            "",
            &[Gets("trailer", "X-Sum"), GetsTrailers("X-Sum: 42")],
        ),
        (
            "9110 6.5.1",
            "of a request, that speak of framing, routing or rights",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\
             Transfer-Encoding: x\r\nAuthorization: x\r\nConnection: x\r\nX-Forwarded-For: 1.2.3.4\r\nX: 1\r\n\r\n",
            "",
            &[GetsTrailers("X: 1"), Stays],
        ),
        (
            "9110 6.5",
            "of a response",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n",
            &[Gets("te", "trailers"), Sees("trailer", "X-Sum"), Body("ok"), SeesTrailers("X-Sum: 42"), Stays],
        ),
        (
            "9110 6.5.1",
            "of a response, that speak of framing or state",
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\nX: 1\r\n\r\n",
            &[SeesTrailers("X: 1"), Stays],
        ),
        (
            "9112 7.1",
            "of a response to HTTP/1.0, which has no chunks",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
            &[SeesNo("transfer-encoding"), Body("ok"), Closes],
        ),
        (
            "9110 10.1.4",
            "TE without trailers ends here",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n",
            "",
            &[GetsNo("te")],
        ),
        (
            "9110 10.1.4",
            "of TE only trailers pass",
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, trailers, deflate\r\nConnection: TE, X\r\nX: 1\r\n\r\n",
            "",
            &[Gets("te", "trailers"), Gets("connection", "TE"), GetsNo("x")],
        ),
    ]);
}

#[test]
fn responses_reach_the_client_in_our_own_form() {
    const REDIRECT: &str = "HTTP/1.1 302 Found\r\nLocation: //b/?x#y\r\nContent-Length: 0\r\n\r\n";
    const COOKIES: &str = "HTTP/1.1 200 OK\r\nSet-Cookie: a=1, x\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok";
    const RANGE: &str = "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok";
    const CODED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";
    const CODED_204: &str = "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    const DATED: &str = "HTTP/1.1 200 OK\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 2\r\n\r\nok";
    const CHALLENGE: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x, y\"\r\nContent-Length: 2\r\n\r\nno";
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OLD_KEPT: &str = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    check(&[
        (
            "9112 6.1",
            "chunks stay chunks",
            GET,
            CODED,
            &[Sees("transfer-encoding", "chunked"), SeesNo("content-length"), Body("ok"), Stays],
        ),
        (
            "9112 6.3",
            "an end by close becomes chunks",
            GET,
            "HTTP/1.1 200 OK\r\n\r\nok",
            &[Sees("transfer-encoding", "chunked"), Body("ok"), Stays],
        ),
        (
            "9112 6.3",
            "an end by close of HTTP/1.0 becomes chunks",
            GET,
            "HTTP/1.0 200 OK\r\n\r\nok",
            &[Body("ok"), Stays],
        ),
        ("9112 6.1", "HTTP/1.0 gets no chunks", OLD_KEPT, CODED, &[SeesNo("transfer-encoding"), Body("ok"), Closes]),
        ("9112 6.3", "HTTP/1.0 gets an end by close", OLD_KEPT, "HTTP/1.1 200 OK\r\n\r\nok", &[Body("ok"), Closes]),
        ("9112 9.3", "HTTP/1.0 ends", OLD_GET, OK, &[Body("ok"), Closes]),
        (
            "9112 9.3",
            "HTTP/1.0 goes on where it asks to",
            OLD_KEPT,
            OK,
            &[Sees("connection", "keep-alive"), Body("ok"), Stays],
        ),
        ("9112 9.3", "HTTP/1.1 goes on", GET, OK, &[SeesNo("connection"), Body("ok"), Stays]),
        ("9112 9.3", "the instance's close is not the client's", GET, CLOSE, &[Body("ok"), Stays]),
        (
            "9112 9.6",
            "the client's close is",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            OK,
            &[GetsNo("connection"), Body("ok"), Closes],
        ),
        (
            "9112 9.6",
            "close has no case",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n",
            OK,
            &[Body("ok"), Closes],
        ),
        (
            "9112 9.6",
            "close wins",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
            OK,
            &[Body("ok"), Closes],
        ),
        (
            "9112 9.6",
            "close in a second field",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
            OK,
            &[Body("ok"), Closes],
        ),
        (
            "9112 9.3",
            "an option that only looks like close",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n",
            OK,
            &[Body("ok"), Stays],
        ),
        ("9110 6.6.1", "a date where there is none", GET, OK, &[SeesDate]),
        ("9110 6.6.1", "a date that is there stays", GET, DATED, &[Sees("date", "Tue, 15 Nov 1994 08:12:31 GMT")]),
        ("9110 6.6.1", "a date in our own answers", "GET / HTTP/1.1\r\n\r\n", "", &[Status(400), SeesDate, Closes]),
        ("9110 5.3", "cookies stay in lines of their own", GET, COOKIES, &[Sees("set-cookie", "a=1, x, b=2"), Stays]),
        (
            "9110 15.4.3",
            "a redirect stays as it is",
            GET,
            REDIRECT,
            &[Status(302), Sees("location", "//b/?x#y"), Stays],
        ),
        (
            "9110 15.3.7",
            "a part stays a part",
            "GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
            RANGE,
            &[Gets("range", "bytes=0-1"), Status(206), Sees("content-range", "bytes 0-1/9")],
        ),
        (
            "9110 11.6.1",
            "a challenge stays",
            GET,
            CHALLENGE,
            &[Status(401), Sees("www-authenticate", "Basic realm=\"x, y\"")],
        ),
        (
            "9110 9.3.2",
            "HEAD keeps the length",
            HEAD,
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            &[Sees("content-length", "1234"), Body(""), Stays],
        ),
        (
            "9110 9.3.2",
            "an answer of our own to HEAD has no body",
            "HEAD /.. HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[Status(400), Closes],
        ),
        (
            "9110 15.4.5",
            "304 keeps the length",
            GET,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n",
            &[Sees("content-length", "1234"), Sees("etag", "x"), Stays],
        ),
        (
            "9110 8.6",
            "204 has no length",
            GET,
            "HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n",
            &[SeesNo("content-length"), Stays],
        ),
        ("9112 6.1", "204 has no coding", GET, CODED_204, &[SeesNo("transfer-encoding"), Stays]),
        (
            "9112 5.1",
            "white space before a colon goes",
            GET,
            "HTTP/1.1 200 OK\r\nX \t: 1\r\nContent-Length: 2\r\n\r\nok",
            &[Sees("x", "1"), Body("ok"), Stays],
        ),
        (
            "9112 5.1",
            "white space before the length's colon goes",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
            &[Sees("content-length", "2"), Body("ok"), Stays],
        ),
    ]);
}

#[test]
fn interim_answers_pass_to_those_who_know_them() {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
                         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const UNKNOWN: &str = "HTTP/1.1 199 Later\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const EXPECTS: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    check(&[
        ("9110 15.2", "100 that nobody waits for", GET, CONTINUE, &[Interims(&["100"]), Body("ok"), Stays]),
        ("9110 15.2", "hints, each of them", GET, HINTS, &[Interims(&["103", "103"]), Body("ok"), Stays]),
        ("9110 15.2", "one that nobody knows", GET, UNKNOWN, &[Interims(&["199"]), Body("ok"), Stays]),
        ("9110 15.2", "none to HTTP/1.0", OLD_GET, HINTS, &[Interims(&[]), Body("ok"), Closes]),
        (
            "9110 15.2",
            "to HEAD",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            HINTS,
            &[Interims(&["103", "103"]), Status(200)],
        ),
        (
            "9110 10.1.1",
            "the expectation passes",
            EXPECTS,
            OK,
            &[Gets("expect", "100-continue"), Interims(&["100"]), GetsBody("hi"), Stays],
        ),
        (
            "9110 10.1.1",
            "an expectation of HTTP/1.0 is ignored",
            "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
            OK,
            &[GetsNo("expect"), Interims(&[]), GetsBody("hi"), Body("ok")],
        ),
    ]);
}

#[test]
fn switches_to_what_was_offered_alone() {
    const ASKS: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, tea\r\n\r\n";
    let switch: &[(&str, &str, &str, u16)] = &[
        ("the offer", ASKS, "Connection: Upgrade\r\nUpgrade: websocket\r\n", 101),
        ("the other offer, in capitals", ASKS, "Connection: Upgrade\r\nUpgrade: TEA\r\n", 101),
        ("something else", ASKS, "Connection: Upgrade\r\nUpgrade: coffee\r\n", 502),
        ("an offer and something else", ASKS, "Connection: Upgrade\r\nUpgrade: websocket, coffee\r\n", 502),
        ("nothing", ASKS, "Connection: Upgrade\r\n", 502),
        ("an empty name", ASKS, "Connection: Upgrade\r\nUpgrade:\r\n", 502),
        ("what nobody asked for", GET, "Connection: Upgrade\r\nUpgrade: websocket\r\n", 502),
        (
            "what HTTP/1.0 asked for",
            "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            502,
        ),
        (
            "what Connection did not name",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            502,
        ),
    ];
    let text = |fields: &str| -> &'static str { format!("HTTP/1.1 101 Switch\r\n{fields}\r\n").leak() };
    let status = |status: u16| -> &'static [What] { vec![Status(status)].leak() };
    let cases = switch
        .iter()
        .map(|(name, request, fields, code)| ("9110 15.2.2", *name, *request, text(fields), status(*code)));
    check(&cases.collect::<Vec<_>>());
}
