//! Lines: their ends, the request line, the shape of fields.

use super::*;

#[test]
fn line_ends_and_forbidden_bytes_in_heads_are_refused() {
    check(&[
        ("9112 2.2", "bare LF after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", BAD),
        ("9112 2.2", "bare LF at the end of the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", BAD),
        ("9112 2.2", "bare LFs alone", b"GET / HTTP/1.1\nHost: a\n\n", BAD),
        ("9112 2.2", "bare LF before the request line", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "LF CR for CR LF", b"GET / HTTP/1.1\n\rHost: a\n\r\n\r", BAD),
        ("9112 2.2", "bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n", BAD),
        ("9112 2.2", "bare CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare CR before the request line", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare CR in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: 1\r\n\r\n", BAD),
        ("9112 2.2", "CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BAD),
        ("9112 2.2", "CR CR LF after the request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "bare CRs alone", b"GET / HTTP/1.1\rHost: a\r\r", BAD),
        ("9112 2.2", "space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "a line of spaces before the first field", b"GET / HTTP/1.1\r\n  \r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "a line of spaces before the request line", b" \r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "one CRLF before the request line", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Forwarded),
        ("9112 2.2", "two CRLFs before the request line", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Either(&[400])),
        ("9112 2.1", "a byte order mark", b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.2", "two bytes per character", b"G\x00E\x00T\x00 \x00/\x00\r\x00\n\x00", BAD),
        ("9112 3", "NUL before the method", b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 3", "NUL in the method", b"G\x00E\x00T\x00 \x00/\x00\r\x00\n\x00", BAD),
        ("9112 3.2", "NUL in the target", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
        ("9112 2.3", "NUL behind the version", b"GET / HTTP/1.1\0\r\nHost: a\r\n\r\n", BAD),
        ("9110 5.1", "NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: 1\r\n\r\n", BAD),
        ("9110 5.5", "NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", BAD),
        ("9110 5.5", "NUL at the end of a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n\r\n", BAD),
        ("9112 5.2", "obs-fold with a space", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", BAD),
        ("9112 5.2", "obs-fold with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n", BAD),
        ("9112 5.2", "obs-fold of white space alone", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n \r\n\r\n", BAD),
        ("9112 5.2", "obs-fold of Host", b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", BAD),
        (
            "9112 5.2",
            "obs-fold of Transfer-Encoding",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 5.2",
            "obs-fold of Content-Length",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n 5\r\n\r\nhi",
            BAD,
        ),
    ]);
}

#[test]
fn malformed_request_lines_are_refused() {
    const FIELDS: &[u8] = b"\r\nHost: a\r\n\r\n";
    let long_method = ["M".repeat(9000).as_bytes(), b" / HTTP/1.1"].concat().leak();
    check_within(
        b"",
        FIELDS,
        &[
            ("9112 3", "no version", b"GET /", BAD),
            ("9112 3", "no target", b"GET HTTP/1.1", BAD),
            ("9112 3", "an empty target", b"GET  HTTP/1.1", BAD),
            ("9112 3", "two spaces before the target", b"GET  / HTTP/1.1", BAD),
            ("9112 3", "two spaces before the version", b"GET /  HTTP/1.1", BAD),
            ("9112 3", "space after the version", b"GET / HTTP/1.1 ", BAD),
            ("9112 3", "space before the method", b" GET / HTTP/1.1", BAD),
            ("9112 3", "tabs for spaces", b"GET\t/\tHTTP/1.1", BAD),
            ("9112 3", "a tab before the version", b"GET /\tHTTP/1.1", BAD),
            ("9112 3", "form feeds for spaces", b"GET\x0c/\x0cHTTP/1.1", BAD),
            ("9112 3", "vertical tabs for spaces", b"GET\x0b/\x0bHTTP/1.1", BAD),
            ("9112 3", "a fourth word", b"GET / HTTP/1.1 x", BAD),
            ("9112 3", "a second version", b"GET / HTTP/1.1 HTTP/1.1", BAD),
            ("9112 3", "nothing but a method", b"GET", BAD),
            ("9112 4", "a status line", b"HTTP/1.1 200 OK", BAD),
            ("9110 9.1", "a method that is no token", b"GE(T / HTTP/1.1", BAD),
            ("9110 9.1", "a method with a colon", b"GE:T / HTTP/1.1", BAD),
            ("9110 9.1", "a method with a comma", b"GET, / HTTP/1.1", BAD),
            ("9110 9.1", "a method with a quote", b"\"GET\" / HTTP/1.1", BAD),
            ("9110 9.1", "a method with a slash", b"GET/x / HTTP/1.1", BAD),
            ("9110 9.1", "a method with a high byte", b"G\xc3\x89T / HTTP/1.1", BAD),
            ("9110 9.1", "a method without end", long_method, Either(&[400, 414, 431, 501])),
            ("9110 9.1", "an unknown method", b"BREW / HTTP/1.1", Forwarded),
            ("9110 9.1", "methods are case-sensitive", b"get / HTTP/1.1", Forwarded),
            ("9110 5.6.2", "all that a token may hold", b"!#$%&'*+-.^_`|~9 / HTTP/1.1", Forwarded),
            ("9110 9.3.4", "PUT", b"PUT / HTTP/1.1", Forwarded),
            ("9110 9.3.5", "DELETE", b"DELETE / HTTP/1.1", Forwarded),
            ("9110 9.3.7", "OPTIONS for a path", b"OPTIONS / HTTP/1.1", Forwarded),
            ("9110 9.3.6", "CONNECT", b"CONNECT a:443 HTTP/1.1", Refused(&[501])),
            ("9110 9.3.6", "CONNECT without a port", b"CONNECT a HTTP/1.1", Refused(&[400, 501])),
            ("9110 9.3.6", "CONNECT for a path", b"CONNECT / HTTP/1.1", Refused(&[400, 501])),
            ("9110 9.3.8", "TRACE", b"TRACE / HTTP/1.1", Refused(&[405])),
        ],
    );
}

#[test]
fn versions_are_understood_or_refused() {
    const VERSION: Is = Refused(&[400, 505]);
    check_within(
        b"GET / ",
        b"\r\nHost: a\r\n\r\n",
        &[
            ("9110 2.5", "HTTP/1.2 is a higher minor version", b"HTTP/1.2", Forwarded),
            ("9110 2.5", "HTTP/1.9 is a higher minor version", b"HTTP/1.9", Forwarded),
            ("9112 2.3", "lower-case version", b"http/1.1", VERSION),
            ("9112 2.3", "mixed-case version", b"hTTP/1.1", VERSION),
            ("9110 2.5", "HTTP/2.0", b"HTTP/2.0", VERSION),
            ("9110 2.5", "HTTP/3.0", b"HTTP/3.0", VERSION),
            ("9110 2.5", "HTTP/9.9", b"HTTP/9.9", VERSION),
            ("9110 2.5", "HTTP/0.9", b"HTTP/0.9", VERSION),
            ("9112 2.3", "HTTP/1.10", b"HTTP/1.10", VERSION),
            ("9112 2.3", "HTTP/1.01", b"HTTP/1.01", VERSION),
            ("9112 2.3", "HTTP/01.1", b"HTTP/01.1", VERSION),
            ("9112 2.3", "HTTP/1", b"HTTP/1", VERSION),
            ("9112 2.3", "HTTP/1.", b"HTTP/1.", VERSION),
            ("9112 2.3", "HTTP/.1", b"HTTP/.1", VERSION),
            ("9112 2.3", "HTTP/11", b"HTTP/11", VERSION),
            ("9112 2.3", "three numbers", b"HTTP/1.1.1", VERSION),
            ("9112 2.3", "a comma", b"HTTP/1,1", VERSION),
            ("9112 2.3", "a minus", b"HTTP/-1.1", VERSION),
            ("9112 2.3", "a letter", b"HTTP/1.a", VERSION),
            ("9112 2.3", "a space within", b"HTTP/ 1.1", VERSION),
            ("9112 2.3", "no slash", b"HTTP 1.1", VERSION),
            ("9112 2.3", "more behind it", b"HTTP/1.1;x", VERSION),
            ("9112 2.3", "another protocol", b"HTCPCP/1.1", VERSION),
            ("9112 2.3", "another protocol of that length", b"ICAP/1.1", VERSION),
        ],
    );
    check(&[("9113 3.4", "the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION)]);
}

#[test]
fn malformed_fields_are_refused() {
    check_within(
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"\r\n\r\n",
        &[
            ("9112 5.1", "space before the colon", b"X : 1", BAD),
            ("9112 5.1", "tab before the colon", b"X\t: 1", BAD),
            ("9112 5.1", "vertical tab before the colon", b"X\x0b: 1", BAD),
            ("9110 5.1", "empty name", b": 1", BAD),
            ("9110 5.1", "nothing but a colon", b":", BAD),
            ("9110 5.1", "a space in a name", b"X y: 1", BAD),
            ("9110 5.1", "a high byte in a name", b"X\xe9: 1", BAD),
            ("9110 5.1", "a space that does not break, in a name", b"X\xc2\xa0: 1", BAD),
            ("9112 5", "a line without a colon", b"nothing", BAD),
            ("9112 5", "a request line among the fields", b"GET /x HTTP/1.1", BAD),
            ("9110 5.1", "a name of digits", b"123: 1", Forwarded),
            ("9110 5.1", "a name of all that a token may hold", b"!#$%&'*+-.^_`|~9aZ: 1", Forwarded),
            ("9110 5.5", "empty value", b"X:", Forwarded),
            ("9110 5.5", "a value of white space", b"X: \t ", Forwarded),
            ("9110 5.5", "white space around a value", b"X:\t 1 \t", Forwarded),
            ("9110 5.5", "no white space before a value", b"X:1", Forwarded),
            ("9110 5.5", "tab within a value", b"X: 1\t2", Forwarded),
            ("9110 5.5", "obs-text in a value", b"X: \xe9\xff", Forwarded),
            ("9110 5.5", "all visible characters in a value", b"X: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", Forwarded),
            ("9110 5.6.4", "an open quoted string", b"X: \"open", Forwarded),
            ("9110 7.6.1", "Connection names Host", b"Connection: Host", BAD),
            ("9110 7.6.1", "Connection names Host among others", b"Connection: close, hOST", BAD),
            ("9110 7.6.1", "Connection names Content-Length", b"Connection: Content-Length\r\nContent-Length: 0", BAD),
            (
                "9110 7.6.1",
                "the second Connection names a framing field",
                b"Connection: keep-alive\r\nConnection: content-length\r\nContent-Length: 0",
                BAD,
            ),
            ("9110 10.1.1", "an unknown expectation", b"Expect: tea", Refused(&[417])),
            ("9110 10.1.1", "an expectation beside 100-continue", b"Expect: 100-continue, tea", Refused(&[417])),
            ("9110 10.1.1", "100-continue without a body", b"Expect: 100-continue", Forwarded),
        ],
    );
    check(&[(
        "9110 7.6.1",
        "Connection names Transfer-Encoding",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BAD,
    )]);
}

#[test]
fn no_delimiter_stands_in_a_name_and_no_control_in_a_value() {
    const NAMES: &[u8] = b"\"(),/;<=>?@[\\]{}";
    let named = |byte: u8| -> &'static [u8] { [b"X", &[byte][..], b"y: 1"].concat().leak() };
    let valued = |byte: u8| -> &'static [u8] { [b"X: 1", &[byte][..], b"2"].concat().leak() };
    let controls = (1..b' ').filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')).chain([0x7f]);
    let names = NAMES.iter().map(|byte| ("9110 5.6.2", "a delimiter in a name", named(*byte), BAD));
    let values = controls.map(|byte| ("9110 5.5", "a control in a value", valued(byte), BAD));
    check_within(b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n", &names.chain(values).collect::<Vec<_>>());
}
