//! Response heads.

use super::*;

#[test]
fn malformed_status_lines_become_502() {
    const FIELDS: &[u8] = b"\r\nContent-Length: 2\r\n\r\nhi";
    check_within(
        b"",
        FIELDS,
        &[
            ("9112 4", "a status of letters", b"HTTP/1.1 abc OK", BadGateway),
            ("9112 4", "a status with a letter", b"HTTP/1.1 20x OK", BadGateway),
            ("9112 4", "a status of two digits", b"HTTP/1.1 20 OK", BadGateway),
            ("9112 4", "a status of four digits", b"HTTP/1.1 2000 OK", BadGateway),
            ("9112 4", "a status with a sign", b"HTTP/1.1 +20 OK", BadGateway),
            ("9112 4", "a status with a fraction", b"HTTP/1.1 200.1 OK", BadGateway),
            ("9112 4", "no status", b"HTTP/1.1", BadGateway),
            ("9112 4", "no status but a reason", b"HTTP/1.1 OK", BadGateway),
            ("9112 4", "a status that runs into its reason", b"HTTP/1.1 200OK", BadGateway),
            ("9112 4", "two spaces", b"HTTP/1.1  200 OK", BadGateway),
            ("9112 4", "a tab before the status", b"HTTP/1.1\t200 OK", BadGateway),
            ("9112 4", "a tab behind the status", b"HTTP/1.1 200\tOK", BadGateway),
            ("9112 4", "a space before the version", b" HTTP/1.1 200 OK", BadGateway),
            ("9110 15", "status 000", b"HTTP/1.1 000 OK", BadGateway),
            ("9110 15", "status 099", b"HTTP/1.1 099 OK", BadGateway),
            ("9110 15", "status 600", b"HTTP/1.1 600 OK", BadGateway),
            ("9110 15", "status 999", b"HTTP/1.1 999 OK", BadGateway),
            ("9110 15", "an unknown status", b"HTTP/1.1 299 Whatever", Clean(299, "hi")),
            ("9110 15", "the highest status", b"HTTP/1.1 599 Whatever", Clean(599, "hi")),
            ("9112 2.3", "HTTP/2.0", b"HTTP/2.0 200 OK", BadGateway),
            ("9112 2.3", "HTTP/3.0", b"HTTP/3.0 200 OK", BadGateway),
            ("9112 2.3", "HTTP/0.9", b"HTTP/0.9 200 OK", BadGateway),
            ("9112 2.3", "HTTP/1.10", b"HTTP/1.10 200 OK", BadGateway),
            ("9112 2.3", "HTTP/1", b"HTTP/1 200 OK", BadGateway),
            ("9112 2.3", "lower-case version", b"http/1.1 200 OK", BadGateway),
            ("9112 2.3", "another protocol", b"ICY 200 OK", BadGateway),
            ("9112 2.3", "another protocol of that length", b"RTSP/1.0 200 OK", BadGateway),
            ("9110 2.5", "HTTP/1.2 is a higher minor version", b"HTTP/1.2 200 OK", Clean(200, "hi")),
            ("9112 4", "no reason", b"HTTP/1.1 200 ", Clean(200, "hi")),
            ("9112 4", "no reason and no space", b"HTTP/1.1 200", CleanOr502("hi")),
            ("9112 4", "a reason of words", b"HTTP/1.1 200 So be it", Clean(200, "hi")),
            ("9112 4", "a reason with a tab", b"HTTP/1.1 200 So\tbe", Clean(200, "hi")),
            ("9112 4", "a reason of obs-text", b"HTTP/1.1 200 D\xe9j\xe0 vu", Clean(200, "hi")),
            ("9112 4", "a reason that contradicts", b"HTTP/1.1 200 404 Not Found", Clean(200, "hi")),
            ("9112 4", "NUL in the reason", b"HTTP/1.1 200 O\0K", BadGateway),
            ("9112 4", "a control in the reason", b"HTTP/1.1 200 O\x01K", BadGateway),
            ("9112 4", "DEL in the reason", b"HTTP/1.1 200 O\x7fK", BadGateway),
            ("9112 2.2", "bare CR in the reason", b"HTTP/1.1 200 O\rK", BadGateway),
            ("9112 2.2", "bare LF in the reason", b"HTTP/1.1 200 O\nK", BadGateway),
            ("9112 2.2", "an empty line before it", b"\r\nHTTP/1.1 200 OK", CleanOr502("hi")),
            ("9112 4", "a request line", b"GET / HTTP/1.1", BadGateway),
        ],
    );
}

