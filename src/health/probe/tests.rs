//! Probes against real sockets on which a script answers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::model::GrpcProbe;

fn http() -> HttpProbe {
    HttpProbe {
        method: "GET".to_owned(),
        path: "/health?deep=1".to_owned(),
        host: None,
        headers: Vec::new(),
        expect_status: vec![(200, 299)],
        expect_body: None,
    }
}

fn target(address: SocketAddr, kind: ProbeKind) -> Target {
    let second = Duration::from_secs(1);
    Target {
        address,
        authority: "api.example:9001".to_owned(),
        probe: Probe {
            kind,
            port: None,
            interval: 5 * second,
            fast_interval: None,
            timeout: 2 * second,
            fall: 3,
            rise: 2,
            jitter_percent: 0,
            tls: true,
        },
        dialer: None,
        protocol: Protocol::H1,
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Probes an instance that answers with these bytes and closes. Returns the request that it saw, too.
async fn answered(answer: impl AsRef<[u8]>, kind: HttpProbe) -> (Result<(), ProbeError>, String) {
    let (listener, address) = listen().await;
    let target = target(address, ProbeKind::Http(kind));
    tokio::join!(probe(&target), async {
        let (mut stream, _) = listener.accept().await.expect("a probe");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.expect("a request"), 0);
        }
        // A probe that has seen enough closes early.
        let _closed = stream.write_all(answer.as_ref()).await.is_err();
        String::from_utf8(request).expect("a text")
    })
}

fn text(result: Result<(), ProbeError>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "pass".to_owned())
}

