//! The three axes of all instances of one pool, and the one place that publishes what they come to.
//!
//! Probes, evidence from traffic and the operator's word arrive as calls with the time as an argument; each returns the
//! changes that the caller must announce. One value holds the whole pool, since evidence may only eject what the pool
//! can spare. No clock, no I/O: the simulation in `tests/` runs it with an invented clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::passive::{Ejection, kept};
use super::state::{Limits, Outcome, Verdict};
use super::{AdminNote, Change, ProbeRecord, Reason, Report};
use crate::config::model::{self, InstanceName};
use crate::pool::instance::{Admin, Health, Instance, InstanceId, State};

/// A moment, on both clocks: the steady one decides, the wall clock is shown.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For decisions.
    pub instant: Instant,
    /// For logs and `/status`.
    pub wall: SystemTime,
}

impl Now {
    /// The present moment.
    #[must_use]
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// A probe that has ended.
#[derive(Debug, Clone)]
pub struct Probed {
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub latency: Duration,
    /// What it showed.
    pub outcome: Outcome,
    /// The outcome in words.
    pub result: String,
}

/// The instances of one pool.
#[derive(Debug, Default)]
pub struct Group {
    records: BTreeMap<InstanceId, Record>,
}

/// What the control side knows of an instance.
#[derive(Debug)]
struct Record {
    instance: Arc<Instance>,
    name: InstanceName,
    limits: Limits,
    evidence: model::Evidence,
    verdict: Verdict,
    ejection: Ejection,
    admin: Admin,
    /// Whether it is in the published snapshot; one that is only prepared for a reload does not count as part of the pool.
    published: bool,
}

impl Group {
    /// Takes in a new record. It counts as part of the pool after [`Group::define`] only.
    pub fn add(
        &mut self,
        instance: Arc<Instance>,
        name: InstanceName,
        probe: &model::Probe,
        evidence: model::Evidence,
    ) {
        let limits = Limits { fall: probe.fall, rise: probe.rise };
        let record = Record {
            name,
            limits,
            evidence,
            verdict: Verdict::Unproven,
            ejection: Ejection::default(),
            admin: Admin::Active,
            published: false,
            instance,
        };
        self.records.insert(record.instance.id, record);
    }

    /// A configuration that has the instance is published.
    pub fn define(&mut self, id: InstanceId, name: InstanceName, probe: &model::Probe, evidence: model::Evidence) {
        if let Some(record) = self.records.get_mut(&id) {
            record.name = name;
            record.limits = Limits { fall: probe.fall, rise: probe.rise };
            record.evidence = evidence;
            record.published = true;
        }
    }

    /// What probes ask has changed: the verdict stays, but outcomes of the old question no longer count.
    pub fn forget_streak(&mut self, id: InstanceId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.verdict = record.verdict.without_streak();
            record.instance.report(|report| report.streak = 0);
        }
    }

    /// Folds a probe in.
    pub fn probed(&mut self, id: InstanceId, probed: &Probed, now: Now) -> Vec<Change> {
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        let mut changes: Vec<Change> = record.probed(probed, now).into_iter().collect();
        if !changes.is_empty() || record.ejection.is_ejected() {
            self.give_back(now, &mut changes);
        }
        changes
    }

    /// Judges the failures that workers have counted on an instance.
    pub fn evidence(&mut self, id: InstanceId, now: Now) -> Vec<Change> {
        let may_eject = self.serving() > kept(self.undrained());
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        let failures = record.instance.failures();
        let enough = record.evidence.failures.is_some_and(|limit| failures >= limit);
        // Where the pool cannot spare it, the count stands, and the next failure asks again.
        if !enough || !may_eject || !record.serves() {
            return Vec::new();
        }
        let (ejection, time) = record.ejection.eject(now.instant, &record.evidence);
        record.ejection = ejection;
        record.instance.reset_failures();
        record.instance.report(|report| {
            report.ejected_until = Some(now.wall + time);
            report.ejections = ejection.repeats();
        });
        record.publish(Reason::Traffic(failures, time), now).into_iter().collect()
    }

    /// What the operator wants.
    pub fn set_admin(&mut self, id: InstanceId, admin: Admin, who: String, why: String, now: Now) -> Vec<Change> {
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        if record.admin == Admin::Off && admin != Admin::Off {
            // No probe has looked while it was off: it has to prove itself like a new one.
            record.verdict = Verdict::Unproven;
            record.ejection = Ejection::default();
            record.instance.report(|report| {
                *report = Report { probes: std::mem::take(&mut report.probes), ..Report::default() };
            });
        }
        record.admin = admin;
        let note = AdminNote { who: who.clone(), why: why.clone(), since: now.wall };
        record.instance.report(|report| report.admin = (admin != Admin::Active).then_some(note));
        let mut changes: Vec<Change> = record.publish(Reason::Operator(who, why), now).into_iter().collect();
        self.give_back(now, &mut changes);
        changes
    }

    /// The instance is no longer in the configuration. It gets nothing new, from older snapshots neither.
    pub fn remove(&mut self, id: InstanceId, now: Now) -> Option<Change> {
        let record = self.records.remove(&id)?;
        let to = State { removed: true, ..record.instance.state() };
        record.publish_as(to, Reason::Removed, now)
    }

    /// A configuration has taken effect as a whole: ejections end that the pool can no longer spare. Not judged before,
    /// since a pool that is half of the old and half of the new one would give instances back for nothing.
    pub fn settle(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        self.give_back(now, &mut changes);
        changes
    }

