//! Upgraded connections: bytes both ways until either side ends.

use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, pause, seconds};
use crate::support::{Client, Config, Instance, Proxy};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An instance that switches and then sends back what it gets, until it gets an end, which it sends back too.
fn echo() -> Instance {
    Instance::named("a").serving(|exchange| {
        exchange.write(SWITCH)?;
        loop {
            let bytes = exchange.wire.buffered().to_vec();
            if !bytes.is_empty() {
                exchange.wire.read_exactly(bytes.len())?;
                exchange.write(bytes)?;
            } else if !exchange.wire.fill()? {
                exchange.write("bye")?;
                return Ok(Then::Close);
            }
        }
    })
}

fn upgraded(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.send(ASK);
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert!(answer.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    client
}

#[test]
fn upgraded_connection_carries_bytes_both_ways_and_half_closes() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    let mut client = upgraded(&proxy);
    let head = api.last().head;
    assert!(head.has("upgrade") && head.has("sec-websocket-key") && head.has("connection"));
    for text in ["one", "two", "\x00\x01\r\n\r\n"] {
        client.send(text);
        assert_eq!(client.wire.read_exactly(text.len()).unwrap(), text.as_bytes());
    }
    client.wire.half_close().unwrap();
    assert_eq!(client.wire.read_to_end().unwrap(), b"bye");
}

#[test]
fn bytes_sent_with_the_upgrade_and_with_the_switch_are_not_lost() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write(format!("{SWITCH}welcome"))?;
        let bytes = exchange.wire.read_exactly(5)?;
        exchange.write(bytes)?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(format!("{ASK}early"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.read_to_end().unwrap(), b"welcomeearly");
}

#[test]
fn upgraded_connection_counts_in_flight_until_it_ends() {
    let api = echo();
    let proxy = Config::of(&[&api]).start();
    let client = upgraded(&proxy);
    assert!((proxy.metric("plimsoll_upstream_in_flight", &[]) - 1.0).abs() < 0.1);
    drop(client);
    eventually("nothing is in flight", || (proxy.metric("plimsoll_upstream_in_flight", &[]) < 0.5).then_some(()));
}

#[test]
fn upgraded_connection_ends_after_its_idle_limit() {
    let api = echo();
    let proxy = Config::of(&[&api]).connection("upgrade_idle_timeout", "\"1s\"").start();
    let mut client = upgraded(&proxy);
    for _ in 0..3 {
        pause(millis(500));
        client.send("x");
        assert_eq!(client.wire.read_exactly(1).unwrap(), b"x");
    }
    let begin = tokio::time::Instant::now();
    drop(client.wire.read_to_end());
    assert!((millis(900)..seconds(4)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(proxy.wait_access("/chat")["cause"], "upgrade_idle_timeout");
}

#[test]
fn refused_upgrade_is_an_ordinary_answer() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    let answer = client.send(ASK).response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "a"));
    assert_eq!(client.get("/").status(), 200);
}

#[test]
fn upgrade_lives_on_while_its_instance_is_ejected_and_the_file_reloaded() {
    let api = echo();
    let other = Instance::named("b");
    let config = Config::of(&[&api]);
    let proxy = config.clone().start();
    let mut client = upgraded(&proxy);
    api.set_health(503, "no");
    proxy.wait_state("a", "down");
    client.send("still");
    assert_eq!(client.wire.read_exactly(5).unwrap(), b"still");
    assert_eq!(proxy.reload(&config.without_instances().instance(&other)).status(), 200);
    client.send("here");
    assert_eq!(client.wire.read_exactly(4).unwrap(), b"here");
}

#[test]
fn upgrade_is_cut_with_its_instance_where_the_pool_says_so() {
    for removed in [false, true] {
        let (api, other) = (echo(), Instance::named("b"));
        let config = Config::of(&[&api]).pool("on_down", "\"cut\"");
        let proxy = config.clone().start();
        let mut client = upgraded(&proxy);
        if removed {
            assert_eq!(proxy.reload(&config.without_instances().instance(&other)).status(), 200);
        } else {
            api.set_health(503, "no");
        }
        drop(client.wire.read_to_end());
        let line = proxy.wait_access("/chat");
        assert_eq!((&line["cause"], &line["status"]), (&"upgrade_cut".into(), &101.into()), "removed: {removed}");
        assert!(proxy.metric("plimsoll_upstream_errors_total", &[("cause", "upgrade_cut")]) > 0.5);
    }
}

#[test]
fn upgrade_ends_with_its_longest_life_although_it_is_in_use() {
    let api = echo();
    let proxy = Config::of(&[&api]).connection("upgrade_lifetime_max", "\"1s\"").start();
    let mut client = upgraded(&proxy);
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < seconds(5) && client.wire.write("x").is_ok() && client.wire.read_exactly(1).is_ok() {
        pause(millis(50));
    }
    assert!((millis(900)..seconds(4)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(proxy.wait_access("/chat")["cause"], "upgrade_lifetime");
}
