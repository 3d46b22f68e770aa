//! Waiting for an event, with a bound.

use std::time::Duration;

use tokio::time::Instant;

/// How long tests wait for what should come at once; long, because machines that run tests are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// `count` seconds.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `count` milliseconds.
pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns what `look` finds as soon as it finds something.
///
/// Panics with `what` when there is nothing after [`BOUND`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(BOUND, what, look)
}

/// As [`eventually`], with a bound of its own.
#[track_caller]
pub(crate) fn within<T>(bound: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < bound, "not within {bound:?}: {what}");
        // Only how often we look; no test depends on it.
        std::thread::sleep(millis(5));
    }
}

/// Asserts that `holds` stays true for all of `span`: for promises that something does not happen.
#[track_caller]
pub(crate) fn stays(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < span {
        assert!(holds(), "did not stay so for {span:?}: {what}");
        std::thread::sleep(millis(10));
    }
}

/// Lets time pass, where slowness itself is what a test acts: a slow instance, a client that idles.
pub(crate) fn pause(span: Duration) {
    if !span.is_zero() {
        std::thread::sleep(span);
    }
}
