//! Real nginx instances behind the proxy.

use crate::support::folder::Folder;
use crate::support::load::Load;
use crate::support::nginx::Nginx;
use crate::support::tls::Authority;
use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Proxy};

fn proxied(nginx: &Nginx) -> Proxy {
    let mut config = Config::new();
    for (index, address) in nginx.addresses.iter().enumerate() {
        config = config.instance_at(&format!("n{index}"), *address, "");
    }
    config.start()
}

#[test]
fn nginx_instances_share_the_load_without_an_error() {
    let nginx = Nginx::start(3);
    let proxy = proxied(&nginx);
    let load = Load::start(proxy.front, 8, 0);
    load.wait_more(600);
    let all = load.end();
    // `/load/…` is not there: nginx says 404, and it is nginx who says it.
    assert!(all.iter().all(|sent| sent.result == Ok(404) && !sent.instance.is_empty()), "{:?}", &all[..3]);
    for name in ["n0", "n1", "n2"] {
        let share = all.iter().filter(|sent| sent.instance == name).count();
        assert!(share * 5 > all.len(), "{name}: {share} of {}", all.len());
    }
}

#[test]
fn files_of_nginx_arrive_unchanged() {
    let nginx = Nginx::start(1);
    let proxy = proxied(&nginx);
    for size in [0, 1, 1000, 8191, 8192, 65_537, 3_000_001] {
        let bytes: Vec<u8> = (0..size).map(|index: usize| (index * 7 + index / 251) as u8).collect();
        nginx.file("f", &bytes);
        let answer = proxy.get("/files/f");
        assert_eq!(answer.status(), 200);
        assert!(answer.body == bytes, "{size} bytes differ");
        let part = proxy.send("GET /files/f HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n");
        if size > 10 {
            assert_eq!((part.status(), part.body.as_slice()), (206, &bytes[..10]));
        }
    }
    nginx.file("f", "x".repeat(100));
    let head = proxy.send("GET /files/f HTTP/1.1\r\nHost: a\r\n\r\n");
    let tag = head.field("etag").unwrap().to_owned();
    let cached = proxy.send(format!("GET /files/f HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n"));
    assert_eq!(cached.status(), 304);
}

