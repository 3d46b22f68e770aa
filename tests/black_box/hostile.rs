//! Clients that take more than their share: each limit holds, and the others do not notice.

use std::io::Read as _;

use tokio::time::Instant;

use crate::support::instance::Then;
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

#[test]
fn connection_ends_with_the_answer_to_its_last_request_or_when_it_is_old() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("keep_alive_requests_max", 3).start();
    let mut client = proxy.connect();
    let closes: Vec<_> = (0..3).map(|_| client.get("/").closes()).collect();
    assert_eq!(closes, [false, false, true]);
    client.expect_end();

    let proxy = Config::of(&[&api]).listener("connection_age_max", "\"1s\"").start();
    let mut client = proxy.connect();
    assert!(!client.get("/").closes());
    pause(millis(1_200));
    assert!(client.get("/").closes());
    client.expect_end();
}

#[test]
fn client_has_so_many_connections_and_no_more_unless_it_is_a_trusted_proxy() {
    let api = Instance::named("a");
    let config = || Config::of(&[&api]).listener("connections_per_client_max", 3);
    let proxy = config().start();
    let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
    proxy.connect().expect_end();
    let refused = proxy
        .metric("plimsoll_listener_connections_refused_total", &[("listener", "front"), ("reason", "client_limit")]);
    assert!((refused - 1.0).abs() < 0.5, "{refused}");
    assert_eq!(clients[0].get("/").status(), 200, "those that are there stay");
    clients.pop();
    eventually("a place is free again", || (proxy.metric("plimsoll_listener_connections", &[]) < 2.5).then_some(()));
    assert_eq!(proxy.get("/").status(), 200);

    let proxy = config().listener("trusted_proxies", "[\"127.0.0.0/8\"]").start();
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 200);
    }
}

#[test]
fn thousand_slow_clients_do_not_hinder_others() {
    let api = Instance::named("a").slow(millis(1));
    let proxy = Config::of(&[&api]).listener("request_head_timeout", "\"60s\"").start();
    let mut slow: Vec<_> = (0..1_000).map(|_| proxy.connect()).collect();
    for (index, client) in slow.iter_mut().enumerate() {
        client.send(match index % 3 {
            0 => "GET / HTTP/1.1\r\nHost: a\r\nX: ",
            1 => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx",
            _ => "",
        });
    }
    for _ in 0..2 {
        for client in &mut slow {
            client.send("y");
        }
        let begin = Instant::now();
        for _ in 0..50 {
            assert_eq!(proxy.get("/").status(), 200);
        }
        assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
    }
}

#[test]
fn clients_that_do_not_read_hold_no_more_memory_than_their_windows() {
    const CLIENTS: u64 = 100;
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        loop {
            exchange.write(vec![b'x'; 1_000_000])?;
        }
    });
    let proxy = Config::of(&[&api]).listener("response_write_timeout", "\"60s\"").start();
    let before = proxy.memory_kib();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    api.wait_for(CLIENTS as usize);
    // Until the kernels have taken what they take.
    pause(seconds(2));
    let grown = proxy.memory_kib().saturating_sub(before);
    assert!(grown < CLIENTS * 320, "{grown} KiB for {CLIENTS} clients");
}

#[test]
fn events_arrive_one_by_one() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // The next event only when the client has said that it has the one before.
        for number in 0..5 {
            exchange.write(format!("9\r\ndata: {number}\n\n\r\n"))?;
            if exchange.wire.read_exactly(1)? != b"!" {
                break;
            }
        }
        exchange.write("0\r\n\r\n")?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert!(client.wire.read_head().unwrap().is_some());
    for number in 0..5 {
        let event = client.wire.read_exactly(14).unwrap();
        assert_eq!(String::from_utf8_lossy(&event), format!("9\r\ndata: {number}\n\n\r\n"));
        client.send("!");
    }
    assert_eq!(client.wire.read_exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn admin_listener_answers_and_clients_come_back_when_descriptors_have_run_out() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let limit = proxy.descriptors() + 60;
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &proxy.pid().to_string(), &format!("--nofile={limit}:{limit}")])
        .status()
        .expect("prlimit");
    assert!(status.success());
    // The limit is looked at once a second, while there are connections.
    let _one = proxy.connect();
    pause(millis(1_500));
    let mut flood: Vec<_> = (0..400).map(|_| proxy.connect()).collect();
    for client in &mut flood {
        // Busy ones, which cannot be closed to make room; some are refused already.
        drop(client.wire.write("GET / HTTP/1.1\r\nX: "));
    }
    proxy.wait_event("the warning", |event| {
        event["message"].as_str().is_some_and(|text| text.contains("LimitNOFILE")) && event["level"] == "WARN"
    });
    for _ in 0..5 {
        assert_eq!(proxy.admin_get("/ready").status(), 200);
        assert!(proxy.metric("process_max_fds", &[]) > 0.0);
        assert!(proxy.metric("process_open_fds", &[]) <= limit as f64);
    }
    eventually("connections are refused", || {
        let labels = [("reason", "descriptors")];
        (proxy.metric("plimsoll_listener_connections_refused_total", &labels) > 0.5).then_some(())
    });
    drop(flood);
    eventually("clients are served again", || {
        let mut client = crate::support::Client::try_connect(proxy.front).ok()?;
        client.wire.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.wire.read_response_to("GET").ok().filter(|answer| answer.status() == 200).map(drop)
    });
}
