//! Lines and fields, mostly of requests.

use super::*;

#[test]
fn requests_reach_the_instance_in_our_own_form() {
    check(&[
        (
            "9112 3.2.1",
            "path and query stay as they are",
            "GET /a//b/%7Ec?d=%2F..&e HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET /a//b/%7Ec?d=%2F..&e HTTP/1.1")],
        ),
        (
            "9112 3.2.2",
            "absolute-form overrules Host",
            "GET http://b.test:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET /p?q HTTP/1.1"), Gets("host", "b.test:81")],
        ),
        (
            "9110 4.2.3",
            "absolute-form without a path",
            "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET / HTTP/1.1")],
        ),
        (
            "9110 4.2.3",
            "absolute-form with a query alone",
            "GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET /?q HTTP/1.1")],
        ),
        (
            "9112 3.2.4",
            "the server as a whole",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("OPTIONS * HTTP/1.1")],
        ),
        (
            "9112 3.2.4",
            "the server as a whole, in absolute-form",
            "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("OPTIONS * HTTP/1.1")],
        ),
        ("9110 2.5", "our own version, from HTTP/1.0", OLD_GET, "", &[GetsLine("GET / HTTP/1.1"), Status(200), Closes]),
        (
            "9110 2.5",
            "our own version, from HTTP/1.2",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET / HTTP/1.1"), Stays],
        ),
        (
            "9112 3.2",
            "Host stays as it is",
            "GET / HTTP/1.1\r\nhOST: A.Test:8080\r\n\r\n",
            "",
            &[Gets("host", "A.Test:8080")],
        ),
        (
            "9112 2.2",
            "without the empty line before it",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("GET / HTTP/1.1"), Stays],
        ),
        (
            "9110 9.1",
            "a method that we do not know",
            "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[GetsLine("BREW /pot HTTP/1.1")],
        ),
        (
            "9110 5.3",
            "fields of one name stay in order",
            "GET / HTTP/1.1\r\nX: 1\r\nHost: a\r\nx: 2\r\nX: 3, 4\r\n\r\n",
            "",
            &[Gets("x", "1, 2, 3, 4")],
        ),
        (
            "9110 5.5",
            "white space around a value goes",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \t1 2\t \r\n\r\n",
            "",
            &[Gets("x", "1 2")],
        ),
        (
            "9112 6.3",
            "a body by its length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "",
            &[Gets("content-length", "5"), GetsNo("transfer-encoding"), GetsBody("hello"), Stays],
        ),
        (
            "9112 6.3",
            "a body of nothing",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "",
            &[Gets("content-length", "0"), GetsBody(""), Stays],
        ),
        (
            "9112 6.3",
            "a body of a GET",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "",
            &[GetsBody("hello"), Stays],
        ),
        ("9112 6.3", "no body", GET, "", &[GetsNo("content-length"), GetsNo("transfer-encoding"), GetsBody(""), Stays]),
        (
            "9112 7.1",
            "a body in chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "",
            &[GetsNo("content-length"), GetsBody("hello"), Stays],
        ),
        (
            "9112 9.3",
            "what comes behind a body is the next request",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "",
            &[GetsBody("hi"), Stays],
        ),
    ]);
}

