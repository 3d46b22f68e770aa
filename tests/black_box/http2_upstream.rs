//! Instances that speak HTTP/2: requests share connections, and what an instance says of them is believed to the letter.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::echo::Echo;
use crate::support::frames::{CANCEL, DATA, END_STREAM, Frames, HEADERS, INTERNAL_ERROR, REFUSED_STREAM, RST_STREAM};
use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, seconds};
use crate::support::{Config, Instance};

/// A pool of instances that speak HTTP/2, whose probes do not interfere.
fn pool(instances: &[SocketAddr]) -> Config {
    let config = Config::new()
        .set("runtime", "workers", 1)
        .pool("protocol", "\"h2c\"")
        .probe("kind", "\"tcp\"")
        .probe("interval", "\"60s\"")
        .probe("timeout", "\"2s\"")
        .evidence("failures", 0);
    let named = instances.iter().zip(["a", "b", "c"]);
    // The first one is asked first: the others are backups.
    named.fold(config, |config, (address, name)| {
        config.instance_at(name, *address, if name == "a" { "" } else { "backup = true" })
    })
}

/// As [`pool`], of equals: with one worker they are asked in turn.
fn equals(instances: &[SocketAddr]) -> Config {
    let equals = pool(&[]);
    let named = instances.iter().zip(["a", "b", "c"]);
    named.fold(equals, |config, (address, name)| config.instance_at(name, *address, ""))
}

#[test]
fn requests_reach_the_instance_in_the_form_of_http_2() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()]).start();
    let answer = proxy.send(
        "POST /x?y HTTP/1.1\r\nHost: shop.example:81\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\nX-Stays: 1\r\nTE: trailers\r\n\
         Keep-Alive: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n",
    );
    assert_eq!(answer.status(), 200);
    let text = answer.text();
    assert!(text.starts_with("POST http://shop.example:81/x?y\n"), "{text}");
    for line in ["x-stays: 1", "te: trailers", "abcde", "x-trailer: t"] {
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }
    for name in ["host:", "connection:", "keep-alive:", "x-gone:", "transfer-encoding:", "content-length:"] {
        assert!(!text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
    }
    assert_eq!((answer.field("x-echo"), answer.field("transfer-encoding")), (Some("1"), Some("chunked")));
}

#[test]
fn trailers_and_interim_answers_come_through() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()]).start();
    let answer = proxy.get("/trailers");
    assert_eq!(answer.trailers, [("x-after".to_owned(), "done".to_owned())]);
    let mut client = proxy.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.wire.read_head().expect("a head").expect("a head");
    assert_eq!((hints.word(1), hints.field("link")), ("103", Some("</a.css>")));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn requests_share_a_connection() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()]).start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(echo.connections(), 1);
    let labels = [("instance", "a")];
    assert!((proxy.metric("plimsoll_upstream_connections_opened_total", &labels) - 1.0).abs() < 0.5);
    assert!((proxy.metric("plimsoll_upstream_connections_reused_total", &labels) - 19.0).abs() < 0.5);
    eventually("the connection idles", || {
        let idle = proxy.metric("plimsoll_upstream_connections", &[("instance", "a"), ("state", "idle")]);
        (idle > 0.5).then_some(())
    });
    assert!(proxy.metric("plimsoll_upstream_in_flight", &labels) < 0.5);
}

#[test]
fn limit_of_the_instance_holds_and_the_others_wait_for_their_turn() {
    // SETTINGS_MAX_CONCURRENT_STREAMS = 1: the script would see a second stream before it has answered the first.
    let open = AtomicUsize::new(0);
    let most = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&most);
    let instance = Frames::with_settings(&[(3, 1)], move |peer, frame| {
        if frame.begins() {
            seen.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            std::thread::sleep(millis(20));
            open.fetch_sub(1, Ordering::Relaxed);
            peer.answer(frame.stream, "turn")?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).connection("h2_connections_max", 1).start();
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "turn");
    }
    assert_eq!((most.load(Ordering::Relaxed), instance.connections()), (1, 1));
}

#[test]
fn full_connections_are_joined_by_others_up_to_the_maximum() {
    let instance = Frames::with_settings(&[(3, 1)], |_, _| Ok(()));
    let proxy = pool(&[instance.address()])
        .connection("h2_connections_max", 3)
        .connection("connect_timeout", "\"300ms\"")
        .start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients[..3] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("three connections", || (instance.connections() == 3).then_some(()));
    let refused = clients[3].get("/");
    assert_eq!((refused.status(), refused.cause().as_str()), (503, "overload"));
    assert_eq!(instance.requests(), 3);
}

