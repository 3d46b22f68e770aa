//! HTTP/2 on the client side, to instances that speak HTTP/1.1.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};

use crate::support::http2::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, NO_ERROR, Outcome,
    PING, PREFACE, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, Refusal, SETTINGS, WINDOW_UPDATE, block,
    bytes_of, head,
};
use crate::support::http2::{Http2, get};
use crate::support::instance::Then;
use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Instance, Proxy};

fn h2c(instances: &[&Instance]) -> Config {
    Config::of(instances).listener("h2c", true)
}

fn echo() -> Instance {
    Instance::named("a").serving(|exchange| {
        let body = exchange.read_body()?;
        exchange.respond(200, "", &body)
    })
}

#[test]
fn requests_over_http_2_reach_instances_as_http_1_1() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    let request = Request::get("http://test:80/a?b").header("cookie", "a=b").header("x-a", "1").header("cookie", "c=d");
    let exchange = client.send(request.body(()).unwrap());
    let answer = client.answer(exchange).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"a"[..]));
    assert_eq!((answer.field("instance"), answer.field("via")), ("a", "1.1 plimsoll"));
    let head = api.last().head;
    assert_eq!(head.start, "GET /a?b HTTP/1.1");
    assert_eq!(head.all("host"), ["test:80"]);
    assert_eq!(head.all("cookie"), ["a=b; c=d"], "RFC 9113 8.2.3");
    assert_eq!(head.field("via"), Some("2.0 plimsoll"));
    assert_eq!(head.field("x-forwarded-host"), Some("test:80"));
    let line = proxy.wait_access("/a");
    assert_eq!((&line["status"], &line["protocol"]), (&200.into(), &"HTTP/2.0".into()));
    assert_eq!(proxy.get("/b").status(), 200, "HTTP/1.1 on the same listener");
    assert_eq!(proxy.wait_access("/b")["protocol"], "HTTP/1.1");
}

#[test]
fn bodies_pass_with_and_without_a_length() {
    let api = echo();
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    assert_eq!(client.post("/", b"hello").body, b"hello");
    assert_eq!(api.last().head.field("transfer-encoding"), Some("chunked"));
    let request = Request::post("http://test/").header("content-length", "5").body(()).unwrap();
    let mut exchange = client.begin(request);
    exchange.body.send_data(Bytes::from("hel"), false).unwrap();
    exchange.body.send_data(Bytes::from("lo"), true).unwrap();
    assert_eq!(client.answer(exchange).unwrap().body, b"hello");
    assert_eq!(api.last().head.field("content-length"), Some("5"));
    let exchange = client.send(Request::post("http://test/").body(()).unwrap());
    assert_eq!(client.answer(exchange).unwrap().body, b"");
    assert_eq!(api.last().head.field("content-length"), Some("0"), "RFC 9110 8.6");
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    let api = echo();
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    let text = "0123456789abcdef".repeat(60_000);
    let mut exchange = client.begin(Request::post("http://test/").body(()).unwrap());
    exchange.body.send_data(Bytes::from(text.clone()), true).unwrap();
    assert!(client.answer(exchange).unwrap().body == text.as_bytes());
}

#[test]
fn trailers_pass_in_both_directions() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.read_body()?;
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n")?;
        Ok(Then::KeepAlive)
    });
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    let mut exchange = client.begin(Request::post("http://test/").body(()).unwrap());
    exchange.body.send_data(Bytes::from("body"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", HeaderValue::from_static("9"));
    trailers.insert("host", HeaderValue::from_static("evil"));
    exchange.body.send_trailers(trailers).unwrap();
    let answer = client.answer(exchange).unwrap();
    assert_eq!(answer.body, b"x");
    assert_eq!(answer.trailers.unwrap().get("x-sum").unwrap(), "7");
    assert_eq!(api.last().trailers, [("x-check".to_owned(), "9".to_owned())]);
}

#[test]
fn many_requests_share_a_connection_and_none_waits_for_another() {
    let api = Instance::named("a").serving(|exchange| {
        if exchange.head.word(1) == "/slow" {
            exchange.wait_for_end();
        }
        exchange.respond(200, "", b"x")
    });
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    let _slow = client.send(get("/slow"));
    let exchanges: Vec<_> = (0..50).map(|number| client.send(get(&format!("/{number}")))).collect();
    for exchange in exchanges {
        assert_eq!(client.answer(exchange).unwrap().status, 200);
    }
}

#[test]
fn own_answers_are_answers_of_http_2() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).listener("health_path", "\"/up\"").start();
    let client = Http2::connect(proxy.front);
    assert_eq!(client.get("/up").body, b"ready\n");
    let answer = client.get("/%2e%2e/");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.field("proxy-status"), "plimsoll; error=http_request_error; details=\"client_bad_request\"");
    assert!(answer.field("connection").is_empty());
    assert_eq!(client.get("/").status, 200, "the connection goes on");
    api.stop();
    proxy.wait_eligible(0);
    let answer = client.get("/");
    assert_eq!((answer.status, answer.field("retry-after")), (503, "1"));
}

