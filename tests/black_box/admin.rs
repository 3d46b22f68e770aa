//! The admin listener: what operators ask it, and who may.

use crate::support::wait::{eventually, millis, pause, stays};
use crate::support::{Client, Config, Instance, Proxy, ports};

#[test]
fn live_and_ready_say_what_they_are_for() {
    let (api, idle) = (Instance::named("a"), Instance::named("b").unhealthy());
    let proxy = Config::of(&[&api])
        .and(&format!("[pool.other]\ninstances = [\"{}\"]\n[[route]]\npool = \"api\"\n", idle.address()))
        .pool("required", true)
        .start();
    assert_eq!(proxy.admin_get("/live").status(), 200);
    assert_eq!(proxy.admin_get("/ready").status(), 200, "a pool that is not required does not count");
    api.set_health(503, "no");
    proxy.wait_state("a", "down");
    assert_eq!(proxy.admin_get("/ready").status(), 503);
    assert_eq!(proxy.admin_get("/live").status(), 200);
    api.set_health(200, "ok");
    proxy.wait_state("a", "up");
    assert_eq!(proxy.admin_get("/ready").status(), 200);
}

#[test]
fn status_tells_of_each_instance_and_why() {
    let (a, b) = (Instance::named("a"), Instance::named("b").unhealthy());
    let proxy = Config::of(&[&a, &b]).start();
    proxy.get("/");
    let status = proxy.status();
    assert_eq!(status["config"]["generation"], 1);
    assert!(status["config"]["hash"].as_str().is_some_and(|hash| hash.len() == 16));
    let (up, down) = (proxy.instance_status("a"), proxy.instance_status("b"));
    assert_eq!((&up["verdict"], &up["eligible"], &up["admin"]), (&"up".into(), &true.into(), &"active".into()));
    assert_eq!(down["verdict"], "down");
    assert!(up["totals"]["responses"].as_u64().is_some_and(|count| count >= 1));
    assert!(up["since"]["at"].is_string() && up["in_flight"] == 0);
    let last = down["probes"].as_array().and_then(|probes| probes.last()).expect("a probe").clone();
    assert!(last["result"].as_str().is_some_and(|result| result.contains("503")), "{last}");
    assert!(last["latency_seconds"].as_f64().is_some_and(|latency| latency >= 0.0));
    assert!(down["why"].as_str().is_some_and(|why| !why.is_empty()));
}

#[test]
fn drained_instance_gets_nothing_new_and_finishes_what_it_has() {
    let (a, b) = (Instance::named("a").slow(millis(300)), Instance::named("b").slow(millis(300)));
    let proxy = Config::of(&[&a, &b]).start();
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("both are busy", || (a.count() == 2 && b.count() == 2).then_some(()));
    let answer = proxy.admin_post("/instances/api/a/drain", "{\"why\":\"new disk\",\"who\":\"ann\"}");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "b");
    }
    let status = proxy.instance_status("a");
    assert_eq!((&status["admin"], &status["eligible"]), (&"drain".into(), &false.into()));
    let note = &status["admin_note"];
    assert_eq!(note["why"], "new disk", "{note}");
    assert!(note["who"].as_str().is_some_and(|who| who.contains("ann")), "{note}");
    assert!(note["since"]["at"].is_string());
    let probes = a.probes();
    eventually("a drained one is still probed", || (a.probes() > probes + 1).then_some(()));

    assert_eq!(proxy.admin_post("/instances/api/a/enable", "").status(), 200);
    eventually("it serves again", || (proxy.get("/").text() == "a").then_some(()));
}

#[test]
fn instance_that_is_off_is_not_probed() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let proxy = Config::of(&[&a, &b]).start();
    assert_eq!(proxy.admin_post("/instances/api/a/off", "").status(), 200);
    for _ in 0..4 {
        assert_eq!(proxy.get("/").text(), "b");
    }
    assert_eq!(proxy.instance_status("a")["admin"], "off");
    let mut last = u64::MAX;
    eventually("probes stop", || {
        pause(millis(300));
        let now = a.probes();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    assert_eq!(proxy.admin_post("/instances/api/a/enable", "").status(), 200);
    eventually("it serves again", || (proxy.get("/").text() == "a").then_some(()));
}

#[test]
fn drain_survives_a_reload() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a, &b]);
    let proxy = config.clone().start();
    assert_eq!(proxy.admin_post("/instances/api/a/drain", "").status(), 200);
    assert_eq!(proxy.reload(&config.retry("retries", 1)).status(), 200);
    assert_eq!(proxy.instance_status("a")["admin"], "drain");
    for _ in 0..6 {
        assert_eq!(proxy.get("/").text(), "b");
    }
}