#[test]
fn malformed_response_fields_become_502() {
    check_within(
        b"HTTP/1.1 200 OK\r\n",
        b"\r\nContent-Length: 2\r\n\r\nhi",
        &[
            ("9112 2.2", "one bare LF", b"X: 1\nY: 2", BadGateway),
            ("9112 2.2", "bare CR in a value", b"X: 1\r2", BadGateway),
            ("9112 2.2", "bare CR in a name", b"X\rY: 2", BadGateway),
            ("9110 5.5", "NUL in a value", b"X: 1\x002", BadGateway),
            ("9110 5.1", "NUL in a name", b"X\0Y: 1", BadGateway),
            ("9110 5.5", "a control in a value", b"X: 1\x012", BadGateway),
            ("9110 5.5", "DEL in a value", b"X: 1\x7f2", BadGateway),
            ("9112 5.2", "obs-fold", b"X: 1\r\n 2", CleanOr502("hi")),
            ("9112 5.2", "obs-fold with a tab", b"X: 1\r\n\t2", CleanOr502("hi")),
            ("9112 5.2", "a space before the first field", b" X: 1", CleanOr502("hi")),
            ("9110 5.1", "an empty name", b": 1", BadGateway),
            ("9110 5.1", "a name that is no token", b"X(y): 1", BadGateway),
            ("9110 5.1", "a space within a name", b"X y: 1", BadGateway),
            ("9110 5.1", "a high byte in a name", b"X\xe9: 1", BadGateway),
            ("9112 5", "a line without a colon", b"nothing", BadGateway),
            ("9110 5.5", "an empty value", b"X:", Clean(200, "hi")),
            ("9110 5.5", "obs-text in a value", b"X: \xe9\xff", Clean(200, "hi")),
            ("9110 5.5", "no white space before a value", b"X:1", Clean(200, "hi")),
        ],
    );
}

#[test]
fn what_is_no_response_becomes_502() {
    check(&[
        ("9112 4", "garbage", "GET", b"garbage\r\n\r\n", Then::Close, BadGateway),
        ("9112 4", "binary garbage", "GET", b"\x16\x03\x01\x00\x05hello\r\n\r\n", Then::Close, BadGateway),
        ("9112 4", "a body without a head", "GET", b"<html>hi</html>", Then::Close, BadGateway),
        ("9112 2.2", "bare LFs", "GET", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", Then::KeepAlive, BadGateway),
        ("9112 2.2", "bare CRs", "GET", b"HTTP/1.1 200 OK\rContent-Length: 0\r\r", Then::Close, BadGateway),
        ("9112 8", "an end within the status line", "GET", b"HTTP/1.1 20", Then::Close, BadGateway),
        ("9112 8", "an end within the head", "GET", b"HTTP/1.1 200 OK\r\nContent-Le", Then::Close, BadGateway),
        ("9112 8", "an end before the empty line", "GET", b"HTTP/1.1 200 OK\r\nX: 1\r\n", Then::Close, BadGateway),
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
            "9110 15.2",
            "a 1xx with a framing that nobody understands",
            "GET",
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Then::Close,
            CleanOr502("hi"),
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
            "9110 15.2.2",
            "a 101 without a protocol",
            "GET",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\nmore",
            Then::KeepAlive,
            BadGateway,
        ),
    ]);
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
