//! Fields are passed, removed and added as RFC 9110 wants it, and clients cannot write ours.

use crate::support::message::Head;
use crate::support::{Client, Config, Instance, Proxy};

fn forwarded(proxy: &Proxy, api: &Instance, fields: &str) -> Head {
    assert_eq!(proxy.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).status(), 200, "{fields}");
    api.last().head
}

#[test]
fn ordinary_fields_pass_in_their_order_and_case() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head =
        forwarded(&proxy, &api, "X-First: 1\r\nx-SECOND:  two  \r\nCookie: a=b\r\nX-First: 3\r\nAccept: */*\r\n");
    let ours: Vec<_> = head.fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    let wanted = ["X-First: 1", "x-SECOND: two", "Cookie: a=b", "X-First: 3", "Accept: */*"];
    let seen: Vec<_> = ours.iter().filter(|line| wanted.contains(&line.as_str())).collect();
    assert_eq!(seen, wanted.iter().collect::<Vec<_>>(), "{ours:?}");
}

#[test]
fn connection_cannot_remove_what_plimsoll_adds() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head = forwarded(&proxy, &api, "Connection: X-Forwarded-For, Via, Forwarded, traceparent, X-Request-Id\r\n");
    for name in ["x-forwarded-for", "via", "forwarded", "traceparent", "x-request-id"] {
        assert!(head.has(name), "{name} is missing: {:?}", head.fields);
    }
}

#[test]
fn request_that_runs_in_circles_is_answered_with_508() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let via = |count: usize| vec!["1.1 plimsoll"; count].join(", ");
    assert_eq!(proxy.send(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {}\r\n\r\n", via(4))).status(), 200);
    let answer = proxy.send(format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {}\r\n\r\n", via(5)));
    assert_eq!((answer.status(), answer.cause().as_str()), (508, "loop_detected"));
}

#[test]
fn proxy_that_forwards_to_itself_ends_the_loop() {
    let config = Config::new().probe("kind", "\"tcp\"");
    let front = config.front;
    let proxy = config.instance_at("self", front, "").set("runtime", "startup_grace", "\"300ms\"").start();
    proxy.wait_eligible(1);
    assert_eq!(proxy.get("/").status(), 508);
}

#[test]
fn forwarding_fields_of_clients_are_replaced() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head = forwarded(
        &proxy,
        &api,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nX-Forwarded-Port: 666\r\n",
    );
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(head.all("x-forwarded-host"), ["a.test"]);
    assert_eq!(head.all("forwarded").len(), 1);
    assert!(
        head.fields.iter().all(|(_, value)| !value.contains("6.6.6.6") && !value.contains("evil")),
        "{:?}",
        head.fields
    );
}

#[test]
fn forwarding_fields_of_trusted_proxies_are_appended_to() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("trusted_proxies", "[\"127.0.0.0/8\"]").start();
    let head = forwarded(
        &proxy,
        &api,
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outside.test\r\nForwarded: for=9.9.9.9\r\n",
    );
    assert_eq!(head.all("x-forwarded-for").join(", ").replace(' ', ""), "9.9.9.9,127.0.0.1");
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(head.all("x-forwarded-host"), ["outside.test"]);
    let forwarded = head.all("forwarded").join(", ");
    assert!(forwarded.starts_with("for=9.9.9.9") && forwarded.contains("127.0.0.1"), "{forwarded}");
}

#[test]
fn ipv6_clients_are_named_as_the_rfc_wants_it() {
    let api = Instance::named("a");
    let port = crate::support::ports::free().port();
    let _proxy = Config::of(&[&api]).listener("bind", format!("\"[::1]:{port}\"")).start();
    let mut client = Client::connect(format!("[::1]:{port}").parse().unwrap());
    assert_eq!(client.get("/").status(), 200);
    let head = api.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["::1"]);
    assert!(head.field("forwarded").unwrap().contains("for=\"[::1]\""), "{:?}", head.field("forwarded"));
}

