//! The fleet: every instance's record with its prober, over reloads.
//!
//! A reload goes prepare → (first verdicts) → commit or abandon. `prepare` changes nothing that the data side sees: it
//! makes the records that are missing and lets their probers start, so that new instances have proven themselves before
//! they are published. Records are carried over by (pool, address), and with them verdict, counters and what workers hang
//! on the record. The fleet lives on the control runtime; its tasks end with it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::group::{Group, Now};
use super::probe::{Check, Network, Target};
use super::prober::{Orders, Prober, Probing};
use super::{Change, Evidence, Observer};
use crate::config::model::{self, Config, PoolName};
use crate::pool::instance::{Admin, Instance, InstanceId};
use crate::pool::{Member, Pool, PoolShared};
use crate::tls::client::{Dialer, Policy};
use crate::tls::material::Material;

/// Messages of evidence that may wait for an instance's prober. More are dropped: the count is on the record.
const EVIDENCE_MAX: usize = 16;

/// Records are numbered over the whole process, so that no number is used twice.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Every instance's record with its prober. Lives on the control runtime.
pub struct Fleet {
    workers: usize,
    observer: Arc<dyn Observer>,
    check: Arc<dyn Check>,
    pools: HashMap<PoolName, Grouped>,
}

/// A pool's instances and what they share.
struct Grouped {
    shared: Arc<PoolShared>,
    group: Arc<Mutex<Group>>,
    entries: BTreeMap<SocketAddr, Entry>,
}

impl Grouped {
    fn new(workers: usize) -> Self {
        Self { shared: PoolShared::new(workers), group: Arc::default(), entries: BTreeMap::new() }
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance and its prober, which ends with this.
struct Entry {
    instance: Arc<Instance>,
    /// Kept over reloads that do not change it: sessions to resume hang on it, and connections.
    dialer: Option<Arc<Dialer>>,
    orders: watch::Sender<Orders>,
    decided: watch::Receiver<bool>,
    prober: JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.prober.abort();
    }
}

/// The pools of a configuration that is not published yet. To be handed to [`Fleet::commit`] or [`Fleet::abandon`].
#[must_use]
pub struct Prepared {
    /// For the snapshot, in the order of the configuration.
    pub pools: Vec<Arc<Pool>>,
    /// Instances that are not in the present configuration.
    pub fresh: Vec<Arc<Instance>>,
    /// Pools that are not in the present configuration.
    new_pools: HashMap<PoolName, Grouped>,
    new_entries: Vec<(PoolName, SocketAddr, Entry)>,
}

/// There is no such instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no instance `{pool}/{instance}`")]
pub struct UnknownInstance {
    /// The pool that was asked for.
    pub pool: String,
    /// The instance that was asked for.
    pub instance: String,
    /// What could have been meant, as `pool/instance`, nearest first.
    pub nearest: Vec<String>,
}

impl Fleet {
    /// A fleet without instances.
    #[must_use]
    pub fn new(workers: usize, observer: Arc<dyn Observer>) -> Self {
        Self::with_check(workers, observer, Arc::new(Network))
    }

    /// A fleet whose probes are made by `check`.
    #[must_use]
    pub fn with_check(workers: usize, observer: Arc<dyn Observer>, check: Arc<dyn Check>) -> Self {
        Self { workers, observer, check, pools: HashMap::new() }
    }

    /// Pools for a configuration: records that stay are carried over by (pool, address), others are made and their
    /// probers started. Nothing is published. Must be called on the control runtime.
    pub fn prepare(&mut self, config: &Config, material: &Material) -> Prepared {
        let mut prepared = Prepared {
            pools: Vec::with_capacity(config.pools.len()),
            fresh: Vec::new(),
            new_pools: HashMap::new(),
            new_entries: Vec::new(),
        };
        for pool in &config.pools {
            if !self.pools.contains_key(&pool.name) {
                prepared.new_pools.insert(pool.name.clone(), Grouped::new(self.workers));
            }
            let pool = self.prepare_pool(pool, material, &mut prepared);
            prepared.pools.push(Arc::new(pool));
        }
        prepared
    }

