//! Requests go to an instance and answers come back, whole and unchanged, while they are still being sent.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::instance::Then;
use crate::support::wait::{BOUND, eventually, millis, pause, seconds, stays};
use crate::support::{Client, Config, Instance, ports};

#[test]
fn request_reaches_an_instance_and_its_answer_comes_back() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/path?query=1");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "a"));
    assert_eq!(api.last().head.start, "GET /path?query=1 HTTP/1.1");
}

#[test]
fn request_body_arrives_as_it_was_sent() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    assert_eq!(proxy.post("/", "some body").status(), 200);
    assert_eq!(api.last().body.as_deref(), Some(&b"some body"[..]));

    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n5\r\n body\r\n0\r\n\r\n";
    assert_eq!(proxy.send(chunked).status(), 200);
    assert_eq!(api.last().body.as_deref(), Some(&b"some body"[..]));
}

#[test]
fn one_connection_carries_many_requests() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    for index in 0..50 {
        let answer = if index % 2 == 0 { client.get("/") } else { client.post("/", "x") };
        assert_eq!(answer.status(), 200);
        assert!(!answer.closes());
    }
    assert_eq!(api.count(), 50);
}

#[test]
fn big_bodies_pass_unchanged_in_both_directions_at_once() {
    let api = Instance::named("a").serving(|exchange| {
        // Echoes chunk by chunk: the response begins while the request is still being sent.
        let length: usize = exchange.head.field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
        let mut left = length;
        while left > 0 {
            let bytes = exchange.wire.read_exactly(left.min(10_000))?;
            left -= bytes.len();
            exchange.write(bytes)?;
        }
        Ok(Then::KeepAlive)
    });
    let proxy = Config::of(&[&api]).start();
    let body: Vec<u8> = (0..20_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = proxy.connect().patient(seconds(30));
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let mut sender = client.wire.stream().try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    let answer = client.response();
    sending.join().unwrap();
    assert!(answer.body == body, "the echo differs");
}

#[test]
fn response_streams_while_it_is_made() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")?;
        // Goes on only when the client has said, over another request, that it saw the first part.
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.wire.read_head().unwrap().unwrap();
    assert_eq!(head.word(1), "200");
    while !String::from_utf8_lossy(client.wire.buffered()).contains("first") {
        assert!(client.wire.fill().unwrap());
    }
}

#[test]
fn client_that_does_not_read_slows_the_instance_down() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let api = Instance::named("a").serving(move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
        for _ in 0..1000 {
            exchange.write(vec![b'x'; 1_000_000])?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire.read_head().unwrap();
    // The kernel's buffers on four sockets take some megabytes; then nothing moves.
    let mut last = u64::MAX;
    eventually("the instance stands still", || {
        pause(millis(200));
        let now = written.load(Ordering::Relaxed);
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    assert!(last < 100, "{last} MB went out though nobody reads");
    assert!(proxy.memory_kib() < 100_000, "{} KiB", proxy.memory_kib());
}

#[test]
fn head_204_and_304_have_no_body() {
    let api = Instance::named("a").serving(|exchange| match exchange.head.word(1) {
        "/204" => exchange.respond(204, "", b""),
        "/304" => exchange.respond(304, "", b"12345"),
        _ => exchange.respond(200, "", b"12345"),
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_to("HEAD");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("5")));
    assert_eq!(client.get("/204").status(), 204);
    assert_eq!(client.get("/304").status(), 304);
    assert_eq!(client.get("/").text(), "12345");
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let api = Instance::named("a").serving(|exchange| match exchange.head.word(1) {
        "/chunked" => {
            exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
            exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")?;
            Ok(Then::KeepAlive)
        }
        _ => exchange.respond(200, "", b"hello"),
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /chunked HTTP/1.0\r\n\r\n");
    let text = String::from_utf8(client.wire.read_to_end().unwrap()).unwrap();
    assert!(!text.contains(" 103 "), "1xx to HTTP/1.0: {text}");
    assert!(!text.to_lowercase().contains("transfer-encoding"), "chunks to HTTP/1.0: {text}");
    assert!(text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200"), "{text}");
    assert!(text.ends_with("\r\n\r\nhello"), "{text}");

    // Without keep-alive the connection ends, with it it stays.
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert!(client.response().text() == "hello");
    client.expect_end();
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.response();
        assert_eq!(answer.text(), "hello");
        assert!(answer.field("connection").is_some_and(|value| value.to_lowercase().contains("keep-alive")));
    }
}

#[test]
fn connection_close_is_done_as_asked() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.response();
    assert!(answer.closes());
    client.expect_end();
}

#[test]
fn client_that_waits_for_100_continue_gets_it_and_sends_its_body() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let interim = client.wire.read_head().unwrap().unwrap();
    assert_eq!(interim.word(1), "100");
    assert_eq!(client.send("hello").response().status(), 200);
    assert_eq!(api.last().body.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn refusal_answers_an_expectation_without_taking_the_body() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (401, "no"));
}

#[test]
fn early_answer_reaches_a_client_that_is_still_sending() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop")?;
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    for _ in 0..10 {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
        for _ in 0..100 {
            client.send(vec![b'x'; 100_000]);
        }
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "stop"));
    }
}

#[test]
fn early_hints_pass_on() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")?;
        exchange.respond(200, "", b"page")
    });
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/");
    assert_eq!(answer.text(), "page");
    let hint = answer.interim.first().expect("the 103");
    assert_eq!((hint.word(1), hint.field("link")), ("103", Some("</style.css>; rel=preload")));
}

