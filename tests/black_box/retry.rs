//! Trying again: never what may have been done already, and never without end.

use crate::support::instance::Then;
use crate::support::wait::{millis, seconds};
use crate::support::{Config, Instance, ports};

/// A configuration whose probes do not interfere.
fn quiet(instances: &[&Instance]) -> Config {
    Config::of(instances).probe("interval", "\"60s\"").probe("timeout", "\"2s\"").evidence("failures", 0)
}

#[test]
fn refused_connection_moves_any_method_on_to_every_other_instance() {
    let dead = ["a", "b", "c", "d", "e"].map(Instance::named);
    let last = Instance::named("last");
    let mut all: Vec<_> = dead.iter().collect();
    all.push(&last);
    // More dead ones than `retries` allows attempts: what was never sent is no retry.
    let proxy = quiet(&all).retry("retries", 0).retry("budget_percent", 0).retry("budget_min", 0).start();
    dead.iter().for_each(Instance::stop);
    for index in 0..10 {
        let answer = if index % 2 == 0 { proxy.get("/") } else { proxy.post("/", "body") };
        assert_eq!((answer.status(), answer.text().as_str()), (200, "last"));
    }
    assert!(last.received().iter().all(|request| request.body.is_some()));
}

#[test]
fn instance_that_refused_is_picked_last() {
    let (dead, live) = (Instance::named("dead"), Instance::named("live"));
    let proxy = quiet(&[&dead, &live]).start();
    dead.stop();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "live");
    }
    let refused = proxy.metric("plimsoll_upstream_errors_total", &[("instance", "dead"), ("cause", "connect_refused")]);
    // Least connections alone would ask it nearly each time, because it never has anything in flight.
    assert!((0.5..4.5).contains(&refused), "{refused} refusals");
    assert_eq!(proxy.instance_status("dead")["suspect"], true);
}

#[test]
fn idempotent_request_moves_on_after_a_reset_and_others_do_not() {
    for (method, repeats) in [
        ("GET", true),
        ("HEAD", true),
        ("PUT", true),
        ("DELETE", true),
        ("OPTIONS", true),
        ("POST", false),
        ("PATCH", false),
        ("BREW", false),
    ] {
        let bad = Instance::named("bad").answering_then("", Then::Reset);
        let good = Instance::named("good");
        // The good one is a backup, so that the bad one is asked first.
        let proxy = quiet(&[&bad]).instance_with(&good, "backup = true").start();
        let mut client = proxy.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"));
        let status = client.response_to(method).status();
        let total = bad.count() + good.count();
        if repeats {
            assert!(total > 1, "{method} was sent {total} times");
        } else {
            assert_eq!((status, total), (502, 1), "{method}");
        }
    }
}

#[test]
fn repeat_goes_to_another_instance_while_one_is_eligible() {
    let bad = Instance::named("bad").answering_then("", Then::Reset);
    let (good, fine) = (Instance::named("good"), Instance::named("fine"));
    let proxy = quiet(&[&bad, &good, &fine]).start();
    for _ in 0..12 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert!(bad.count() > 0);
    let counted = proxy.metric("plimsoll_retries_total", &[("pool", "api"), ("outcome", "answered")]);
    assert!((counted - bad.count() as f64).abs() < 0.5, "{counted} counted, {} needed", bad.count());
}

#[test]
fn no_more_repeats_than_configured() {
    let bad = ["a", "b", "c", "d"].map(|name| Instance::named(name).answering_then("", Then::Reset));
    let proxy = quiet(&bad.iter().collect::<Vec<_>>()).retry("retries", 2).start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 502);
    assert_eq!(bad.iter().map(Instance::count).sum::<usize>(), 3);
}

#[test]
fn budget_bounds_repeats_of_the_whole_pool() {
    let bad = ["a", "b"].map(|name| Instance::named(name).answering_then("", Then::Reset));
    let proxy = quiet(&bad.iter().collect::<Vec<_>>()).retry("budget_percent", 0).retry("budget_min", 0).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "retry_budget_exhausted"));
    assert_eq!(bad.iter().map(Instance::count).sum::<usize>(), 1);
    assert!(proxy.metric("plimsoll_retries_total", &[("outcome", "refused")]) > 0.5);
}

#[test]
fn nothing_is_repeated_after_a_response_head() {
    let cut = Instance::named("cut").answering_then("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Then::Close);
    let good = Instance::named("good");
    let proxy = quiet(&[&cut]).instance_with(&good, "backup = true").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.wire.read_response_to("GET").is_err());
    assert_eq!((cut.count(), good.count()), (1, 0));
}

#[test]
fn body_is_kept_for_repeating_up_to_its_limit() {
    let bad = Instance::named("bad").serving(|exchange| {
        exchange.read_body()?;
        Ok(Then::Reset)
    });
    let good = Instance::named("good");
    let proxy = quiet(&[&bad, &good]).retry("body_bytes_max", "\"1KiB\"").start();
    let put = |size: usize| {
        let body = "x".repeat(size);
        proxy.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}")).status()
    };
    for _ in 0..6 {
        assert_eq!(put(1000), 200);
    }
    let small = bad.count();
    assert!(small > 0, "the bad one was never asked");
    assert!(good.received().iter().all(|request| request.body.as_ref().is_some_and(|body| body.len() == 1000)));
    let statuses: Vec<_> = (0..6).map(|_| put(5000)).collect();
    assert!(statuses.contains(&502), "too big to keep: {statuses:?}");
}

#[test]
fn hanging_connect_moves_on_within_the_deadline() {
    let hole = ports::free();
    let _blackhole = crate::support::process::Blackhole::at(hole);
    let good = Instance::named("good");
    let proxy = quiet(&[&good])
        .instance_at("hole", hole, "")
        .probe("port", good.address().port())
        .connection("connect_timeout", "\"300ms\"")
        .start();
    for _ in 0..4 {
        let begin = tokio::time::Instant::now();
        assert_eq!(proxy.post("/", "x").text(), "good");
        assert!(begin.elapsed() < seconds(3), "{:?}", begin.elapsed());
    }
}

#[test]
fn answer_with_an_error_status_is_an_answer() {
    let api = Instance::named("a").serving(|exchange| exchange.respond(500, "", b"my error"));
    let other = Instance::named("b").serving(|exchange| exchange.respond(500, "", b"my error"));
    let proxy = quiet(&[&api, &other]).start();
    assert_eq!(proxy.get("/").text(), "my error");
    assert_eq!(api.count() + other.count(), 1);
}

#[test]
fn attempts_are_in_the_log() {
    let bad = Instance::named("bad").answering_then("", Then::Reset);
    let good = Instance::named("good").slow(millis(1));
    let proxy = quiet(&[&bad, &good]).start();
    for index in 0..4 {
        proxy.get(&format!("/{index}"));
    }
    let attempts: Vec<_> =
        (0..4).map(|index| proxy.wait_access(&format!("/{index}"))["attempts"].as_u64().unwrap()).collect();
    assert!(attempts.contains(&2), "{attempts:?}");
}
