//! Where a request ends: lengths and codings. `chunks` has what stands in a chunked body.

use super::*;

/// The coding is not one that we know, or is malformed: the answer depends on which of the two is seen first.
const CODING: Is = Refused(&[400, 501]);

#[test]
fn ambiguous_lengths_are_refused() {
    check_within(
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"\r\nhi",
        &[
            ("9110 8.6", "a length", b"Content-Length: 2\r\n", Forwarded),
            ("9110 5.5", "a length with white space around", b"Content-Length: \t2 \t\r\n", Forwarded),
            ("9110 5.5", "a length without a space", b"Content-Length:2\r\n", Forwarded),
            ("9110 8.6", "leading zeros", b"Content-Length: 002\r\n", Forwarded),
            ("9112 6.3", "two differing lengths", b"Content-Length: 2\r\nContent-Length: 3\r\n", BAD),
            ("9112 6.3", "two differing lengths, the longer first", b"Content-Length: 3\r\ncontent-length: 2\r\n", BAD),
            ("9112 6.3", "a list of differing lengths", b"Content-Length: 2, 3\r\n", BAD),
            ("9112 6.3", "two equal lengths", b"Content-Length: 2\r\nContent-Length: 2\r\n", Either(&[400])),
            ("9112 6.3", "a list of equal lengths", b"Content-Length: 2, 2\r\n", Either(&[400])),
            ("9112 6.3", "lengths equal but for zeros", b"Content-Length: 2\r\nContent-Length: 02\r\n", Either(&[400])),
            ("9112 6.3", "two lengths of which one is malformed", b"Content-Length: 2\r\nContent-Length: x\r\n", BAD),
            ("9112 6.3", "two lengths of which one is empty", b"Content-Length: 2\r\nContent-Length:\r\n", BAD),
            ("9112 6.3", "a list of a length and letters", b"Content-Length: 2, x\r\n", BAD),
            ("9110 8.6", "a length with a plus", b"Content-Length: +2\r\n", BAD),
            ("9110 8.6", "a negative length", b"Content-Length: -2\r\n", BAD),
            ("9110 8.6", "a negative zero", b"Content-Length: -0\r\n", BAD),
            ("9110 8.6", "a hexadecimal length", b"Content-Length: 0x2\r\n", BAD),
            ("9110 8.6", "a length with an exponent", b"Content-Length: 2e0\r\n", BAD),
            ("9110 8.6", "an empty length", b"Content-Length:\r\n", BAD),
            ("9110 8.6", "a length with a space within", b"Content-Length: 1 2\r\n", BAD),
            ("9110 8.6", "a length with a tab within", b"Content-Length: 0\t2\r\n", BAD),
            ("9110 8.6", "a length with a comma after", b"Content-Length: 2,\r\n", BAD),
            ("9110 8.6", "a length with a comma before", b"Content-Length: ,2\r\n", BAD),
            ("9110 8.6", "a length with a semicolon", b"Content-Length: 2;\r\n", BAD),
            ("9110 8.6", "a length with a fraction", b"Content-Length: 2.0\r\n", BAD),
            ("9110 8.6", "a length with an underscore", b"Content-Length: 0_2\r\n", BAD),
            ("9110 8.6", "a length of letters", b"Content-Length: two\r\n", BAD),
            ("9110 8.6", "a length in quotes", b"Content-Length: \"2\"\r\n", BAD),
            ("9110 8.6", "a length with a vertical tab", b"Content-Length: \x0b2\r\n", BAD),
            ("9110 8.6", "a length with a form feed", b"Content-Length: 2\x0c\r\n", BAD),
            ("9110 8.6", "a length with a NUL", b"Content-Length: 2\0\r\n", BAD),
            ("9110 8.6", "a length with a space that does not break", b"Content-Length: \xa02\r\n", BAD),
            ("9110 8.6", "wide digits", b"Content-Length: \xef\xbc\x92\r\n", BAD),
            ("9110 8.6", "2^64 + 2", b"Content-Length: 18446744073709551618\r\n", Refused(&[400, 413])),
            ("9110 8.6", "2^128", b"Content-Length: 340282366920938463463374607431768211456\r\n", Refused(&[400, 413])),
            ("9112 5.1", "a space before the length's colon", b"Content-Length : 2\r\n", BAD),
            ("9112 2.2", "a length behind a bare LF", b"X: 1\nContent-Length: 2\r\n", BAD),
            ("9112 2.2", "a length behind a bare CR", b"X: 1\rContent-Length: 2\r\n", BAD),
            ("9112 6.1", "length and coding", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", BAD),
            ("9112 6.1", "length and a coding that is none", b"Content-Length: 2\r\nTransfer-Encoding: x\r\n", CODING),
            ("9112 6.1", "length and an empty coding", b"Content-Length: 2\r\nTransfer-Encoding:\r\n", BAD),
            ("9112 6.1", "length and identity", b"Content-Length: 2\r\nTransfer-Encoding: identity\r\n", CODING),
        ],
    );
    check(&[
        ("9112 6.3", "a GET with a body", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", Forwarded),
        ("9112 6.3", "a DELETE with a body", b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", Forwarded),
        ("9112 6.3", "a body on HTTP/1.0", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", Forwarded),
        ("9112 6.3", "a POST without a length", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", Either(&[411])),
        ("9112 6.3", "another name", b"GET / HTTP/1.1\r\nHost: a\r\nX-Content-Length: 2\r\n\r\n", Forwarded),
    ]);
}

#[test]
fn ambiguous_codings_are_refused() {
    check_within(
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"\r\n0\r\n\r\n",
        &[
            ("9112 7.1", "chunked", b"Transfer-Encoding: chunked\r\n", Forwarded),
            ("9112 7", "codings are case-insensitive", b"Transfer-Encoding: cHuNkeD\r\n", Forwarded),
            ("9110 5.5", "white space around chunked", b"Transfer-Encoding:\t chunked \t\r\n", Forwarded),
            ("9110 5.6.1", "an empty list element", b"Transfer-Encoding: , chunked\r\n", Either(&[400])),
            ("9110 5.6.1", "an empty list element behind", b"Transfer-Encoding: chunked,\r\n", Either(&[400])),
            ("9112 6.1", "coding and length", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BAD),
            ("9112 6.1", "coding and length 0", b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", BAD),
            ("9112 5.1", "a space before the coding's colon", b"Transfer-Encoding : chunked\r\n", BAD),
            ("9112 5.1", "a tab before the coding's colon", b"Transfer-Encoding\t: chunked\r\n", BAD),
            ("9112 2.2", "a coding behind a bare LF", b"X: 1\nTransfer-Encoding: chunked\r\n", BAD),
            ("9112 6.3", "identity", b"Transfer-Encoding: identity\r\n", CODING),
            ("9112 6.1", "identity before chunked", b"Transfer-Encoding: identity, chunked\r\n", CODING),
            ("9112 6.3", "identity after chunked", b"Transfer-Encoding: chunked, identity\r\n", BAD),
            ("9112 6.3", "gzip as the final coding", b"Transfer-Encoding: gzip\r\n", BAD),
            ("9112 6.3", "gzip after chunked", b"Transfer-Encoding: chunked, gzip\r\n", BAD),
            ("9112 6.1", "gzip before chunked", b"Transfer-Encoding: gzip, chunked\r\n", Refused(&[501])),
            (
                "9112 6.1",
                "two codings before chunked",
                b"Transfer-Encoding: deflate, gzip, chunked\r\n",
                Refused(&[501]),
            ),
            (
                "9112 6.1",
                "gzip and chunked in two fields",
                b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
                Refused(&[501]),
            ),
            ("9112 6.1", "an unknown coding before chunked", b"Transfer-Encoding: tea, chunked\r\n", Refused(&[501])),
            ("9112 6.1", "chunked twice", b"Transfer-Encoding: chunked, chunked\r\n", BAD),
            ("9112 6.1", "chunked in two fields", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BAD),
            (
                "9112 6.1",
                "chunked and identity in two fields",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                BAD,
            ),
            (
                "9112 6.1",
                "chunked and an unknown coding in two fields",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: tea\r\n",
                CODING,
            ),
            ("9112 6.3", "a prefix before chunked", b"Transfer-Encoding: xchunked\r\n", CODING),
            ("9112 6.3", "a suffix behind chunked", b"Transfer-Encoding: chunkedx\r\n", CODING),
            ("9112 6.3", "a space within chunked", b"Transfer-Encoding: chun ked\r\n", CODING),
            ("9112 6.3", "two words", b"Transfer-Encoding: x chunked\r\n", CODING),
            ("9112 6.3", "a semicolon for a comma", b"Transfer-Encoding: identity; chunked\r\n", CODING),
            ("9112 7", "chunked with a parameter", b"Transfer-Encoding: chunked;a=b\r\n", CODING),
            ("9112 7", "chunked with a semicolon", b"Transfer-Encoding: chunked;\r\n", CODING),
            ("9112 7", "chunked in quotes", b"Transfer-Encoding: \"chunked\"\r\n", CODING),
            ("9112 7", "chunked in single quotes", b"Transfer-Encoding: 'chunked'\r\n", CODING),
            ("9112 7", "chunked after a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", BAD),
            ("9112 7", "chunked before a form feed", b"Transfer-Encoding: chunked\x0c\r\n", BAD),
            ("9112 7", "chunked after a NUL", b"Transfer-Encoding: \0chunked\r\n", BAD),
            ("9112 7", "chunked after a space that does not break", b"Transfer-Encoding: \xa0chunked\r\n", CODING),
            ("9112 7", "chunked with a Kelvin sign", b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", CODING),
            ("9112 6.1", "an empty coding", b"Transfer-Encoding:\r\n", BAD),
            ("9112 6.1", "nothing but commas", b"Transfer-Encoding: ,,\r\n", BAD),
        ],
    );
    check(&[
        (
            "9112 6.1",
            "a coding on HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 6.1",
            "a coding and a length on HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        (
            "9112 7.1",
            "a GET with chunks",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Forwarded,
        ),
        (
            "9110 5.1",
            "another name",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
            Forwarded,
        ),
    ]);
}
