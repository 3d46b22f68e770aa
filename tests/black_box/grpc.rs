//! gRPC: calls pass with their trailers and deadlines, and what goes wrong is told in the words of gRPC.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::Config;
use crate::support::call::call;
use crate::support::frames::{CANCEL, DATA, END_STREAM, Frames, RST_STREAM};
use crate::support::ports;
use crate::support::wait::millis;

/// A listener and a pool that speak HTTP/2 without TLS.
fn pool(instances: &[SocketAddr]) -> Config {
    let config = Config::new()
        .set("runtime", "workers", 1)
        .listener("h2c", true)
        .pool("protocol", "\"h2c\"")
        .probe("kind", "\"tcp\"")
        .probe("interval", "\"60s\"")
        .probe("timeout", "\"2s\"")
        .evidence("failures", 0);
    let named = instances.iter().zip(["a", "b", "c"]);
    named.fold(config, |config, (address, name)| config.instance_at(name, *address, ""))
}

/// A message of gRPC.
const MESSAGE: &[u8] = b"\0\0\0\0\x02hi";

#[test]
fn unary_call_passes_with_its_trailers() {
    let instance = Frames::new(|peer, frame| {
        if frame.ends() {
            peer.head(frame.stream, 0, &[(":status", "200"), ("content-type", "application/grpc")])?;
            peer.frame(DATA, 0, frame.stream, MESSAGE)?;
            peer.head(frame.stream, END_STREAM, &[("grpc-status", "0"), ("x-cost", "3")])?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let called = call(proxy.front, "/shop.Orders/Get", &[], MESSAGE).expect("an answer");
    assert_eq!((called.status, called.outcome(), called.body.as_slice()), (200, Some("0"), MESSAGE));
    assert_eq!(called.trailers.get("x-cost").map(http::HeaderValue::as_bytes), Some(&b"3"[..]));
    assert_eq!(proxy.wait_access("/shop.Orders/Get")["grpc_status"], 0);
}

#[test]
fn answer_of_nothing_but_fields_stays_one() {
    let instance = Frames::new(|peer, frame| {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")];
        if frame.ends() { peer.head(frame.stream, END_STREAM, &fields) } else { Ok(()) }
    });
    let proxy = pool(&[instance.address()]).start();
    let called = call(proxy.front, "/shop.Orders/Get", &[], MESSAGE).expect("an answer");
    assert!(called.trailers_only && !called.head.contains_key("content-length"), "{called:?}");
    assert_eq!(called.outcome(), Some("5"));
    assert_eq!(proxy.wait_access("/shop.Orders/Get")["grpc_status"], 5);
}

#[test]
fn own_answers_are_told_in_the_words_of_grpc() {
    let dead = ports::free();
    let proxy = pool(&[dead]).and("[[route]]\npath = \"/shop.Orders\"\npool = \"api\"").start();
    for (path, outcome, cause) in [("/shop.Orders/Get", "14", "no_eligible_instance"), ("/other/Get", "12", "no_route")]
    {
        let called = call(proxy.front, path, &[], MESSAGE).expect("an answer");
        assert!(called.trailers_only, "{called:?}");
        assert_eq!((called.status, called.outcome()), (200, Some(outcome)), "{path}");
        assert!(called.message().contains(cause), "{}", called.message());
        let line = proxy.wait_access(path);
        assert_eq!((line["cause"].as_str(), line["grpc_status"].to_string().as_str()), (Some(cause), outcome));
    }
    // Others get what they always get.
    assert_eq!(proxy.get("/other").status(), 404);
}

#[test]
fn deadline_ends_a_call_and_cancels_it_at_the_instance() {
    let instance = Frames::new(|_, _| Ok(()));
    let proxy = pool(&[instance.address()]).start();
    let begun = Instant::now();
    let called = call(proxy.front, "/shop.Orders/Slow", &[("grpc-timeout", "300m")], MESSAGE).expect("an answer");
    assert!((millis(300)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((called.status, called.outcome()), (200, Some("4")));
    let reset = instance.wait_for("a reset", |frame| frame.kind == RST_STREAM);
    assert_eq!(reset.payload, CANCEL.to_be_bytes());
    assert_eq!(proxy.wait_access("/shop.Orders/Slow")["cause"], "deadline_exceeded");
}

#[test]
fn deadline_ends_a_stream_of_messages_too() {
    let instance = Frames::new(|peer, frame| {
        if frame.ends() {
            peer.head(frame.stream, 0, &[(":status", "200"), ("content-type", "application/grpc")])?;
            peer.frame(DATA, 0, frame.stream, MESSAGE)?;
        }
        Ok(())
    });
    let proxy = pool(&[instance.address()]).start();
    let called = call(proxy.front, "/shop.Orders/Watch", &[("grpc-timeout", "300m")], MESSAGE).expect("an answer");
    assert_eq!((called.body.as_slice(), called.outcome()), (MESSAGE, Some("4")));
    instance.wait_for("a reset", |frame| frame.kind == RST_STREAM);
}

#[test]
fn call_that_was_refused_goes_to_another_instance() {
    let refusing = Frames::new(|peer, frame| if frame.begins() { peer.reset(frame.stream, 7) } else { Ok(()) });
    let good = Frames::new(|peer, frame| {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")];
        if frame.ends() { peer.head(frame.stream, END_STREAM, &fields) } else { Ok(()) }
    });
    let proxy = pool(&[refusing.address(), good.address()]).start();
    let called = call(proxy.front, "/shop.Orders/Put", &[], MESSAGE).expect("an answer");
    assert_eq!((called.outcome(), refusing.requests(), good.requests()), (Some("0"), 1, 1));
}

#[test]
fn health_service_decides_whether_an_instance_is_up() {
    let answers = |status: u8| {
        Frames::new(move |peer, frame| {
            if frame.ends() {
                peer.head(frame.stream, 0, &[(":status", "200"), ("content-type", "application/grpc")])?;
                peer.frame(DATA, 0, frame.stream, &[0, 0, 0, 0, 2, 8, status])?;
                peer.head(frame.stream, END_STREAM, &[("grpc-status", "0")])?;
            }
            Ok(())
        })
    };
    let (serving, not_serving) = (answers(1), answers(2));
    let proxy = pool(&[serving.address(), not_serving.address()])
        .probe("kind", "\"grpc\"")
        .probe("service", "\"shop.Orders\"")
        .start();
    proxy.wait_state("a", "up");
    proxy.wait_state("b", "down");
    let status = proxy.instance_status("b").to_string();
    assert!(status.contains("the health service says NOT_SERVING"), "{status}");
    let asked = serving.wait_for("the name of the service", |frame| frame.kind == DATA);
    assert_eq!(asked.payload, b"\0\0\0\0\x0d\x0a\x0bshop.Orders");
}
