//! Watches the limit of open descriptors, and keeps the last ones for what must go on: the admin listener, probes, files.
//!
//! Costs no count: the system gives the lowest number that is free, so the number of a new socket tells how many are in
//! use at least. Where it is among the last, clients and instances get no more; it is said before it comes to that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::platform;

/// How often the same is said at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What a new socket may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Anything.
    Ample,
    /// Another client would be one too many; what is there may still connect to instances.
    ForInstances,
    /// Neither.
    None,
}

/// The limit, and when something was last said of it.
#[derive(Debug)]
pub(super) struct Descriptors {
    begun: Instant,
    limit: AtomicU64,
    /// Milliseconds after `begun` from when on it may be said again.
    quiet_until: AtomicU64,
}

impl Default for Descriptors {
    fn default() -> Self {
        let limit = AtomicU64::new(platform::descriptor_limit().unwrap_or(u64::MAX));
        Self { begun: Instant::now(), limit, quiet_until: AtomicU64::new(0) }
    }
}

impl Descriptors {
    /// Looks at the limit again: an operator may change it from outside.
    pub(super) fn refresh(&self) {
        self.limit.store(platform::descriptor_limit().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What a new socket may be used for. Warns when descriptors are running out.
    pub(super) fn room(&self, socket: &TcpStream) -> Room {
        let Some(number) = platform::descriptor_number(socket) else { return Room::Ample };
        let limit = self.limit.load(Ordering::Relaxed);
        if number >= limit / 5 * 4 && self.may_say() {
            tracing::warn!(open = number + 1, limit, "{RUNNING_OUT}");
        }
        room(number, limit)
    }

    /// Whether a minute has passed since something was said.
    pub(super) fn may_say(&self) -> bool {
        let now = self.begun.elapsed();
        let until = self.quiet_until.load(Ordering::Relaxed);
        let next = (now + SAID_EVERY).as_millis() as u64;
        now.as_millis() as u64 >= until
            && self.quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

const RUNNING_OUT: &str = "descriptors are running out: raise the limit (`ulimit -n`, `LimitNOFILE=` of systemd)";

fn room(number: u64, limit: u64) -> Room {
    // An eighth, but never so few that the admin listener has none, nor so many that it hurts.
    let reserve = (limit / 8).clamp(16, 128);
    if number < limit.saturating_sub(reserve) {
        Room::Ample
    } else if number < limit.saturating_sub(reserve / 2) {
        Room::ForInstances
    } else {
        Room::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_kept_first_from_clients_then_from_instances() {
        for (number, limit, expected) in [
            (800, 1_024, Room::Ample),
            (895, 1_024, Room::Ample),
            (896, 1_024, Room::ForInstances),
            (959, 1_024, Room::ForInstances),
            (960, 1_024, Room::None),
            (999_000, 1_000_000, Room::Ample),
            (3, 10, Room::None),
            (1_000_000, u64::MAX, Room::Ample),
        ] {
            assert_eq!(room(number, limit), expected, "{number} of {limit}");
        }
    }
}
