//! Where a response ends.

use super::*;

#[test]
fn ambiguous_response_framing_becomes_502() {
    check_within(
        b"HTTP/1.1 200 OK\r\n",
        b"\r\n\r\nhi",
        &[
            ("9110 8.6", "a length", b"Content-Length: 2", Clean(200, "hi")),
            ("9110 8.6", "leading zeros", b"Content-Length: 0002", Clean(200, "hi")),
            ("9112 6.3", "two differing lengths", b"Content-Length: 2\r\nContent-Length: 3", BadGateway),
            (
                "9112 6.3",
                "two differing lengths, the longer first",
                b"Content-Length: 3\r\nContent-Length: 2",
                BadGateway,
            ),
            ("9112 6.3", "a list of differing lengths", b"Content-Length: 2, 3", BadGateway),
            ("9112 6.3", "two equal lengths", b"Content-Length: 2\r\nContent-Length: 2", CleanOr502("hi")),
            ("9112 6.3", "a list of equal lengths", b"Content-Length: 2, 2", CleanOr502("hi")),
            (
                "9112 6.3",
                "two lengths of which one is malformed",
                b"Content-Length: 2\r\nContent-Length: x",
                BadGateway,
            ),
            ("9110 8.6", "a negative length", b"Content-Length: -2", BadGateway),
            ("9110 8.6", "a length with a plus", b"Content-Length: +2", BadGateway),
            ("9110 8.6", "a hexadecimal length", b"Content-Length: 0x2", BadGateway),
            ("9110 8.6", "a length with a fraction", b"Content-Length: 2.0", BadGateway),
            ("9110 8.6", "a length with a space within", b"Content-Length: 0 2", BadGateway),
            ("9110 8.6", "a length with a comma after", b"Content-Length: 2,", BadGateway),
            ("9110 8.6", "a length with a vertical tab", b"Content-Length: \x0b2", BadGateway),
            ("9110 8.6", "a length in quotes", b"Content-Length: \"2\"", BadGateway),
            ("9110 8.6", "a length of letters", b"Content-Length: two", BadGateway),
            ("9110 8.6", "an empty length", b"Content-Length:", BadGateway),
            ("9110 8.6", "a length beyond 64 bits", b"Content-Length: 99999999999999999999", BadGateway),
            ("9110 8.6", "2^64 + 2", b"Content-Length: 18446744073709551618", BadGateway),
            (
                "9110 7.6.1",
                "Connection names Content-Length",
                b"Connection: content-length\r\nContent-Length: 2",
                CleanOr502("hi"),
            ),
        ],
    );
    check_within(
        b"HTTP/1.1 200 OK\r\n",
        b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        &[
            ("9112 7.1", "chunked", b"Transfer-Encoding: chunked", Clean(200, "hi")),
            ("9112 7", "codings are case-insensitive", b"Transfer-Encoding: CHUNKED", Clean(200, "hi")),
            ("9110 5.5", "white space around chunked", b"Transfer-Encoding: \tchunked \t", Clean(200, "hi")),
            ("9110 5.6.1", "an empty list element", b"Transfer-Encoding: , chunked", CleanOr502("hi")),
            // An intermediary that forwards it must remove the length (section 6.3).
            ("9112 6.3", "length and coding", b"Content-Length: 2\r\nTransfer-Encoding: chunked", CleanOr502("hi")),
            ("9112 6.3", "coding and length", b"Transfer-Encoding: chunked\r\nContent-Length: 2", CleanOr502("hi")),
            ("9112 6.1", "chunked twice", b"Transfer-Encoding: chunked, chunked", BadGateway),
            (
                "9112 6.1",
                "chunked in two fields",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                BadGateway,
            ),
            ("9112 6.1", "an unknown coding", b"Transfer-Encoding: tea, chunked", BadGateway),
            ("9112 6.1", "a coding that we did not offer", b"Transfer-Encoding: gzip, chunked", BadGateway),
            ("9112 6.3", "a prefix before chunked", b"Transfer-Encoding: xchunked", BadGateway),
            ("9112 6.3", "chunked is not the last", b"Transfer-Encoding: chunked, gzip", BadGateway),
            ("9112 6.1", "an empty coding", b"Transfer-Encoding:", BadGateway),
            ("9112 7", "chunked with a parameter", b"Transfer-Encoding: chunked;a=b", BadGateway),
            ("9112 7", "chunked in quotes", b"Transfer-Encoding: \"chunked\"", BadGateway),
            ("9112 7", "chunked after a vertical tab", b"Transfer-Encoding: \x0bchunked", BadGateway),
            (
                "9110 7.6.1",
                "Connection names Transfer-Encoding",
                b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
                CleanOr502("hi"),
            ),
        ],
    );
    check(&[(
        "9112 6.1",
        "a coding on HTTP/1.0",
        "GET",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Then::Close,
        BadGateway,
    )]);
}

