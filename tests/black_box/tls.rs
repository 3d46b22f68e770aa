//! Clients are served over TLS: the right certificate, the agreed version and protocol, and an answer to everybody who
//! cannot be served.

use std::io::ErrorKind;

use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, ProtocolVersion};

use crate::support::folder::Folder;
use crate::support::http2::frames::{END_HEADERS, END_STREAM, Frame, HEADERS, PREFACE, SETTINGS, block, bytes_of};
use crate::support::instance::Then;
use crate::support::tls::{Authority, der};
use crate::support::{Config, Instance, Proxy, eventually};

/// A proxy with TLS on its only listener, the files of its certificates, and who issued them.
struct Setup {
    authority: Authority,
    _folder: Folder,
    instance: Instance,
    proxy: Proxy,
}

impl Setup {
    /// Waits until so many handshakes have failed for a reason.
    #[track_caller]
    fn failures(&self, reason: &str, count: u32) {
        let labels = [("listener", "front"), ("reason", reason)];
        eventually(&format!("{count} failures by {reason}"), || {
            let sum = self.proxy.metrics().sum("plimsoll_tls_handshake_failures_total", &labels);
            (sum >= f64::from(count)).then(|| assert!((sum - f64::from(count)).abs() < 0.5, "{reason}: {sum}"))
        });
    }
}

/// With a certificate for `localhost`, and further keys of `[listener.tls]`.
fn start(more: &[(&str, &str)]) -> Setup {
    let (authority, folder) = (Authority::new(), Folder::new());
    let files = authority.issue(&["localhost"]).write(&folder, "localhost");
    start_with(authority, folder, &[files], more)
}

fn start_with(authority: Authority, folder: Folder, files: &[String], more: &[(&str, &str)]) -> Setup {
    let instance = Instance::named("a");
    let certificates = format!("[{}]", files.join(", "));
    let config = Config::of(&[&instance]).set("listener.tls", "certificates", certificates);
    let proxy = more.iter().fold(config, |config, (key, value)| config.set("listener.tls", key, value)).start();
    Setup { authority, _folder: folder, instance, proxy }
}

#[test]
fn requests_are_served_over_tls_and_instances_are_told_so() {
    let setup = start(&[]);
    let mut client = setup.authority.client().connect(setup.proxy.front);
    let answer = client.get("/one");
    assert_eq!(answer.status(), 200);
    assert_eq!(client.get("/two").status(), 200, "on the same connection");
    let seen = setup.instance.last();
    assert_eq!(seen.head.field("x-forwarded-proto"), Some("https"));
    assert!(seen.head.field("forwarded").is_some_and(|value| value.contains("proto=https")), "{:?}", seen.head);
}

#[test]
fn each_name_gets_its_own_certificate_and_others_the_first() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let one = authority.issue(&["one.test", "localhost"]);
    let wild = authority.issue(&["*.wild.test"]);
    let exact = authority.issue(&["exact.wild.test"]);
    let files = [one.write(&folder, "one"), wild.write(&folder, "wild"), exact.write(&folder, "exact")];
    let setup = start_with(authority, folder, &files, &[]);
    let shown = |name: &str| {
        let shaken = setup.authority.client().name(name).try_shake(setup.proxy.front);
        shaken.map(|shaken| shaken.agreed.certificate).map_err(|error| error.to_string())
    };
    assert_eq!(shown("one.test"), Ok(der(&one.pem)));
    assert_eq!(shown("ONE.test"), Ok(der(&one.pem)));
    assert_eq!(shown("a.wild.test"), Ok(der(&wild.pem)));
    assert_eq!(shown("exact.wild.test"), Ok(der(&exact.pem)));
    for other in ["wild.test", "a.b.wild.test", "unknown.test"] {
        let error = shown(other).expect_err("the first certificate is not for that name");
        assert!(error.contains("not valid for name"), "{error}");
    }
    let without = setup.authority.client().without_sni().shake(setup.proxy.front);
    assert_eq!(without.agreed.certificate, der(&one.pem));
}

