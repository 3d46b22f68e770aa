//! The metrics: which records there are, how long they live, and their text for Prometheus.
//!
//! [`names`] has every metric with its labels. The control side asks [`Metrics`] for the records that workers count on
//! while it builds a snapshot, and tells it what was published; records are keyed by name, so counters survive a reload.
//! What went from the configuration keeps its series for [`KEPT_AFTER_REMOVAL`], so that the last scrape is not lost; an
//! instance whose name lives on at another address goes on counting where the old address stopped. `scrape.rs` sums the
//! shards of all workers, without a lock that a worker or a reload could wait for.

pub mod names;
mod records;
mod scrape;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::records::Records;
use crate::config::model::{Config, InstanceName, ListenerName, PoolName, RouteName};
use crate::health::{Change, ProbeRecord};
use crate::pool::instance::{Admin, Health, Instance};
use crate::telemetry::log::Drops;
use crate::telemetry::stats::{ListenerStats, PoolStats, RouteStats};

/// How long the series of something that went from the configuration are still shown.
pub const KEPT_AFTER_REMOVAL: Duration = Duration::from_secs(300);

/// The route label of requests that no route matches.
pub const UNROUTED: &str = "-";

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReloadResult {
    /// A new snapshot was published.
    Applied,
    /// The file is what was in use already.
    Unchanged,
    /// The file is not valid, or could not be read.
    Invalid,
    /// It was valid, but not to be applied: a port is taken, a pool would be without a passing instance.
    Refused,
}

impl ReloadResult {
    /// Every result, in the order of the discriminants.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Unchanged, Self::Invalid, Self::Refused];

    /// The label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Applied => "success",
            Self::Unchanged => "unchanged",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
        }
    }
}

/// The `to` label of a change: what the axis that changed has become.
fn destination(change: &Change) -> &'static str {
    let (from, to) = (change.from, change.to);
    if to.removed && !from.removed {
        "removed"
    } else if to.admin != from.admin {
        match to.admin {
            Admin::Active => "active",
            Admin::Drain => "drain",
            Admin::Off => "off",
        }
    } else if to.ejected && !from.ejected {
        "ejected"
    } else {
        match to.health {
            Health::Unproven => "unproven",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// All metrics of the process. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    workers: usize,
    records: Arc<Mutex<Records>>,
}

impl Metrics {
    /// Empty metrics for `workers` data-plane threads.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers, records: Arc::default() }
    }

    /// The record of a route on a listener. Shown once [`Metrics::published`] names both.
    #[must_use]
    pub fn route(&self, listener: &ListenerName, route: &RouteName) -> Arc<RouteStats> {
        let key = (listener.clone(), route.clone());
        self.records().routes.stats(key, || RouteStats::new(self.workers))
    }

    /// The record of a listener's requests that no route matches.
    #[must_use]
    pub fn unrouted(&self, listener: &ListenerName) -> Arc<RouteStats> {
        self.route(listener, &RouteName::from(UNROUTED))
    }

    /// The record of a listener.
    #[must_use]
    pub fn listener(&self, listener: &ListenerName) -> Arc<ListenerStats> {
        self.records().listeners.stats(listener.clone(), || ListenerStats::new(self.workers))
    }

    /// The record of a pool.
    #[must_use]
    pub fn pool(&self, pool: &PoolName) -> Arc<PoolStats> {
        self.records().pools.stats(pool.clone(), || PoolStats::new(self.workers))
    }

    /// A snapshot was published: `members` are all instances of all its pools, under the names that they have in it.
    pub fn published(
        &self,
        generation: u64,
        config: &Config,
        members: impl IntoIterator<Item = (InstanceName, Arc<Instance>)>,
    ) {
        self.records().published(Instant::now(), SystemTime::now(), generation, config, members);
    }

    /// The listeners with TLS now, and when the certificate of each of their files expires.
    pub fn certificates(&self, expiry: BTreeMap<ListenerName, BTreeMap<Arc<str>, SystemTime>>) {
        self.records().certificates = expiry;
    }

    /// An instance's state changed.
    pub fn changed(&self, change: &Change) {
        let key = (change.pool.clone(), change.name.clone(), destination(change), change.reason.code());
        *self.records().transitions.entry(key).or_default() += 1;
    }

    /// A probe ended.
    pub fn probed(&self, pool: &PoolName, instance: &InstanceName, probe: &ProbeRecord) {
        let mut records = self.records();
        let totals = records.probes.entry((pool.clone(), instance.clone())).or_default();
        totals.count(probe.passed, probe.latency);
    }

    /// A reload ended.
    pub fn reload(&self, result: ReloadResult) {
        self.records().reloads[result as usize] += 1;
    }

    /// So many certificates and keys came into use while running.
    pub fn files_applied(&self, count: usize) {
        self.records().files_applied += count as u64;
    }

    /// So many files changed to something that cannot be used.
    pub fn files_refused(&self, count: usize) {
        self.records().files_refused += count as u64;
    }

    /// Shows the lines that the log drops.
    pub fn watch_log(&self, drops: Drops) {
        self.records().log = Some(drops);
    }

    /// Everything in the text format of Prometheus.
    ///
    /// With thousands of routes this takes milliseconds: call it where it delays nothing.
    #[must_use]
    pub fn text(&self) -> String {
        let records = self.records().clone();
        scrape::text(&records, Instant::now(), self.workers)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