#[test]
fn interim_answers_pass() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        exchange.respond(200, "", b"x")
    });
    let proxy = h2c(&[&api]).start();
    let client = Http2::connect(proxy.front);
    let answer = client.get("/");
    assert_eq!((answer.status, answer.interim), (200, vec![103]));
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let api = Instance::named("a").serving(|exchange| match exchange.head.word(1) {
        "/204" => exchange.respond(204, "", b""),
        "/304" => exchange.respond(304, "", b""),
        _ => exchange.respond(200, "", b"body"),
    });
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    for (stream, method, path, status) in [(1, "GET", "/204", 204), (3, "GET", "/304", 304), (5, "HEAD", "/", 200)] {
        client.request(stream, END_STREAM, &head(method, path));
        let answer = client.wait("an answer", |frame| frame.stream == stream);
        assert_eq!((answer.status(), answer.flags & END_STREAM), (status, END_STREAM), "{method} {path}");
    }
}

#[test]
fn answer_that_is_cut_off_is_reset_and_never_ends() {
    let api = Instance::named("a").serving(|exchange| {
        match exchange.head.word(1) {
            "/length" => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")?,
            _ => exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n")?,
        }
        Ok(Then::Close)
    });
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    for (stream, path) in [(1, "/length"), (3, "/chunked")] {
        client.get(stream, path);
        let reset = client.wait("a reset", |frame| {
            assert!(frame.stream != stream || frame.flags & END_STREAM == 0 || frame.kind != DATA, "{frame:?}");
            frame.stream == stream && frame.kind == RST_STREAM
        });
        assert_ne!(reset.error(), NO_ERROR);
    }
}

#[test]
fn request_whose_frames_contradict_its_length_never_looks_whole_to_the_instance() {
    let whole = echo();
    let proxy = h2c(&[&whole]).start();
    // (length, frames of data, whether the last one ends the stream)
    let cases: [(&str, &[&str], bool); 5] = [
        ("5", &["hell"], true),
        ("5", &["hello!"], true),
        ("5", &["hello", "!"], true),
        ("5", &["hello", "!"], false),
        ("5", &["hel", "lo!"], false),
    ];
    for (number, (length, frames, ends)) in cases.into_iter().enumerate() {
        let mut client = Frames::connect(proxy.front);
        let path = format!("/{number}");
        let fields = [&head("POST", &path)[..], &[("content-length", length)]].concat();
        client.request(1, 0, &fields);
        for (index, frame) in frames.iter().enumerate() {
            let end = if ends && index + 1 == frames.len() { END_STREAM } else { 0 };
            client.send(DATA, end, 1, frame.as_bytes());
        }
        let outcome = client.outcome(1);
        assert!(matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Answered(400)), "{number}: {outcome:?}");
        assert!(whole.received().iter().all(|request| request.body.is_none()), "{number}");
    }
    let fields = [&head("POST", "/")[..], &[("content-length", "5")]].concat();
    let mut client = Frames::connect(proxy.front);
    client.request(1, END_STREAM, &fields);
    assert_eq!(client.outcome(1), Outcome::Reset(PROTOCOL_ERROR));
}

