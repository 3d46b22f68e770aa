//! Heads that are malformed (RFC 9113 sections 8.1.1 to 8.3), and those that only look so.

use super::*;

/// A GET with these fields alone.
fn only(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, END, 1, block(fields))
}

/// A GET with another value of one field.
fn instead(name: &str, value: &str) -> Vec<u8> {
    let fields = FIELDS.iter().map(|(n, v)| if *n == name { (*n, value) } else { (*n, *v) });
    only(&fields.collect::<Vec<_>>())
}

#[test]
fn names_and_values_are_those_of_http() {
    let name = |name: &str| get(&[(name, "1")]);
    let value = |value: &str| get(&[("x", value)]);
    check(vec![
        ("9113 8.2.1", "one upper-case letter", name("x-Y"), Malformed),
        ("9113 8.2.1", "an empty name", name(""), Malformed),
        ("9113 8.2.1", "a space in a name", name("x y"), Malformed),
        ("9113 8.2.1", "a space behind a name", name("x "), Malformed),
        ("9113 8.2.1", "a colon in a name", name("x:y"), Malformed),
        ("9113 8.2.1", "a colon behind a name", name("x:"), Malformed),
        ("9113 8.2.1", "a NUL in a name", name("x\0y"), Malformed),
        ("9113 8.2.1", "a line end in a name", name("x\r\ny"), Malformed),
        ("9113 8.2.1", "a field in a name", name("x: 1\r\ny"), Malformed),
        ("9113 8.2.1", "a tab in a name", name("x\ty"), Malformed),
        ("9113 8.2.1", "DEL in a name", name("x\x7f"), Malformed),
        ("9113 8.2.1", "a byte above ASCII in a name", name("x\u{e9}"), Malformed),
        ("9110 5.1", "a delimiter in a name", name("x(y)"), Malformed),
        ("9110 5.6.2", "all that a token may hold", name("!#$%&'*+-.^_`|~9"), Status(200)),
        ("9113 8.2.1", "a NUL in a value", value("1\x002"), Malformed),
        ("9113 8.2.1", "a CR in a value", value("1\r2"), Malformed),
        ("9113 8.2.1", "a LF in a value", value("1\n2"), Malformed),
        ("9113 8.2.1", "a field in a value", value("1\r\ny: 2"), Malformed),
        ("9113 8.2.1", "a request in a value", value("1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"), Malformed),
        ("9113 8.2.1", "a space before a value", value(" 1"), Malformed),
        ("9113 8.2.1", "a space behind a value", value("1 "), Malformed),
        ("9113 8.2.1", "a tab before a value", value("\t1"), Malformed),
        ("9113 8.2.1", "a tab behind a value", value("1\t"), Malformed),
        ("9113 8.2.1", "a value of a space", value(" "), Malformed),
        ("9110 5.5", "a control in a value", value("1\x012"), Malformed),
        ("9110 5.5", "DEL in a value", value("1\x7f2"), Malformed),
        ("9110 5.5", "an empty value", value(""), Status(200)),
        ("9110 5.5", "white space within a value", value("1 \t2"), Status(200)),
        ("9110 5.5", "obs-text in a value", value("\u{e9}"), Status(200)),
        ("9113 8.2", "a field twice", get(&[("x", "1"), ("x", "2")]), Status(200)),
        ("9113 8.2.3", "several cookies", get(&[("cookie", "a=1"), ("cookie", "b=2")]), Status(200)),
    ]);
}

