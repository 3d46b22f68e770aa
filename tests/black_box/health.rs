//! Probes and evidence from traffic: when an instance goes out and when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, pause, seconds, stays, within};
use crate::support::{Config, Instance, Proxy, ports};

#[test]
fn first_verdicts_stand_before_the_first_request() {
    let (good, bad) = (Instance::named("good"), Instance::named("bad").unhealthy());
    let proxy = Config::of(&[&good, &bad]).start();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    assert_eq!(bad.count(), 0);
}

#[test]
fn listener_opens_after_the_grace_though_a_probe_hangs() {
    let (good, slow) = (Instance::named("good"), Instance::named("slow"));
    slow.hang_probes();
    let begin = Instant::now();
    let proxy = Config::of(&[&good, &slow])
        .set("runtime", "startup_grace", "\"500ms\"")
        .probe("interval", "\"60s\"")
        .probe("timeout", "\"30s\"")
        .start();
    assert!(begin.elapsed() < seconds(8), "{:?}", begin.elapsed());
    assert_eq!(proxy.get("/").text(), "good");
    assert_eq!(slow.count(), 0, "unproven: nothing yet");
}

#[test]
fn fall_failures_in_a_row_eject_and_rise_passes_restore() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let proxy = Config::of(&[&a, &b]).probe("fall", 3).probe("rise", 2).start();
    let before = a.probes();
    a.set_health(503, "no");
    proxy.wait_state("a", "down");
    let failures = a.probes() - before;
    assert!((3..=5).contains(&failures), "{failures} failures until it was out");
    a.forget();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "b");
    }
    assert_eq!(a.count(), 0);
    let before = a.probes();
    a.set_health(200, "ok");
    proxy.wait_state("a", "up");
    let passes = a.probes() - before;
    assert!((2..=4).contains(&passes), "{passes} passes until it was back");
    eventually("it serves again", || (proxy.get("/").text() == "a").then_some(()));
}

#[test]
fn opposite_outcome_resets_the_count() {
    // Two failures, one pass, again and again: never three in a row.
    let count = Arc::new(AtomicU64::new(0));
    let turn = Arc::clone(&count);
    let flapping = Instance::named("a").probed(move |exchange| {
        let status = if turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) { 200 } else { 503 };
        exchange.respond(status, "", b"")
    });
    let proxy =
        Config::of(&[&flapping]).probe("fall", 3).probe("interval", "\"50ms\"").probe("timeout", "\"40ms\"").start();
    let target = count.load(Ordering::SeqCst) + 30;
    within(seconds(20), "thirty probes", || (count.load(Ordering::SeqCst) > target).then_some(()));
    assert!(proxy.metric("plimsoll_instance_transitions_total", &[("to", "down")]) < 0.5);
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn probe_reads_status_and_json() {
    let cases: &[(&str, u16, &str, bool)] = &[
        ("200", 200, "ok", true),
        ("204", 204, "", true),
        ("299", 299, "", true),
        ("301", 301, "", false),
        ("404", 404, "", false),
        ("500", 500, "", false),
        ("503", 503, "{\"status\":\"healthy\"}", false),
        ("healthy", 200, "{\"status\":\"healthy\"}", true),
        ("degraded", 200, "{\"status\": \"degraded\", \"more\": [1]}", true),
        ("unhealthy", 200, "{\"status\":\"unhealthy\"}", false),
        ("unhealthy in capitals", 200, "{\"status\":\"Unhealthy\"}", false),
        ("no status field", 200, "{\"state\":\"unhealthy\"}", true),
        ("no JSON", 200, "status: unhealthy", true),
    ];
    let instances: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(index, (_, status, body, _))| {
            let (status, body) = (*status, body.as_bytes());
            Instance::named(&format!("c{index}"))
                .probed(move |exchange| exchange.respond(status, "Content-Type: application/json\r\n", body))
        })
        .collect();
    let proxy = Config::of(&instances.iter().collect::<Vec<_>>()).start();
    for (index, (name, _, _, up)) in cases.iter().enumerate() {
        let status = proxy.instance_status(&format!("c{index}"));
        let wanted = if *up { "up" } else { "down" };
        assert_eq!(status["verdict"], wanted, "{name}: {status:#}");
    }
}