    fn prepare_pool(&self, pool: &model::Pool, material: &Material, prepared: &mut Prepared) -> Pool {
        let grouped = self.pools.get(&pool.name).unwrap_or_else(|| &prepared.new_pools[&pool.name]);
        let mut members = Vec::with_capacity(pool.instances.len());
        let policy = pool.tls.as_ref().map(|tls| (tls, Arc::new(Policy::of(tls, material))));
        for configured in &pool.instances {
            let dialer = |(tls, policy): &(&model::PoolTls, Arc<Policy>)| {
                let offers = pool.protocol.offers();
                Arc::new(Dialer::new(Arc::clone(policy), tls.name_for(configured), offers, probe_offers(pool)))
            };
            let wanted = policy.as_ref().map(dialer);
            let (instance, dialer) = if let Some(entry) = grouped.entries.get(&configured.address) {
                let same = entry.dialer.as_ref() == wanted.as_ref();
                (Arc::clone(&entry.instance), if same { entry.dialer.clone() } else { wanted })
            } else {
                let entry = self.start(grouped, pool, configured, wanted.clone());
                let instance = Arc::clone(&entry.instance);
                prepared.fresh.push(Arc::clone(&instance));
                prepared.new_entries.push((pool.name.clone(), configured.address, entry));
                (instance, wanted)
            };
            members.push(Member {
                instance,
                name: configured.name.clone(),
                authority: configured.authority.clone(),
                dialer,
                weight: configured.weight,
                backup: configured.backup,
                in_flight_max: configured.in_flight_max,
            });
        }
        Pool::new(pool.clone(), members, self.observer.pool_stats(&pool.name), Arc::clone(&grouped.shared))
    }

    /// Makes a record and starts its prober.
    fn start(
        &self,
        grouped: &Grouped,
        pool: &model::Pool,
        configured: &model::Instance,
        dialer: Option<Arc<Dialer>>,
    ) -> Entry {
        let (sender, evidence) = mpsc::channel::<Evidence>(EVIDENCE_MAX);
        let instance = Instance::new(
            InstanceId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            pool.name.clone(),
            configured.address,
            self.workers,
            Arc::clone(&grouped.shared),
            sender,
        );
        grouped.group().add(Arc::clone(&instance), configured.name.clone(), &pool.probe, pool.evidence.clone());
        let (orders, orders_seen) =
            watch::channel(Orders { target: target(pool, configured, dialer.clone()), probing: Probing::On });
        let (decides, decided) = watch::channel(false);
        let prober = Prober {
            instance: Arc::clone(&instance),
            group: Arc::clone(&grouped.group),
            observer: Arc::clone(&self.observer),
            check: Arc::clone(&self.check),
            orders: orders_seen,
            evidence,
            decided: decides,
            random: fastrand::Rng::new(),
        };
        Entry { instance, dialer, orders, decided, prober: tokio::spawn(prober.run()) }
    }

    /// Returns when every fresh instance has a verdict, or at the end of `grace`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn first_verdicts(prepared: &Prepared, grace: Duration) {
        let all = async {
            for (_, _, entry) in &prepared.new_entries {
                // An error is a prober that has ended, from which no verdict will come.
                let _verdict = entry.decided.clone().wait_for(|decided| *decided).await.is_ok();
            }
        };
        let _in_time = timeout(grace, all).await.is_ok();
    }

    /// The snapshot is published: instances that are no longer in it are retired, changed probe definitions take effect.
    /// The verdict stays when the definition changes, and the next probe is made at once.
    pub fn commit(&mut self, prepared: Prepared) {
        let Prepared { pools, fresh: _, new_pools, new_entries } = prepared;
        self.pools.extend(new_pools);
        for (pool, address, entry) in new_entries {
            if let Some(grouped) = self.pools.get_mut(&pool) {
                grouped.entries.insert(address, entry);
            }
        }
        let now = Now::read();
        let mut changes = Vec::new();
        let kept: HashMap<&PoolName, &Pool> = pools.iter().map(|pool| (&pool.name, &**pool)).collect();
        for (name, grouped) in &mut self.pools {
            let instances = kept.get(name).map_or(&[][..], |pool| &pool.settings.instances);
            changes.extend(retire(grouped, instances, now));
        }
        self.pools.retain(|name, _| kept.contains_key(name));
        for (name, pool) in kept {
            if let Some(grouped) = self.pools.get_mut(name) {
                define(grouped, pool);
                changes.extend(grouped.group().settle(now));
            }
        }
        self.announce(&changes);
    }

    /// The reload was refused: what was made for it ends.
    pub fn abandon(&mut self, prepared: Prepared) {
        let now = Now::read();
        for (pool, _, entry) in prepared.new_entries {
            let grouped = self.pools.get(&pool).or_else(|| prepared.new_pools.get(&pool));
            if let Some(grouped) = grouped {
                let change = grouped.group().remove(entry.instance.id, now);
                self.announce(change.as_slice());
            }
        }
    }

