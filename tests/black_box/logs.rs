//! Log lines that machines and people can read, without what they must not tell.

use serde_json::Value;

use crate::support::wait::{millis, pause, seconds};
use crate::support::{Config, Instance, Proxy, eventually};

#[test]
fn every_line_is_json_with_the_same_first_fields() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    proxy.get("/");
    proxy.wait_access("/");
    for line in proxy.lines() {
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let stamp = event["timestamp"].as_str().unwrap_or_else(|| panic!("{line}"));
        // 2026-01-31T12:00:00.123456Z
        assert!(stamp.len() == 27 && stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.', "{stamp}");
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
        let order: Vec<_> = ["timestamp", "level", "trace_id", "message"]
            .iter()
            .filter_map(|key| line.find(&format!("\"{key}\":")))
            .collect();
        assert!(order.is_sorted(), "{line}");
    }
}

#[test]
fn start_says_version_configuration_listeners_and_pools() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    proxy.wait_event("ready", |event| event["message"] == "ready");
    let text = proxy.lines().join("\n");
    for wanted in ["version", "plimsoll.toml", &proxy.front.to_string(), &proxy.admin.to_string(), "\"pool\":\"api\""] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
}

#[test]
fn access_line_tells_the_whole_story() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    proxy.send(format!(
        "POST /orders?card=4711 HTTP/1.1\r\nHost: shop.test\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\
         Authorization: Bearer topsecret\r\nCookie: session=topsecret\r\nContent-Length: 5\r\n\r\nhello"
    ));
    let line = proxy.wait_access("/orders");
    for (key, value) in [
        ("trace_id", trace),
        ("listener", "front"),
        ("pool", "api"),
        ("instance", "a"),
        ("protocol", "HTTP/1.1"),
        ("method", "POST"),
        ("host", "shop.test"),
    ] {
        assert_eq!(line[key], value, "{key} in {line:#}");
    }
    assert_eq!((&line["status"], &line["attempts"], &line["bytes_in"]), (&200.into(), &1.into(), &5.into()));
    assert!(line["bytes_out"].as_u64().is_some_and(|bytes| bytes > 20), "{line:#}");
    assert!(line["route"].is_string() && line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1")));
    let timer = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line:#}"));
    let total = timer("total");
    for key in ["headers", "connect", "first_byte"] {
        assert!((0.0..=total).contains(&timer(key)), "{key} in {line:#}");
    }
    let text = proxy.lines().join("\n");
    assert!(!text.contains("4711") && !text.contains("topsecret"), "a query or a secret is in the log");
}

#[test]
fn query_is_logged_only_when_asked_for() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("log", "access_query", true).start();
    proxy.get("/search?q=rust");
    proxy.wait_access("/search");
    assert!(proxy.lines().join("\n").contains("q=rust"));
}

#[test]
fn access_log_can_be_off() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("log", "access", false);
    let proxy = config.clone().start();
    proxy.get("/first");
    assert_eq!(proxy.reload(&config.set("log", "access", true)).status(), 200);
    proxy.get("/second");
    proxy.wait_access("/second");
    assert!(proxy.events().iter().all(|event| event["path"] != "/first"));
}

#[test]
fn ejection_and_restoration_are_one_line_each_with_the_reason() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let proxy = Config::of(&[&a, &b]).start();
    a.set_health(503, "no");
    let out = proxy.wait_event("the ejection", |event| {
        event["instance"] == "a" && event["message"].as_str().is_some_and(|m| m.contains("ejected"))
    });
    assert!(out.to_string().contains("503"), "{out}");
    assert_eq!((&out["pool"], &out["level"]), (&"api".into(), &"WARN".into()), "{out}");
    a.set_health(200, "ok");
    let back = proxy.wait_event("the restoration", |event| {
        event["instance"] == "a" && event["message"].as_str().is_some_and(|m| m.contains("restored"))
    });
    assert_eq!(back["pool"], "api", "{back}");
}