#[test]
fn request_cut_off_by_its_client_is_never_whole_to_the_instance() {
    let api = echo();
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.request(1, 0, &head("POST", "/")).send(DATA, 0, 1, b"part");
    api.wait_for(1);
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    let line = proxy.wait_access("/");
    assert_eq!(line["cause"], "client_closed");
    assert!(api.last().body.is_none());
}

#[test]
fn client_that_resets_a_request_cancels_it_at_the_instance() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    api.wait_for(1);
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    assert_eq!(proxy.wait_access("/")["cause"], "client_closed");
    client.get(3, "/%zz");
    assert_eq!(client.outcome(3), Outcome::Answered(400), "others go on");
}

#[test]
fn client_that_leaves_cancels_its_requests_and_each_is_logged() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/one").get(3, "/two");
    api.wait_for(2);
    client.reset();
    assert_eq!(proxy.wait_access("/one")["cause"], "client_closed");
    assert_eq!(proxy.wait_access("/two")["cause"], "client_closed");
}

#[test]
fn client_that_closes_its_sending_side_gets_its_answers() {
    let api = Instance::named("a").slow(millis(300));
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/").get(3, "/");
    client.half_close();
    for _ in 0..2 {
        assert_eq!(client.wait("an answer", |frame| frame.kind == HEADERS).status(), 200);
    }
}

#[test]
fn preface_is_recognised_however_it_is_cut_and_what_is_none_goes_on_as_http_1_1() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::raw(proxy.front);
    for byte in PREFACE {
        client.write(&[*byte]);
        pause(millis(1));
    }
    client.send(4, 0, 0, &[]).get(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    let mut client = proxy.connect();
    client.send("P");
    pause(millis(20));
    client.send("RI / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(api.last().head.start, "PRI / HTTP/1.1");
}

#[test]
fn slow_preface_ends_the_connection() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).listener("request_head_timeout", "\"300ms\"").start();
    let mut client = Frames::raw(proxy.front);
    client.write(&PREFACE[..10]);
    assert_eq!(client.end(), None);
}

#[test]
fn drain_says_goodbye_and_finishes_what_is_under_way() {
    let api = Instance::named("a").slow(millis(500));
    let mut proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    api.wait_for(1);
    proxy.signal("TERM");
    let goodbye = client.wait("a goodbye", |frame| frame.kind == GOAWAY);
    assert_eq!(goodbye.error(), NO_ERROR);
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    assert!(proxy.wait_end(crate::support::wait::BOUND).success());
}

#[test]
fn idle_connection_is_told_to_end() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).listener("keep_alive_timeout", "\"200ms\"").start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    assert_eq!(client.end(), Some(NO_ERROR));
}

#[test]
fn connection_of_a_listener_that_a_reload_removes_ends_after_its_requests() {
    let api = Instance::named("a").slow(millis(300));
    let config = h2c(&[&api]);
    let proxy = config.clone().start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    api.wait_for(1);
    let elsewhere = crate::support::ports::free();
    let moved = config.listener("name", "\"other\"").listener("bind", format!("\"{elsewhere}\""));
    assert_eq!(proxy.reload(&moved).status(), 200);
    let goodbye = client.wait("a goodbye", |frame| frame.kind == GOAWAY);
    assert_eq!(goodbye.error(), NO_ERROR);
    assert_eq!(client.outcome(1), Outcome::Answered(200));
}

#[test]
fn receiver_that_opens_no_window_is_given_up_and_holds_little() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
        let part = vec![b'x'; 100_000];
        while exchange.write(&part).is_ok() {}
        Ok(Then::Close)
    });
    let proxy = h2c(&[&api]).listener("response_write_timeout", "\"1s\"").start();
    let before = proxy.memory_kib();
    // SETTINGS_INITIAL_WINDOW_SIZE
    let mut client = Frames::connect_with(proxy.front, &[(4, 0)]);
    for number in 0..20 {
        client.get(number * 2 + 1, "/");
    }
    api.wait_for(20);
    let reset = client.wait("a reset", |frame| frame.kind == RST_STREAM);
    assert_ne!(reset.error(), NO_ERROR);
    assert_eq!(proxy.wait_access("/")["cause"], "client_too_slow");
    let grown = proxy.memory_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "20 stalled answers hold {grown} KiB");
}

