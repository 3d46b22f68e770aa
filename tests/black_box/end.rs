//! The end: what is in flight is finished, new work goes elsewhere, and there is a limit to the wait.

use tokio::time::Instant;

use crate::support::instance::Then;
use crate::support::load::{Load, Sent};
use crate::support::wait::{eventually, millis, pause, seconds};
use crate::support::{Client, Config, Instance};

#[test]
fn request_in_flight_is_finished() {
    for signal in ["TERM", "INT"] {
        let api = Instance::named("a").slow(millis(600));
        let mut proxy = Config::of(&[&api]).start();
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        api.wait_for(1);
        proxy.signal(signal);
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "a"), "{signal}");
        assert!(answer.closes(), "the client is told not to come back");
        client.expect_end();
        assert!(proxy.wait_end(seconds(5)).success());
        let last = proxy.lines().join("\n");
        assert!(last.contains("\"cut\":0"), "{last}");
    }
}

#[test]
fn new_connections_are_refused_and_idle_ones_closed() {
    let api = Instance::named("a").slow(millis(800));
    let mut proxy = Config::of(&[&api]).start();
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").status(), 200);
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(2);
    proxy.signal("TERM");
    idle.expect_end();
    eventually("the port is closed", || Client::try_connect(proxy.front).is_err().then_some(()));
    assert_eq!(busy.response().status(), 200);
    assert!(proxy.wait_end(seconds(5)).success());
}

#[test]
fn ready_turns_503_and_requests_still_pass_while_it_lingers() {
    let api = Instance::named("a");
    let mut proxy = Config::of(&[&api]).set("runtime", "linger", "\"800ms\"").start();
    assert_eq!(proxy.admin_get("/ready").status(), 200);
    let begin = Instant::now();
    proxy.signal("TERM");
    eventually("it is not ready", || (proxy.admin_get("/ready").status() == 503).then_some(()));
    assert_eq!(proxy.get("/").status(), 200, "new connections are still taken");
    assert!(proxy.wait_end(seconds(10)).success());
    assert!(begin.elapsed() >= millis(700), "{:?}", begin.elapsed());
}

#[test]
fn request_that_takes_too_long_is_cut_and_counted() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let mut proxy = Config::of(&[&api]).set("runtime", "drain_timeout", "\"500ms\"").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(1);
    let begin = Instant::now();
    proxy.signal("TERM");
    proxy.wait_end(seconds(10));
    assert!((millis(400)..seconds(5)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    let text = proxy.lines().join("\n");
    assert!(text.contains("\"cut\":1"), "{text}");
}

#[test]
fn second_signal_ends_at_once() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let mut proxy = Config::of(&[&api]).set("runtime", "drain_timeout", "\"60s\"").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(1);
    proxy.signal("TERM");
    eventually("it drains", || (proxy.admin_get("/ready").status() == 503).then_some(()));
    assert!(!proxy.has_ended());
    proxy.signal("TERM");
    proxy.wait_end(seconds(3));
}

#[test]
fn upgraded_connection_is_waited_for() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tea\r\n\r\n")?;
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let mut proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tea\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    proxy.signal("TERM");
    eventually("the port is closed", || Client::try_connect(proxy.front).is_err().then_some(()));
    assert!(!proxy.has_ended());
    client.expect_silence(millis(300));
    drop(client);
    assert!(proxy.wait_end(seconds(5)).success());
}

#[test]
fn no_request_fails_under_load_but_by_a_closed_port() {
    let api = Instance::named("a");
    let mut proxy = Config::of(&[&api]).start();
    let load = Load::start(proxy.front, 8, 4);
    load.wait_more(200);
    proxy.signal("TERM");
    let status = proxy.wait_end(seconds(10));
    assert!(status.success(), "{status}");
    // Whoever was connected got its answer, or an end before a byte of it; nobody got a part.
    let odd: Vec<_> = load
        .end()
        .into_iter()
        .filter(Sent::failed)
        .filter(|sent| !matches!(&sent.result, Err(why) if why.contains("connect") || why.contains("no response at all") || why.contains("reset") || why.contains("send")))
        .take(5)
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn end_before_anything_happened_is_quick_and_clean() {
    let api = Instance::named("a");
    let mut proxy = Config::of(&[&api]).start();
    let begin = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.wait_end(seconds(5)).success());
    assert!(begin.elapsed() < seconds(2), "{:?}", begin.elapsed());
}

#[test]
fn client_that_connected_before_the_end_still_gets_its_answer() {
    let api = Instance::named("a");
    let mut proxy = Config::of(&[&api]).start();
    let mut clients = [proxy.connect(), proxy.connect(), proxy.connect()];
    proxy.signal("TERM");
    eventually("it drains", || (proxy.admin_get("/ready").status() == 503).then_some(()));
    pause(millis(200));
    for client in &mut clients {
        let answer = client.get("/");
        assert!(answer.status() == 200 && answer.closes());
    }
    assert!(proxy.wait_end(seconds(10)).success());
}

#[test]
fn full_listener_does_not_hold_up_the_end() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let config = Config::of(&[&api]).listener("connections_max", 2).set("runtime", "drain_timeout", "\"500ms\"");
    let mut proxy = config.start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    api.wait_for(2);
    let begin = Instant::now();
    proxy.signal("TERM");
    proxy.wait_end(seconds(10));
    assert!(begin.elapsed() < seconds(2), "{:?}", begin.elapsed());
}

#[test]
fn requests_that_follow_an_answer_without_close_are_answered_at_the_end_too() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")?;
        pause(millis(500));
        exchange.write("lf")?;
        Ok(Then::KeepAlive)
    });
    let mut proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2));
    let head = client.wire.read_head().unwrap().unwrap();
    assert!(!head.has("connection"), "{head:?}");
    proxy.signal("TERM");
    assert_eq!(client.wire.read_exactly(4).unwrap(), b"half");
    let second = client.response();
    assert!(second.text() == "half" && second.closes());
    client.expect_end();
    drop(client);
    assert!(proxy.wait_end(seconds(10)).success());
}
