//! Connections that nobody uses now, kept per instance; the one used last is taken first.
//!
//! Last used first keeps the number small: what load does not need ages out. Each is checked for an end before it is
//! used. The check costs no system call: the readiness that the last poll left behind tells it, and a connection which
//! became readable without a request has ended, or is out of step; either way it is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use crate::pool::instance::{Health, InstanceId};
use crate::tls::client::Dialer;
use crate::wire::Quiet;

/// A worker's unused connections.
#[derive(Debug, Default)]
pub struct Idle(BTreeMap<InstanceId, Vec<Parked>>);

#[derive(Debug)]
struct Parked {
    connection: Connection,
    since: Instant,
    until: Instant,
}

impl Idle {
    /// A usable connection to `instance` that `dialer` has made, idle for less than `idle_max` if that is given.
    pub fn take(
        &mut self,
        instance: InstanceId,
        dialer: Option<&Arc<Dialer>>,
        idle_max: Option<Duration>,
        now: Instant,
    ) -> Option<Connection> {
        let parked = self.0.get_mut(&instance)?;
        while let Some(mut candidate) = parked.pop() {
            let too_old = idle_max.is_some_and(|max| now.saturating_duration_since(candidate.since) >= max);
            if too_old {
                // The older ones are older still. It stays for requests that may be repeated.
                parked.push(candidate);
                return None;
            }
            let fits = now < candidate.until && candidate.connection.is_made_by(dialer);
            if fits && is_quiet(&mut candidate.connection) {
                return Some(candidate.connection.unpark());
            }
        }
        None
    }

    /// Keeps a connection whose last response has ended, for `idle_timeout` at most and as one of `idle_max`.
    pub fn put(&mut self, connection: Connection, now: Instant, idle_timeout: Duration, idle_max: usize) {
        if connection.place().is_some() {
            // Only a place on it was ours.
            return;
        }
        let parked = self.0.entry(connection.instance().id).or_default();
        if parked.len() < idle_max {
            parked.push(Parked { connection: connection.park(), since: now, until: now + idle_timeout });
        }
    }

    /// Closes what idled too long, what the instance closed, and what leads to an instance that is down or gone.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, parked| {
            parked.retain_mut(|candidate| {
                let state = candidate.connection.instance().state();
                now < candidate.until
                    && state.health != Health::Down
                    && !state.removed
                    && is_quiet(&mut candidate.connection)
            });
            !parked.is_empty()
        });
    }

    /// Whether there is nothing to sweep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether nothing has happened on an idle connection: no end, no error, no bytes that nobody asked for.
fn is_quiet(connection: &mut Connection) -> bool {
    match connection.stream.quiet() {
        Quiet::Yes => true,
        Quiet::Ended => false,
        Quiet::Unasked => {
            connection.shard().unasked_bytes.increment();
            false
        }
    }
}