#[test]
fn what_a_goaway_leaves_unprocessed_goes_again_also_a_post() {
    let instance = Frames::new(|peer, frame| {
        match (peer.connection, frame.stream) {
            (1, 1) if frame.ends() => peer.answer(1, "first")?,
            // The next one was on its way already.
            (1, 3) if frame.ends() => peer.goaway(1, 0)?,
            (2, _) if frame.ends() => peer.answer(frame.stream, "again")?,
            _ => {}
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).retry("retries", 0).start();
    assert_eq!(proxy.get("/").text(), "first");
    assert_eq!(proxy.post("/", "body").text(), "again");
    let bodies = instance.frames().into_iter().filter(|(_, frame)| frame.kind == DATA && frame.payload == b"body");
    assert_eq!(bodies.map(|(connection, _)| connection).collect::<Vec<_>>(), [1, 2]);
    let labels = [("pool", "api"), ("reason", "refused"), ("outcome", "answered")];
    assert!((proxy.metric("plimsoll_retries_total", &labels) - 1.0).abs() < 0.5);
    let goaways = proxy.metric("plimsoll_upstream_h2_events_total", &[("instance", "a"), ("event", "goaway")]);
    assert!((goaways - 1.0).abs() < 0.5, "{goaways}");
}

#[test]
fn what_a_goaway_covers_is_answered_on_the_old_connection() {
    let instance = Frames::new(|peer, frame| {
        match (peer.connection, frame.stream) {
            (1, 1) if frame.ends() => {
                peer.goaway(1, 0)?;
                std::thread::sleep(millis(100));
                peer.answer(1, "last")?;
            }
            (2, _) if frame.ends() => peer.answer(frame.stream, "new")?,
            _ => {}
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let mut first = proxy.connect();
    first.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    instance.wait_for("the request", |frame| frame.kind == HEADERS);
    assert_eq!(proxy.get("/").text(), "new");
    assert_eq!(first.response().text(), "last");
    assert_eq!(instance.requests(), 2);
}

#[test]
fn refused_stream_goes_to_another_instance_also_a_post() {
    let refusing =
        Frames::new(|peer, frame| if frame.begins() { peer.reset(frame.stream, REFUSED_STREAM) } else { Ok(()) });
    let good = Echo::start();
    let proxy = pool(&[refusing.address(), good.address()]).retry("retries", 0).start();
    let answer = proxy.post("/", "body");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains("\nbody\n"), "{}", answer.text());
    assert_eq!(refusing.requests(), 1);
    let events = proxy.metric("plimsoll_upstream_h2_events_total", &[("instance", "a"), ("event", "refused_stream")]);
    assert!((events - 1.0).abs() < 0.5);
}

#[test]
fn instance_that_refuses_everything_ends_in_a_503_that_says_so() {
    let refusing =
        Frames::new(|peer, frame| if frame.begins() { peer.reset(frame.stream, REFUSED_STREAM) } else { Ok(()) });
    let proxy = pool(&[refusing.address()]).start();
    let answer = proxy.post("/", "body");
    assert_eq!((answer.status(), answer.cause().as_str()), (503, "stream_refused"));
    assert!((2..=6).contains(&refusing.requests()), "{}", refusing.requests());
}

#[test]
fn other_resets_follow_the_rules_for_retries() {
    for code in [CANCEL, INTERNAL_ERROR] {
        let bad = Frames::new(move |peer, frame| if frame.begins() { peer.reset(frame.stream, code) } else { Ok(()) });
        let good = Echo::start();
        let proxy = equals(&[bad.address(), good.address()]).start();
        assert_eq!(proxy.get("/").status(), 200, "{code}");
        let answer = proxy.post("/", "body");
        assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_reset"), "{code}");
        assert_eq!(bad.requests(), 2, "{code}");
    }
}

#[test]
fn connection_that_ends_without_a_word_is_as_in_http_1() {
    let bad = Frames::new(|peer, frame| if frame.begins() { peer.close() } else { Ok(()) });
    let good = Echo::start();
    let proxy = equals(&[bad.address(), good.address()]).start();
    assert_eq!(proxy.get("/").status(), 200);
    let answer = proxy.post("/", "body");
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_reset"));
}

#[test]
fn malformed_responses_are_refused() {
    type Fields = &'static [(&'static str, &'static str)];
    let cases: &[(&str, Fields)] = &[
        ("RFC 9113 8.2.2: connection", &[(":status", "200"), ("connection", "close")]),
        ("RFC 9113 8.2.2: transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")]),
        ("RFC 9113 8.2.1: upper case", &[(":status", "200"), ("X-Upper", "1")]),
        ("RFC 9113 8.2.1: white space", &[(":status", "200"), ("x", " 1")]),
        ("RFC 9113 8.2.1: line feed", &[(":status", "200"), ("x", "1\n2")]),
        ("RFC 9113 8.3.2: no status", &[("x", "1")]),
        ("RFC 9113 8.3: unknown pseudo-header field", &[(":status", "200"), (":x", "1")]),
        ("RFC 9113 8.3: pseudo-header field behind others", &[("x", "1"), (":status", "200")]),
        ("RFC 9113 8.6: no 101", &[(":status", "101")]),
        ("RFC 9110 15: status above 599", &[(":status", "600")]),
        ("RFC 9110 8.6: two lengths", &[(":status", "200"), ("content-length", "1"), ("content-length", "2")]),
        ("RFC 9110 8.6: bad length", &[(":status", "200"), ("content-length", "+1")]),
    ];
    for (what, fields) in cases {
        let instance =
            Frames::new(move |peer, frame| if frame.begins() { peer.head(frame.stream, 0, fields) } else { Ok(()) });
        let proxy = pool(&[instance.address()]).start();
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.cause().as_str()), (502, "upstream_bad_response"), "{what}");
    }
}