    /// The name of an instance in the present configuration.
    #[must_use]
    pub fn name(&self, id: InstanceId) -> Option<InstanceName> {
        self.records.get(&id).map(|record| record.name.clone())
    }

    /// The verdict on an instance; unproven if there is no such one.
    #[must_use]
    pub fn verdict(&self, id: InstanceId) -> Verdict {
        self.records.get(&id).map_or(Verdict::Unproven, |record| record.verdict)
    }

    /// What traffic showed of an instance.
    #[must_use]
    pub fn ejection(&self, id: InstanceId) -> Ejection {
        self.records.get(&id).map_or_else(Ejection::default, |record| record.ejection)
    }

    /// How many instances of the published pool the operator lets serve.
    #[must_use]
    pub fn undrained(&self) -> usize {
        self.records.values().filter(|record| record.is_undrained()).count()
    }

    /// How many of those are up and not ejected.
    #[must_use]
    pub fn serving(&self) -> usize {
        self.records.values().filter(|record| record.serves()).count()
    }

    /// Ends ejections early while less than half of the pool is left: of instances that a probe has found well since,
    /// those first whose time would be up first.
    fn give_back(&mut self, now: Now, changes: &mut Vec<Change>) {
        while self.serving() < kept(self.undrained()) {
            let well = self.records.values_mut().filter_map(|record| match record.ejection {
                Ejection::Ejected { until, passed: true, .. }
                    if record.is_undrained() && record.verdict == (Verdict::Up { fails: 0 }) =>
                {
                    Some((until, record))
                }
                _ => None,
            });
            let Some((_, record)) = well.min_by_key(|(until, _)| *until) else { return };
            record.end_ejection(record.ejection.give_back(now.instant));
            changes.extend(record.publish(Reason::PoolTooSmall, now));
        }
    }
}

impl Record {
    /// One probe is one change at most, also when it ends an ejection and restores at the same time.
    fn probed(&mut self, probed: &Probed, now: Now) -> Option<Change> {
        let unproven = self.verdict == Verdict::Unproven;
        let (verdict, health) = self.verdict.step(probed.outcome, self.limits);
        self.verdict = verdict;
        self.instance.report(|report| {
            report.streak = verdict.streak();
            if report.probes.len() == Report::PROBES {
                report.probes.remove(0);
            }
            report.probes.push(probed.record(now));
        });
        let was_ejected = self.ejection.is_ejected();
        let ejection = match probed.outcome {
            Outcome::Pass => self.ejection.probe_passed(probed.started, now.instant),
            Outcome::Fail => self.ejection.probe_failed(),
            Outcome::Inconclusive => self.ejection,
        };
        if was_ejected && !ejection.is_ejected() {
            self.end_ejection(ejection);
        } else {
            self.ejection = ejection.forget(now.instant, &self.evidence);
            self.instance.report(|report| report.ejections = self.ejection.repeats());
        }
        let Some(health) = health else { return self.publish(Reason::TrafficOver, now) };
        self.instance.report(|report| report.since = Some(now.wall));
        // Counted against an instance that was another one: before it went down, or while it was down.
        self.instance.reset_failures();
        let reason = match health {
            _ if unproven => Reason::FirstProbe(probed.result.clone()),
            Health::Up => Reason::ProbesPassed(self.limits.rise),
            Health::Down | Health::Unproven => Reason::ProbesFailed(self.limits.fall, probed.result.clone()),
        };
        self.publish(reason, now)
    }

    fn end_ejection(&mut self, ejection: Ejection) {
        self.ejection = ejection;
        // What failed while it was out, or on its way out, does not speak against it now.
        self.instance.reset_failures();
        self.instance.report(|report| report.ejected_until = None);
    }

    fn is_undrained(&self) -> bool {
        self.published && self.admin == Admin::Active
    }

    fn serves(&self) -> bool {
        self.is_undrained() && self.verdict.health() == Health::Up && !self.ejection.is_ejected()
    }

    /// Joins the axes and lets the data side see it.
    fn publish(&self, reason: Reason, now: Now) -> Option<Change> {
        let to = State {
            health: self.verdict.health(),
            ejected: self.ejection.is_ejected(),
            admin: self.admin,
            removed: false,
        };
        self.publish_as(to, reason, now)
    }

    fn publish_as(&self, to: State, reason: Reason, now: Now) -> Option<Change> {
        let from = self.instance.state();
        if from == to {
            return None;
        }
        self.instance.publish(to);
        // Who drained or enabled it, and why, is in the note of its own: it must not hide why an instance is down.
        if !matches!(reason, Reason::Operator(..)) {
            self.instance.report(|report| report.reason = reason.to_string());
        }
        Some(Change {
            pool: self.instance.pool.clone(),
            instance: Arc::clone(&self.instance),
            name: self.name.clone(),
            from,
            to,
            reason,
            at: now.wall,
        })
    }
}

impl Probed {
    /// As `/status` and metrics show it.
    #[must_use]
    pub fn record(&self, now: Now) -> ProbeRecord {
        ProbeRecord {
            at: now.wall,
            latency: self.latency,
            result: self.result.clone(),
            passed: match self.outcome {
                Outcome::Pass => Some(true),
                Outcome::Fail => Some(false),
                Outcome::Inconclusive => None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