#[test]
fn underscore_imitations_of_our_fields_are_dropped() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head = forwarded(
        &proxy,
        &api,
        "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nX_Request_Id: x\r\nMy_Own_Field: 1\r\nx_forwarded_host: e\r\n",
    );
    let names: Vec<_> = head.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    let imitations = ["x_forwarded_for", "x-forwarded_proto", "x_request_id", "x_forwarded_host"];
    for imitation in imitations {
        assert!(!names.iter().any(|name| name == imitation), "{imitation} went on: {names:?}");
    }
    assert_eq!(head.field("my_own_field"), Some("1"));
}

#[test]
fn valid_trace_is_continued_and_an_invalid_one_replaced() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let valid = format!("00-{trace}-b7ad6b7169203331-01");
    let head = forwarded(&proxy, &api, &format!("traceparent: {valid}\r\ntracestate: vendor=1\r\n"));
    let continued = head.field("traceparent").unwrap().to_owned();
    assert!(continued.starts_with(&format!("00-{trace}-")), "{continued}");
    assert_ne!(continued, valid, "the parent id is our own");
    assert_eq!(head.field("tracestate"), Some("vendor=1"));

    for invalid in ["00-0000-b7ad6b7169203331-01", "rubbish", "00-00000000000000000000000000000000-b7ad6b7169203331-01"]
    {
        let head = forwarded(&proxy, &api, &format!("traceparent: {invalid}\r\ntracestate: vendor=1\r\n"));
        let started = head.field("traceparent").unwrap();
        let parts: Vec<_> = started.split('-').collect();
        assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("00", 32, 16), "{started}");
        assert!(!head.has("tracestate"), "the state belongs to the trace that was dropped");
    }
    let head = forwarded(&proxy, &api, "");
    assert_eq!(head.all("traceparent").len(), 1);
}

#[test]
fn request_id_passes_if_sane_and_is_made_otherwise() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    assert_eq!(forwarded(&proxy, &api, "X-Request-Id: order-4711\r\n").all("x-request-id"), ["order-4711"]);
    let made = forwarded(&proxy, &api, "").field("x-request-id").unwrap().to_owned();
    assert!(made.len() >= 16, "{made}");
    let long = "x".repeat(5000);
    let replaced = forwarded(&proxy, &api, &format!("X-Request-Id: {long}\r\n"));
    assert_eq!(replaced.all("x-request-id").len(), 1);
    assert_ne!(replaced.field("x-request-id"), Some(long.as_str()));
}

#[test]
fn host_is_kept_or_set_as_configured() {
    for (setting, wanted) in [("keep", "a.test"), ("inner.test", "inner.test"), ("instance", "")] {
        let api = Instance::named("a");
        let proxy = Config::of(&[&api]).pool("host", format!("\"{setting}\"")).start();
        let head = forwarded(&proxy, &api, "");
        let address = api.address().to_string();
        let wanted = if wanted.is_empty() { address.as_str() } else { wanted };
        assert_eq!(head.all("host"), [wanted], "host = {setting}");
        assert_eq!(head.all("x-forwarded-host"), ["a.test"]);
    }
}

#[test]
fn max_forwards_counts_down_on_options_and_trace_only() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("allow_trace", true).start();
    for method in ["OPTIONS", "TRACE"] {
        api.forget();
        let ask = |count: &str| {
            proxy.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {count}\r\nConnection: close\r\n\r\n"))
        };
        let answer = ask("0");
        assert!(matches!(answer.status(), 200 | 204), "{method}: {}", answer.status());
        assert_eq!(api.count(), 0, "{method} with 0 went on");
        assert_eq!(ask("3").status(), 200);
        assert_eq!(api.last().head.all("max-forwards"), ["2"], "{method}");
    }
    assert_eq!(forwarded(&proxy, &api, "Max-Forwards: 0\r\n").all("max-forwards"), ["0"], "GET ignores it");
}

#[test]
fn instance_sees_each_of_our_fields_once() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let head = forwarded(&proxy, &api, "traceparent: x\r\ntraceparent: y\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n");
    for name in
        ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "traceparent", "x-request-id"]
    {
        assert_eq!(head.all(name).len(), 1, "{name}: {:?}", head.fields);
    }
}
