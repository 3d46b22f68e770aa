//! Answers of Plimsoll itself: the right status, a body that the client accepts, one cause code everywhere.

use crate::support::instance::Then;
use crate::support::process::Blackhole;
use crate::support::wait::millis;
use crate::support::{Config, Instance, Proxy, ports};

/// Asserts status, cause, error type, log line and metric of the next answer to `GET path`.
#[track_caller]
fn expect(proxy: &Proxy, path: &str, status: u16, cause: &str, error: &str) {
    let answer = proxy.get(path);
    assert_eq!((answer.status(), answer.cause().as_str()), (status, cause));
    let proxy_status = answer.field("proxy-status").unwrap().to_owned();
    assert!(proxy_status.contains(&format!("error={error}")), "{proxy_status}");
    let line = proxy.wait_access(path);
    assert_eq!((line["status"].as_u64(), line["cause"].as_str()), (Some(status.into()), Some(cause)));
    assert!(proxy.metric("plimsoll_local_responses_total", &[("cause", cause)]) >= 1.0);
    assert_eq!(answer.field("retry-after").is_some(), status == 503, "Retry-After goes with 503");
}

#[test]
fn no_eligible_instance_is_503() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).start();
    expect(&proxy, "/none", 503, "no_eligible_instance", "destination_unavailable");
    assert_eq!(api.count(), 0);
}

#[test]
fn no_route_is_404() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).and("[[route]]\npath = \"/only\"\npool = \"api\"\n").start();
    expect(&proxy, "/other", 404, "no_route", "destination_not_found");
}

#[test]
fn refused_connection_is_502_when_there_is_no_other_instance() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).probe("interval", "\"60s\"").start();
    api.stop();
    expect(&proxy, "/refused", 502, "connect_refused", "connection_refused");
}

#[test]
fn connection_that_is_never_made_is_504() {
    let address = ports::free();
    let _hole = Blackhole::at(address);
    let healthy = Instance::named("probe");
    let proxy = Config::new()
        .instance_at("hole", address, "")
        .probe("port", healthy.address().port())
        .connection("connect_timeout", "\"200ms\"")
        .start();
    expect(&proxy, "/hole", 504, "connect_timeout", "connection_timeout");
}

#[test]
fn reset_before_a_response_is_502() {
    let api = Instance::named("a").answering_then("", Then::Reset);
    let proxy = Config::of(&[&api]).retry("retries", 0).start();
    expect(&proxy, "/reset", 502, "upstream_reset", "connection_terminated");
}

#[test]
fn response_that_is_not_http_is_502() {
    let api = Instance::named("a").answering_then("what?\r\n\r\n", Then::Close);
    let proxy = Config::of(&[&api]).retry("retries", 0).start();
    expect(&proxy, "/bad", 502, "upstream_bad_response", "http_protocol_error");
}

#[test]
fn response_head_that_does_not_come_is_504() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).connection("response_head_timeout", "\"200ms\"").retry("retries", 0).start();
    expect(&proxy, "/hang", 504, "response_header_timeout", "http_response_timeout");
}

#[test]
fn response_body_that_stalls_is_cut_off_and_logged() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).connection("response_body_timeout", "\"200ms\"").start();
    let mut client = proxy.connect();
    client.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.wire.read_response_to("GET").is_err());
    assert_eq!(proxy.wait_access("/stall")["cause"], "response_body_timeout");
}

#[test]
fn body_cut_short_is_logged_with_its_cause() {
    let api = Instance::named("a").answering_then("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Then::Close);
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.wire.read_response_to("GET").is_err());
    assert_eq!(proxy.wait_access("/short")["cause"], "upstream_closed_early");
}

#[test]
fn body_of_an_error_has_the_type_that_the_client_accepts() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).start();
    let ask = |accept: &str| proxy.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{accept}\r\n"));

    let json = ask("Accept: application/json\r\n");
    assert_eq!(json.field("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(problem["status"], 503, "{problem}");
    assert!(problem["title"].is_string(), "{problem}");

    let html = ask("Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n");
    assert!(html.field("content-type").unwrap().starts_with("text/html"));
    assert!(html.text().contains("503"));
    let text = ask("Accept: text/plain\r\n");
    assert!(text.field("content-type").unwrap().starts_with("text/plain"));
    assert!(
        ask("Accept: application/json;q=0.1, text/plain;q=0.5\r\n")
            .field("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert_eq!(ask("").status(), 503);
    assert_eq!(ask("Accept: image/png\r\n").status(), 503);
}

#[test]
fn error_body_repeats_nothing_that_the_client_sent() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).start();
    for accept in ["text/html", "application/json", "text/plain"] {
        let answer = proxy
            .send(format!("GET /<script>evil</script>?evil HTTP/1.1\r\nHost: evil.test\r\nAccept: {accept}\r\n\r\n"));
        assert!(!answer.text().contains("evil"), "{}", answer.text());
    }
}

#[test]
fn error_to_head_has_no_body_and_keeps_the_connection() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 503);
    assert_eq!(client.get("/").status(), 503);
}

#[test]
fn connection_goes_on_after_an_error_though_the_request_had_a_body() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    let first = client.post("/", "some body");
    assert_eq!(first.status(), 503);
    // Either the body was read and the connection goes on, or it is announced to end; the body is never a request.
    if !first.closes() {
        assert_eq!(client.get("/").status(), 503);
    }
}

#[test]
fn status_is_an_instances_own_when_an_instance_answered() {
    let api = Instance::named("a").serving(|exchange| exchange.respond(503, "Retry-After: 7\r\n", b"my own"));
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("retry-after")), (503, "my own", Some("7")));
    assert!(answer.cause().is_empty());
}

#[test]
fn full_queue_and_wait_in_vain_have_their_causes() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).pool("queue_wait", "\"300ms\"").pool("queue_max", 1).start();
    let mut first = proxy.connect();
    first.send("GET /waits HTTP/1.1\r\nHost: a\r\n\r\n");
    crate::support::eventually("one request waits", || {
        (proxy.metric("plimsoll_queue_depth", &[("pool", "api")]) > 0.5).then_some(())
    });
    expect(&proxy, "/full", 503, "queue_full", "connection_limit_reached");
    let answer = first.response();
    assert_eq!((answer.status(), answer.cause().as_str()), (503, "queue_timeout"));
}

#[test]
fn request_waits_for_an_instance_when_a_wait_is_set() {
    let api = Instance::named("a").unhealthy();
    let proxy = Config::of(&[&api]).pool("queue_wait", "\"5s\"").start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.expect_silence(millis(150));
    api.set_health(200, "ok");
    assert_eq!(client.response().text(), "a");
}
