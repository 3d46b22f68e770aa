//! Requests go to an instance and answers come back, whole and unchanged.

use crate::support::{Config, Instance};

#[test]
fn request_reaches_an_instance_and_its_answer_comes_back() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let answer = proxy.get("/path?query=1");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "a"));
    let received = api.last();
    assert_eq!(received.head.start, "GET /path?query=1 HTTP/1.1");
}
