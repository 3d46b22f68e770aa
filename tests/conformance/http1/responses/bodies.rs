//! Bodies that end too early, or not where they should.

use super::*;

#[test]
fn bodies_cut_short_are_never_clean() {
    check(&[
        (
            "9112 8",
            "a body shorter than its length",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "a body that ends with a reset",
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Then::Reset,
            Abort,
        ),
        ("9112 8", "no body at all", "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Then::Close, Abort),
        (
            "9112 8",
            "an end within a chunk",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end between chunks",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end within the last chunk",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            Then::Close,
            Abort,
        ),
        (
            "9112 8",
            "an end within trailers",
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n",
            Then::Close,
            Abort,
        ),
        ("9112 6.3", "a reset in a body until close", "GET", b"HTTP/1.1 200 OK\r\n\r\nhello", Then::Reset, Abort),
    ]);
}

#[test]
fn bytes_that_an_instance_sends_unasked_reach_nobody() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let cases: &[(&str, &str, String)] = &[
        (
            "9112 9.2",
            "a second response after a length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi{EVIL}"),
        ),
        (
            "9112 9.2",
            "a second response after chunks",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n{EVIL}"),
        ),
        ("9110 15.3.5", "a body after 204", "HTTP/1.1 204 No Content\r\n\r\nevil".to_owned()),
        ("9110 15.3.5", "a response after 204", format!("HTTP/1.1 204 No Content\r\n\r\n{EVIL}")),
        ("9110 15.4.5", "a body after 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil".to_owned()),
        ("9110 15.4.5", "a response after 304", format!("HTTP/1.1 304 Not Modified\r\n\r\n{EVIL}")),
        ("9110 15.3.5", "a length on 204", format!("HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\n{EVIL}")),
    ];
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).evidence("failures", 0).set("runtime", "workers", 1).start();
    for (section, name, bytes) in cases {
        let bytes = bytes.clone();
        api.serve(move |exchange| {
            if exchange.head.word(1) == "/next" {
                return exchange.respond(200, "", b"next");
            }
            exchange.write(&bytes)?;
            Ok(Then::KeepAlive)
        });
        let mut client = proxy.connect();
        let first = client.get("/case");
        assert!(!first.text().contains("evil"), "{section} {name}: {}", first.text());
        for _ in 0..3 {
            let next = if first.closes() { proxy.get("/next") } else { client.get("/next") };
            assert_eq!(next.text(), "next", "{section} {name}");
        }
    }
    // After the answer to HEAD, a body that must not be there.
    api.serve(|exchange| match exchange.head.word(0) {
        "HEAD" => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").map(|()| Then::KeepAlive),
        _ => exchange.respond(200, "", b"next"),
    });
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 200);
    assert_eq!(client.get("/next").text(), "next");
}

#[test]
fn instance_that_speaks_while_idle_loses_the_connection() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).set("runtime", "workers", 1).start();
    api.serve(|exchange| {
        let then = exchange.respond(200, "", b"fine")?;
        if exchange.head.word(1) == "/first" {
            // Later than the answer, so that the connection lies idle when the bytes come.
            pause(millis(50));
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")?;
        }
        Ok(then)
    });
    assert_eq!(proxy.get("/first").text(), "fine");
    eventually("the connection that spoke is closed", || (api.open() == 0).then_some(()));
    for _ in 0..3 {
        assert_eq!(proxy.get("/second").text(), "fine");
    }
    let received = api.received();
    assert_ne!(received[0].connection, received[1].connection);
}
