//! Health: what probes and traffic say about an instance, and what follows.
//!
//! [`state`] is the verdict of probes and [`passive`] the judgement of evidence from traffic, both pure; [`group`] joins
//! them with what the operator wants for all instances of a pool, and is the one writer of what the data side reads.
//! [`probe`] makes one probe, `prober` says when, a task per instance on the control runtime; [`fleet`] owns the records
//! over reloads. Every change of an instance's state is one [`Change`], told once to the [`Observer`]: log line, metric
//! and the workers' abort are made from it.

pub mod fleet;
pub mod group;
pub mod passive;
pub mod probe;
mod prober;
pub mod state;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::model::{InstanceName, PoolName};
use crate::pool::instance::{Health, Instance, State};
use crate::telemetry::stats::PoolStats;

pub use fleet::Fleet;
pub use state::{DetectionTime, detection_time};

/// Where news about instances goes, and where a pool's counts come from. Called on the control runtime; must not block.
pub trait Observer: Send + Sync {
    /// An instance's state changed.
    fn changed(&self, change: &Change);

    /// A probe ended.
    fn probed(&self, pool: &PoolName, instance: &InstanceName, record: &ProbeRecord);

    /// The counts of a pool; the same ones for the same name, also after the pool was gone for a while.
    fn pool_stats(&self, pool: &PoolName) -> Arc<PoolStats>;
}

/// A change of an instance's state.
#[derive(Debug, Clone)]
pub struct Change {
    /// The pool that it is in.
    pub pool: PoolName,
    /// The record.
    pub instance: Arc<Instance>,
    /// Its name in the present configuration.
    pub name: InstanceName,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: SystemTime,
}

impl Change {
    /// Whether probes or traffic took it out: attempts that have no response head yet are to be aborted. One that fails
    /// its first probe was never in.
    #[must_use]
    pub fn ejects(&self) -> bool {
        let out = |state: State| state.ejected || state.health == Health::Down;
        self.from.health != Health::Unproven && !out(self.from) && out(self.to)
    }

    /// Whether the first probe found it down.
    #[must_use]
    pub fn begins_down(&self) -> bool {
        self.from.health == Health::Unproven && self.to.health == Health::Down
    }

    /// Whether probes or traffic gave it back.
    #[must_use]
    pub fn restores(&self) -> bool {
        let out = |state: State| state.ejected || state.health == Health::Down;
        out(self.from) && !out(self.to)
    }
}

/// Why an instance's state changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The first probe passed or failed; holds its result.
    FirstProbe(String),
    /// So many probes in a row failed; holds the last one's result.
    ProbesFailed(u32, String),
    /// So many probes in a row passed.
    ProbesPassed(u32),
    /// So many failures in traffic in a row; out for that long.
    Traffic(u32, Duration),
    /// The time of its ejection is up and a later probe has passed.
    TrafficOver,
    /// Ejected by traffic, given back early since less than half of the pool was left, and a later probe has passed.
    PoolTooSmall,
    /// The operator drained it, switched it off or enabled it; holds who and why.
    Operator(String, String),
    /// It is no longer in the configuration.
    Removed,
}

impl Reason {
    /// The label of `plimsoll_instance_transitions_total`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::FirstProbe(_) => "first_probe",
            Self::ProbesFailed(..) => "probes_failed",
            Self::ProbesPassed(_) => "probes_passed",
            Self::Traffic(..) => "traffic",
            Self::TrafficOver => "traffic_over",
            Self::PoolTooSmall => "pool_too_small",
            Self::Operator(..) => "operator",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstProbe(result) => write!(f, "first probe: {result}"),
            Self::ProbesFailed(count, last) => write!(f, "{count} probes in a row failed, the last one: {last}"),
            Self::ProbesPassed(count) => write!(f, "{count} probes in a row passed"),
            Self::Traffic(count, time) => write!(f, "{count} failures in a row in traffic, ejected for {time:?}"),
            Self::TrafficOver => f.write_str("the time of the ejection is up and a later probe has passed"),
            Self::PoolTooSmall => f.write_str("less than half of the pool was left and a later probe has passed"),
            Self::Operator(who, why) if why.is_empty() => write!(f, "set by {who}"),
            Self::Operator(who, why) => write!(f, "set by {who}: {why}"),
            Self::Removed => f.write_str("removed from the configuration"),
        }
    }
}

/// A failure that a worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// No connection could be made: refused, not answered in time, broken. Nothing was sent. Makes the instance suspect
    /// and asks for a probe at once.
    NotConnected,
    /// The connection was reset, or closed before a response head.
    Reset,
    /// No response head in time.
    Timeout,
    /// A 5xx answer, where `judge_5xx` is on.
    ServerError,
}

/// Who set an instance's admin state.
#[derive(Debug, Clone)]
pub struct AdminNote {
    /// Who: the peer or account that asked.
    pub who: String,
    /// Why, in the operator's words.
    pub why: String,
    /// Since when.
    pub since: SystemTime,
}

/// One probe, as `/status` shows it.
#[derive(Debug, Clone)]
pub struct ProbeRecord {
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub latency: Duration,
    /// `pass`, or why it failed: `connection refused`, `status 503`, …
    pub result: String,
    /// Whether it passed; `None`: inconclusive.
    pub passed: Option<bool>,
}

/// What `/status` shows of one instance beside its state and counters.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Outcomes in a row that speak against the present verdict (failures while up, passes while down).
    pub streak: u32,
    /// The last probes, newest last, at most [`Report::PROBES`].
    pub probes: Vec<ProbeRecord>,
    /// Since when the verdict holds; `None`: no verdict yet.
    pub since: Option<SystemTime>,
    /// Why the state changed last.
    pub reason: String,
    /// Ejected by traffic until then, if it is.
    pub ejected_until: Option<SystemTime>,
    /// Ejections by traffic in a row.
    pub ejections: u32,
    /// Who drained it, if somebody did.
    pub admin: Option<AdminNote>,
}

impl Report {
    /// How many probes are kept for `/status`.
    pub const PROBES: usize = 8;
}