#[test]
fn without_h2c_the_preface_is_no_request() {
    let api = Instance::named("a");
    let proxy: Proxy = Config::of(&[&api]).start();
    let mut client = proxy.connect();
    client.send(PREFACE);
    assert_eq!(client.response().status(), 505);
    eventually("nothing reached the instance", || (api.count() == 0).then_some(()));
}

/// A proxy with small limits, whose client has sent a request that is under way.
fn flooded(flood: impl Fn(&mut Frames)) -> (Option<u32>, Proxy) {
    let api = Instance::named("a").slow(millis(50));
    let config = h2c(&[&api]);
    let limits =
        ["resets_max", "settings_max", "pings_max", "priorities_max", "window_updates_max", "empty_frames_max"];
    let config = limits.iter().fold(config, |config, limit| config.set("listener.http2", limit, 10));
    let proxy = config.start();
    let other = Http2::connect(proxy.front);
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    flood(&mut client);
    let end = client.end();
    assert_eq!(other.get("/").status, 200, "other clients do not notice");
    (end, proxy)
}

#[test]
fn floods_of_frames_end_the_connection_and_are_counted_and_logged() {
    type Flood = fn(&mut Frames, u32);
    let floods: [(&str, Flood); 8] = [
        ("resets", |client, number| {
            let stream = number * 2 + 3;
            let request = bytes_of(HEADERS, END_HEADERS | END_STREAM, stream, &block(&head("GET", "/")));
            let reset = bytes_of(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
            drop(client.try_write(&[request, reset].concat()));
            pause(millis(2));
        }),
        ("settings", |client, _| drop(client.try_write(&bytes_of(SETTINGS, 0, 0, &[])))),
        ("pings", |client, _| drop(client.try_write(&bytes_of(PING, 0, 0, &[0; 8])))),
        ("priorities", |client, _| drop(client.try_write(&bytes_of(PRIORITY, 0, 7, &[0, 0, 0, 0, 9])))),
        ("priorities", |client, _| drop(client.try_write(&bytes_of(0xbe, 0, 0, &[1; 100])))),
        ("window_updates", |client, _| drop(client.try_write(&bytes_of(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])))),
        ("empty_frames", |client, number| {
            if number == 0 {
                client.request(3, 0, &head("POST", "/"));
            }
            drop(client.try_write(&bytes_of(DATA, 0, 3, &[])));
        }),
        ("continuations", |client, number| {
            let (kind, payload) =
                if number == 0 { (HEADERS, block(&head("GET", "/"))) } else { (CONTINUATION, Vec::new()) };
            drop(client.try_write(&bytes_of(kind, 0, 3, &payload)));
        }),
    ];
    for (reason, frame) in floods {
        let (end, proxy) = flooded(|client| (0..60).for_each(|number| frame(client, number)));
        assert_eq!(end, Some(ENHANCE_YOUR_CALM), "{reason}");
        proxy.wait_event("a line about it", |event| {
            event["message"] == "connection ended: too many frames" && event["reason"] == reason
        });
        let labels = [("listener", "front"), ("reason", reason)];
        eventually("it is counted", || (proxy.metric("plimsoll_http2_floods_total", &labels) > 0.5).then_some(()));
    }
}

#[test]
fn requests_beyond_the_limit_are_refused_so_that_they_may_come_again() {
    let api = Instance::named("a").serving(|exchange| {
        exchange.wait_for_end();
        Ok(Then::Close)
    });
    let proxy = h2c(&[&api]).set("listener.http2", "streams_max", 2).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/").get(3, "/").get(5, "/");
    assert_eq!(client.outcome(5), Outcome::Reset(REFUSED_STREAM));
    eventually("two are open", || {
        (proxy.metric("plimsoll_http2_streams", &[("listener", "front")]) > 1.5).then_some(())
    });
}

