//! How much is taken, and how slowly it may come.

use super::*;

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
    let judged = cases.iter().map(|(name, text, is)| judge(&proxy, &api, "9110 5.4", name, text.as_bytes(), *is));
    crate::http1::assert_all(judged);
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