#[test]
fn the_whole_chain_is_shown() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let intermediate = authority.intermediate("Test Intermediate");
    let mut issued = intermediate.issue(&["localhost"]);
    issued.pem.push_str(&intermediate.pem());
    let files = issued.write(&folder, "chain");
    let setup = start_with(authority, folder, &[files], &[]);
    assert_eq!(setup.authority.client().connect(setup.proxy.front).get("/").status(), 200);
}

#[test]
fn versions_below_the_minimum_are_refused_and_both_others_are_served() {
    let both = start(&[]);
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = both.authority.client().versions(&[version], &both.authority);
        let mut shaken = client.shake(both.proxy.front);
        assert_eq!(shaken.agreed.version, expected);
        assert_eq!(shaken.client.get("/").status(), 200);
    }
    let newest = start(&[("minimum_version", "\"1.3\"")]);
    let client = newest.authority.client().versions(&[&TLS12], &newest.authority);
    let error = client.try_shake(newest.proxy.front).err().expect("no version in common");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    newest.failures("version", 1);
}

#[test]
fn the_post_quantum_key_exchange_is_preferred() {
    let setup = start(&[]);
    let agreed = setup.authority.client().shake(setup.proxy.front).agreed;
    assert_eq!(agreed.group, Some(NamedGroup::X25519MLKEM768));
}

#[test]
fn client_that_agrees_on_http_2_is_served_over_it() {
    let setup = start(&[]);
    let mut client = setup.authority.client().alpn(&["h2"]).connect(setup.proxy.front);
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "/h2")];
    let request = bytes_of(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
    client.send([PREFACE, &bytes_of(SETTINGS, 0, 0, &[]), &request].concat());
    let answer = loop {
        let frame = Frame::read_from(&mut client.wire);
        if frame.kind == HEADERS {
            break frame;
        }
    };
    assert_eq!((answer.stream, answer.status()), (1, 200));
    assert_eq!(setup.proxy.wait_access("/h2")["protocol"], "HTTP/2.0");
}

#[test]
fn a_protocol_is_agreed_on_and_without_a_common_one_the_client_is_told_so() {
    let setup = start(&[]);
    let agreed = |protocols: &[&str]| {
        let shaken = setup.authority.client().alpn(protocols).try_shake(setup.proxy.front);
        shaken.map(|shaken| shaken.agreed.alpn).map_err(|error| error.to_string())
    };
    assert_eq!(agreed(&["http/1.1"]), Ok(Some("http/1.1".to_owned())));
    assert_eq!(agreed(&["http/1.1", "h2"]), Ok(Some("h2".to_owned())));
    assert_eq!(agreed(&[]), Ok(None));
    let error = agreed(&["spdy/3", "http/0.9"]).expect_err("nothing in common");
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    setup.failures("no_application_protocol", 1);
}

#[test]
fn with_strict_sni_unknown_names_are_refused_and_told_so() {
    let setup = start(&[("strict_sni", "true")]);
    let client = setup.authority.client();
    assert_eq!(client.connect(setup.proxy.front).get("/").status(), 200);
    for client in [client.clone().name("unknown.test"), client.without_sni()] {
        let error = client.try_shake(setup.proxy.front).err().expect("no certificate for that");
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    }
    setup.failures("unrecognized_name", 2);
}

#[test]
fn plain_http_on_a_tls_port_is_answered_in_plain_words() {
    let setup = start(&[]);
    let answer = setup.proxy.get("/");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("HTTPS port"), "{}", answer.text());
    assert!(answer.closes());
    setup.failures("plain_http", 1);
}