#[test]
fn fields_of_one_connection_make_a_request_malformed() {
    check(vec![
        ("9113 8.2.2", "connection: close", get(&[("connection", "close")]), Malformed),
        ("9113 8.2.2", "connection that names a field", get(&[("connection", "x"), ("x", "1")]), Malformed),
        ("9113 8.2.2", "keep-alive", get(&[("keep-alive", "timeout=5")]), Malformed),
        ("9113 8.2.2", "proxy-connection", get(&[("proxy-connection", "keep-alive")]), Malformed),
        ("9113 8.2.2", "transfer-encoding: chunked", get(&[("transfer-encoding", "chunked")]), Malformed),
        ("9113 8.2.2", "transfer-encoding: identity", get(&[("transfer-encoding", "identity")]), Malformed),
        ("9113 8.2.2", "an empty transfer-encoding", get(&[("transfer-encoding", "")]), Malformed),
        ("9113 8.2.2", "upgrade", get(&[("upgrade", "websocket")]), Malformed),
        ("9113 8.2.2", "te: gzip", get(&[("te", "gzip")]), Malformed),
        ("9113 8.2.2", "te: trailers", get(&[("te", "trailers")]), Status(200)),
        (
            "9113 8.2.2",
            "transfer-encoding in a POST with chunks",
            all(&[&post(&[("transfer-encoding", "chunked")]), &data(1, "0\r\n\r\n")]),
            Malformed,
        ),
        (
            "9113 8.2.2",
            "transfer-encoding in trailers",
            all(&[&post(&[]), &data(0, "x"), &only(&[("transfer-encoding", "chunked")])]),
            Malformed,
        ),
        (
            "9113 8.2.2",
            "connection in trailers",
            all(&[&post(&[]), &data(0, "x"), &only(&[("connection", "close")])]),
            Malformed,
        ),
    ]);
}

