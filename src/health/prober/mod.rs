//! When probes are made: one task per instance on the control runtime.
//!
//! The first probe is made at once, then one every `interval` (`fast_interval` while a streak runs against the verdict),
//! counted from start to start. A refusal in traffic, a new definition and the end of an ejection bring the next one
//! forward. Probes of one instance never overlap, and no instance waits for another: each task has its own clock.
//! The task takes in evidence while a probe is under way, too, so that an ejection does not wait for a timeout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::group::{Group, Now, Probed};
use super::passive::Ejection;
use super::probe::{Check, Target};
use super::state::{Outcome, Verdict};
use super::{Change, Evidence, Observer};
use crate::pool::instance::Instance;

/// Shortest time from one probe to another that a refusal in traffic (or an inconclusive probe) has asked for.
pub(super) const ASKED_INTERVAL: Duration = Duration::from_secs(1);

/// How much later than its time limit a probe may end and still count as failed. Ending later than that, it says more
/// about this machine than about the instance.
fn slack(timeout: Duration) -> Duration {
    (timeout / 10).max(Duration::from_millis(50))
}

/// What a prober is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Orders {
    pub(super) target: Target,
    pub(super) probing: Probing,
}

/// Whether probes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probing {
    On,
    /// The instance is switched off.
    Off,
}

/// The prober of one instance.
pub(super) struct Prober {
    pub(super) instance: Arc<Instance>,
    pub(super) group: Arc<Mutex<Group>>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) check: Arc<dyn Check>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) evidence: mpsc::Receiver<Evidence>,
    /// Set to `true` with the first verdict.
    pub(super) decided: watch::Sender<bool>,
    pub(super) random: fastrand::Rng,
}

/// How a probe ended.
enum End {
    Probed(Probed),
    /// New orders came, so that its outcome would answer a question that is no longer asked.
    Interrupted,
}

/// The fleet has dropped the instance.
struct Retired;

impl Prober {
    /// Probes until the fleet drops the instance.
    pub(super) async fn run(mut self) {
        let mut next = Instant::now();
        let mut last = None;
        loop {
            let Ok(()) = self.wait(next, last).await else { return };
            let orders = self.orders.borrow_and_update().clone();
            let started = Instant::now();
            last = Some(started);
            let mut refused = false;
            next = match self.probe(&orders, started, &mut refused).await {
                Err(Retired) => return,
                Ok(End::Interrupted) => Instant::now(),
                Ok(End::Probed(probed)) => {
                    self.conclude(&probed, refused);
                    self.next(&orders, started, probed.outcome, refused)
                }
            };
        }
    }

    /// Waits until the next probe is due: at `next`, earlier where something asks for it, not at all while switched off.
    /// `last` is when the last one began.
    async fn wait(&mut self, mut next: Instant, last: Option<Instant>) -> Result<(), Retired> {
        loop {
            let probing = self.orders.borrow().probing;
            let due = self.due(next, last);
            tokio::select! {
                // Cancel safe, all three: a message that is not taken stays in its channel.
                () = sleep_until(due), if probing == Probing::On => return Ok(()),
                Some(evidence) = self.evidence.recv() => {
                    self.heed();
                    if evidence == Evidence::NotConnected {
                        next = next.min(last.map_or_else(Instant::now, |last| last + ASKED_INTERVAL));
                    }
                }
                changed = self.orders.changed() => {
                    changed.map_err(|_closed| Retired)?;
                    next = Instant::now();
                }
            }
        }
    }

    /// The end of an ejection asks for a probe, since only one that begins after it gives the instance back.
    fn due(&self, next: Instant, last: Option<Instant>) -> Instant {
        match self.group().ejection(self.instance.id) {
            Ejection::Ejected { until, .. } if last.is_none_or(|last| last < until) => next.min(until),
            _ => next,
        }
    }

    /// Makes one probe, and takes in evidence meanwhile. `refused` tells whether traffic was refused in that time.
    async fn probe(&mut self, orders: &Orders, started: Instant, refused: &mut bool) -> Result<End, Retired> {
        let check = Arc::clone(&self.check);
        let limit = orders.target.probe.timeout;
        let mut probe = std::pin::pin!(timeout(limit, check.check(&orders.target)));
        loop {
            tokio::select! {
                // Cancel safe: the probe is polled on, messages stay in their channels.
                answer = &mut probe => {
                    let latency = started.elapsed();
                    let (outcome, result) = match answer {
                        Ok(Ok(())) => (Outcome::Pass, "pass".to_owned()),
                        _ if latency > limit + slack(limit) => {
                            (Outcome::Inconclusive, format!("woken {:?} too late", latency.saturating_sub(limit)))
                        }
                        Ok(Err(error)) => (Outcome::Fail, error.to_string()),
                        Err(_elapsed) => (Outcome::Fail, format!("no answer within {limit:?}")),
                    };
                    return Ok(End::Probed(Probed { started, latency, outcome, result }));
                }
                Some(evidence) = self.evidence.recv() => {
                    *refused |= evidence == Evidence::NotConnected;
                    self.heed();
                }
                changed = self.orders.changed() => {
                    changed.map_err(|_closed| Retired)?;
                    return Ok(End::Interrupted);
                }
            }
        }
    }

    fn conclude(&mut self, probed: &Probed, refused: bool) {
        let now = Now::read();
        let (changes, name) = {
            let mut group = self.group();
            (group.probed(self.instance.id, probed, now), group.name(self.instance.id))
        };
        // A refusal that came while the probe was under way is news that this probe does not answer.
        if probed.outcome == Outcome::Pass && !refused {
            self.instance.clear_suspect();
        }
        if let Some(name) = name {
            self.observer.probed(&self.instance.pool, &name, &probed.record(now));
        }
        self.announce(&changes);
        if probed.outcome != Outcome::Inconclusive {
            self.decided.send_replace(true);
        }
    }

    /// When the next probe is due after one that began at `started`.
    fn next(&mut self, orders: &Orders, started: Instant, outcome: Outcome, refused: bool) -> Instant {
        let probe = &orders.target.probe;
        let verdict = self.group().verdict(self.instance.id);
        let regular = match probe.fast_interval {
            Some(fast) if verdict.streak() > 0 => fast,
            _ => probe.interval,
        };
        let interval = jittered(regular, probe.jitter_percent, self.random.f64());
        let asked = (refused && matches!(verdict, Verdict::Up { .. })) || outcome == Outcome::Inconclusive;
        started + if asked { interval.min(ASKED_INTERVAL) } else { interval }
    }

    /// Looks at what workers have counted.
    fn heed(&self) {
        let changes = self.group().evidence(self.instance.id, Now::read());
        self.announce(&changes);
    }

    fn announce(&self, changes: &[Change]) {
        for change in changes {
            self.observer.changed(change);
        }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The interval, lengthened or shortened by at most `percent`; `random` is 0 to 1.
fn jittered(interval: Duration, percent: u32, random: f64) -> Duration {
    let share = f64::from(percent) / 100.0;
    interval.mul_f64((1.0 + share * (2.0 * random - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests;
