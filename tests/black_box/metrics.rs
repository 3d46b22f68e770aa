//! Metrics: every name of the manual, bounded labels, counts that are right.

use crate::support::instance::Then;
use crate::support::proxy::under_wine;
use crate::support::{Config, Instance, eventually};

#[test]
fn requests_are_counted_by_listener_route_and_class() {
    let api = Instance::named("a").serving(|exchange| {
        let status = exchange.head.word(1).trim_start_matches('/').parse().unwrap_or(200);
        exchange.respond(status, "", b"x")
    });
    let proxy = Config::of(&[&api]).start();
    for path in ["/200", "/200", "/201", "/302", "/404", "/500"] {
        proxy.get(path);
    }
    eventually("all are counted", || (proxy.metric("plimsoll_requests_total", &[]) > 5.5).then_some(()));
    let metrics = proxy.metrics();
    for (code, count) in [("2xx", 3.0), ("3xx", 1.0), ("4xx", 1.0), ("5xx", 1.0)] {
        let labels = [("listener", "front"), ("code", code)];
        assert!((metrics.sum("plimsoll_requests_total", &labels) - count).abs() < 0.1, "{code}:\n{}", metrics.text);
        let upstream = [("pool", "api"), ("instance", "a"), ("code", code)];
        assert!((metrics.sum("plimsoll_upstream_requests_total", &upstream) - count).abs() < 0.1, "{code}");
    }
    assert!(metrics.sum("plimsoll_request_duration_seconds_count", &[]) > 5.5);
    assert!(metrics.sum("plimsoll_request_duration_seconds_bucket", &[("le", "+Inf")]) > 5.5);
    assert!(metrics.sum("plimsoll_upstream_duration_seconds_count", &[("phase", "first_byte")]) > 5.5);
}

#[test]
fn every_metric_of_the_manual_is_there() {
    let (a, b) = (Instance::named("a"), Instance::named("b").unhealthy());
    let config = Config::of(&[&a, &b]);
    let proxy = config.clone().start();
    proxy.get("/");
    proxy.reload(&config.retry("retries", 1));
    let metrics = proxy.metrics();
    for name in [
        "plimsoll_requests_total",
        "plimsoll_request_duration_seconds_count",
        "plimsoll_upstream_requests_total",
        "plimsoll_upstream_duration_seconds_count",
        "plimsoll_upstream_in_flight",
        "plimsoll_upstream_connections",
        "plimsoll_queue_depth",
        "plimsoll_instance_state",
        "plimsoll_probes_total",
        "plimsoll_probe_duration_seconds_count",
        "plimsoll_instance_transitions_total",
        "plimsoll_pool_eligible_instances",
        "plimsoll_config_generation",
        "plimsoll_config_reloads_total",
        "plimsoll_config_last_reload_success_timestamp_seconds",
        "plimsoll_log_dropped_total",
        "plimsoll_build_info",
        "plimsoll_config_info",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(metrics.has(name), "{name} is not in\n{}", metrics.text);
    }
    for name in ["plimsoll_upstream_errors_total", "plimsoll_local_responses_total", "plimsoll_retries_total"] {
        assert!(metrics.text.contains(&format!("# TYPE {name} counter")) || !metrics.has(name), "{name}");
    }
    assert!(metrics.sum("plimsoll_instance_state", &[("instance", "b"), ("state", "down")]) > 0.5);
    assert!(metrics.sum("plimsoll_config_reloads_total", &[("result", "success")]) > 0.5, "{}", metrics.text);
}

#[test]
fn labels_never_come_from_clients() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    proxy.get("/");
    eventually("it is counted", || (proxy.metric("plimsoll_requests_total", &[]) > 0.5).then_some(()));
    let before = proxy.metrics().text.lines().count();
    for index in 0..50 {
        proxy.send(format!(
            "M{index} /path-{index} HTTP/1.1\r\nHost: host-{index}.test\r\nX-Request-Id: id-{index}\r\n\r\n"
        ));
    }
    let text = proxy.metrics().text;
    for word in ["path-1", "host-1", "id-1", "M1"] {
        assert!(!text.contains(word), "{word}");
    }
    assert!(text.lines().count() <= before + 5, "{} lines, {before} before", text.lines().count());
}

