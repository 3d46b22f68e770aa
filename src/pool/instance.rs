//! The record of one instance: who it is, whether it may get a request now, what it has in flight.
//!
//! A record hangs on (pool, address) and outlives snapshots: a reload that keeps the address keeps the record, and with
//! it verdict, counters and connections. `health::group` is the only writer of [`State`]; workers read it and count
//! through guards. The one question "may this instance get a request now?" is answered by [`State::eligible`] only.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::PoolShared;
use crate::config::model::PoolName;
use crate::health::{Evidence, Report};
use crate::telemetry::stats::InstanceStats;

/// Number of a record, never used twice in a process: the key under which workers keep idle connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

/// What probes see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// No probe has ended yet.
    Unproven,
    /// Passes its probes.
    Up,
    /// Fails its probes.
    Down,
}

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// Serve.
    Active,
    /// Nothing new; finish what is there.
    Drain,
    /// As `Drain`, and probes stop.
    Off,
}

/// The three axes in one value, so that a worker reads them with one load.
///
/// | health | ejected by traffic | admin | removed | eligible |
/// |---|---|---|---|---|
/// | up | no | active | no | yes |
/// | anything else in any column | | | | no |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What probes see.
    pub health: Health,
    /// What traffic showed: ejected for a time.
    pub ejected: bool,
    /// What the operator wants.
    pub admin: Admin,
    /// Gone from the configuration: snapshots that still name it must not use it.
    pub removed: bool,
}

impl State {
    /// Whether an instance in this state may get a request now.
    #[must_use]
    pub fn eligible(self) -> bool {
        self.health == Health::Up && !self.ejected && self.admin == Admin::Active && !self.removed
    }

    /// The state in one word, for logs, metrics and `/status`: what keeps it from serving, the lasting before the
    /// passing; else `up`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self { removed: true, .. } => "removed",
            Self { admin: Admin::Off, .. } => "off",
            Self { admin: Admin::Drain, .. } => "drain",
            Self { health: Health::Down, .. } => "down",
            Self { ejected: true, .. } => "ejected",
            Self { health: Health::Unproven, .. } => "unproven",
            Self { health: Health::Up, .. } => "up",
        }
    }

    /// The one packed value that is eligible, so that the data path asks with one comparison.
    const ELIGIBLE: u32 = Self { health: Health::Up, ejected: false, admin: Admin::Active, removed: false }.pack();

    const fn pack(self) -> u32 {
        let health = match self.health {
            Health::Unproven => 0,
            Health::Up => 1,
            Health::Down => 2,
        };
        let admin = match self.admin {
            Admin::Active => 0,
            Admin::Drain => 1,
            Admin::Off => 2,
        };
        health | (self.ejected as u32) << 2 | admin << 3 | (self.removed as u32) << 5
    }

    fn unpack(bits: u32) -> Self {
        Self {
            health: match bits & 3 {
                0 => Health::Unproven,
                1 => Health::Up,
                _ => Health::Down,
            },
            ejected: bits >> 2 & 1 == 1,
            admin: match bits >> 3 & 3 {
                0 => Admin::Active,
                1 => Admin::Drain,
                _ => Admin::Off,
            },
            removed: bits >> 5 & 1 == 1,
        }
    }
}

/// The record of one instance.
pub struct Instance {
    /// Number of the record.
    pub id: InstanceId,
    /// The pool that it is in.
    pub pool: PoolName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What workers count on it.
    pub stats: InstanceStats,
    /// What its pool shares: whoever waits there is woken when a place becomes free here.
    shared: Arc<PoolShared>,
    state: AtomicU32,
    in_flight: AtomicU32,
    /// No connection could be made since its last passed probe: picked last.
    suspect: AtomicBool,
    /// Failures in traffic in a row; workers count, the prober judges.
    failures: AtomicU32,
    /// To the prober. Bounded: when it is full, `failures` still holds the count.
    evidence: mpsc::Sender<Evidence>,
    /// What `/status` shows; written by the prober, read by the control side only.
    report: Mutex<Report>,
}

impl Instance {
    /// A new record: unproven, active. The prober holds the other end of `evidence`.
    #[must_use]
    pub fn new(
        id: InstanceId,
        pool: PoolName,
        address: SocketAddr,
        workers: usize,
        shared: Arc<PoolShared>,
        evidence: mpsc::Sender<Evidence>,
    ) -> Arc<Self> {
        let state = State { health: Health::Unproven, ejected: false, admin: Admin::Active, removed: false };
        Arc::new(Self {
            id,
            pool,
            address,
            stats: InstanceStats::new(workers),
            shared,
            state: AtomicU32::new(state.pack()),
            in_flight: AtomicU32::new(0),
            suspect: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            evidence,
            report: Mutex::default(),
        })
    }