#[test]
fn framing_is_understood_as_the_rfc_says() {
    const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nhello";
    const OLD: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const OLD_KEPT: &[u8] = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";
    const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    const CODED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CODED_EMPTY: &[u8] = b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n";
    const COUNTED: &[u8] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
    const INTERIM: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\
                             Content-Length: 5\r\n\r\nhello";
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const INTERIM_COUNTED: &[u8] = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\
                                     Content-Length: 5\r\n\r\nhello";
    check(&[
        ("9112 6.3", "until close", "GET", UNTIL_CLOSE, Then::Close, Clean(200, "hello")),
        (
            "9112 6.3",
            "until close on HTTP/1.0",
            "GET",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            Then::Close,
            Clean(200, "hello"),
        ),
        ("9112 6.3", "an empty body until close", "GET", b"HTTP/1.1 200 OK\r\n\r\n", Then::Close, Clean(200, "")),
        ("9112 6.3", "a length on HTTP/1.0", "GET", OLD, Then::Close, Clean(200, "hello")),
        ("9112 9.3", "HTTP/1.0 that goes on", "GET", OLD_KEPT, Then::KeepAlive, Clean(200, "hello")),
        ("9112 9.3", "HTTP/1.0 that ends without saying", "GET", OLD, Then::KeepAlive, Clean(200, "hello")),
        ("9112 9.6", "close after a length", "GET", CLOSE, Then::Close, Clean(200, "hello")),
        ("9112 9.6", "close that does not come", "GET", CLOSE, Then::KeepAlive, Clean(200, "hello")),
        ("9110 9.3.2", "HEAD with a length", "HEAD", OLD.split_at(OLD.len() - 5).0, Then::Close, Clean(200, "")),
        ("9110 9.3.2", "HEAD with a coding", "HEAD", CODED, Then::KeepAlive, Clean(200, "")),
        ("9110 9.3.2", "HEAD with nothing", "HEAD", b"HTTP/1.1 200 OK\r\n\r\n", Then::KeepAlive, Clean(200, "")),
        (
            "9110 9.3.2",
            "HEAD and an error",
            "HEAD",
            b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n",
            Then::KeepAlive,
            Clean(404, ""),
        ),
        ("9110 15.3.5", "204", "GET", b"HTTP/1.1 204 No Content\r\n\r\n", Then::KeepAlive, Clean(204, "")),
        ("9110 15.3.5", "204 with a coding", "GET", CODED_EMPTY, Then::KeepAlive, Clean(204, "")),
        (
            "9110 15.3.6",
            "205 with an empty body",
            "GET",
            b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
            Then::KeepAlive,
            Clean(205, ""),
        ),
        ("9110 15.4.5", "304 with a length", "GET", COUNTED, Then::KeepAlive, Clean(304, "")),
        (
            "9110 15.4.5",
            "304 with nothing",
            "GET",
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
            Then::KeepAlive,
            Clean(304, ""),
        ),
        ("9110 15.2", "100 before the answer", "GET", CONTINUE, Then::KeepAlive, Clean(200, "hello")),
        ("9110 15.2", "102 and 103 before the answer", "GET", INTERIM, Then::KeepAlive, Clean(200, "hello")),
        ("9110 8.6", "a length in a 1xx", "GET", INTERIM_COUNTED, Then::KeepAlive, Clean(200, "hello")),
    ]);
}