#[test]
fn fields_of_one_connection_end_here() {
    const RESPONSE: &str =
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nX-Stays: 2\r\nContent-Length: 2\r\n\r\nok";
    const OLD_FIELDS: &str =
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\nok";
    const TWO_CONNECTIONS: &str = "HTTP/1.1 200 OK\r\nConnection: x-one\r\nX-One: 1\r\nX-Two: 2\r\nConnection: keep-alive , X-TWO\r\nContent-Length: 2\r\n\r\nok";
    check(&[
        (
            "9110 7.6.1",
            "in requests",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Stays: 2\r\n\r\n",
            "",
            &[GetsNo("x-hop"), Gets("x-stays", "2"), GetsNo("connection"), Stays],
        ),
        (
            "9110 7.6.1",
            "in requests, in any case and place",
            "GET / HTTP/1.1\r\nHost: a\r\nX-ONE: 1\r\nConnection: close,x-One ,, X-Two\r\nConnection: X-Three\r\nx-two: 2\r\nx-three: 3\r\nX-One: 4\r\n\r\n",
            "",
            &[GetsNo("x-one"), GetsNo("x-two"), GetsNo("x-three"), GetsNo("connection"), Closes],
        ),
        (
            "9110 7.6.1",
            "in requests, those of old",
            "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: x\r\n\r\n",
            "",
            &[GetsNo("keep-alive"), GetsNo("proxy-connection"), GetsNo("http2-settings")],
        ),
        (
            "9110 11.7.2",
            "what is for a proxy and not for the instance",
            "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\nAuthorization: Basic eQ==\r\n\r\n",
            "",
            &[GetsNo("proxy-authorization"), Gets("authorization", "Basic eQ==")],
        ),
        (
            "9110 7.8",
            "an upgrade that Connection does not name",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "",
            &[GetsNo("upgrade")],
        ),
        (
            "9110 7.8",
            "an upgrade from HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "",
            &[GetsNo("upgrade"), GetsNo("connection"), Status(200)],
        ),
        (
            "9113 3.1",
            "an upgrade to h2c, which nobody may use now",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            "",
            &[GetsNo("upgrade"), GetsNo("http2-settings"), Status(200)],
        ),
        (
            "9110 7.8",
            "an upgrade that passes",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "",
            &[Gets("upgrade", "websocket"), Gets("connection", "upgrade"), Status(200), Stays],
        ),
        (
            "9110 7.6.1",
            "in responses",
            GET,
            RESPONSE,
            &[SeesNo("x-hop"), Sees("x-stays", "2"), SeesNo("connection"), Stays],
        ),
        (
            "9110 7.6.1",
            "in responses, in any case and place",
            GET,
            TWO_CONNECTIONS,
            &[SeesNo("x-one"), SeesNo("x-two"), Stays],
        ),
        (
            "9110 7.6.1",
            "in responses, those of old",
            GET,
            OLD_FIELDS,
            &[SeesNo("keep-alive"), SeesNo("proxy-connection"), Stays],
        ),
        (
            "9110 7.8",
            "an offer to upgrade",
            GET,
            "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2, h2c\r\nContent-Length: 2\r\n\r\nok",
            &[SeesNo("upgrade"), SeesNo("connection"), Stays],
        ),
        (
            "9110 15.5.22",
            "the upgrade that 426 requires stays",
            GET,
            "HTTP/1.1 426 Upgrade\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok",
            &[Sees("upgrade", "websocket"), Sees("connection", "upgrade")],
        ),
    ]);
}

#[test]
fn via_tells_the_version_that_was_received() {
    check(&[
        ("9110 7.6.3", "in requests", GET, "", &[Gets("via", "1.1 plimsoll")]),
        ("9110 7.6.3", "in requests of HTTP/1.0", OLD_GET, "", &[Gets("via", "1.0 plimsoll")]),
        (
            "9110 7.6.3",
            "behind what is there",
            "GET / HTTP/1.1\r\nVia: 1.0 x, 2 y (z)\r\nHost: a\r\n\r\n",
            "",
            &[Gets("via", "1.0 x, 2 y (z), 1.1 plimsoll")],
        ),
        (
            "9110 7.6.3",
            "also where Connection names it",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Via\r\nVia: 1.1 x\r\n\r\n",
            "",
            &[Gets("via", "1.1 x, 1.1 plimsoll")],
        ),
        ("9110 7.6.3", "in responses", GET, "", &[Sees("via", "1.1 plimsoll")]),
        (
            "9110 7.6.3",
            "in responses of HTTP/1.0",
            GET,
            "HTTP/1.0 200 OK\r\nVia: 1.1 x\r\nContent-Length: 2\r\n\r\nok",
            &[Sees("via", "1.1 x, 1.0 plimsoll")],
        ),
    ]);
}

#[test]
fn max_forwards_ends_here_or_is_counted_down() {
    check(&[
        (
            "9110 7.6.2",
            "OPTIONS ends here",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "",
            &[Status(200), Stays],
        ),
        (
            "9110 7.6.2",
            "OPTIONS goes on",
            "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n",
            "",
            &[Gets("max-forwards", "4")],
        ),
        (
            "9110 7.6.2",
            "the last step",
            "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n",
            "",
            &[Gets("max-forwards", "0")],
        ),
        (
            "9110 7.6.2",
            "a number beyond any",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 99999999999999999999\r\n\r\n",
            "",
            &[Gets("max-forwards", "4294967294")],
        ),
        (
            "9110 7.6.2",
            "no number",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n",
            "",
            &[Status(400), Closes],
        ),
        (
            "9110 7.6.2",
            "a negative number",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n",
            "",
            &[Status(400), Closes],
        ),
        (
            "9110 7.6.2",
            "two numbers",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\nMax-Forwards: 2\r\n\r\n",
            "",
            &[Status(400)],
        ),
        (
            "9110 7.6.2",
            "GET has none",
            "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "",
            &[Gets("max-forwards", "0"), Status(200)],
        ),
        (
            "9110 7.6.2",
            "TRACE never reaches an instance",
            "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            "",
            &[Status(405)],
        ),
        (
            "9110 15.5.6",
            "405 says what is allowed",
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
            &[Status(405), Sees("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")],
        ),
    ]);
}