    /// All three axes, as they are now.
    #[inline]
    #[must_use]
    pub fn state(&self) -> State {
        State::unpack(self.state.load(Ordering::Acquire))
    }

    /// As [`State::eligible`], in one load and one comparison.
    #[inline]
    #[must_use]
    pub fn eligible(&self) -> bool {
        self.state.load(Ordering::Acquire) == State::ELIGIBLE
    }

    /// Publishes a new state. Only `health` may call it, on the control side.
    pub fn publish(&self, state: State) {
        self.state.store(state.pack(), Ordering::SeqCst);
        if state.eligible() {
            self.shared.queue.wake();
        }
    }

    /// Requests that were sent here and whose response body has not ended, over all workers.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a connection to it could not be made since its last passed probe.
    #[inline]
    #[must_use]
    pub fn suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Takes the suspicion back: a probe passed. Only the prober calls it.
    pub fn clear_suspect(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    /// Failures in traffic in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Starts the count of failures anew: an ejection for them has begun. Only the prober calls it.
    pub fn reset_failures(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// A worker saw a request succeed here.
    #[inline]
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A worker saw a failure here. Never waits: a full channel drops the message, not the count.
    pub fn failed(&self, evidence: Evidence) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if evidence == Evidence::NotConnected {
            self.suspect.store(true, Ordering::Relaxed);
        }
        // A full channel means that the prober has messages to wake for already, and it reads the count, not them.
        let _full = self.evidence.try_send(evidence).is_err();
    }

    /// What `/status` shows. Control side only: it locks.
    ///
    /// # Panics
    /// If a writer panicked while it held the lock.
    pub fn report<T>(&self, with: impl FnOnce(&mut Report) -> T) -> T {
        with(&mut self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Counts a request in flight until the guard is dropped.
    #[inline]
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// As [`Instance::begin`], unless `in_flight_max` requests are there already.
    #[inline]
    #[must_use]
    pub fn begin_below(self: &Arc<Self>, in_flight_max: Option<u32>) -> Option<InFlight> {
        let Some(max) = in_flight_max else { return Some(self.begin()) };
        // Compared and counted in one step: two workers cannot both take the last place, and a count that went up for
        // a moment only cannot hide a free one.
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < max).then(|| count + 1))
            .ok()
            .map(|_before| InFlight(Arc::clone(self)))
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the counters, which would fill pages.
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("pool", &self.pool)
            .field("address", &self.address)
            .field("state", &self.state())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// One request in flight; dropped when the response body has ended.
#[derive(Debug)]
pub struct InFlight(Arc<Instance>);

impl InFlight {
    /// The instance that it counts on.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // `SeqCst` for `Queue::wake`; the same instruction as a relaxed one on x86.
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.shared.queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Arc<Instance> {
        let (evidence, _prober) = mpsc::channel(1);
        let address = SocketAddr::from(([127, 0, 0, 1], 9001));
        Instance::new(InstanceId(1), "api".into(), address, 1, PoolShared::new(1), evidence)
    }

    fn all_states() -> impl Iterator<Item = State> {
        [Health::Unproven, Health::Up, Health::Down].into_iter().flat_map(|health| {
            [false, true].into_iter().flat_map(move |ejected| {
                [Admin::Active, Admin::Drain, Admin::Off].into_iter().flat_map(move |admin| {
                    [false, true].into_iter().map(move |removed| State { health, ejected, admin, removed })
                })
            })
        })
    }

    #[test]
    fn only_an_instance_that_is_up_and_nothing_else_is_eligible() {
        let instance = instance();
        let mut eligible = Vec::new();
        for state in all_states() {
            instance.publish(state);
            assert_eq!(instance.state(), state, "what is published is what is read");
            assert_eq!(instance.eligible(), state.eligible(), "{state:?}");
            eligible.extend(state.eligible().then_some(state.label()));
        }
        assert_eq!(eligible, ["up"]);
        assert_eq!(all_states().filter(|state| state.label() == "up").count(), 1);
    }

    #[test]
    fn in_flight_returns_to_zero_and_never_passes_its_limit() {
        let instance = instance();
        let guards: Vec<_> = (0..3).filter_map(|_| instance.begin_below(Some(2))).collect();
        assert_eq!((guards.len(), instance.in_flight()), (2, 2));
        drop(guards);
        assert_eq!(instance.in_flight(), 0);
    }

    #[test]
    fn a_success_ends_the_row_of_failures_and_a_connection_not_made_makes_suspect() {
        let instance = instance();
        instance.failed(Evidence::Timeout);
        assert!(!instance.suspect());
        instance.failed(Evidence::NotConnected);
        assert!(instance.suspect(), "also when the channel is full");
        assert_eq!(instance.failures(), 2);
        instance.succeeded();
        assert_eq!(instance.failures(), 0);
        assert!(instance.suspect(), "only a passed probe clears it");
    }
}