    /// Drains an instance, switches it off or enables it, with who asked and why. `instance` is its name or address.
    ///
    /// # Errors
    /// If there is no such instance.
    pub fn set_admin(
        &self,
        pool: &str,
        instance: &str,
        admin: Admin,
        who: String,
        why: String,
    ) -> Result<(), UnknownInstance> {
        let found = self.pools.get(&PoolName::from(pool)).and_then(|grouped| {
            let group = grouped.group();
            let entry = grouped.entries.iter().find(|(address, entry)| {
                group.name(entry.instance.id).is_some_and(|name| name.as_str() == instance)
                    || address.to_string() == instance
            });
            entry.map(|(_, entry)| (grouped, entry))
        });
        let Some((grouped, entry)) = found else { return Err(self.unknown(pool, instance)) };
        let changes = grouped.group().set_admin(entry.instance.id, admin, who, why, Now::read());
        let probing = if admin == Admin::Off { Probing::Off } else { Probing::On };
        entry.orders.send_if_modified(|orders| std::mem::replace(&mut orders.probing, probing) != probing);
        self.announce(&changes);
        Ok(())
    }

    /// Ends all probers.
    pub async fn shutdown(&mut self) {
        for (_, grouped) in self.pools.drain() {
            for mut entry in grouped.entries.into_values() {
                entry.prober.abort();
                // Cancelled is what was asked for.
                let _cancelled = (&mut entry.prober).await.is_err();
            }
        }
    }

    fn unknown(&self, pool: &str, instance: &str) -> UnknownInstance {
        const NEAREST: usize = 3;
        let asked = format!("{pool}/{instance}");
        let mut known: Vec<(usize, String)> = Vec::new();
        for (name, grouped) in &self.pools {
            let group = grouped.group();
            for instance in grouped.entries.values().filter_map(|entry| group.name(entry.instance.id)) {
                let full = format!("{name}/{instance}");
                known.push((strsim::damerau_levenshtein(&asked, &full), full));
            }
        }
        known.sort();
        let nearest = known.into_iter().take(NEAREST).map(|(_, full)| full).collect();
        UnknownInstance { pool: pool.to_owned(), instance: instance.to_owned(), nearest }
    }

    fn announce(&self, changes: &[Change]) {
        for change in changes {
            self.observer.changed(change);
        }
    }
}

/// What a probe offers by ALPN: what it is made for, and else what the pool's traffic prefers.
fn probe_offers(pool: &model::Pool) -> &'static [&'static [u8]] {
    match (&pool.probe.kind, pool.protocol) {
        (model::ProbeKind::Grpc(_), _) => model::Protocol::H2.offers(),
        (model::ProbeKind::Http(_), model::Protocol::Auto) => model::Protocol::H1.offers(),
        (_, protocol) => protocol.offers(),
    }
}

fn target(pool: &model::Pool, configured: &model::Instance, dialer: Option<Arc<Dialer>>) -> Target {
    Target {
        address: configured.address,
        authority: configured.authority.clone(),
        probe: pool.probe.clone(),
        dialer: dialer.filter(|_| pool.probe.tls),
        protocol: pool.protocol,
    }
}

/// Takes out of a pool what its new configuration does not have.
fn retire(grouped: &mut Grouped, instances: &[model::Instance], now: Now) -> Vec<Change> {
    let stays: std::collections::HashSet<SocketAddr> = instances.iter().map(|instance| instance.address).collect();
    let gone: Vec<SocketAddr> = grouped.entries.keys().filter(|address| !stays.contains(address)).copied().collect();
    let mut changes = Vec::new();
    for address in gone {
        if let Some(entry) = grouped.entries.remove(&address) {
            changes.extend(grouped.group().remove(entry.instance.id, now));
        }
    }
    changes
}

/// Lets a pool's new configuration take effect on its records.
fn define(grouped: &mut Grouped, pool: &Pool) {
    let settings = &pool.settings;
    for member in &pool.members {
        if let Some(entry) = grouped.entries.get_mut(&member.instance.address) {
            entry.dialer.clone_from(&member.dialer);
        }
    }
    let mut group = grouped.group();
    for configured in &settings.instances {
        let Some(entry) = grouped.entries.get(&configured.address) else { continue };
        let id = entry.instance.id;
        group.define(id, configured.name.clone(), &settings.probe, settings.evidence.clone());
        let target = target(settings, configured, entry.dialer.clone());
        entry.orders.send_if_modified(|orders| {
            if orders.target == target {
                return false;
            }
            // Another interval or threshold asks the same question; only another question makes old answers void.
            let question = |target: &Target| {
                (target.probe.kind.clone(), target.probe.port, target.protocol, target.dialer.clone())
            };
            if question(&orders.target) != question(&target) {
                group.forget_streak(id);
            }
            orders.target = target;
            true
        });
    }
}

#[cfg(test)]
mod tests;
