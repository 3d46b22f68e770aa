//! What an HTTP/1.1 instance gets of a request that came over HTTP/2: one message, in one framing, and nothing behind it.

use super::*;

/// What the instance got of these bytes, after an answer with 200.
#[track_caller]
fn arrived(name: &str, bytes: &[u8]) -> Received {
    let api = Instance::named("a");
    let proxy = proxy(&api);
    let mut frames = connect(&proxy);
    send(&mut frames, bytes);
    judge(&mut frames, Status(200), || false).unwrap_or_else(|got| panic!("{name}: {got}"));
    let mut received = api.received();
    assert_eq!(received.len(), 1, "{name}: {received:#?}");
    received.remove(0)
}

#[test]
fn request_becomes_one_of_http_1_1() {
    let got = arrived("a GET", &get(&[("x", "1")])).head;
    assert_eq!((got.start.as_str(), got.all("host")), ("GET / HTTP/1.1", vec!["a.test"]), "RFC 9113 8.3.1");
    assert_eq!(got.all("x"), ["1"]);
    assert!(got.fields.iter().all(|(name, _)| !name.starts_with(':')), "{:?}", got.fields);
    assert_eq!(got.all("via"), ["2.0 plimsoll"], "RFC 9110 7.6.3");
    assert!(!got.has("transfer-encoding") && !got.has("connection"), "{:?}", got.fields);
}

#[test]
fn body_has_one_framing() {
    let got = arrived("without a length", &all(&[&post(&[]), &data(0, "he"), &data(1, "llo")]));
    assert_eq!(got.head.all("transfer-encoding"), ["chunked"], "RFC 9112 6.1");
    assert!(!got.head.has("content-length"));
    assert_eq!(got.body.as_deref(), Some(&b"hello"[..]));

    let got = arrived("with a length", &all(&[&post(&[("content-length", "5")]), &data(1, "hello")]));
    assert_eq!((got.head.all("content-length"), got.head.has("transfer-encoding")), (vec!["5"], false), "RFC 9112 6.2");
    assert_eq!(got.body.as_deref(), Some(&b"hello"[..]));

    let got =
        arrived("what looks like chunks", &all(&[&post(&[]), &data(1, "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")]));
    assert_eq!(got.body.as_deref(), Some(&b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"[..]));
}

#[test]
fn cookies_are_joined() {
    let got = arrived("cookies", &get(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")])).head;
    assert_eq!(got.all("cookie"), ["a=1; b=2; c=3"], "RFC 9113 8.2.3");
}

#[test]
fn trailers_pass_and_none_that_could_do_harm() {
    let trailers = [("x-sum", "42"), ("content-length", "9"), ("host", "b"), ("cookie", "a=b")];
    let trailers = frame(kind::HEADERS, END, 1, block(&trailers));
    let got = arrived("trailers", &all(&[&post(&[("te", "trailers")]), &data(0, "hi"), &trailers]));
    assert_eq!(got.head.all("te"), ["trailers"]);
    assert_eq!(got.trailers, [("x-sum".to_owned(), "42".to_owned())], "RFC 9110 6.5.1");
}

#[test]
fn stream_that_is_reset_within_its_body_leaves_no_whole_request() {
    let api = Instance::named("a");
    let proxy = proxy(&api);
    for more in [&[][..], &[("content-length", "10")]] {
        api.forget();
        let mut frames = connect(&proxy);
        send(&mut frames, &all(&[&post(more), &data(0, "hello")]));
        api.wait_for(1);
        send(&mut frames, &frame(kind::RST_STREAM, 0, 1, [0, 0, 0, 8]));
        judge(&mut frames, Fine, || false).unwrap();
        crate::support::eventually("nothing is in flight", || {
            (proxy.metric("plimsoll_upstream_in_flight", &[]) < 0.5).then_some(())
        });
        assert!(api.received().iter().all(|request| request.body.is_none()), "RFC 9113 5.4.2");
    }
}

#[test]
fn response_cut_short_ends_its_stream_with_an_error() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let api = Instance::named("a").answering_then(bytes, crate::support::instance::Then::Close);
        let proxy = proxy(&api);
        let mut frames = connect(&proxy);
        send(&mut frames, &get(&[]));
        loop {
            let frame = frames.read().unwrap().expect("the end of the stream");
            let ended = frame.flags & flag::END_STREAM != 0 && matches!(frame.kind, kind::DATA | kind::HEADERS);
            // What was seen to be broken in time has an answer of its own.
            assert!(!ended, "RFC 9113 8.1: {bytes:?}");
            if frame.kind == kind::RST_STREAM || frame.kind == kind::HEADERS && frame.status() == 502 {
                break;
            }
        }
    }
}