#[test]
fn nginx_takes_bodies_of_both_framings() {
    let nginx = Nginx::start(1);
    let proxy = proxied(&nginx);
    let mut client = proxy.connect();
    let body = "x".repeat(100_000);
    client.send(format!("POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.response().text(), "100000");
    client.send(format!(
        "POST /take HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response().text(), "100000");
    client.send("POST /take HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    client.send("body");
    assert_eq!(client.response().text(), "4");
}

#[test]
fn nginx_that_reloads_costs_no_request() {
    let nginx = Nginx::start(2);
    let proxy = proxied(&nginx);
    let load = Load::start(proxy.front, 4, 0);
    load.wait_more(100);
    // Without a master process HUP is ignored; QUIT ends gracefully: connections close after their answers.
    nginx.signal("QUIT");
    load.wait_more(20);
    let all = load.end();
    // Both servers are one process and gone now: 503, or 502 at the moment of its end; before, no error.
    let odd: Vec<_> = all.iter().filter(|sent| !matches!(sent.result, Ok(404 | 502 | 503))).collect();
    assert!(odd.is_empty(), "{odd:?}");
    eventually("both are out", || {
        pause(millis(20));
        (proxy.get("/").status() == 503).then_some(())
    });
}

#[test]
fn nginx_instances_are_served_over_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let roots = folder.write("ca.pem", authority.pem());
    let nginx = Nginx::start_tls(2, &authority.issue(&["nginx.test"]));
    let mut config = Config::new()
        .pool("tls", format!("{{ enabled = true, roots = '{}', server_name = 'nginx.test' }}", roots.display()));
    for (index, address) in nginx.addresses.iter().enumerate() {
        config = config.instance_at(&format!("n{index}"), *address, "");
    }
    let proxy = config.probe("interval", "\"600ms\"").probe("timeout", "\"590ms\"").start();
    proxy.wait_eligible(2);
    let load = Load::start(proxy.front, 8, 0);
    load.wait_more(300);
    let all = load.end();
    assert!(all.iter().all(|sent| sent.result == Ok(404) && !sent.instance.is_empty()), "{:?}", &all[..3]);
    let handshakes = proxy.metric("plimsoll_upstream_tls_handshakes_total", &[]) as usize;
    assert!(handshakes * 4 < all.len(), "{handshakes} handshakes for {} requests", all.len());
    for size in [0, 1, 8192, 3_000_001] {
        let bytes: Vec<u8> = (0..size).map(|index: usize| (index * 7 + index / 251) as u8).collect();
        nginx.file("f", &bytes);
        let answer = proxy.get("/files/f");
        assert!(answer.status() == 200 && answer.body == bytes, "{size} bytes differ");
    }
    let body = "x".repeat(100_000);
    assert_eq!(proxy.post("/take", &body).text(), "100000");
}

#[test]
fn nginx_instances_are_served_over_http_2_with_and_without_tls() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let roots = folder.write("ca.pem", authority.pem());
    let issued = authority.issue(&["nginx.test"]);
    let tls = format!("{{ enabled = true, roots = '{}', server_name = 'nginx.test' }}", roots.display());
    let cases = [
        ("h2c", Nginx::start_http2(2, None), "HTTP/2.0"),
        ("h2", Nginx::start_http2(2, Some(&issued)), "HTTP/2.0"),
        ("auto", Nginx::start_http2(2, Some(&issued)), "HTTP/2.0"),
        // ALPN comes to HTTP/1.1 there.
        ("auto", Nginx::start_tls(2, &issued), "HTTP/1.1"),
    ];
    for (protocol, nginx, spoken) in cases {
        let mut config = Config::new().pool("protocol", format!("\"{protocol}\"")).set("runtime", "workers", 1);
        if protocol != "h2c" {
            config = config.pool("tls", &tls);
        }
        for (index, address) in nginx.addresses.iter().enumerate() {
            config = config.instance_at(&format!("n{index}"), *address, "");
        }
        let proxy = config.probe("interval", "\"600ms\"").probe("timeout", "\"590ms\"").start();
        proxy.wait_eligible(2);
        let load = Load::start(proxy.front, 8, 0);
        load.wait_more(300);
        let all = load.end();
        assert!(
            all.iter().all(|sent| sent.result == Ok(404) && !sent.instance.is_empty()),
            "{protocol} {:?}",
            &all[..3]
        );
        let opened = proxy.metric("plimsoll_upstream_connections_opened_total", &[]);
        assert!((spoken == "HTTP/2.0") == (opened < 2.5), "{protocol}, {spoken}: {opened} connections");
        for size in [0, 1, 8192, 65_537, 3_000_001] {
            let bytes: Vec<u8> = (0..size).map(|index: usize| (index * 7 + index / 251) as u8).collect();
            nginx.file("f", &bytes);
            let answer = proxy.get("/files/f");
            assert!(answer.status() == 200 && answer.body == bytes, "{protocol}: {size} bytes differ");
        }
        assert_eq!(proxy.get("/204").status(), 204, "{protocol}");
        // nginx answers before it has read the body, and takes no more of it.
        assert_eq!(proxy.post("/redirect", &"x".repeat(100_000)).status(), 302, "{protocol}");
    }
}

#[test]
fn nginx_that_is_killed_costs_no_request_over_http_2() {
    let (dying, staying) = (Nginx::start_http2(1, None), Nginx::start_http2(1, None));
    let proxy = Config::new()
        .pool("protocol", "\"h2c\"")
        .instance_at("dying", dying.addresses[0], "")
        .instance_at("staying", staying.addresses[0], "")
        .start();
    proxy.wait_eligible(2);
    let load = Load::start(proxy.front, 8, 0);
    load.wait_more(300);
    dying.signal("KILL");
    load.wait_more(300);
    let all = load.end();
    let odd: Vec<_> = all.iter().filter(|sent| sent.result != Ok(404)).collect();
    assert!(odd.is_empty(), "{odd:?}");
}