#[tokio::test]
async fn statuses_and_bodies_are_judged() {
    let long = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), "pass"),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "pass"),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end".to_owned(), "pass"),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), "pass"),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(), "status 503"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_owned(), "status 302"),
        (long(r#"{"status":"healthy"}"#), "pass"),
        (long(r#"{"status":"degraded"}"#), "pass"),
        (long(r#"{"status":"unhealthy","checks":[]}"#), "the answer says `unhealthy`"),
        (long(r#" {"checks":{"status":"healthy"},"status":"Unhealthy"}"#), "the answer says `unhealthy`"),
        (long(r#"{"checks":{"status":"unhealthy"}}"#), "pass"),
        (long(r#"{"status":"#), "pass"),
        (long("unhealthy"), "pass"),
    ] {
        assert_eq!(text(answered(&answer, http()).await.0), expected, "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_http_or_ends_early_fails() {
    for answer in ["", "HTTP/1.1 200", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"] {
        let result = text(answered(answer, http()).await.0);
        assert!(result.starts_with("no answer: "), "{answer}: {result}");
    }
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let probe = HttpProbe {
        method: "HEAD".to_owned(),
        host: Some("front.example".to_owned()),
        headers: vec![
            ("X-Probe".to_owned(), "1".to_owned()),
            ("x-probe".to_owned(), "2".to_owned()),
            ("User-Agent".to_owned(), "mine".to_owned()),
        ],
        ..http()
    };
    let (result, request) = answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", probe).await;
    assert_eq!(text(result), "pass", "an answer to HEAD has no body");
    assert!(request.starts_with("HEAD /health?deep=1 HTTP/1.1\r\n"), "{request}");
    for line in ["host: front.example", "x-probe: 1", "x-probe: 2", "user-agent: mine", "connection: close"] {
        assert_eq!(request.lines().filter(|other| *other == line).count(), 1, "{line} in {request}");
    }
    assert_eq!(request.matches("user-agent").count(), 1);
    let (_, request) = answered("HTTP/1.1 200 OK\r\n\r\n", http()).await;
    assert!(request.contains("host: api.example:9001\r\n"), "{request}");
}

#[tokio::test]
async fn the_expected_status_and_text_can_be_others() {
    let probe = || HttpProbe { expect_status: vec![(200, 200), (401, 403)], ..http() };
    assert_eq!(text(answered("HTTP/1.1 402 Payment\r\nContent-Length: 0\r\n\r\n", probe()).await.0), "pass");
    assert_eq!(text(answered("HTTP/1.1 204 No Content\r\n\r\n", probe()).await.0), "status 204");
    let probe = || HttpProbe { expect_body: Some("ready".to_owned()), ..http() };
    assert_eq!(text(answered("HTTP/1.1 200 OK\r\n\r\nall ready", probe()).await.0), "pass");
    let other = "HTTP/1.1 200 OK\r\n\r\nnot yet";
    assert_eq!(text(answered(other, probe()).await.0), "the body does not have the expected text");
}

#[tokio::test]
async fn no_more_than_64_kib_of_a_body_is_read() {
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(BODY_BYTES_MAX));
    assert_eq!(text(answered(endless, http()).await.0), "pass");
    let late = format!("HTTP/1.1 200 OK\r\n\r\n{}needle", "x".repeat(BODY_BYTES_MAX));
    let probe = HttpProbe { expect_body: Some("needle".to_owned()), ..http() };
    assert_eq!(text(answered(late, probe).await.0), "the body does not have the expected text");
}

#[tokio::test]
async fn a_refused_connection_fails_and_one_that_can_be_made_passes_a_tcp_probe() {
    let (listener, address) = listen().await;
    assert_eq!(text(probe(&target(address, ProbeKind::Tcp)).await), "pass");
    let mut elsewhere = target(([127, 0, 0, 1], 1).into(), ProbeKind::Tcp);
    elsewhere.probe.port = Some(address.port());
    assert_eq!(text(probe(&elsewhere).await), "pass", "on the probe's own port");
    drop(listener);
    for kind in [ProbeKind::Tcp, ProbeKind::Http(http())] {
        assert_eq!(text(probe(&target(address, kind)).await), "connection refused");
    }
}

/// Probes an instance that answers a call of the gRPC health protocol with this status, these fields, this body and
/// these trailers. Returns the request that it saw, too.
async fn called(
    status: u16,
    fields: &[(&'static str, &'static str)],
    body: &'static [u8],
    outcome: &'static str,
) -> (String, String) {
    let (listener, address) = listen().await;
    let probe_of = GrpcProbe { service: "shop.v1.Orders".to_owned(), host: None };
    let target = target(address, ProbeKind::Grpc(probe_of));
    let (result, request) = tokio::join!(probe(&target), async {
        let (stream, _) = listener.accept().await.expect("a probe");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        let (request, mut respond) = connection.accept().await.expect("a request").expect("a sound one");
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut stream = respond.send_response(response.body(()).expect("a head"), body.is_empty()).expect("sent");
        if !body.is_empty() {
            stream.send_data(body.into(), outcome.is_empty()).expect("sent");
            if !outcome.is_empty() {
                let trailers = [("grpc-status", outcome)].into_iter();
                let trailers =
                    trailers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
                stream.send_trailers(trailers.collect()).expect("sent");
            }
        }
        let (head, mut asked) = request.into_parts();
        let mut text = format!("{head:?}");
        while let Some(data) = std::future::poll_fn(|context| {
            // The connection has to be driven, too.
            let _closed = connection.poll_closed(context).is_ready();
            asked.poll_data(context)
        })
        .await
        {
            text += &data.expect("data").escape_ascii().to_string();
        }
        let _ended = std::future::poll_fn(|context| connection.poll_closed(context)).await.is_err();
        text
    });
    (text(result), request)
}

#[tokio::test]
async fn the_health_service_of_grpc_must_say_serving() {
    let grpc = &[("content-type", "application/grpc")][..];
    for (answer, expected) in [
        ((200, grpc, &b"\0\0\0\0\x02\x08\x01"[..], "0"), "pass"),
        ((200, grpc, b"\0\0\0\0\x02\x08\x02", "0"), "the health service says NOT_SERVING"),
        ((200, grpc, b"\0\0\0\0\0", "0"), "the health service says UNKNOWN"),
        ((200, grpc, b"hello", "0"), "the answer is no message of the gRPC health protocol"),
        ((200, grpc, b"\0\0\0\0\x02\x08\x01", "14"), "grpc-status 14 UNAVAILABLE"),
        ((200, grpc, b"\0\0\0\0\x02\x08\x01", ""), "grpc-status missing"),
        ((200, &[("grpc-status", "5")][..], b"", ""), "grpc-status 5 NOT_FOUND"),
        ((404, &[][..], b"", ""), "status 404"),
    ] {
        let (status, fields, body, outcome) = answer;
        assert_eq!(called(status, fields, body, outcome).await.0, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn the_call_names_service_and_authority() {
    let (_, request) = called(200, &[("grpc-status", "0")], b"", "").await;
    for part in ["http://api.example:9001/grpc.health.v1.Health/Check", "POST", "application/grpc", "trailers"] {
        assert!(request.contains(part), "{part} in {request}");
    }
    assert!(request.contains("shop.v1.Orders"), "{request}");
}

#[tokio::test]
async fn what_does_not_speak_http_2_fails_a_grpc_probe() {
    let (listener, address) = listen().await;
    let target = target(address, ProbeKind::Grpc(GrpcProbe { service: String::new(), host: None }));
    let (result, ()) = tokio::join!(probe(&target), async {
        let (mut stream, _) = listener.accept().await.expect("a probe");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
        drop(stream);
    });
    assert!(text(result).starts_with("no answer: "));
}
