//! Counters of the data side: one shard per worker, summed when scraped.
//!
//! Each shard has one writing worker, so counting is a plain load and store on a line that no other core touches; a
//! shared counter would cost a locked instruction and a cache miss per increment. The control side only reads. Names and
//! labels stand in `telemetry::metrics`; here are the cells, hung on what they count (route, instance), so that a worker
//! never looks a label up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cause::Cause;
use crate::http2::guard::Flood;
use crate::tls::failure::Failure;
use crate::tls::session;

/// A worker's number, 0 to `workers - 1`; the control side writes to the shard after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(pub usize);

/// A count with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the shard's owner may call it: two writers would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one; see [`Counter::add`].
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes `n` off again, for counts of what is there now; see [`Counter::add`].
    #[inline]
    pub fn subtract(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the duration buckets, in microseconds (the common objectives 0.3 s and 1.2 s are bounds).
pub const BUCKETS_MICROS: [u64; 19] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 300_000, 500_000, 750_000, 1_000_000,
    1_200_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000,
];

/// Durations, counted in the buckets of [`BUCKETS_MICROS`]; not cumulative (the scrape adds up).
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS_MICROS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn observe(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        // Most requests end in the first buckets, so a scan from the front beats a binary search.
        let bucket = BUCKETS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS_MICROS.len());
        self.buckets[bucket].increment();
        self.sum_micros.add(micros);
    }

    /// Count per bucket (the last one is "above all bounds"), and the sum in microseconds.
    #[must_use]
    pub fn values(&self) -> ([u64; BUCKETS_MICROS.len() + 1], u64) {
        (std::array::from_fn(|index| self.buckets[index].value()), self.sum_micros.value())
    }
}

/// Keeps a shard off its neighbours' cache lines (two lines: x86 prefetches pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// One `T` per worker and one for the control side.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Padded<T>]>);

impl<T: Default> PerWorker<T> {
    /// Shards for `workers` workers and the control side.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self((0..=workers).map(|_| Padded::default()).collect())
    }

    /// The shard of one worker.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    #[must_use]
    pub fn of(&self, worker: WorkerId) -> &T {
        &self.0[worker.0].0
    }

    /// The control side's shard.
    #[must_use]
    pub fn control(&self) -> &T {
        &self.0[self.0.len() - 1].0
    }

    /// All shards, for summing.
    pub fn shards(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }

    /// The sum of one count over all shards.
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.shards().map(|shard| counter(shard).value()).fold(0, u64::wrapping_add)
    }
}

/// The class of a status, as in `code="2xx"`.
#[must_use]
pub const fn status_class(status: u16) -> usize {
    match status {
        100..=199 => 0,
        200..=299 => 1,
        300..=399 => 2,
        400..=499 => 3,
        _ => 4,
    }
}

/// Labels of [`status_class`].
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One shard of what is counted per listener and route. Requests without a route count on the listener's own record.
#[derive(Debug, Default)]
pub struct RouteShard {
    /// Finished requests by status class, with their durations (first byte of the head to last byte of the body).
    pub durations: [Histogram; STATUS_CLASSES.len()],
    /// Requests that Plimsoll answered or cut off itself, by cause.
    pub local: PerCause,
    /// Bytes of request bodies taken from clients.
    pub request_bytes: Counter,
    /// Bytes of responses written to clients.
    pub response_bytes: Counter,
}

/// A count per [`Cause`].
#[derive(Debug)]
pub struct PerCause([Counter; Cause::COUNT]);

impl Default for PerCause {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl PerCause {
    /// The count of one cause.
    #[must_use]
    pub fn of(&self, cause: Cause) -> &Counter {
        &self.0[cause as usize]
    }
}

/// What is counted per listener and route.
pub type RouteStats = PerWorker<RouteShard>;

/// How a TLS handshake went: `Handshake` as an index.
pub const HANDSHAKES: [&str; 2] = ["full", "resumed"];

/// One shard of what is counted per pool and instance.
#[derive(Debug, Default)]
pub struct InstanceShard {
    /// Attempts that got a response head, by status class.
    pub responses: [Counter; STATUS_CLASSES.len()],
    /// Attempts that failed, by cause.
    pub errors: PerCause,
    /// Time to make a connection.
    pub connect: Histogram,
    /// From the beginning of sending, on a connection that was there, to the response head.
    pub first_byte: Histogram,
    /// From the pick to the last byte of the response.
    pub total: Histogram,
    /// Connections made.
    pub connections_opened: Counter,
    /// Requests sent on a connection that had been used before.
    pub connections_reused: Counter,
    /// TLS handshakes done, by [`HANDSHAKES`].
    pub handshakes: [Counter; HANDSHAKES.len()],
    /// Connections that are open now, in use or idle.
    pub connections_open: Counter,
    /// Connections that are idle now.
    pub connections_idle: Counter,
    /// Bytes that a response began or ended with where none were due; the connection was closed.
    pub unasked_bytes: Counter,
    /// What happened on shared connections.
    pub h2_events: [Counter; H2Event::ALL.len()],
}

/// What an instance does on a shared connection that has no counterpart in HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum H2Event {
    /// It takes no more streams on the connection.
    Goaway,
    /// It refused a stream without looking at it.
    RefusedStream,
    /// It did not answer a ping: the connection was cut.
    PingTimeout,
}

