//! Connections to instances: reused, bounded, and never trusted to be alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Instance};

#[test]
fn connection_is_reused_for_further_requests_and_clients() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    let connections: std::collections::BTreeSet<_> = api.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 1, "{connections:?}");
    assert!(proxy.metric("plimsoll_upstream_connections_reused_total", &[]) > 8.5);
}

#[test]
fn latest_used_connection_comes_first() {
    let api = Instance::named("a").slow(millis(50));
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        client.response();
    }
    api.forget();
    for _ in 0..6 {
        proxy.get("/");
    }
    let used: Vec<_> = api.received().iter().map(|request| request.connection).collect();
    assert!(used.windows(2).all(|pair| pair[0] == pair[1]), "{used:?}");
}

#[test]
fn idle_connections_are_bounded_in_number() {
    let api = Instance::named("a").slow(millis(100));
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).connection("idle_max", 2).start();
    let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    eventually("two are left", || {
        let idle = proxy.metric("plimsoll_upstream_connections", &[("state", "idle")]);
        (idle < 2.5).then_some(())
    });
}

#[test]
fn connection_that_the_instance_closed_is_not_the_clients_problem() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    for index in 0..20 {
        let answer = if index % 2 == 0 { client.get("/") } else { client.post("/", "x") };
        assert_eq!(answer.status(), 200);
        api.cut_connections();
    }
    assert_eq!(api.count(), 20);
}

#[test]
fn instance_that_closes_after_each_answer_without_saying_so_costs_no_error() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.respond(200, "", b"fine")?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    for _ in 0..30 {
        assert_eq!(client.get("/").text(), "fine");
    }
}

#[test]
fn reused_connection_that_dies_with_the_request_is_replaced_for_idempotent_methods_only() {
    // The instance answers the first request of a connection and cuts it as soon as a second one arrives.
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let api = Instance::named("a").serving(move |exchange| {
        let first = exchange.head.field("x-first").is_some();
        if first || count.fetch_add(1, Ordering::SeqCst) > 0 {
            count.store(0, Ordering::SeqCst);
            return exchange.respond(200, "", b"fine");
        }
        Ok(Then::Reset)
    });
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).evidence("failures", 0).start();
    let mut client = proxy.connect();
    let warm = "GET / HTTP/1.1\r\nHost: a\r\nX-First: 1\r\n\r\n";
    assert_eq!(client.send(warm).response().status(), 200);
    assert_eq!(client.get("/again").status(), 200, "a GET is repeated on a new connection");

    seen.store(0, Ordering::SeqCst);
    assert_eq!(client.send(warm).response().status(), 200);
    api.forget();
    let answer = client.post("/once", "x");
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_reset"));
    assert_eq!(api.count(), 1, "a POST that may have arrived is never sent again");
}

#[test]
fn unsafe_method_takes_no_connection_that_has_been_idle_for_long() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).connection("unsafe_reuse_max", "\"200ms\"").start();
    assert_eq!(proxy.post("/1", "x").status(), 200);
    assert_eq!(proxy.post("/2", "x").status(), 200);
    pause(millis(400));
    assert_eq!(proxy.post("/3", "x").status(), 200);
    let on: Vec<_> = api.received().iter().map(|request| request.connection).collect();
    assert_eq!(on[0], on[1], "fresh enough: reused");
    assert_ne!(on[1], on[2], "idle for too long: a new one");
}

#[test]
fn instance_that_says_close_is_not_asked_again_on_that_connection() {
    let api = Instance::named("a").serving(|exchange| exchange.respond(200, "Connection: close\r\n", b"fine"));
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!(answer.status(), 200);
        assert!(!answer.closes(), "the instance's connection is not the client's");
    }
    let mut connections: Vec<_> = api.received().iter().map(|request| request.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), 3);
}
