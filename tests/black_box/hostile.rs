//! Clients that take more than their share: each limit holds, and the others do not notice.

use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Instance};

#[test]
fn connection_that_has_not_asked_yet_outlives_one_that_idles_when_room_is_needed() {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).listener("connections_max", 2).set("runtime", "workers", 1).start();
    let mut fresh = proxy.connect();
    eventually("it is accepted", || (proxy.metric("plimsoll_listener_connections", &[]) > 0.5).then_some(()));
    // The ticks that tell ages apart.
    pause(millis(200));
    let mut served = proxy.connect();
    assert_eq!(served.get("/").status(), 200);
    assert_eq!(proxy.get("/").status(), 200, "room was made");
    assert_eq!(fresh.get("/").status(), 200);
    served.expect_end();
    assert!((proxy.metric("plimsoll_listener_connections_evicted_total", &[]) - 1.0).abs() < 0.5);
}