#[test]
fn log_that_nobody_reads_blocks_no_request() {
    use std::process::Stdio;
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("log", "queue_lines", 100);
    let front = config.front;
    let admin = config.admin;
    let folder = crate::support::folder::Folder::new();
    let path = folder.write("plimsoll.toml", config.text());
    let mut child = crate::support::proxy::binary()
        .args(["run", "--config"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    crate::support::eventually("it listens", || std::net::TcpStream::connect(front).ok());
    // The pipe takes 64 KiB; nobody reads them.
    let mut client = crate::support::Client::connect(front);
    let begin = tokio::time::Instant::now();
    for _ in 0..2000 {
        assert_eq!(client.get("/some/path/that/fills/the/pipe").status(), 200);
    }
    assert!(begin.elapsed() < seconds(30), "{:?}", begin.elapsed());
    let metrics =
        crate::support::Client::connect(admin).send("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").response();
    let metrics = crate::support::metrics::Metrics { text: metrics.text() };
    assert!(metrics.sum("plimsoll_log_dropped_total", &[]) > 0.5, "nothing was dropped");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn text_format_is_for_people() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("log", "format", "\"text\"").start();
    proxy.get("/by-hand");
    let line =
        crate::support::eventually("the line", || proxy.lines().into_iter().find(|line| line.contains("/by-hand")));
    assert!(!line.starts_with('{') && line.contains("200"), "{line}");
}

#[test]
fn strange_bytes_in_a_path_cannot_forge_a_line() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    proxy.send(b"GET /\"},{\xff\xfe%0a HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.get("/after");
    proxy.wait_access("/after");
    for line in proxy.lines() {
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn timers_of_the_access_log_follow_each_other_and_mean_what_the_metrics_mean() {
    let api = Instance::named("a").slow(millis(300));
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /timed HTTP/1.1\r\n");
    pause(millis(300));
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let line = proxy.wait_access("/timed");
    let timer = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line:#}"));
    assert!(timer("headers") > 0.25 && timer("first_byte") > 0.29, "{line:#}");
    let parts: f64 = ["headers", "queue", "connect", "first_byte"].map(timer).iter().sum();
    assert!(parts <= timer("total"), "{parts} s in {line:#}");
    let counted = proxy.metric("plimsoll_upstream_duration_seconds_sum", &[("phase", "first_byte")]);
    assert!((counted - timer("first_byte")).abs() < 0.001, "{counted} s in the metric, {line:#}");
}

#[test]
fn a_log_file_is_relative_to_the_configuration_begins_anew_when_it_is_full_and_loses_no_line() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]).set("log", "file", "\"p.log\"").set("log", "file_bytes_max", "\"64KiB\"");
    let mut proxy = config.start_with_log("p.log");
    let mut client = proxy.connect();
    for number in 0..600 {
        assert_eq!(client.get(&format!("/{number}")).status(), 200);
    }
    drop(client);
    let folder = proxy.config_path().parent().unwrap().to_path_buf();
    let is_compressed = |path: &std::path::Path| path.extension().is_some_and(|end| end == "gz");
    let old = || -> Vec<_> {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("p.log.2")).collect()
    };
    eventually("old files are compressed", || {
        let old = old();
        (old.len() >= 2 && old.iter().all(|path| is_compressed(path))).then_some(())
    });
    proxy.signal("TERM");
    assert!(proxy.wait_end(seconds(10)).success());
    assert!(proxy.lines().is_empty(), "nothing goes to standard output: {:?}", proxy.lines());
    eventually("the last lines are written", || {
        let text = std::fs::read_to_string(folder.join("p.log")).unwrap();
        text.contains("every request was finished").then_some(())
    });
}

#[test]
fn a_log_file_that_cannot_be_written_ends_the_start_with_its_name() {
    let config = Config::of(&[&Instance::named("a")]).set("log", "file", "\"no/such/folder/p.log\"");
    let mut proxy = Proxy::launch(&config);
    assert_eq!(proxy.wait_end(seconds(10)).code(), Some(1));
    let said = proxy.lines().join("\n");
    assert!(said.contains("p.log") && said.contains("cannot start the log"), "{said}");
}