#[test]
fn pseudo_headers_are_there_once_and_first() {
    check(vec![
        ("9113 8.3.1", "an empty method", instead(":method", ""), Malformed),
        ("9113 8.3.1", "a space in the method", instead(":method", "GE T"), Malformed),
        (
            "9113 8.3.1",
            "a request line in the method",
            instead(":method", "GET / HTTP/1.1\r\nhost: b\r\n\r\nGET"),
            Malformed,
        ),
        ("9113 8.3.1", "a method that is no token", instead(":method", "GE(T"), Malformed),
        ("9110 9.1", "an unknown method", instead(":method", "BREW"), Status(200)),
        ("9113 8.3.1", "an empty scheme", instead(":scheme", ""), Malformed),
        ("9113 8.3.1", "an unknown scheme", instead(":scheme", "ftp"), Malformed),
        ("9113 8.3.1", "a URI in the scheme", instead(":scheme", "http://b/?"), Malformed),
        ("9113 8.3.1", "a line end in the scheme", instead(":scheme", "http\r\nx: 1"), Malformed),
        ("9113 8.3.1", "an empty path", instead(":path", ""), Malformed),
        ("9113 8.3.1", "a path without a slash", instead(":path", "a"), Malformed),
        ("9113 8.3.1", "a URI for a path", instead(":path", "http://b/"), Malformed),
        ("9113 8.3.1", "an asterisk for GET", instead(":path", "*"), Malformed),
        ("9113 8.3.1", "a space in the path", instead(":path", "/a b"), Malformed),
        ("9113 8.3.1", "a version in the path", instead(":path", "/ HTTP/1.1"), Malformed),
        (
            "9113 8.3.1",
            "a request line in the path",
            instead(":path", "/ HTTP/1.1\r\nhost: b\r\n\r\nGET /smuggled"),
            Malformed,
        ),
        ("9113 8.3.1", "a NUL in the path", instead(":path", "/\0"), Malformed),
        ("9113 8.3.1", "a tab in the path", instead(":path", "/a\tb"), Malformed),
        // The `h2` crate takes it off.
        ("9113 8.3.1", "a fragment in the path", instead(":path", "/a#b"), Anything),
        ("9113 8.3.1", "a backslash in the path", instead(":path", "/a\\b"), Malformed),
        ("9113 8.3.1", "dot segments", instead(":path", "/a/../b"), Malformed),
        ("9113 8.3.1", "an escape that is none", instead(":path", "/%zz"), Malformed),
        ("3986 2", "bytes above ASCII in the path", instead(":path", "/\u{e9}"), Malformed),
        ("9113 8.3.1", "an empty authority", instead(":authority", ""), Malformed),
        ("9113 8.3.1", "userinfo in the authority", instead(":authority", "u@a"), Malformed),
        ("9110 7.2", "a space in the authority", instead(":authority", "a b"), Malformed),
        ("9110 7.2", "a path in the authority", instead(":authority", "a/b"), Malformed),
        ("9110 7.2", "a bad port in the authority", instead(":authority", "a:b"), Malformed),
        ("9110 7.2", "two ports in the authority", instead(":authority", "a:1:2"), Malformed),
        ("9110 7.2", "an open bracket in the authority", instead(":authority", "[::1"), Malformed),
        ("9113 8.3.1", "a line end in the authority", instead(":authority", "a\r\nx: 1"), Malformed),
        ("9113 8.3.1", "two authorities", get(&[(":authority", "a.test")]), Malformed),
        ("9113 8.3.1", "two authorities that differ", get(&[(":authority", "b.test")]), Malformed),
        ("9113 8.3.1", "a host that differs", get(&[("host", "b.test")]), Malformed),
        ("9113 8.3.1", "a host that agrees", get(&[("host", "a.test")]), Status(200)),
        ("9112 3.2", "two hosts", get(&[("host", "a.test"), ("host", "a.test")]), Malformed),
        ("9113 8.3.1", "neither authority nor host", only(&FIELDS[..3]), Malformed),
        ("9113 8.3.1", "a host alone", only(&[FIELDS[0], FIELDS[1], FIELDS[2], ("host", "a.test")]), Status(200)),
        ("9113 8.3.1", "a malformed host alone", only(&[FIELDS[0], FIELDS[1], FIELDS[2], ("host", "a b")]), Malformed),
        ("9113 8.3", "a pseudo-header with another name", get(&[(":x", "1")]), Malformed),
        ("9113 8.3", "a pseudo-header of nothing", get(&[(":", "1")]), Malformed),
        (
            "9113 8.3",
            "a pseudo-header in capitals",
            only(&[(":METHOD", "GET"), FIELDS[1], FIELDS[2], FIELDS[3]]),
            Malformed,
        ),
        (
            "9113 8.3",
            "a path behind a field",
            only(&[FIELDS[0], FIELDS[1], ("x", "1"), FIELDS[2], FIELDS[3]]),
            Malformed,
        ),
        (
            "9113 8.3",
            "pseudo-headers in another order",
            only(&[FIELDS[3], FIELDS[2], FIELDS[1], FIELDS[0]]),
            Status(200),
        ),
        ("8441 4", "a protocol without CONNECT", get(&[(":protocol", "websocket")]), Malformed),
        (
            "9220 3",
            "a protocol that nobody knows",
            only(&[(":method", "CONNECT"), (":protocol", "tea"), FIELDS[1], FIELDS[2], FIELDS[3]]),
            Status(501),
        ),
        (
            "9113 8.5",
            "CONNECT with a path",
            only(&[(":method", "CONNECT"), FIELDS[1], FIELDS[2], FIELDS[3]]),
            Malformed,
        ),
        ("9113 8.3.1", "the scheme of the other listener", instead(":scheme", "https"), Anything),
    ]);
    // A tunnel is not what a reverse proxy is for.
    check_status("CONNECT", &only(&[(":method", "CONNECT"), (":authority", "a:443")]), &[400, 405, 501]);
    check_status("CONNECT without an authority", &only(&[(":method", "CONNECT")]), &[400, 405, 501]);
    check_status("TRACE", &instead(":method", "TRACE"), &[405, 501]);
    check_status("an unknown expectation", &get(&[("expect", "tea")]), &[417]);
    check_status("a path over its limit", &instead(":path", &format!("/{}", "t".repeat(9000))), &[414, 431]);
    check_status("fields over their limit", &many_fields(), &[431]);
}

/// More fields than a request may have.
fn many_fields() -> Vec<u8> {
    let fields: Vec<_> = FIELDS.iter().copied().chain((0..150).map(|_| ("x", "1"))).collect();
    only(&fields)
}

