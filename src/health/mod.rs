//! Health: what probes and traffic say about an instance, and what follows.

use std::time::{Duration, SystemTime};

/// A failure that a worker saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The connection was refused or could not be made.
    Refused,
    /// The connection was reset, or closed before a response head.
    Reset,
    /// No connection or no response head in time.
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