#[test]
fn counters_survive_a_reload() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a]);
    let proxy = config.clone().start();
    for _ in 0..10 {
        proxy.get("/");
    }
    eventually("ten are counted", || (proxy.metric("plimsoll_requests_total", &[]) > 9.5).then_some(()));
    assert_eq!(proxy.reload(&config.instance(&b).retry("retries", 1)).status(), 200);
    let metrics = proxy.metrics();
    assert!(metrics.sum("plimsoll_requests_total", &[]) > 9.5);
    assert!(metrics.sum("plimsoll_upstream_requests_total", &[("instance", "a")]) > 9.5);
    assert!((metrics.sum("plimsoll_config_generation", &[]) - 2.0).abs() < 0.1);
}

#[test]
fn series_of_a_removed_instance_stay_for_a_while() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let config = Config::of(&[&a, &b]);
    let proxy = config.clone().start();
    for _ in 0..10 {
        proxy.get("/");
    }
    assert_eq!(proxy.reload(&config.without_instances().instance(&b)).status(), 200);
    assert!(proxy.metric("plimsoll_upstream_requests_total", &[("instance", "a")]) > 3.5);
}

#[test]
fn in_flight_returns_to_zero_whatever_happened() {
    let api = Instance::named("a").serving(|exchange| match exchange.head.word(1) {
        "/reset" => Ok(Then::Reset),
        "/short" => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").map(|()| Then::Close),
        "/hang" => {
            exchange.wait_for_end();
            Ok(Then::Close)
        }
        _ => exchange.respond(200, "", b"fine"),
    });
    let proxy = Config::of(&[&api]).evidence("failures", 0).start();
    for _ in 0..5 {
        for path in ["/", "/reset", "/short"] {
            let mut client = proxy.connect();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            drop(client.wire.read_response_to("GET"));
        }
        let mut leaver = proxy.connect();
        let before = api.count();
        leaver.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        api.wait_for(before + 1);
        leaver.wire.reset();
    }
    eventually("nothing is in flight", || (proxy.metric("plimsoll_upstream_in_flight", &[]) < 0.5).then_some(()));
    assert!(proxy.metric("plimsoll_upstream_errors_total", &[("instance", "a")]) > 4.5);
}

#[test]
fn process_and_machine_are_shown_on_every_system() {
    let proxy = Config::of(&[&Instance::named("a")]).start();
    let metrics = proxy.metrics();
    for name in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_start_time_seconds",
        "plimsoll_system_cpu_seconds_total",
        "plimsoll_system_memory_available_bytes",
        "plimsoll_system_memory_bytes",
        "plimsoll_system_open_fds",
        "plimsoll_system_threads",
    ] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}:\n{}", metrics.text);
    }
    // Wine does not count a process's handles.
    assert!(metrics.sum("process_open_fds", &[]) > 0.0 || under_wine(), "{}", metrics.text);
    for mode in ["user", "idle"] {
        assert!(metrics.sum("plimsoll_system_cpu_seconds_total", &[("mode", mode)]) > 0.0, "{}", metrics.text);
    }
}

/// Tests that need `promtool`.
mod with_promtool {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn promtool_has_nothing_to_complain_about() {
        let (a, b) = (Instance::named("a"), Instance::named("b").unhealthy());
        let proxy = Config::of(&[&a, &b]).start();
        for path in ["/", "/x"] {
            proxy.get(path);
        }
        proxy.send("BAD\r\n\r\n");
        let text = proxy.metrics().text;
        let mut child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool (`bash tests/all.sh` installs it)");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