#[test]
fn probe_is_what_was_configured() {
    let api = Instance::named("a");
    let health = Instance::named("h").serving(|exchange| exchange.respond(418, "", b"I am a teapot, and well"));
    let proxy = Config::of(&[&api])
        .probe("port", health.address().port())
        .probe("method", "\"POST\"")
        .probe("path", "\"/deep/check?full\"")
        .probe("host", "\"check.test\"")
        .probe("headers", "{ X-Token = \"t\" }")
        .probe("expect_status", "[\"418\"]")
        .probe("expect_body", "\"and well\"")
        .start();
    assert_eq!(proxy.get("/").text(), "a");
    let probe = health.received().remove(0).head;
    assert_eq!(probe.start, "POST /deep/check?full HTTP/1.1");
    assert_eq!((probe.field("host"), probe.field("x-token")), (Some("check.test"), Some("t")));
    health.serve(|exchange| exchange.respond(418, "", b"I am a teapot, and ill"));
    proxy.wait_state("a", "down");
}

#[test]
fn tcp_probe_needs_a_connection_only() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).probe("kind", "\"tcp\"").start();
    assert_eq!(proxy.get("/").text(), "a");
    api.stop();
    proxy.wait_state("a", "down");
    api.start();
    proxy.wait_state("a", "up");
}

#[test]
fn hanging_probe_of_one_instance_delays_no_other() {
    let hanging: Vec<_> = (0..10).map(|index| Instance::named(&format!("h{index}"))).collect();
    hanging.iter().for_each(Instance::hang_probes);
    let good = Instance::named("good");
    let mut all: Vec<_> = hanging.iter().collect();
    all.push(&good);
    let proxy = Config::of(&all).probe("interval", "\"200ms\"").probe("timeout", "\"190ms\"").start();
    let begin = Instant::now();
    let before = good.probes();
    eventually("ten probes", || (good.probes() >= before + 10).then_some(()));
    assert!(begin.elapsed() < seconds(5), "ten probes took {:?}", begin.elapsed());
    // No overlap: a hanging instance has one probe at a time.
    assert!(hanging[0].open() <= 2, "{} probes at a time", hanging[0].open());
    drop(proxy);
}

#[test]
fn refused_connection_in_traffic_asks_for_a_probe_at_once() {
    let (dead, live) = (Instance::named("dead"), Instance::named("live"));
    let proxy =
        Config::of(&[&dead, &live]).probe("interval", "\"30s\"").probe("timeout", "\"1s\"").probe("fall", 1).start();
    dead.stop();
    let begin = Instant::now();
    for _ in 0..6 {
        assert_eq!(proxy.get("/").text(), "live");
    }
    proxy.wait_state("dead", "down");
    assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
}

/// Two instances; `a` passes its probes and resets every request.
fn resetting() -> (Instance, Instance, Config) {
    let (a, b) = (Instance::named("a").answering_then("", Then::Reset), Instance::named("b"));
    let config = Config::of(&[&a, &b]).evidence("failures", 3).evidence("eject_time", "\"1s\"");
    (a, b, config)
}

#[track_caller]
fn eject(proxy: &Proxy) {
    within(seconds(10), "`a` is ejected by traffic", || {
        drop(proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").wire.read_response_to("GET"));
        (!proxy.instance_status("a")["ejected"].is_null()).then_some(())
    });
}

#[test]
fn failures_in_traffic_eject_for_a_time_and_leave_the_verdict_alone() {
    let (a, _b, config) = resetting();
    let proxy = config.start();
    let begin = Instant::now();
    eject(&proxy);
    assert_eq!(proxy.instance_status("a")["verdict"], "up");
    let seen = a.count();
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "b");
    }
    assert_eq!(a.count(), seen, "an ejected instance gets nothing");
    a.serve(|exchange| exchange.respond(200, "", b"a"));
    eventually("it comes back", || (proxy.get("/").text() == "a").then_some(()));
    assert!(begin.elapsed() >= millis(900), "back after {:?} already", begin.elapsed());
}

#[test]
fn each_repeat_doubles_the_time() {
    let (a, _b, config) = resetting();
    let proxy = config.start();
    eject(&proxy);
    eventually("the time is up", || proxy.instance_status("a")["ejected"].is_null().then_some(()));
    eject(&proxy);
    let ejected = &proxy.instance_status("a")["ejected"];
    assert!(ejected["seconds_left"].as_f64().unwrap() > 1.1, "{ejected}");
    drop(a);
}

