//! Slow and silent clients: each wait has its limit.

use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::instance::Then;
use crate::support::wait::{millis, pause, seconds};
use crate::support::{Config, Instance};

/// How long until `act` returns.
fn time(act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    begin.elapsed()
}

#[test]
fn idle_connection_is_closed_silently() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("keep_alive_timeout", "\"500ms\"").start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    let took = time(|| client.expect_end());
    assert!((millis(400)..seconds(5)).contains(&took), "{took:?}");
    // A connection that never says anything, too: there is nobody to answer.
    let mut silent = proxy.connect();
    silent.expect_end();
}

#[test]
fn head_that_does_not_end_is_answered_with_408() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api])
        .listener("request_head_timeout", "\"500ms\"")
        .listener("keep_alive_timeout", "\"10s\"")
        .start();
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHo");
    let answer = client.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (408, "request_header_timeout"));
    client.expect_end();
    // Dripping does not prolong it.
    let mut drip = proxy.connect();
    let begin = Instant::now();
    drip.send("GET / HTTP/1.1\r\nX: ");
    while begin.elapsed() < seconds(3)
        && drip.wire.write("y").is_ok()
        && !drip.ended()
        && drip.wire.buffered().is_empty()
    {
        pause(millis(50));
    }
    assert!(begin.elapsed() < seconds(3), "dripping goes on for {:?}", begin.elapsed());
}

#[test]
fn body_that_stalls_is_answered_with_408() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("request_body_timeout", "\"500ms\"").start();
    let mut client = proxy.connect();
    client.send("POST /stall HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let answer = client.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (408, "request_body_timeout"));
    client.expect_end();
}

#[test]
fn body_that_makes_progress_is_not_cut() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("request_body_timeout", "\"500ms\"").start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        pause(millis(150));
        client.send("x");
    }
    assert_eq!(client.response().status(), 200);
}

#[test]
fn client_that_takes_no_byte_of_its_response_is_cut_off() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            exchange.write(vec![b'x'; 1_000_000])?;
        }
    });
    let proxy = Config::of(&[&api]).listener("response_write_timeout", "\"500ms\"").start();
    let mut client = proxy.connect();
    client.send("GET /unread HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = proxy.wait_access("/unread");
    assert_eq!(line["cause"], "client_too_slow");
}

#[test]
fn instance_that_takes_no_byte_of_a_request_has_a_cause_of_its_own() {
    let api = Instance::named("a").serving(|_exchange| {
        // Neither reads nor answers.
        pause(seconds(5));
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api])
        .connection("request_write_timeout", "\"500ms\"")
        .connection("response_head_timeout", "\"30s\"")
        .start();
    let mut client = proxy.connect();
    let sending = client.wire.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        let mut sending = sending;
        let head = "POST /untaken HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
        // Ends when the proxy has given up.
        drop(sending.write_all(head.as_bytes()).and_then(|()| sending.write_all(&vec![b'x'; 100_000_000])));
    });
    let answer = client.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (504, "request_write_timeout"));
    assert_eq!(proxy.wait_access("/untaken")["cause"], "request_write_timeout");
    drop(client);
    sender.join().expect("a sender");
}

#[test]
fn slow_clients_do_not_hinder_others() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut slow: Vec<_> = (0..200).map(|_| proxy.connect()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    }
    let took = time(|| {
        for _ in 0..20 {
            assert_eq!(proxy.get("/").status(), 200);
        }
    });
    assert!(took < seconds(5), "{took:?}");
}

#[test]
fn upstream_connection_that_idles_is_closed() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).connection("idle_timeout", "\"500ms\"").start();
    assert_eq!(proxy.get("/").status(), 200);
    crate::support::eventually("the idle connection is closed", || {
        let idle = proxy.metric("plimsoll_upstream_connections", &[("state", "idle")]);
        (idle < 0.5).then_some(())
    });
}