#[test]
fn unknown_instance_is_404_with_the_nearest_name() {
    let api = Instance::named("frankfurt");
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.admin_post("/instances/api/frankfrt/drain", "");
    assert_eq!(answer.status(), 404);
    assert!(answer.text().contains("frankfurt"), "{}", answer.text());
    assert_eq!(proxy.admin_get("/nothing").status(), 404);
    assert_eq!(proxy.admin_get("/reload").status(), 405);
}

/// A proxy whose admin listener wants a token.
fn with_token() -> (Instance, Proxy) {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("admin", "token", "\"s3cret-s3cret-s3cret\"").start();
    (api, proxy)
}

#[test]
fn token_is_needed_for_everything_but_live_and_ready() {
    let (_api, proxy) = with_token();
    assert_eq!(proxy.admin_get("/live").status(), 200);
    assert_eq!(proxy.admin_get("/ready").status(), 200);
    for path in ["/status", "/metrics", "/nothing"] {
        assert_eq!(proxy.admin_get(path).status(), 401, "{path}");
    }
    assert_eq!(proxy.admin_post("/reload", "").status(), 401);
    let with = |token: &str| {
        Client::connect(proxy.admin)
            .send(format!("GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"))
            .response()
            .status()
    };
    assert_eq!(with("s3cret-s3cret-s3cret"), 200);
    assert_eq!(with("wrong"), 401);
}

#[test]
fn token_is_in_no_log_and_no_answer() {
    let (_api, proxy) = with_token();
    let answer = Client::connect(proxy.admin)
        .send("GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret-s3cret-s3cret\r\n\r\n")
        .response();
    assert!(!answer.text().contains("s3cret"));
    proxy.get("/");
    proxy.wait_access("/");
    assert!(proxy.lines().iter().all(|line| !line.contains("s3cret")));
}

#[test]
fn change_from_a_foreign_page_is_refused() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let post = |fields: &str| {
        Client::connect(proxy.admin)
            .send(format!("POST /reload HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n"))
            .response()
            .status()
    };
    let admin = proxy.admin;
    assert_eq!(post(&format!("Host: {admin}\r\n")), 200);
    assert_eq!(post(&format!("Host: {admin}\r\nOrigin: http://evil.test\r\n")), 403);
    assert_eq!(post("Host: evil.test\r\n"), 403);
}

#[test]
fn health_path_on_the_front_listener_answers_like_ready() {
    let api = Instance::named("a");
    let mut proxy = Config::of(&[&api])
        .pool("required", true)
        .listener("health_path", "\"/plimsoll-health\"")
        .set("runtime", "linger", "\"2s\"")
        .start();
    assert_eq!(proxy.get("/plimsoll-health").status(), 200);
    assert_eq!(proxy.get("/plimsoll-health/more").text(), "a");
    api.set_health(503, "no");
    proxy.wait_state("a", "down");
    assert_eq!(proxy.get("/plimsoll-health").status(), 503);
    api.set_health(200, "ok");
    proxy.wait_state("a", "up");
    assert_eq!(api.received().iter().filter(|request| request.head.start.contains("health ")).count(), 0);
    proxy.signal("TERM");
    eventually("it is not ready while it lingers", || (proxy.get("/plimsoll-health").status() == 503).then_some(()));
    proxy.wait_end(crate::support::seconds(10));
}

#[test]
fn admin_listener_answers_while_the_data_side_is_busy() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    let load = crate::support::load::Load::start(proxy.front, 8, 0);
    load.wait_more(50);
    for _ in 0..5 {
        assert_eq!(proxy.admin_get("/status").status(), 200);
    }
    assert!(load.end().iter().all(|sent| !sent.failed()));
}

#[test]
fn ready_stays_while_a_request_cannot_be_read() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut slow = Client::connect(proxy.admin);
    slow.send("GET /status HTTP/1.1\r\nHo");
    stays(millis(200), "others are answered", || proxy.admin_get("/ready").status() == 200);
}

#[test]
fn admin_off_loopback_without_a_token_is_refused_by_check() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("admin", "bind", format!("\"0.0.0.0:{}\"", ports::free().port()));
    let mut proxy = Proxy::launch(&config);
    let status = proxy.wait_end(crate::support::seconds(10));
    assert_eq!(status.code(), Some(1));
    let text = proxy.lines().join("\n");
    assert!(text.contains("token"), "{text}");
}
