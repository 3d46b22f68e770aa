//! Header rewriting: what the layers do to the head of a request and of its response, without sockets.
//!
//! A small head is what load generators send, the other one is a browser's. "layers" takes the parsed head and leaves it
//! ready to be written; "parse" and "write" are the codec's share, so that the sum can be held against the budget per
//! request in ARCHITECTURE.md.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use plimsoll::config::model::{Http2, Listener, ListenerName};
use plimsoll::http::date::HttpDate;
use plimsoll::http::forwarded::{self, Peer, Scheme};
use plimsoll::http::hop_by_hop::{self, Upgrade};
use plimsoll::http::{admit, imitation, max_forwards, trace_id, via};
use plimsoll::http1::Head;

const SMALL: &str = "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\n\r\n";

const BROWSER: &str = "GET /shop/items?id=17 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Referer: https://www.example.com/shop\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n";

fn listener() -> Listener {
    let minute = Duration::from_secs(60);
    Listener {
        name: ListenerName::from("bench"),
        bind: Vec::new(),
        connections_max: 1,
        connections_per_client_max: None,
        backlog: 1,
        request_head_timeout: minute,
        request_body_timeout: minute,
        request_body_rate_min: None,
        response_rate_min: None,
        rate_grace: minute,
        response_write_timeout: minute,
        keep_alive_timeout: minute,
        keep_alive_requests_max: None,
        connection_age_max: None,
        lingering_timeout: minute,
        request_head_bytes_max: 32 * 1024,
        request_fields_max: 100,
        request_target_bytes_max: 8 * 1024,
        request_body_bytes_max: None,
        trusted_proxies: Vec::new(),
        allow_trace: false,
        abort_on_close: false,
        h2c: false,
        http2: Http2 {
            streams_max: 1,
            stream_window: 65_536,
            connection_window: 65_536,
            resets_max: 1,
            settings_max: 1,
            pings_max: 1,
            priorities_max: 1,
            window_updates_max: 1,
            empty_frames_max: 1,
            continuations_max: 1,
            errors_max: 1,
        },
        health_path: None,
        tls: None,
        redirect: None,
        hsts: None,
    }
}

fn parsed(text: &str) -> Head {
    Head::request(text.as_bytes().to_vec(), 0, text.len(), 100).expect("a request head")
}

/// What `http::stack` does with a request, in its order.
fn layers(head: &mut Head, listener: &Listener, peer: &mut Peer, random: &mut Rng) {
    let admitted = admit::admit(head, listener).expect("admitted");
    max_forwards::apply(head).expect("no limit");
    hop_by_hop::request(head, Upgrade::Drop);
    imitation::drop_all(head, imitation::Certificate::Ours);
    via::request(head).expect("no loop");
    forwarded::apply(head, peer, &admitted);
    black_box(trace_id::apply(head, random));
}

fn rewriting(criterion: &mut Criterion) {
    let listener = listener();
    let mut peer = Peer::new(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 4711)), Scheme::Http, &[]);
    let mut random = Rng::with_seed(1);
    for (name, text) in [("small", SMALL), ("browser", BROWSER)] {
        let mut group = criterion.benchmark_group(format!("headers/{name}"));
        group.bench_function("parse", |bencher| {
            bencher.iter_batched(
                || text.as_bytes().to_vec(),
                |bytes| Head::request(bytes, 0, text.len(), 100),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("layers", |bencher| {
            bencher.iter_batched_ref(
                || parsed(text),
                |head| layers(head, &listener, &mut peer, &mut random),
                BatchSize::SmallInput,
            );
        });
        let mut head = parsed(text);
        layers(&mut head, &listener, &mut peer, &mut random);
        let mut out = Vec::with_capacity(4096);
        group.bench_function("write", |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&head).write_request(&mut out, b"/index.html", b"");
                black_box(out.len())
            });
        });
        group.finish();
    }

    let date = HttpDate::at(SystemTime::UNIX_EPOCH);
    let response = || Head::response(RESPONSE.as_bytes().to_vec(), 0, RESPONSE.len(), 100).expect("a response head");
    criterion.bench_function("headers/response", |bencher| {
        bencher.iter_batched_ref(
            response,
            |head| {
                hop_by_hop::response(head, Upgrade::Drop);
                via::response(head);
                date.add_if_missing(head);
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, rewriting);
criterion_main!(benches);
