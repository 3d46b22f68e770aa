//! `/status`: what Plimsoll thinks of each instance, and why.
//!
//! Taken from the published snapshot and the instances' records, so it is what the data side goes by at this moment.
//! The types are read back by `plimsoll status`; times are RFC 3339, and beside each stands its age in seconds, so that
//! a reader needs no clock that agrees with ours.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::health::{Report, detection_time};
use crate::pool::instance::{Admin, Health};
use crate::pool::{Member, Pool as PoolView};
use crate::snapshot::{Phase, Published, Readiness, Snapshot};
use crate::telemetry::stats::{Counter, InstanceStats};
use crate::telemetry::timestamp::Timestamp;

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// When this was taken.
    pub now: String,
    /// When the process started.
    pub started: String,
    /// How long it runs.
    pub uptime_seconds: f64,
    /// `starting`, `serving` or `draining`.
    pub phase: String,
    /// Whether `/ready` says yes.
    pub ready: bool,
    /// As `/ready` says it.
    pub readiness: String,
    /// What is in use.
    pub config: Config,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub pools: Vec<Pool>,
}

/// The configuration in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The file.
    pub path: String,
    /// 1 for the first, one more with each reload that changed something.
    pub generation: u64,
    /// Fingerprint of the file.
    pub hash: String,
    /// When it was applied.
    pub applied: String,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub bind: Vec<String>,
    /// Open client connections.
    pub connections: u64,
    /// How many there may be.
    pub connections_max: u64,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Instances that may get a request now.
    pub eligible: usize,
    /// Whether `/ready` depends on it.
    pub required: bool,
    /// Requests that wait for an instance.
    pub queued: u64,
    /// How long it takes at worst until probes take a broken instance out.
    pub detection: Detection,
    /// TLS to its instances.
    pub tls: Option<PoolTls>,
    /// Those that always serve, then the backups.
    pub instances: Vec<Instance>,
}

/// TLS towards instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolTls {
    /// Whether their certificates are verified. If not, anybody on the way can pass for them.
    pub verified: bool,
}

/// Worst-case detection times by probes alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// It refuses connections or answers with errors.
    pub refusal_seconds: f64,
    /// It hangs.
    pub hang_seconds: f64,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether it may get a request now.
    pub eligible: bool,
    /// What probes see: `unproven`, `up` or `down`.
    pub verdict: String,
    /// Why the verdict changed last, or traffic ejected it or gave it back; what the operator did is in `admin_note`.
    pub why: String,
    /// Since when the verdict holds.
    pub since: Option<Moment>,
    /// Outcomes in a row that speak against the verdict.
    pub streak: u32,
    /// Whether it refused a connection since its last passed probe: picked last.
    pub suspect: bool,
    /// Failures in traffic in a row.
    pub failures: u32,
    /// What traffic showed.
    pub ejected: Option<Ejected>,
    /// What the operator wants: `active`, `drain` or `off`.
    pub admin: String,
    /// Who wanted it.
    pub admin_note: Option<AdminNote>,
    /// Its share.
    pub weight: u32,
    /// Serves only when no other instance is eligible.
    pub backup: bool,
    /// Requests that it has now.
    pub in_flight: u32,
    /// How many it may have.
    pub in_flight_max: Option<u32>,
    /// Connections to it.
    pub connections: Connections,
    /// Since it was first configured.
    pub totals: Totals,
    /// The last probes, newest last.
    pub probes: Vec<Probe>,
}

/// A point in time and how long ago it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// RFC 3339.
    pub at: String,
    /// How long ago.
    pub seconds_ago: f64,
}

/// An ejection by traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ejected {
    /// Until then, and on until a later probe has passed.
    pub until: Option<String>,
    /// How long that is; zero when the time is up.
    pub seconds_left: f64,
    /// Ejections in a row.
    pub repeats: u32,
}

/// Who set an instance's admin state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdminNote {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Moment,
}

/// Connections to an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// With a request on them.
    pub active: u64,
    /// Kept for the next one.
    pub idle: u64,
}

/// What was counted on an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Attempts that got a response head.
    pub responses: u64,
    /// Of those, with a 5xx status.
    pub server_errors: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// Connections made.
    pub connections_opened: u64,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// When it ended.
    pub at: Moment,
    /// How long it took.
    pub latency_seconds: f64,
    /// `pass`, or why it failed.
    pub result: String,
    /// Whether it passed; nothing if it says nothing.
    pub passed: Option<bool>,
}

