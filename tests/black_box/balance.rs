//! Which instance gets a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::instance::Then;
use crate::support::wait::{millis, pause};
use crate::support::{Client, Config, Instance, Proxy, eventually};

fn answers(proxy: &Proxy, count: usize) -> BTreeMap<String, usize> {
    let mut by_name = BTreeMap::new();
    let mut client = proxy.connect();
    for _ in 0..count {
        *by_name.entry(client.get("/").text()).or_default() += 1;
    }
    by_name
}

/// An instance that answers its requests only when it is told to.
fn held(name: &str) -> (Instance, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&go);
    let instance = Instance::named(name).serving(move |exchange| {
        while !open.load(Ordering::SeqCst) {
            pause(millis(5));
        }
        let name = exchange.head.field("x-name").unwrap_or("held").to_owned();
        exchange.respond(200, "", name.as_bytes())
    });
    (instance, go)
}

fn send_many(proxy: &Proxy, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    clients
}

#[test]
fn least_connections_evens_out_what_is_in_flight_over_all_workers() {
    let held: Vec<_> = ["a", "b", "c", "d"].map(held).into();
    let instances: Vec<_> = held.iter().map(|(instance, _)| instance).collect();
    let proxy = Config::of(&instances).set("runtime", "workers", 4).start();
    let mut clients = Vec::new();
    for index in 1..=40 {
        clients.extend(send_many(&proxy, 1));
        let total = || instances.iter().map(|instance| instance.count()).sum::<usize>();
        eventually("the request is there", || (total() == index).then_some(()));
    }
    let counts: Vec<_> = instances.iter().map(|instance| instance.count()).collect();
    assert_eq!(counts, [10, 10, 10, 10]);
    for (_, go) in &held {
        go.store(true, Ordering::SeqCst);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn least_connections_gives_a_busy_instance_less() {
    let (busy, go) = held("busy");
    let free = Instance::named("free");
    let proxy = Config::of(&[&busy, &free]).start();
    let mut clients = send_many(&proxy, 2);
    eventually("one request hangs", || (busy.count() == 1).then_some(()));
    assert_eq!(answers(&proxy, 20).get("free"), Some(&20));
    go.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn least_connections_breaks_ties_in_turn() {
    let instances = ["a", "b", "c", "d"].map(Instance::named);
    let proxy = Config::of(&instances.iter().collect::<Vec<_>>()).set("runtime", "workers", 1).start();
    let counts = answers(&proxy, 40);
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10, 10, 10, 10], "{counts:?}");
}

#[test]
fn least_connections_counts_until_the_last_byte_of_the_body() {
    let slow = Instance::named("slow").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let other = Instance::named("other");
    let proxy = Config::of(&[&slow, &other]).start();
    let mut clients = send_many(&proxy, 2);
    eventually("one body hangs", || (slow.count() == 1).then_some(()));
    for client in &mut clients {
        client.wire.read_head().unwrap();
    }
    assert_eq!(answers(&proxy, 10).get("other"), Some(&10));
}

#[test]
fn weights_share_the_load() {
    let (heavy, go1) = held("heavy");
    let (light, go2) = held("light");
    let proxy = Config::new().instance_with(&heavy, "weight = 3").instance_with(&light, "weight = 1").start();
    let mut clients = send_many(&proxy, 40);
    eventually("all requests are there", || (heavy.count() + light.count() == 40).then_some(()));
    assert_eq!((heavy.count(), light.count()), (30, 10));
    go1.store(true, Ordering::SeqCst);
    go2.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn round_robin_goes_round_smoothly_by_weight() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let proxy = Config::new()
        .instance_with(&a, "weight = 3")
        .instance_with(&b, "weight = 1")
        .pool("balance", "\"round_robin\"")
        .set("runtime", "workers", 1)
        .start();
    let mut client = proxy.connect();
    let order: String = (0..16).map(|_| client.get("/").text()).collect();
    assert_eq!(order.matches('b').count(), 4, "{order}");
    assert!(!order.contains("bb"), "{order}");
}

#[test]
fn random_of_two_uses_every_instance() {
    let instances = ["a", "b", "c"].map(Instance::named);
    let proxy = Config::of(&instances.iter().collect::<Vec<_>>()).pool("balance", "\"random_of_two\"").start();
    let counts = answers(&proxy, 120);
    assert!(counts.len() == 3 && counts.values().all(|count| *count > 10), "{counts:?}");
}

#[test]
fn backup_serves_only_when_no_other_is_eligible() {
    let (main, spare) = (Instance::named("main"), Instance::named("spare"));
    let proxy = Config::of(&[&main]).instance_with(&spare, "backup = true").start();
    assert_eq!(answers(&proxy, 10).get("main"), Some(&10));
    main.set_health(503, "no");
    proxy.wait_state("main", "down");
    assert_eq!(answers(&proxy, 10).get("spare"), Some(&10));
    main.set_health(200, "ok");
    proxy.wait_state("main", "up");
    assert_eq!(answers(&proxy, 10).get("main"), Some(&10));
}

#[test]
fn instance_never_has_more_in_flight_than_its_limit() {
    let (limited, go) = held("limited");
    let proxy = Config::new().instance_with(&limited, "in_flight_max = 3").set("runtime", "workers", 4).start();
    let mut clients = send_many(&proxy, 12);
    eventually("nine are refused", || {
        let refused = proxy.metric("plimsoll_local_responses_total", &[("cause", "overload")]);
        (refused > 8.5).then_some(())
    });
    assert_eq!(limited.count(), 3);
    go.store(true, Ordering::SeqCst);
    let ok = clients.iter_mut().map(|client| client.response().status()).filter(|s| *s == 200).count();
    assert_eq!(ok, 3);
}