#[test]
fn heads_that_are_too_large_get_an_answer() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api])
        .listener("request_head_bytes_max", "\"2KiB\"")
        .listener("request_target_bytes_max", "\"1KiB\"")
        .start();
    let mut client = Frames::connect(proxy.front);
    let long = "x".repeat(3_000);
    client.request(1, END_STREAM, &[&head("GET", "/")[..], &[("x-long", &long)]].concat());
    assert_eq!(client.outcome(1), Outcome::Answered(431));
    let many: Vec<(&str, &str)> = (0..101).map(|_| ("x", "y")).collect();
    client.request(3, END_STREAM, &[&head("GET", "/")[..], &many].concat());
    assert_eq!(client.outcome(3), Outcome::Answered(431));
    assert_eq!(api.count(), 0);
}

#[test]
fn connection_ends_after_as_many_requests_as_are_allowed() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).listener("keep_alive_requests_max", 2).start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    client.get(3, "/");
    assert_eq!(client.wait("a goodbye", |frame| frame.kind == GOAWAY).error(), NO_ERROR);
    assert_eq!(client.outcome(3), Outcome::Answered(200));
    client.end();
    let proxy = h2c(&[&api]).listener("connection_age_max", "\"1s\"").start();
    let mut client = Frames::connect(proxy.front);
    client.get(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    assert_eq!(client.end(), Some(NO_ERROR));
}

/// Fields that make a request malformed, and where that is written.
#[test]
fn malformed_requests_are_refused_and_never_reach_an_instance() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).start();
    let sound = head("GET", "/");
    let cases: &[(&str, Vec<(&str, &str)>)] = &[
        ("RFC 9113 8.3.1: no :method", sound[1..].to_vec()),
        ("8.3.1: no :scheme", [&sound[..1], &sound[2..]].concat()),
        ("8.3.1: no :path", sound[..3].to_vec()),
        ("8.3.1: an empty :path", head("GET", "").to_vec()),
        ("8.3.1: a :path that is none", head("GET", "a").to_vec()),
        ("8.3.1: * for GET", head("GET", "*").to_vec()),
        ("8.3: an unknown one", [&sound[..], &[(":x", "y")]].concat()),
        ("8.3: one of responses", [&sound[..], &[(":status", "200")]].concat()),
        ("8.3: twice", [&sound[..], &[(":path", "/")]].concat()),
        ("8.3: after a field", [&[("x", "y")], &sound[..]].concat()),
        ("8.3.1: host is another", [&sound[..], &[("host", "other")]].concat()),
        ("8.3.1: two hosts", [&sound[..], &[("host", "test"), ("host", "b")]].concat()),
        ("8.2.1: upper case", [&sound[..], &[("X-A", "b")]].concat()),
        ("8.2.1: space in a name", [&sound[..], &[("x a", "b")]].concat()),
        ("8.2.1: NUL", [&sound[..], &[("x", "a\0b")]].concat()),
        ("8.2.1: CR", [&sound[..], &[("x", "a\rb")]].concat()),
        ("8.2.1: LF", [&sound[..], &[("x", "a\nb")]].concat()),
        ("8.2.1: white space before", [&sound[..], &[("x", " a")]].concat()),
        ("8.2.1: white space behind", [&sound[..], &[("x", "a\t")]].concat()),
        ("8.2.2: connection", [&sound[..], &[("connection", "close")]].concat()),
        ("8.2.2: keep-alive", [&sound[..], &[("keep-alive", "5")]].concat()),
        ("8.2.2: proxy-connection", [&sound[..], &[("proxy-connection", "close")]].concat()),
        ("8.2.2: transfer-encoding", [&sound[..], &[("transfer-encoding", "chunked")]].concat()),
        ("8.2.2: upgrade", [&sound[..], &[("upgrade", "h2c")]].concat()),
        ("8.2.2: te", [&sound[..], &[("te", "gzip")]].concat()),
        ("8.1.1: two lengths", [&sound[..], &[("content-length", "1"), ("content-length", "2")]].concat()),
        ("8.1.1: no number", [&sound[..], &[("content-length", "+1")]].concat()),
        ("9110 4.2.4: user information", vec![sound[0], sound[1], (":authority", "a@test"), sound[3]]),
        ("smuggled line", vec![sound[0], sound[1], sound[2], (":path", "/ HTTP/1.1\r\nX: y")]),
        ("smuggled method", vec![(":method", "GET / HTTP/1.1\r\nX: y"), sound[1], sound[2], sound[3]]),
    ];
    for (why, fields) in cases {
        let mut client = Frames::connect(proxy.front);
        client.request(1, END_STREAM, fields);
        let refused = client.refusal(1);
        assert!(
            matches!(refused, Refusal::Answered(400) | Refusal::Reset(_) | Refusal::Ended(_)),
            "{why}: {refused:?}"
        );
        assert_eq!(api.count(), 0, "{why}");
    }
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn plain_connect_is_not_implemented() {
    let api = Instance::named("a");
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.request(1, 0, &[(":method", "CONNECT"), (":authority", "test:443")]);
    assert_eq!(client.outcome(1), Outcome::Answered(501));
}