#[test]
fn a_handshake_that_takes_too_long_ends_and_is_counted() {
    let setup = start(&[("handshake_timeout", "\"200ms\"")]);
    let mut silent = setup.proxy.connect();
    // The beginning of a ClientHello that never ends.
    let mut slow = setup.proxy.connect();
    slow.send([22, 3, 1, 2, 0, 1]);
    silent.expect_end();
    slow.expect_end();
    setup.failures("timeout", 2);
    assert_eq!(setup.authority.client().connect(setup.proxy.front).get("/").status(), 200);
}

#[test]
fn what_is_neither_tls_nor_http_ends_the_connection_and_is_counted() {
    let setup = start(&[]);
    let mut client = setup.proxy.connect();
    client.send([0; 64]);
    assert!(client.wire.read_to_end().is_ok_and(|alert| alert.first() == Some(&21)), "an alert");
    setup.failures("malformed", 1);
}

#[test]
fn the_end_of_a_connection_is_said_in_tls_and_a_response_that_is_cut_off_has_none() {
    let setup = start(&[]);
    let mut client = setup.authority.client().connect(setup.proxy.front);
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    // rustls takes an end without `close_notify` for an error.
    assert_eq!(client.wire.read_to_end().expect("an orderly end"), b"");

    setup.instance.serve(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")?;
        Ok(Then::Reset)
    });
    let mut client = setup.authority.client().connect(setup.proxy.front);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    let error = client.wire.read_to_end().expect_err("the response is not whole");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
}

#[test]
fn an_idle_connection_ends_in_order() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let files = authority.issue(&["localhost"]).write(&folder, "localhost");
    let instance = Instance::named("a");
    let config = Config::of(&[&instance]).listener("keep_alive_timeout", "\"200ms\"");
    let proxy = config.set("listener.tls", "certificates", format!("[{files}]")).start();
    let mut client = authority.client().connect(proxy.front);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(client.wire.read_to_end().expect("an orderly end"), b"");
}

#[test]
fn a_client_that_ends_its_sending_side_still_gets_its_answer() {
    let setup = start(&[]);
    let mut client = setup.authority.client().connect(setup.proxy.front);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.wire.half_close().unwrap();
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.wire.read_to_end().expect("an orderly end"), b"");
}

#[test]
fn large_bodies_pass_unchanged_in_both_directions() {
    let setup = start(&[]);
    setup.instance.serve(|exchange| {
        let body = exchange.read_body()?;
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
        exchange.write(body)?;
        Ok(Then::KeepAlive)
    });
    let body: Vec<u8> = (0..3_000_000_u32).map(|index| (index * 7 + index / 251) as u8).collect();
    let mut client = setup.authority.client().connect(setup.proxy.front);
    for size in [0, 1, 16_384, 16_385, 70_000, body.len()] {
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"));
        client.send(&body[..size]);
        assert!(client.response().body == body[..size], "{size} bytes");
    }
}

#[test]
fn pipelined_requests_in_one_record_are_all_answered() {
    let setup = start(&[]);
    let mut client = setup.authority.client().connect(setup.proxy.front);
    client.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(200));
    for _ in 0..200 {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn the_access_log_tells_version_cipher_and_name() {
    let setup = start(&[]);
    assert_eq!(setup.authority.client().connect(setup.proxy.front).get("/told").status(), 200);
    let line = setup.proxy.wait_access("/told");
    assert_eq!(line["tls_version"], "1.3");
    assert!(line["tls_cipher"].as_str().is_some_and(|cipher| cipher.starts_with("TLS_")), "{line}");
    assert_eq!(line["sni"], "localhost");
}

#[test]
fn a_connection_that_is_served_when_a_drain_begins_finishes_its_request() {
    let setup = start(&[]);
    let mut client = setup.authority.client().connect(setup.proxy.front);
    assert_eq!(client.get("/").status(), 200);
    client.send("GET / HTTP/1.1\r\n");
    setup.proxy.signal("TERM");
    client.send("Host: test\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.wire.read_to_end().expect("an orderly end"), b"");
}