#[test]
fn bodies_that_are_cut_short_or_have_another_length_never_look_whole() {
    type Case = (&'static str, Option<&'static str>, &'static [u8], Option<u32>);
    let cases: [Case; 6] = [
        ("shorter than its length", Some("9"), b"short", None),
        ("longer than its length", Some("2"), b"longer", None),
        ("reset in the middle", None, b"begin", Some(INTERNAL_ERROR)),
        ("reset with NO_ERROR in the middle", None, b"begin", Some(0)),
        ("reset at its length, without an end", Some("5"), b"begin", Some(CANCEL)),
        ("shorter, and reset", Some("9"), b"begin", Some(0)),
    ];
    for (what, length, body, code) in cases {
        let instance = Frames::new(move |peer, frame| {
            if frame.begins() {
                let mut fields = vec![(":status", "200")];
                fields.extend(length.map(|length| ("content-length", length)));
                peer.head(frame.stream, 0, &fields)?;
                peer.frame(DATA, if code.is_none() { END_STREAM } else { 0 }, frame.stream, body)?;
                if let Some(code) = code {
                    peer.reset(frame.stream, code)?;
                }
            }
            Ok(())
        });
        let proxy = pool(&[instance.address()]).start();
        let mut client = proxy.connect();
        client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
        if let Ok(response) = client.wire.read_response_to("GET") {
            // Nothing of it had gone out.
            assert_eq!(response.status(), 502, "{what}: {}", response.text());
        } else {
            assert_eq!(proxy.wait_access("/cut")["cause"], "upstream_closed_early", "{what}");
        }
    }
}

#[test]
fn early_answer_is_whole_though_the_instance_takes_no_more_of_the_request() {
    let instance = Frames::new(|peer, frame| {
        if frame.begins() {
            peer.head(frame.stream, 0, &[(":status", "413")])?;
            peer.frame(DATA, END_STREAM, frame.stream, b"too much")?;
            peer.reset(frame.stream, 0)?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").send([b'x'; 1000]);
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"));
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let instance = Frames::new(|peer, frame| {
        if frame.begins() {
            peer.head(frame.stream, END_STREAM, &[(":status", "204")])?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text().as_str(), answer.field("content-length")), (204, "", None));
    }
    let instance = Frames::new(|peer, frame| {
        if frame.begins() {
            peer.head(frame.stream, END_STREAM, &[(":status", "200"), ("content-length", "12")])?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.response_to("HEAD");
        assert_eq!((answer.status(), answer.field("content-length")), (200, Some("12")));
    }
}

#[test]
fn client_that_leaves_cancels_its_stream_and_nothing_else() {
    let instance = Frames::new(|_, _| Ok(()));
    let proxy = pool(&[instance.address()]).listener("abort_on_close", true).start();
    let (mut leaving, mut staying) = (proxy.connect(), proxy.connect());
    staying.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    instance.wait_for("the first request", |frame| frame.begins() && frame.stream == 1);
    leaving.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    instance.wait_for("the second request", |frame| frame.begins() && frame.stream == 3);
    drop(leaving);
    let reset = instance.wait_for("a reset", |frame| frame.kind == RST_STREAM);
    assert_eq!((reset.stream, reset.payload.as_slice()), (3, &CANCEL.to_be_bytes()[..]));
}

#[test]
fn half_open_connection_is_noticed_by_a_ping() {
    let instance = Frames::new(|peer, frame| if frame.begins() { peer.answer(frame.stream, "a") } else { Ok(()) });
    let good = Echo::start();
    let proxy = equals(&[instance.address(), good.address()])
        .connection("h2_ping_interval", "\"200ms\"")
        .connection("h2_ping_timeout", "\"300ms\"")
        .start();
    assert_eq!(proxy.get("/").text(), "a");
    assert!(proxy.get("/").text().starts_with("GET http://"), "the other one's turn");
    instance.mute();
    // Long before `response_head_timeout`.
    assert!(proxy.get("/").text().starts_with("GET http://"));
    let events = proxy.metric("plimsoll_upstream_h2_events_total", &[("instance", "a"), ("event", "ping_timeout")]);
    assert!((events - 1.0).abs() < 0.5);
}

#[test]
fn request_that_must_not_be_repeated_asks_a_silent_connection_first() {
    let instance = Frames::new(|peer, frame| if frame.ends() { peer.answer(frame.stream, "a") } else { Ok(()) });
    let good = Echo::start();
    let proxy = pool(&[instance.address(), good.address()])
        .connection("unsafe_reuse_max", "\"1ms\"")
        .connection("connect_timeout", "\"500ms\"")
        .start();
    assert_eq!(proxy.get("/").text(), "a");
    std::thread::sleep(millis(20));
    assert_eq!(proxy.post("/", "1").text(), "a");
    instance.mute();
    std::thread::sleep(millis(20));
    let answer = proxy.post("/", "2");
    assert!(answer.text().starts_with("POST http://"), "{}", answer.text());
    assert!(!instance.frames().iter().any(|(_, frame)| frame.payload == b"2"), "it was sent nowhere else");
}

#[test]
fn idle_connection_is_closed_after_its_time() {
    let instance = Frames::new(|peer, frame| if frame.begins() { peer.answer(frame.stream, "a") } else { Ok(()) });
    let proxy = pool(&[instance.address()]).connection("idle_timeout", "\"200ms\"").start();
    assert_eq!(proxy.get("/").text(), "a");
    let goaway = instance.wait_for("a GOAWAY", |frame| frame.kind == 7);
    assert_eq!(&goaway.payload[4..8], &[0; 4], "NO_ERROR");
    eventually("no connection", || {
        let of = |state| proxy.metric("plimsoll_upstream_connections", &[("instance", "a"), ("state", state)]);
        (of("idle") + of("active") < 0.5).then_some(())
    });
    assert_eq!(proxy.get("/").text(), "a");
    assert_eq!(instance.connections(), 2);
}

#[test]
fn instance_that_speaks_http_1_is_no_instance_of_this_pool() {
    let old =
        Instance::named("old").answering_then("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Then::Close);
    let good = Echo::start();
    let proxy = pool(&[old.address(), good.address()]).start();
    // Nothing was sent, so also a POST moves on.
    assert_eq!(proxy.post("/", "body").status(), 200);
    let proxy = pool(&[old.address()]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 502);
    assert!(["upstream_bad_response", "connect_reset"].contains(&answer.cause().as_str()), "{}", answer.cause());
}

#[test]
fn refused_connection_moves_on() {
    let good = Echo::start();
    let dead = crate::support::ports::free();
    let proxy = pool(&[dead, good.address()]).probe("interval", "\"60s\"").start();
    assert_eq!(proxy.post("/", "body").status(), 200);
}

#[test]
fn upgrade_is_refused() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()]).start();
    let answer = proxy.send(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!((answer.status(), answer.cause().as_str()), (501, "not_implemented"));
}

#[test]
fn probes_speak_http_2_too() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()])
        .probe("kind", "\"http\"")
        .probe("expect_body", "\"GET http://probe.example/health\"")
        .probe("host", "\"probe.example\"")
        .start();
    proxy.wait_state("a", "up");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn large_bodies_flow_both_ways() {
    let echo = Echo::start();
    let proxy = pool(&[echo.address()]).connection("h2_window_bytes", "\"16KiB\"").start();
    let body = "0123456789".repeat(200_000);
    let mut client = proxy.connect().patient(seconds(30));
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let answer = client.response();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().contains(&body));
}