/// What a `WebSocket` over HTTP/2 is asked for by (RFC 8441 section 5.1).
fn websocket() -> Vec<(&'static str, &'static str)> {
    let pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat")];
    [&pseudo[..], &[(":authority", "test"), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]]
        .concat()
}

/// An instance that agrees to a `WebSocket` with what `answer` makes of its key, and then sends back what it gets.
fn websocket_instance(answer: fn(&str) -> String) -> Instance {
    Instance::named("a").serving(move |exchange| {
        let accept = answer(exchange.head.field("sec-websocket-key").unwrap_or_default());
        exchange.write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nwelcome"
        ))?;
        while exchange.wire.fill()? {
            let bytes = exchange.wire.buffered().to_vec();
            exchange.wire.read_exactly(bytes.len())?;
            exchange.write(bytes)?;
        }
        exchange.write("bye")?;
        Ok(Then::Close)
    })
}

/// RFC 6455 section 4.2.2.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let mut out = String::new();
    for chunk in digest.as_ref().chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, index| bits << 8 | u32::from(*chunk.get(index).unwrap_or(&0)));
        for index in 0..4 {
            let digit = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                [(bits >> (18 - 6 * index) & 63) as usize];
            out.push(if index > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

#[test]
fn web_sockets_over_http_2_reach_instances_that_know_them_over_http_1_1() {
    let api = websocket_instance(accept);
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    let settings = client.wait("settings", |frame| frame.kind == SETTINGS && !frame.payload.is_empty());
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "ENABLE_CONNECT_PROTOCOL");
    client.request(1, 0, &websocket());
    assert_eq!(client.outcome(1), Outcome::Answered(200));
    let head = api.last().head;
    assert_eq!((head.start.as_str(), head.field("upgrade")), ("GET /chat HTTP/1.1", Some("websocket")));
    assert!(
        head.has("connection") && head.has("sec-websocket-key") && head.field("sec-websocket-protocol") == Some("chat")
    );
    let mut come = Vec::new();
    for (sent, expected) in [("", "welcome"), ("one", "welcomeone"), ("two", "welcomeonetwo")] {
        if !sent.is_empty() {
            client.send(DATA, 0, 1, sent.as_bytes());
        }
        while come.len() < expected.len() {
            come.extend(client.wait("bytes", |frame| frame.kind == DATA).payload);
        }
        assert_eq!(String::from_utf8_lossy(&come), expected);
    }
    client.send(DATA, END_STREAM, 1, b"");
    assert_eq!(client.wait("the last bytes", |frame| frame.kind == DATA && !frame.payload.is_empty()).payload, b"bye");
}

#[test]
fn instance_that_does_not_understand_the_key_opens_no_web_socket() {
    let api = websocket_instance(|_| "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
    let proxy = h2c(&[&api]).start();
    let mut client = Frames::connect(proxy.front);
    client.request(1, 0, &websocket());
    assert_eq!(client.outcome(1), Outcome::Answered(502));
    api.serve(|exchange| exchange.respond(200, "", b"a page"));
    client.request(3, 0, &websocket());
    assert_eq!(client.outcome(3), Outcome::Answered(502), "200 would mean that it is open");
    api.serve(|exchange| exchange.respond(403, "", b"no"));
    client.request(5, 0, &websocket());
    assert_eq!(client.outcome(5), Outcome::Answered(403));
}