#[test]
fn routes_choose_the_pool_by_host_and_path() {
    let named = |name: &str| Instance::named(name);
    let (fallback, shop, v2, wild, deep, admin) =
        (named("fallback"), named("shop"), named("v2"), named("wild"), named("deep"), named("admin"));
    let pool = |instance: &Instance| format!("[pool.{}]\ninstances = [\"{}\"]\n", instance.name(), instance.address());
    let proxy = Config::of(&[&fallback])
        .and(&[&shop, &v2, &wild, &deep, &admin].map(pool).concat())
        .and(
            "[[route]]\npool = \"shop\"\nhost = [\"shop.test\"]\npath = \"/api\"\n\
             [[route]]\npool = \"v2\"\nhost = [\"shop.test\"]\npath = \"/api/v2\"\n\
             [[route]]\npool = \"wild\"\nhost = [\"*.shop.test\"]\n\
             [[route]]\npool = \"deep\"\nhost = [\"*.eu.shop.test\"]\n\
             [[route]]\npool = \"admin\"\npath = \"/admin\"\n",
        )
        .start();
    let cases = [
        ("shop.test", "/api", "shop"),
        ("shop.test", "/api/", "shop"),
        ("shop.test", "/api/v1/things", "shop"),
        ("shop.test", "/api?v2", "shop"),
        ("shop.test", "/api/v2/things", "v2"),
        ("shop.test", "/api/v22", "shop"),
        ("SHOP.test:8080", "/api", "shop"),
        ("shop.test", "/%61pi", "shop"),
        ("a.shop.test", "/api", "wild"),
        ("a.b.shop.test", "/", "wild"),
        ("a.eu.shop.test", "/", "deep"),
        ("elsewhere.test", "/admin/users", "admin"),
        ("shop.test", "/admin", "admin"),
        ("shop.test", "/apiary", ""),
        ("elsewhere.test", "/", ""),
        ("shop.test", "/API", ""),
    ];
    let mut client = proxy.connect();
    for (host, path, pool) in cases {
        let answer = client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
        if pool.is_empty() {
            assert_eq!((answer.status(), answer.cause().as_str()), (404, "no_route"), "{host}{path}");
        } else {
            assert_eq!(answer.text(), pool, "{host}{path}");
        }
    }
}

#[test]
fn listener_takes_connections_on_several_addresses_and_both_families() {
    let api = Instance::named("a");
    let config = Config::of(&[&api]);
    let (first, second) = (config.front, ports::free());
    let port6 = ports::free().port();
    let proxy = config.listener("bind", format!("[\"{first}\", \"{second}\", \"[::1]:{port6}\"]")).start();
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(Client::connect(second).get("/").status(), 200);
    assert_eq!(Client::connect(format!("[::1]:{port6}").parse().unwrap()).get("/").status(), 200);
}

#[test]
fn client_that_only_closes_its_sending_side_gets_its_answer() {
    let api = Instance::named("a").slow(millis(200));
    let proxy = Config::of(&[&api]).start();
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"] {
        let mut client = proxy.connect();
        client.send(request);
        client.wire.half_close().unwrap();
        assert_eq!(client.response().text(), "a");
        client.expect_end();
    }
}

#[test]
fn client_that_is_reset_cancels_its_request_at_the_instance() {
    let took = Arc::new(AtomicU64::new(u64::MAX));
    let seen = Arc::clone(&took);
    let api = Instance::named("a").serving(move |exchange| {
        let waited = exchange.wait_for_end();
        seen.store(waited.as_millis() as u64, Ordering::SeqCst);
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(1);
    client.wire.reset();
    eventually("the request is cancelled", || (took.load(Ordering::SeqCst) != u64::MAX).then_some(()));
    let line = proxy.wait_access("/slow");
    assert_eq!((line["status"].as_u64(), line["cause"].as_str()), (Some(499), Some("client_closed")));
    eventually("nothing is in flight", || (proxy.metric("plimsoll_upstream_in_flight", &[]) == 0.0).then_some(()));
}

#[test]
fn half_close_cancels_the_request_only_where_it_is_configured_to() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = Config::of(&[&api]).listener("abort_on_close", true).start();
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    api.wait_for(1);
    client.wire.half_close().unwrap();
    client.expect_end();
    assert_eq!(proxy.wait_access("/slow")["cause"], "client_closed");
}

#[test]
fn client_that_leaves_within_its_body_leaves_no_whole_request_behind() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    for (head, part) in [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n")] {
        api.forget();
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}"));
        api.wait_for(1);
        drop(client);
        eventually("the connection to the instance is gone", || {
            (proxy.metric("plimsoll_upstream_in_flight", &[]) == 0.0).then_some(())
        });
        stays(millis(100), "the body is not whole", || api.last().body.is_none());
    }
}

#[test]
fn unroutable_methods_and_paths_of_any_kind_pass_as_they_are() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    for target in ["/a%20b", "/%C3%A9", "/a;b=c?d=e&f=%2F..%2F", "/a//b/", "/?", "/~user/@me/$x,y'(z)*!"] {
        client.send(format!("PROPFIND {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.response().status(), 200, "{target}");
        assert_eq!(api.last().head.start, format!("PROPFIND {target} HTTP/1.1"));
    }
}

#[test]
fn four_hundred_concurrent_connections_are_served() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let mut clients: Vec<_> = (0..400).map(|_| proxy.connect().patient(BOUND * 3)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}