/// Asserts that the answer has one of these statuses, or that its stream is reset.
#[track_caller]
fn check_status(name: &str, bytes: &[u8], statuses: &[u16]) {
    let api = Instance::named("a");
    let proxy = proxy(&api);
    let mut frames = connect(&proxy);
    send(&mut frames, bytes);
    let wanted = |frame: &Frame| frame.stream == 1 && matches!(frame.kind, kind::HEADERS | kind::RST_STREAM);
    let answer = find(&mut frames, wanted).unwrap().unwrap_or_else(|| panic!("{name}: the connection ended"));
    let status = answer.status();
    assert!(answer.kind == kind::RST_STREAM || statuses.contains(&status), "{name}: {status}");
    assert_eq!(api.count(), 0, "{name}");
}

#[test]
fn lengths_agree_with_data() {
    let trailers = only(&[("x-sum", "1")]);
    let length = |value: &str| all(&[&post(&[("content-length", value)]), &data(1, "hi")]);
    check(vec![
        ("9113 8.1.1", "a length that agrees", length("2"), Status(200)),
        (
            "9113 8.1.1",
            "a length that agrees with two DATA",
            all(&[&post(&[("content-length", "4")]), &data(0, "hi"), &data(1, "ho")]),
            Status(200),
        ),
        (
            "9113 8.1.1",
            "a length that agrees, with trailers",
            all(&[&post(&[("content-length", "2")]), &data(0, "hi"), &trailers]),
            Status(200),
        ),
        (
            "9113 8.1.1",
            "padding does not count",
            all(&[&post(&[("content-length", "2")]), &data(1 | flag::PADDED, "\x02hi\0\0")]),
            Status(200),
        ),
        ("9113 8.1.1", "more than announced", length("1"), Malformed),
        ("9113 8.1.1", "less than announced", length("3"), Malformed),
        (
            "9113 8.1.1",
            "less than announced, with trailers",
            all(&[&post(&[("content-length", "3")]), &data(0, "hi"), &trailers]),
            Malformed,
        ),
        ("9113 8.1.1", "nothing where something was announced", get(&[("content-length", "2")]), Malformed),
        ("9113 8.1.1", "nothing where nothing was announced", get(&[("content-length", "0")]), Status(200)),
        // The head alone says that nothing follows, so it may have gone on by then.
        (
            "9113 8.1.1",
            "something where nothing was announced",
            all(&[&post(&[("content-length", "0")]), &data(1, "x")]),
            Anything,
        ),
        ("9110 8.6", "a length with a plus", length("+2"), Malformed),
        ("9110 8.6", "a negative length", length("-2"), Malformed),
        ("9110 8.6", "a hexadecimal length", length("0x2"), Malformed),
        ("9110 8.6", "a length of letters", length("two"), Malformed),
        ("9110 8.6", "an empty length", length(""), Malformed),
        ("9110 8.6", "a length beyond 64 bits", length("18446744073709551618"), Malformed),
        ("9110 8.6", "a list of differing lengths", length("2, 3"), Malformed),
        (
            "9110 8.6",
            "two differing lengths",
            all(&[&post(&[("content-length", "2"), ("content-length", "3")]), &data(1, "hi")]),
            Malformed,
        ),
        (
            "9110 8.6",
            "two equal lengths",
            all(&[&post(&[("content-length", "2"), ("content-length", "2")]), &data(1, "hi")]),
            Anything,
        ),
        (
            "9113 8.1",
            "trailers that do not end",
            all(&[&post(&[]), &data(0, "hi"), &frame(kind::HEADERS, 4, 1, block(&[("x", "1")]))]),
            Malformed,
        ),
        (
            "9113 8.1",
            "DATA behind trailers",
            all(&[&post(&[]), &data(0, "hi"), &trailers, &data(1, "x")]),
            Stream(&[STREAM_CLOSED]),
        ),
    ]);
}
