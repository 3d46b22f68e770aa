//! How connections end, from either side, and what becomes of what was under way.

use crate::support::wait::millis;
use crate::support::{Config, Instance};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn requests_sent_before_the_sending_side_closed_are_all_answered() {
    let api = Instance::named("a").slow(millis(50));
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(GET.repeat(5));
    client.wire.half_close().unwrap();
    for _ in 0..5 {
        assert_eq!(client.response().text(), "a");
    }
    client.expect_end();
}

#[test]
fn empty_line_behind_a_body_is_not_the_beginning_of_a_request() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("request_head_timeout", "\"200ms\"").start();
    let mut client = proxy.connect();
    assert_eq!(client.post("/", "body").status(), 200);
    client.send("\r\n").expect_silence(millis(500));
    assert_eq!(client.get("/").status(), 200);
}
