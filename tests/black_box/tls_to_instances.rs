//! TLS to instances: whom we talk to is known, and where it is not, nothing is said.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;

use crate::support::folder::Folder;
use crate::support::instance::Then;
use crate::support::proxy::run;
use crate::support::tls::{Authority, der};
use crate::support::tls_port::{End, TlsPort, server, server_of};
use crate::support::{Config, Instance, Proxy, eventually, ports};

/// Where the files of a test are.
struct Files {
    folder: Folder,
    ours: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: Folder::new(), ours: Authority::named("Ours") };
        files.folder.write("ca.pem", files.ours.pem());
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `tls` of a pool that trusts our authority, with further keys.
    fn tls(&self, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { ", " };
        format!("{{ enabled = true, roots = '{}'{comma}{more} }}", self.path("ca.pem"))
    }
}

/// One instance behind a TLS port, as `a`.
fn config(port: &TlsPort, tls: &str) -> Config {
    patient(Config::new().instance_at("a", port.address, "").pool("tls", tls))
}

/// A handshake takes a while in a debug build.
fn patient(config: Config) -> Config {
    config.probe("interval", "\"600ms\"").probe("timeout", "\"590ms\"").probe("fall", 2)
}

/// Its probes are plain and go to the instance itself, so that it is up whatever its TLS is like.
fn probed_plainly(config: Config, instance: &Instance) -> Config {
    config.probe("tls", false).probe("port", instance.address().port())
}

/// A server that answers whatever comes with plain HTTP.
fn plain_server() -> SocketAddr {
    let listener = TcpListener::bind(ports::free()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 64];
            let _ended = stream.read(&mut hello).is_err();
            let _left = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").is_err();
        }
    });
    address
}

fn wait_result(proxy: &Proxy, instance: &str, result: &str) {
    eventually(&format!("a probe of {instance} says {result:?}"), || {
        let status = proxy.instance_status(instance);
        let last = status["probes"].as_array()?.last()?["result"].as_str()?.to_owned();
        (last == result).then_some(())
    });
}

#[test]
fn requests_and_probes_go_over_tls_and_connections_and_sessions_are_kept() {
    let files = Files::new();
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &files.ours.issue(&["api.test"]));
    let proxy = config(&port, &files.tls("server_name = 'api.test'")).set("runtime", "workers", 1).start();
    proxy.wait_eligible(1);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(proxy.post("/form", "a=b").status(), 200);
    assert_eq!(api.last().body.as_deref(), Some(&b"a=b"[..]));
    // Tickets came behind the handshake, and are not taken for bytes that nobody asked for.
    let counted = |name: &str, labels: &[(&str, &str)]| proxy.metric(name, labels) as u64;
    assert_eq!(counted("plimsoll_upstream_connections_opened_total", &[]), 1, "one connection for all");
    assert_eq!(counted("plimsoll_upstream_unasked_bytes_total", &[]), 0);
    assert_eq!(counted("plimsoll_upstream_tls_handshakes_total", &[("kind", "full")]), 1);
    // The instance ends its connections: the next request is none the worse for it, and resumes.
    api.cut_connections();
    eventually("the end is seen", || {
        (counted("plimsoll_upstream_connections", &[("state", "idle")]) == 0).then_some(())
    });
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(counted("plimsoll_upstream_tls_handshakes_total", &[("kind", "resumed")]), 1);
    let seen = port.seen();
    assert!(seen.iter().all(|one| one.name.as_deref() == Some("api.test")), "{seen:?}");
    assert_eq!(seen.iter().filter(|one| one.resumed).count(), 1, "probes never resume");
}

#[test]
fn address_must_be_in_the_certificate_of_an_instance_without_a_name() {
    let files = Files::new();
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &files.ours.issue(&["127.0.0.1"]));
    let proxy = config(&port, &files.tls("")).start();
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(port.seen()[0].name, None, "an address is no name to ask for (RFC 6066 section 3)");
    port.set(server(&files.ours.issue(&["127.0.0.2", "localhost"])));
    wait_result(&proxy, "a", "certificate is for 127.0.0.2, localhost, not 127.0.0.1");
}

