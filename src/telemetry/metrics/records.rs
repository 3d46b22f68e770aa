//! What is counted on, keyed by the names that become labels, with its life: built, shown, gone, forgotten.
//!
//! A record is built with a snapshot, shown once that is published, and gone when a later one does not name it. A record
//! that comes back in time goes on counting. Forgetting happens only when a snapshot is published, after its records were
//! marked as shown: so one that a reload has just taken up again can never be forgotten between the two.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::scrape::{InstanceTotals, ProbeTotals};
use super::{KEPT_AFTER_REMOVAL, ReloadResult, UNROUTED};
use crate::config::model::{Config, InstanceName, ListenerName, PoolName, Route, RouteName};
use crate::pool::instance::{Instance, InstanceId};
use crate::telemetry::log::Drops;
use crate::telemetry::stats::{ListenerStats, PoolStats, RouteStats};

/// Where in its life a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Made for a snapshot that is not published yet, and perhaps never will be.
    Built,
    /// In the published snapshot.
    Shown,
    /// In an earlier one.
    Gone(Instant),
}

impl Life {
    /// Whether its series are in a scrape at `now`.
    pub(super) fn visible(self, now: Instant) -> bool {
        match self {
            Self::Built => false,
            Self::Shown => true,
            Self::Gone(since) => now.duration_since(since) < KEPT_AFTER_REMOVAL,
        }
    }

    /// What follows when a snapshot is published that does or does not name the record.
    fn next(self, named: bool, now: Instant) -> Self {
        match self {
            _ if named => Self::Shown,
            Self::Shown => Self::Gone(now),
            other => other,
        }
    }
}

/// Records of one kind.
#[derive(Debug)]
pub(super) struct Keyed<K, S>(BTreeMap<K, (Life, Arc<S>)>);

impl<K, S> Default for Keyed<K, S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone, S> Clone for Keyed<K, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord, S> Keyed<K, S> {
    /// The record under `key`, made now if there is none.
    pub(super) fn stats(&mut self, key: K, make: impl FnOnce() -> S) -> Arc<S> {
        Arc::clone(&self.0.entry(key).or_insert_with(|| (Life::Built, Arc::new(make()))).1)
    }

    /// The records whose series are shown at `now`.
    pub(super) fn visible(&self, now: Instant) -> impl Iterator<Item = (&K, &S)> {
        self.0.iter().filter(move |(_, (life, _))| life.visible(now)).map(|(key, (_, stats))| (key, &**stats))
    }

    fn published(&mut self, now: Instant, named: impl Fn(&K) -> bool) {
        self.0.retain(|key, (life, _)| {
            *life = life.next(named(key), now);
            life.visible(now)
        });
    }
}

fn serves(route: &Route, listener: &ListenerName) -> bool {
    route.listeners.is_empty() || route.listeners.contains(listener)
}

/// One instance's record under a name.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: InstanceName,
    pub(super) instance: Arc<Instance>,
    pub(super) life: Life,
}

impl Member {
    fn key(&self) -> (PoolName, InstanceName) {
        (self.instance.pool.clone(), self.name.clone())
    }
}

/// All records.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) listeners: Keyed<ListenerName, ListenerStats>,
    pub(super) routes: Keyed<(ListenerName, RouteName), RouteStats>,
    pub(super) pools: Keyed<PoolName, PoolStats>,
    /// Those of the published snapshot, and those that went.
    pub(super) members: Vec<Member>,
    /// What forgotten records had counted under a name that is still in use.
    pub(super) carried: BTreeMap<(PoolName, InstanceName), InstanceTotals>,
    /// Counted by name from the start, since only the control side counts them.
    pub(super) probes: BTreeMap<(PoolName, InstanceName), ProbeTotals>,
    pub(super) transitions: BTreeMap<(PoolName, InstanceName, &'static str, &'static str), u64>,
    /// When certificates expire, by their files, for each listener with TLS.
    pub(super) certificates: BTreeMap<ListenerName, BTreeMap<Arc<str>, SystemTime>>,
    pub(super) files_applied: u64,
    pub(super) files_refused: u64,
    pub(super) reloads: [u64; ReloadResult::ALL.len()],
    pub(super) generation: u64,
    pub(super) hash: String,
    pub(super) last_applied: Option<SystemTime>,
    pub(super) log: Option<Drops>,
}

impl Records {
    pub(super) fn published(
        &mut self,
        now: Instant,
        at: SystemTime,
        generation: u64,
        config: &Config,
        members: impl IntoIterator<Item = (InstanceName, Arc<Instance>)>,
    ) {
        let listeners: HashSet<_> = config.listeners.iter().map(|listener| &listener.name).collect();
        let routes: BTreeMap<_, _> = config.routes.iter().map(|route| (&route.name, route)).collect();
        let pools: HashSet<_> = config.pools.iter().map(|pool| &pool.name).collect();
        self.listeners.published(now, |name| listeners.contains(name));
        self.routes.published(now, |(listener, route)| {
            let routed = route.as_str() == UNROUTED || routes.get(route).is_some_and(|route| serves(route, listener));
            listeners.contains(listener) && routed
        });
        self.pools.published(now, |name| pools.contains(name));
        self.members_published(now, members);
        self.generation = generation;
        self.hash.clone_from(&config.hash);
        self.last_applied = Some(at);
    }

    fn members_published(&mut self, now: Instant, members: impl IntoIterator<Item = (InstanceName, Arc<Instance>)>) {
        let mut shown: BTreeMap<InstanceId, (InstanceName, Arc<Instance>)> =
            members.into_iter().map(|(name, instance)| (instance.id, (name, instance))).collect();
        for member in &mut self.members {
            let named = shown.remove(&member.instance.id);
            member.life = member.life.next(named.is_some(), now);
            if let Some((name, _)) = named {
                member.name = name;
            }
        }
        let fresh = shown.into_values().map(|(name, instance)| Member { name, instance, life: Life::Shown });
        self.members.extend(fresh);
        self.forget_members(now);
    }

    /// Drops what is not visible any more. What it counted is kept where its name lives on: a counter that falls would
    /// look to Prometheus like a restart, and its whole new value like fresh events.
    fn forget_members(&mut self, now: Instant) {
        let (kept, forgotten): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.members).into_iter().partition(|member| member.life.visible(now));
        self.members = kept;
        let names: HashSet<_> = self.members.iter().map(Member::key).collect();
        for member in forgotten {
            if names.contains(&member.key()) {
                self.carried.entry(member.key()).or_default().count(&member.instance.stats);
            }
        }
        self.carried.retain(|name, _| names.contains(name));
        self.probes.retain(|name, _| names.contains(name));
        self.transitions.retain(|(pool, instance, ..), _| names.contains(&(pool.clone(), instance.clone())));
    }
}
