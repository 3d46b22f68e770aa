//! Clients that take more than their share: each limit holds, and the others do not notice.

use std::io::Read as _;

use tokio::time::Instant;

use crate::support::wait::{eventually, millis, pause, seconds};
use crate::support::{Config, Instance};

#[test]
fn connection_that_has_not_asked_yet_outlives_one_that_idles_when_room_is_needed() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("connections_max", 2).set("runtime", "workers", 1).start();
    let mut fresh = proxy.connect();
    eventually("it is accepted", || (proxy.metric("plimsoll_listener_connections", &[]) > 0.5).then_some(()));
    // The ticks that tell ages apart.
    pause(millis(200));
    let mut served = proxy.connect();
    assert_eq!(served.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200, "room was made");
    assert_eq!(fresh.get("/").status(), 200);
    served.expect_end();
    assert!((proxy.metric("plimsoll_listener_connections_evicted_total", &[]) - 1.0).abs() < 0.5);
}

#[test]
fn body_that_trickles_is_cut_although_it_never_stops() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("rate_grace", "\"1s\"").start();
    let mut client = proxy.connect();
    client.send("POST /trickle HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let begin = Instant::now();
    while begin.elapsed() < seconds(10) && client.wire.write("x").is_ok() && !client.ended() {
        pause(millis(100));
        if !client.wire.buffered().is_empty() {
            break;
        }
    }
    assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
    let answer = client.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (408, "request_body_too_slow"));
    assert_eq!(proxy.wait_access("/trickle")["cause"], "request_body_too_slow");
    assert!(proxy.metric("plimsoll_local_responses_total", &[("cause", "request_body_too_slow")]) > 0.5);
}

#[test]
fn body_that_waits_for_a_slow_instance_is_not_held_against_the_client() {
    let api = Instance::named("a").slow(seconds(2));
    let proxy =
        Config::of(&[&api]).listener("rate_grace", "\"500ms\"").listener("request_body_rate_min", "\"1GiB\"").start();
    // Far more than the kernel takes for an instance that does not read.
    let body = "x".repeat(20_000_000);
    assert_eq!(proxy.connect().patient(seconds(30)).post("/", &body).status(), 200);
}

#[test]
fn stream_of_messages_may_rest() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("rate_grace", "\"200ms\"").start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nContent-Length: 2\r\n\r\nx");
    pause(millis(800));
    assert_eq!(client.send("y").response().status(), 200);
}

#[test]
fn response_that_is_taken_too_slowly_is_cut_although_it_never_stops() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            exchange.write(vec![b'x'; 1_000_000])?;
        }
    });
    let proxy = Config::of(&[&api])
        .listener("rate_grace", "\"500ms\"")
        .listener("response_rate_min", "\"20MiB\"")
        .listener("response_write_timeout", "\"3s\"")
        .start();
    let mut client = proxy.connect();
    client.send("GET /sip HTTP/1.1\r\nHost: a\r\n\r\n");
    let begin = Instant::now();
    let mut sip = vec![0; 200_000];
    // A tenth of what is asked, and never a pause of more than a tenth of a second.
    while begin.elapsed() < seconds(20) && client.wire.stream().read(&mut sip).is_ok_and(|count| count > 0) {
        pause(millis(100));
    }
    assert!(begin.elapsed() < seconds(15), "{:?}", begin.elapsed());
    assert_eq!(proxy.wait_access("/sip")["cause"], "client_too_slow");
}