#[test]
fn probes_say_what_is_wrong_with_the_certificate_of_an_instance() {
    let files = Files::new();
    let api = Instance::named("a");
    let good = files.ours.issue(&["api.test"]);
    let port = TlsPort::of(&api, &good);
    let proxy = config(&port, &files.tls("server_name = 'api.test'")).start();
    proxy.wait_state("a", "up");
    let expired = files.ours.issue_with(&["api.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    port.set(server(&expired));
    proxy.wait_state("a", "down");
    let why = proxy.instance_status("a")["why"].to_string();
    assert!(why.contains("certificate expired on 2021-02-03"), "{why}");
    assert_eq!(proxy.get("/").status(), 503);
    port.set(server(&files.ours.issue(&["b.test", "c.test"])));
    wait_result(&proxy, "a", "certificate is for b.test, c.test, not api.test");
    port.set(server(&Authority::named("Theirs").issue(&["api.test"])));
    wait_result(&proxy, "a", "certificate is of an unknown issuer");
    port.set(server(&good));
    proxy.wait_state("a", "up");
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn nothing_of_a_request_reaches_an_instance_that_is_not_who_it_should_be() {
    let files = Files::new();
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &files.ours.issue(&["b.test"]));
    let config = config(&port, &files.tls("server_name = 'a.test'")).retry("retries", 0);
    let proxy = probed_plainly(config, &api).evidence("failures", 0).start();
    let answer = proxy.post("/secret", "password");
    assert_eq!((answer.status(), answer.cause().as_str()), (502, "tls_handshake"));
    let status = answer.field("proxy-status").unwrap_or_default();
    assert!(status.contains("error=tls_certificate_error"), "{status}");
    assert_eq!(api.count(), 0);
    assert!(port.seen().is_empty());
    assert_eq!(proxy.wait_access("/secret")["cause"], "tls_handshake");
    assert!(proxy.metric("plimsoll_upstream_errors_total", &[("cause", "tls_handshake")]) >= 1.0);
}

#[test]
fn request_moves_on_from_an_instance_whose_handshake_fails_also_a_post() {
    let files = Files::new();
    let (bad, good) = (Instance::named("bad"), Instance::named("good"));
    let right = TlsPort::of(&good, &files.ours.issue(&["a.test"]));
    let wrong = TlsPort::of(&bad, &files.ours.issue(&["b.test"]));
    let config = Config::new()
        .instance_at("bad", wrong.address, "")
        .instance_at("good", right.address, "")
        .pool("tls", files.tls("server_name = 'a.test'"));
    let proxy = probed_plainly(patient(config), &good).retry("retries", 0).start();
    proxy.wait_eligible(2);
    for index in 0..20 {
        assert_eq!(proxy.post(&format!("/{index}"), "x").status(), 200);
    }
    assert_eq!((bad.count(), good.count()), (0, 20));
    // Evidence from traffic takes it out.
    proxy.wait_state("bad", "suspect");
}

#[test]
fn handshake_errors_are_told_apart() {
    let files = Files::new();
    let api = Instance::named("a");
    let leaf = files.ours.issue(&["a.test"]);
    let old = TlsPort::with(api.address(), server_of(&leaf, &[&rustls::version::TLS12], None));
    let tls = files.tls("server_name = 'a.test', minimum_version = '1.3'");
    let proxy = probed_plainly(config(&old, &tls), &api).start();
    let answer = proxy.get("/");
    let status = answer.field("proxy-status").unwrap_or_default();
    assert!(answer.status() == 502 && status.contains("error=tls_alert_received"), "{status}");
    // One that speaks no TLS at all.
    let plain = plain_server();
    let config = || Config::new().instance_at("a", plain, "").pool("tls", files.tls("server_name = 'a.test'"));
    let proxy = probed_plainly(config(), &api).start();
    let answer = proxy.get("/");
    let status = answer.field("proxy-status").unwrap_or_default();
    assert!(answer.status() == 502 && status.contains("error=tls_protocol_error"), "{status}");
    wait_result(&config().start(), "a", "what came back is not TLS");
}

#[test]
fn handshake_that_hangs_ends_with_the_time_for_connecting() {
    let files = Files::new();
    let silent = TcpListener::bind(ports::free()).unwrap();
    let api = Instance::named("a");
    let config = Config::new().instance_at("a", silent.local_addr().unwrap(), "").pool("tls", files.tls(""));
    let proxy = probed_plainly(config, &api).connection("connect_timeout", "\"300ms\"").start();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.cause().as_str()), (504, "connect_timeout"));
}

#[test]
fn instance_that_asks_who_we_are_is_shown_our_certificate() {
    let files = Files::new();
    let us = files.ours.issue(&["proxy.test"]);
    us.write(&files.folder, "us");
    let api = Instance::named("a");
    let asking = server_of(&files.ours.issue(&["a.test"]), rustls::ALL_VERSIONS, Some(&files.ours));
    let port = TlsPort::with(api.address(), asking);
    let keys = format!(
        "server_name = 'a.test', client_certificate = '{}', client_key = '{}'",
        files.path("us.pem"),
        files.path("us.key")
    );
    let proxy = config(&port, &files.tls(&keys)).start();
    assert_eq!(proxy.get("/").status(), 200);
    assert!(port.seen().iter().all(|one| one.certificate.as_deref() == Some(&der(&us.pem)[..])));
    let nobody = config(&port, &files.tls("server_name = 'a.test'")).start();
    nobody.wait_state("a", "down");
}

