//! Several workers: connections are spread, limits are global, nobody starves.

use crate::support::wait::{eventually, millis, seconds};
use crate::support::{Client, Config, Instance};

#[test]
fn four_long_connections_on_four_workers_are_all_served_at_once() {
    let api = Instance::named("a").slow(millis(300));
    let proxy = Config::of(&[&api]).set("runtime", "workers", 4).start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for _ in 0..3 {
        let begin = tokio::time::Instant::now();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
        assert!(begin.elapsed() < seconds(2), "{:?}", begin.elapsed());
    }
}

#[test]
fn idle_connections_of_one_worker_do_not_starve_another() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api])
        .set("runtime", "workers", 4)
        .listener("connections_max", 8)
        .listener("keep_alive_timeout", "\"1h\"")
        .start();
    // Eight idle ones hold the whole limit, wherever they are.
    let mut idle: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status(), 200);
    }
    // Newcomers on any worker are served all the same: the oldest idle ones go.
    for _ in 0..12 {
        let mut client = Client::connect(proxy.front).patient(seconds(5));
        assert_eq!(client.get("/").status(), 200);
    }
    eventually("the limit holds", || {
        (proxy.metric("plimsoll_listener_connections", &[("listener", "front")]) < 8.5).then_some(())
    });
}

#[test]
fn connections_beyond_the_limit_wait_for_a_busy_one_to_end() {
    let api = Instance::named("a").slow(millis(300));
    let proxy = Config::of(&[&api]).set("runtime", "workers", 2).listener("connections_max", 4).start();
    let ask = |_| {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client
    };
    let mut clients: Vec<_> = (0..12).map(ask).collect();
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn all_workers_share_one_count_per_instance() {
    let (a, b) = (Instance::named("a").slow(millis(400)), Instance::named("b").slow(millis(400)));
    let proxy = Config::of(&[&a, &b]).set("runtime", "workers", 4).start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it is there", || (a.count() + b.count() > index).then_some(()));
        let (of_a, of_b) = (a.count(), b.count());
        // Answers come after 400 ms; until then counts can differ by one only.
        if index < 8 {
            assert!(of_a.abs_diff(of_b) <= 1, "{of_a} and {of_b}");
        }
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}
