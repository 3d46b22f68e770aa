//! Several requests on one connection, and how it ends (RFC 9112 section 9).

use crate::support::wait::seconds;
use crate::support::{Config, Instance};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An instance that answers with the path that it was asked for.
fn echo() -> Instance {
    Instance::named("a").serving(|exchange| {
        let path = exchange.head.word(1).to_owned();
        exchange.respond(200, "", path.as_bytes())
    })
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let api = echo();
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

#[test]
fn pipelined_requests_behind_a_close_are_not_answered() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "/1");
    client.expect_end();
    assert_eq!(api.count(), 1, "RFC 9112 9.6");
}

#[test]
fn requests_before_a_malformed_one_are_answered_and_none_behind_it() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost : a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.response().text(), "/1");
    let refusal = client.response();
    assert_eq!(refusal.status(), 400);
    assert!(refusal.closes(), "RFC 9112 9.6");
    client.expect_end();
    assert_eq!(api.count(), 1);
}

#[test]
fn head_and_get_on_one_connection_keep_apart() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to("HEAD");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("2")), "RFC 9110 9.3.2");
    assert_eq!(client.response().text(), "/2");
}

#[test]
fn request_line_or_head_that_never_ends_is_given_up() {
    let api = echo();
    let proxy = Config::of(&[&api]).listener("request_head_timeout", "\"300ms\"").start();
    for part in ["G", "GET / HT", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX"] {
        let mut client = proxy.connect().patient(seconds(20));
        let answer = client.send(part).response();
        assert_eq!((answer.status(), answer.closes()), (408, true), "RFC 9110 15.5.9: {part:?}");
        client.expect_end();
    }
    assert_eq!(api.count(), 0);
}

#[test]
fn head_that_ends_too_early_is_no_request() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    for part in ["", "\r\n", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
        let mut client = proxy.connect();
        client.send(part).wire.half_close().unwrap();
        if let Ok(answer) = client.wire.read_response_to("GET") {
            assert_eq!(answer.status(), 400, "RFC 9112 8: {part:?}");
        }
    }
    assert_eq!(api.count(), 0);
}

#[test]
fn sending_side_that_closes_behind_a_request_does_not_take_the_answer_back() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    for request in [GET, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut client = proxy.connect();
        client.send(request).wire.half_close().unwrap();
        assert_eq!(client.response().text(), "/", "RFC 9112 9.6");
        client.expect_end();
    }
}