#[test]
fn evidence_from_traffic_leaves_half_of_the_pool() {
    let bad = ["a", "b", "c", "d"].map(|name| Instance::named(name).answering_then("", Then::Reset));
    let proxy =
        Config::of(&bad.iter().collect::<Vec<_>>()).evidence("failures", 2).evidence("eject_time", "\"30s\"").start();
    for _ in 0..40 {
        drop(proxy.connect().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").wire.read_response_to("GET"));
    }
    stays(millis(300), "half of the pool stays", || proxy.metric("plimsoll_pool_eligible_instances", &[]) > 1.5);
    proxy.wait_eligible(2);
}

#[test]
fn server_errors_are_judged_only_where_that_is_switched_on() {
    for judged in [false, true] {
        let bad = Instance::named("bad").serving(|exchange| exchange.respond(500, "", b"bad"));
        let good = Instance::named("good");
        let proxy = Config::of(&[&bad, &good])
            .evidence("failures", 3)
            .evidence("eject_time", "\"30s\"")
            .evidence("judge_5xx", judged)
            .start();
        for _ in 0..20 {
            proxy.get("/");
        }
        if judged {
            proxy.wait_eligible(1);
        } else {
            stays(millis(200), "both serve", || proxy.metric("plimsoll_pool_eligible_instances", &[]) > 1.5);
        }
    }
}

#[test]
fn ejection_frees_requests_that_wait_for_a_head() {
    let stuck = Instance::named("stuck").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let good = Instance::named("good");
    // `good` is a backup, so that everything goes to `stuck` until it is out.
    let proxy = Config::of(&[&stuck]).instance_with(&good, "backup = true").start();
    let mut get = proxy.connect();
    get.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut post = proxy.connect();
    post.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    stuck.wait_for(2);
    let begin = Instant::now();
    stuck.set_health(503, "no");
    assert_eq!(get.response().text(), "good", "the GET moved on");
    let answer = post.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "ejected"));
    assert!(begin.elapsed() < seconds(3), "{:?}", begin.elapsed());
    let posts = good.received().iter().filter(|request| request.head.start.starts_with("POST")).count();
    assert_eq!(posts, 0, "the POST was not sent again");
}

#[test]
fn pool_without_an_eligible_instance_recovers_by_probes() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    api.stop();
    proxy.wait_state("a", "down");
    assert_eq!(proxy.get("/").status(), 503);
    api.start();
    proxy.wait_state("a", "up");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn detection_takes_no_longer_than_check_promises() {
    let api = Instance::named("a");
    let other = Instance::named("b");
    let proxy = Config::of(&[&api, &other]).probe("interval", "\"300ms\"").probe("timeout", "\"200ms\"").start();
    let detection = proxy.status()["pools"][0]["detection"].clone();
    let promised = detection["hang_seconds"].as_f64().unwrap();
    assert!((0.5..5.0).contains(&promised), "{detection}");
    let begin = Instant::now();
    api.hang_probes();
    proxy.wait_state("a", "down");
    // Plus what the test itself needs to see it.
    assert!(begin.elapsed().as_secs_f64() < promised + 1.0, "{:?} of {promised} s", begin.elapsed());
}

#[test]
fn fast_interval_is_used_while_an_opposite_streak_is_running() {
    let (api, other) = (Instance::named("a"), Instance::named("b"));
    let proxy = Config::of(&[&api, &other])
        .probe("interval", "\"1s\"")
        .probe("fast_interval", "\"100ms\"")
        .probe("fall", 10)
        .start();
    let begin = Instant::now();
    api.set_health(503, "no");
    proxy.wait_state("a", "down");
    assert!(begin.elapsed() < seconds(6), "ten failures took {:?}", begin.elapsed());
}

#[test]
fn proxy_that_was_stopped_itself_ejects_nobody() {
    let instances = ["a", "b", "c"].map(Instance::named);
    let proxy = Config::of(&instances.iter().collect::<Vec<_>>()).start();
    for _ in 0..3 {
        // In the middle of probes, for longer than all of them may take together.
        proxy.signal("STOP");
        pause(millis(1200));
        proxy.signal("CONT");
        assert_eq!(proxy.get("/").status(), 200);
    }
    stays(millis(500), "all are up", || proxy.metric("plimsoll_pool_eligible_instances", &[]) > 2.5);
    assert!(proxy.metric("plimsoll_instance_transitions_total", &[("to", "down")]) < 0.5);
}

#[test]
fn instance_by_name_is_resolved_at_load() {
    let api = Instance::named("a");
    let address = api.address();
    let config = Config::new().pool("instances", format!("[\"localhost:{}\"]", address.port()));
    let proxy = config.start();
    assert_eq!(proxy.get("/").status(), 200);
    assert!(ports::free() != address);
}
