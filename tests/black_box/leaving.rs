//! How connections end, from either side, and what becomes of what was under way.

use std::io::Write as _;

use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, pause, seconds};
use crate::support::{Config, Instance, Proxy};

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

#[test]
fn response_that_ends_with_its_connection_never_looks_whole_when_it_is_cut_at_the_end() {
    for signals in [1, 2] {
        let api = Instance::named("a").serving(|exchange| {
            exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
            exchange.wait_for_end();
            Ok(Then::Close)
        });
        let mut proxy = Config::of(&[&api]).set("runtime", "drain_timeout", "\"500ms\"").start();
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        client.wire.read_head().unwrap();
        assert_eq!(client.wire.read_exactly(5).unwrap(), b"hello");
        for _ in 0..signals {
            proxy.signal("TERM");
        }
        proxy.wait_end(seconds(10));
        let end = client.wire.read_to_end();
        assert!(end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{end:?}");
    }
}

#[test]
fn body_that_is_malformed_from_its_first_byte_is_explained() {
    let api = Instance::named("a").answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello");
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_bad_response"));
}

#[test]
fn error_follows_an_interim_answer_that_came_with_it() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\ngarbage\r\n\r\n")?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.interim.len(), answer.status()), (1, 502));
}

#[test]
fn client_that_resets_an_upgraded_connection_is_not_the_instances_fault() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tea\r\n\r\n")?;
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /tea HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: tea\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    client.wire.reset();
    assert_eq!(proxy.wait_access("/tea")["cause"], "client_closed");
    eventually("nothing is in flight", || (proxy.metric("plimsoll_upstream_in_flight", &[]) == 0.0).then_some(()));
    assert!(proxy.metric("plimsoll_upstream_errors_total", &[]) < 0.5);
}

#[test]
fn client_that_leaves_the_queue_makes_room_for_the_next() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let config = Config::new().instance_with(&api, "in_flight_max = 1");
    let proxy = config.pool("queue_wait", "\"30s\"").pool("queue_max", 1).start();
    let depth = |wanted: f64| {
        eventually("the queue has its length", || {
            ((proxy.metric("plimsoll_queue_depth", &[]) - wanted).abs() < 0.5).then_some(())
        });
    };
    let mut first = proxy.connect();
    first.send(GET);
    api.wait_for(1);
    for path in ["/one", "/two"] {
        let mut waiting = proxy.connect();
        waiting.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        depth(1.0);
        waiting.wire.reset();
        depth(0.0);
        assert_eq!(proxy.wait_access(path)["cause"], "client_closed");
    }
}

#[test]
fn instance_that_answers_no_expectation_is_to_blame_and_not_the_client() {
    let silent = |name| {
        Instance::named(name).serving(|exchange| {
            exchange.wait_for_end();
            Ok(Then::Close)
        })
    };
    let (a, b) = (silent("a"), silent("b"));
    let config = Config::of(&[&a, &b]).listener("request_body_timeout", "\"100ms\"").retry("retries", 1);
    let proxy = config.connection("response_head_timeout", "\"400ms\"").start();
    let answer = proxy.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!((answer.status(), answer.cause().as_str()), (504, "response_header_timeout"));
    assert_eq!((a.count(), b.count()), (1, 1));
}

/// An instance that takes heads and never anything else.
fn silent() -> Instance {
    Instance::named("a").serving(|_exchange| {
        pause(seconds(20));
        Ok(Then::Close)
    })
}

/// Asserts that nothing is in flight long before a limit of the instance's side could have ended it.
#[track_caller]
fn expect_cancelled(proxy: &Proxy, path: &str) {
    assert_eq!(proxy.wait_access(path)["cause"], "client_closed");
    assert!(proxy.metric("plimsoll_upstream_in_flight", &[]) < 0.5);
}

#[test]
fn reset_after_the_sending_side_closed_ends_the_request_at_once() {
    let api = silent();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /closed HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire.half_close().unwrap();
    api.wait_for(1);
    pause(millis(300));
    client.wire.reset();
    expect_cancelled(&proxy, "/closed");
}

#[test]
fn reset_behind_much_that_was_sent_ahead_ends_the_request_at_once() {
    let api = silent();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(format!("GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n{}", GET.repeat(2_000)));
    api.wait_for(1);
    pause(millis(300));
    client.wire.reset();
    expect_cancelled(&proxy, "/ahead");
}

#[test]
fn reset_while_the_instance_does_not_take_the_body_ends_the_request_at_once() {
    let api = silent();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    client.wire.stream().set_write_timeout(Some(millis(300))).unwrap();
    // Until neither kernel takes more.
    while client.wire.write(vec![b'x'; 1_000_000]).is_ok() {}
    client.wire.reset();
    expect_cancelled(&proxy, "/body");
}

#[test]
fn client_that_reads_only_after_it_has_sent_all_gets_an_early_answer_of_any_size() {
    const SIZE: usize = 30_000_000;
    let api = Instance::named("a").serving(|exchange| {
        // Refuses, and never reads the body.
        exchange.write(format!("HTTP/1.1 413 Too Large\r\nContent-Length: {SIZE}\r\n\r\n"))?;
        exchange.write(vec![b'n'; SIZE])?;
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api])
        .listener("response_write_timeout", "\"3s\"")
        .connection("request_write_timeout", "\"60s\"")
        .start();
    for framing in [format!("Content-Length: {SIZE}"), "Transfer-Encoding: chunked".to_owned()] {
        let mut client = proxy.connect();
        client.send(format!("POST /early HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let mut sending = client.wire.stream();
        if framing.starts_with("Content") {
            sending.write_all(&vec![b'y'; SIZE]).expect("all of it is taken");
        } else {
            for _ in 0..SIZE / 100_000 {
                sending.write_all(format!("{:x}\r\n{}\r\n", 100_000, "y".repeat(100_000)).as_bytes()).expect("taken");
            }
            sending.write_all(b"0\r\n\r\n").expect("taken");
        }
        let answer = client.response();
        assert_eq!((answer.status(), answer.body.len()), (413, SIZE));
    }
}