impl H2Event {
    /// Every event, in the order of the discriminants.
    pub const ALL: [Self; 3] = [Self::Goaway, Self::RefusedStream, Self::PingTimeout];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Goaway => "goaway",
            Self::RefusedStream => "refused_stream",
            Self::PingTimeout => "ping_timeout",
        }
    }
}

/// What is counted per pool and instance.
pub type InstanceStats = PerWorker<InstanceShard>;

/// Why a request was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryReason {
    /// The connection could not be made; outside of `retries` and budget.
    Connect,
    /// A reused connection was dead.
    StaleConnection,
    /// Reset or closed before the response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// The instance was ejected meanwhile.
    Ejected,
    /// The instance refused the stream, or its connection went away: it never looked at the request.
    Refused,
}

impl RetryReason {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::StaleConnection, Self::Reset, Self::Timeout, Self::Ejected, Self::Refused];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::StaleConnection => "stale_connection",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Ejected => "ejected",
            Self::Refused => "refused",
        }
    }
}

/// How a request ended that was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryOutcome {
    /// The further attempt got a response head.
    Answered,
    /// It failed too.
    Failed,
    /// It was not made: the budget was used up.
    Refused,
}

impl RetryOutcome {
    /// Every outcome, in the order of the discriminants.
    pub const ALL: [Self; 3] = [Self::Answered, Self::Failed, Self::Refused];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// One shard of what is counted per pool.
#[derive(Debug, Default)]
pub struct PoolShard {
    /// Further attempts, by reason and outcome.
    pub retries: [[Counter; RetryOutcome::ALL.len()]; RetryReason::ALL.len()],
    /// Requests that wait for an instance now.
    pub queued: Counter,
}

/// What is counted per pool.
pub type PoolStats = PerWorker<PoolShard>;

/// Why a connection was closed as soon as it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RefusedConnection {
    /// Its client has `connections_per_client_max` already.
    ClientLimit,
    /// Descriptors are running out, and no connection idles that could be closed instead.
    Descriptors,
}

impl RefusedConnection {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 2] = [Self::ClientLimit, Self::Descriptors];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ClientLimit => "client_limit",
            Self::Descriptors => "descriptors",
        }
    }
}

/// One shard of what is counted per listener, before a request has a route.
#[derive(Debug, Default)]
pub struct ListenerShard {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections that are open now.
    pub open: Counter,
    /// Connections closed as soon as they were accepted, by reason.
    pub refused: [Counter; RefusedConnection::ALL.len()],
    /// Connections closed to make room for others (`connections_max`).
    pub evicted: Counter,
    /// Requests sent to `https`.
    pub redirected: Counter,
    /// Connections that ended in a TCP or framing error of the client's.
    pub client_errors: Counter,
    /// Connections that speak HTTP/2, and those of them that are open now.
    pub http2_accepted: Counter,
    /// See `http2_accepted`.
    pub http2_open: Counter,
    /// Requests that are under way over HTTP/2.
    pub http2_streams: Counter,
    /// Connections that were ended because of what their clients sent, by what it was.
    pub http2_floods: [Counter; Flood::ALL.len()],
    /// Handshakes that made a connection, by version of TLS and by whether a session was resumed.
    pub handshakes: [[Counter; session::ORIGINS.len()]; session::VERSIONS.len()],
    /// Handshakes that made none, by why.
    pub handshake_failures: [Counter; Failure::ALL.len()],
    /// Time of handshakes that made a connection.
    pub handshake_duration: Histogram,
}

/// What is counted per listener.
pub type ListenerStats = PerWorker<ListenerShard>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_over_workers_and_the_control_side() {
        let stats = PoolStats::new(2);
        stats.of(WorkerId(0)).queued.add(3);
        stats.of(WorkerId(1)).queued.add(2);
        stats.of(WorkerId(1)).queued.subtract(1);
        stats.control().queued.increment();
        assert_eq!(stats.sum(|shard| &shard.queued), 5);
    }

    #[test]
    fn a_duration_on_a_bound_counts_below_it_and_one_above_all_bounds_counts_last() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_micros(501));
        histogram.observe(Duration::from_secs(11));
        let (buckets, sum) = histogram.values();
        assert_eq!((buckets[0], buckets[1], buckets[BUCKETS_MICROS.len()]), (1, 1, 1));
        assert_eq!(sum, 11_001_001);
    }

    #[test]
    fn a_status_outside_of_the_known_classes_counts_as_a_server_error() {
        let classes: Vec<_> =
            [101, 204, 301, 499, 503, 999].into_iter().map(|s| STATUS_CLASSES[status_class(s)]).collect();
        assert_eq!(classes, ["1xx", "2xx", "3xx", "4xx", "5xx", "5xx"]);
    }
}