impl Status {
    /// The status now, of a process that runs for `uptime`.
    #[must_use]
    pub(super) fn of(published: &Published, uptime: Duration, started: SystemTime) -> Self {
        let now = SystemTime::now();
        let snapshot = published.load();
        let readiness = published.readiness();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Timestamp(now).to_string(),
            started: Timestamp(started).to_string(),
            uptime_seconds: uptime.as_secs_f64(),
            phase: match published.phase() {
                Phase::Starting => "starting",
                Phase::Serving => "serving",
                Phase::Draining => "draining",
            }
            .to_owned(),
            ready: readiness == Readiness::Ready,
            readiness: readiness.to_string(),
            config: Config {
                path: snapshot.config.path.display().to_string(),
                generation: snapshot.generation,
                hash: snapshot.config.hash.clone(),
                applied: Timestamp(snapshot.published).to_string(),
            },
            listeners: listeners(&snapshot),
            pools: snapshot.pools.iter().map(|view| pool(view, now)).collect(),
        }
    }
}

fn listeners(snapshot: &Snapshot) -> Vec<Listener> {
    let status = |listener: &crate::snapshot::ListenerView| Listener {
        name: listener.settings.name.to_string(),
        bind: listener.settings.bind.iter().map(ToString::to_string).collect(),
        connections: listener.stats.sum(|shard| &shard.open),
        connections_max: listener.settings.connections_max as u64,
    };
    snapshot.listeners.iter().map(|listener| status(listener)).collect()
}

fn pool(view: &PoolView, now: SystemTime) -> Pool {
    let detection = detection_time(&view.settings.probe);
    Pool {
        name: view.name.to_string(),
        eligible: view.eligible_count(),
        required: view.settings.required,
        queued: view.stats.sum(|shard| &shard.queued),
        detection: Detection {
            refusal_seconds: detection.refusal.as_secs_f64(),
            hang_seconds: detection.hang.as_secs_f64(),
        },
        tls: view.settings.tls.as_ref().map(|tls| PoolTls { verified: tls.verify }),
        instances: view.members.iter().map(|member| instance(member, now)).collect(),
    }
}

fn instance(member: &Member, now: SystemTime) -> Instance {
    let instance = &*member.instance;
    let state = instance.state();
    // Copied out, so that its prober waits as briefly as possible.
    let report = instance.report(|report| report.clone());
    let open = instance.stats.sum(|shard| &shard.connections_open);
    let idle = instance.stats.sum(|shard| &shard.connections_idle);
    Instance {
        name: member.name.to_string(),
        address: instance.address.to_string(),
        eligible: member.eligible(),
        verdict: health_word(state.health).to_owned(),
        since: report.since.map(|since| moment(since, now)),
        streak: report.streak,
        suspect: instance.suspect(),
        failures: instance.failures(),
        ejected: state.ejected.then(|| ejected(&report, now)),
        admin: admin_word(state.admin).to_owned(),
        admin_note: report.admin.map(|note| AdminNote { who: note.who, why: note.why, since: moment(note.since, now) }),
        weight: member.weight,
        backup: member.backup,
        in_flight: instance.in_flight(),
        in_flight_max: member.in_flight_max,
        connections: Connections { active: open.saturating_sub(idle), idle },
        totals: totals(&instance.stats),
        probes: report
            .probes
            .into_iter()
            .map(|probe| Probe {
                at: moment(probe.at, now),
                latency_seconds: probe.latency.as_secs_f64(),
                result: probe.result,
                passed: probe.passed,
            })
            .collect(),
        why: report.reason,
    }
}

fn ejected(report: &Report, now: SystemTime) -> Ejected {
    let left = report.ejected_until.and_then(|until| until.duration_since(now).ok());
    Ejected {
        until: report.ejected_until.map(|until| Timestamp(until).to_string()),
        seconds_left: left.unwrap_or_default().as_secs_f64(),
        repeats: report.ejections,
    }
}

fn totals(stats: &InstanceStats) -> Totals {
    let mut totals = Totals { responses: 0, server_errors: 0, errors: 0, connections_opened: 0 };
    for shard in stats.shards() {
        totals.responses += shard.responses.iter().map(Counter::value).sum::<u64>();
        totals.server_errors += shard.responses.last().map_or(0, Counter::value);
        totals.errors += crate::cause::Cause::ALL.iter().map(|cause| shard.errors.of(*cause).value()).sum::<u64>();
        totals.connections_opened += shard.connections_opened.value();
    }
    totals
}

fn moment(at: SystemTime, now: SystemTime) -> Moment {
    Moment { at: Timestamp(at).to_string(), seconds_ago: now.duration_since(at).unwrap_or_default().as_secs_f64() }
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Unproven => "unproven",
        Health::Up => "up",
        Health::Down => "down",
    }
}

/// An admin state as answers say it.
pub(super) fn admin_word(admin: Admin) -> &'static str {
    match admin {
        Admin::Active => "active",
        Admin::Drain => "drain",
        Admin::Off => "off",
    }
}