#[test]
fn body_that_ends_with_the_connection_is_whole_only_if_tls_says_so() {
    let files = Files::new();
    let api = Instance::named("a").answering_then("HTTP/1.1 200 OK\r\n\r\nall of it", Then::Close);
    let port = TlsPort::of(&api, &files.ours.issue(&["a.test"]));
    let proxy = config(&port, &files.tls("server_name = 'a.test'")).start();
    assert_eq!(proxy.get("/whole").text(), "all of it");
    port.end_by(End::Cut);
    let mut client = proxy.connect();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    let cut = client.wire.read_response_to("GET");
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(proxy.wait_access("/cut")["cause"], "upstream_closed_early");
}

#[test]
fn new_roots_take_effect_with_a_reload_and_broken_ones_do_not() {
    let files = Files::new();
    let theirs = Authority::named("Theirs");
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &files.ours.issue(&["a.test"]));
    let config = config(&port, &files.tls("server_name = 'a.test'"));
    let proxy = config.clone().start();
    proxy.wait_state("a", "up");
    files.folder.write("ca.pem", "-----BEGIN CERTIFICATE-----\nno\n");
    let refused = proxy.reload(&config);
    assert_eq!(refused.status(), 422, "{}", refused.text());
    assert!(refused.text().contains("ca.pem"), "{}", refused.text());
    assert_eq!(proxy.get("/").status(), 200);
    files.folder.write("ca.pem", theirs.pem());
    assert_eq!(proxy.reload(&config).status(), 200);
    wait_result(&proxy, "a", "certificate is of an unknown issuer");
    port.set(server(&theirs.issue(&["a.test"])));
    proxy.wait_state("a", "up");
}

#[test]
fn kept_plain_connection_is_not_used_once_tls_is_asked_for() {
    let files = Files::new();
    let api = Instance::named("a");
    let plain = Config::of(&[&api]).set("runtime", "workers", 1);
    let proxy = plain.clone().start();
    assert_eq!(proxy.get("/plain").status(), 200);
    let tls = plain.probe("tls", false).pool("tls", files.tls("")).connection("connect_timeout", "\"200ms\"");
    assert_eq!(proxy.reload(&tls).status(), 200);
    assert_eq!(proxy.get("/tls").cause(), "connect_timeout", "the instance waits for the end of a head");
    assert_eq!(api.count(), 1);
}

#[test]
fn unverified_instances_are_served_and_loudly_so() {
    let files = Files::new();
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &Authority::named("Anybody").issue(&["whoever.test"]));
    let unverified = config(&port, "{ enabled = true, verify = false }");
    let proxy = unverified.clone().start();
    assert_eq!(proxy.get("/").status(), 200);
    let status = proxy.status();
    assert_eq!(status["pools"][0]["tls"]["verified"], false, "{status:#}");
    let warned = |event: &serde_json::Value| {
        event["level"] == "WARN" && event.to_string().contains("the instances of pool `api` are not verified")
    };
    proxy.wait_event("a warning at the start", warned);
    let before = proxy.events().iter().filter(|event| warned(event)).count();
    assert_eq!(proxy.reload(&unverified).status(), 200);
    eventually("a warning at the reload", || {
        (proxy.events().iter().filter(|event| warned(event)).count() > before).then_some(())
    });
    let path = files.folder.write("unverified.toml", unverified.text());
    let check = |arguments: &[&str]| -> Output { run(&[&["check"], arguments].concat()) };
    let path = path.to_str().unwrap();
    let usual = check(&[path]);
    let said = String::from_utf8_lossy(&usual.stderr).into_owned();
    assert!(usual.status.success() && said.contains("are not verified"), "{said}");
    assert_eq!(check(&["--strict", path]).status.code(), Some(1));
    let verified = files.folder.write("verified.toml", config(&port, &files.tls("")).text());
    assert!(check(&["--strict", verified.to_str().unwrap()]).status.success());
}

#[test]
fn roots_of_the_system_are_used_where_no_others_are_named() {
    let files = Files::new();
    let api = Instance::named("a");
    let port = TlsPort::of(&api, &files.ours.issue(&["a.test"]));
    if !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        eprintln!("no certificates of the system here");
        return;
    }
    let proxy = config(&port, "true").start();
    wait_result(&proxy, "a", "certificate is of an unknown issuer");
}
