//! The immutable view that the data side reads: built whole by the control side, published with one store, loaded once
//! per request.
//!
//! A request sees exactly one [`Snapshot`] from its head to the end of its answer, so there is no second pointer to
//! disagree with it. What must outlive a snapshot (verdicts, in-flight counts, counters) hangs on records that
//! snapshots share: [`pool::instance`](crate::pool::instance) and [`telemetry::stats`](crate::telemetry::stats).
//! [`Published`] also holds the process's [`Phase`], because the one question "is this proxy ready?" is asked of both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::config::model::{ClientCertificate, Config, Listener, ListenerName, PoolName, RouteName};
use crate::http::hsts;
use crate::pool::Pool;
use crate::route::Table;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::{ListenerStats, RouteStats};
use crate::tls::material::Material;
use crate::tls::server::Server;

/// One published state of the whole proxy.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first, one more with each reload that changed something.
    pub generation: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// What the files hold that the configuration names.
    pub material: Arc<Material>,
    /// In the order of the file.
    pub listeners: Vec<Arc<ListenerView>>,
    /// In the order of the file.
    pub pools: Vec<Arc<Pool>>,
    /// When it was built.
    pub published: SystemTime,
}

/// What a connection of one listener needs: limits, routes, counters.
#[derive(Debug)]
pub struct ListenerView {
    /// Limits and timeouts.
    pub settings: Listener,
    /// The routes that serve this listener.
    pub routes: Table<Arc<RouteView>>,
    /// Counters of connections.
    pub stats: Arc<ListenerStats>,
    /// Counters of requests that no route matched.
    pub unrouted: Arc<RouteStats>,
    /// The line of `Strict-Transport-Security`, for what came by TLS; empty without `hsts`.
    pub hsts: Vec<u8>,
    /// TLS; `None`: plain HTTP.
    pub tls: Option<Server>,
}

/// Where the requests of one route go on one listener.
#[derive(Debug)]
pub struct RouteView {
    /// For logs.
    pub name: RouteName,
    /// Where they go.
    pub pool: Arc<Pool>,
    /// Whether the route names this listener: then it is served here also where everything else is redirected.
    pub named_here: bool,
    /// What clients must have shown.
    pub certificate: ClientCertificate,
    /// Counters of this listener and route.
    pub stats: Arc<RouteStats>,
}

impl Snapshot {
    /// Builds the view of a configuration and of the files that it names. `pools` are the ones that `health::fleet`
    /// prepared for it; `before` is what it replaces, if it replaces anything.
    #[must_use]
    pub fn build(
        config: Arc<Config>,
        material: Arc<Material>,
        pools: Vec<Arc<Pool>>,
        metrics: &Metrics,
        before: Option<&Self>,
    ) -> Self {
        let listeners = config.listeners.iter().map(|listener| {
            let before = before.and_then(|before| before.listener(&listener.name));
            let before = before.and_then(|before| before.tls.as_ref());
            let tls = listener.tls.as_ref().map(|tls| Server::build(tls, &material, before));
            view(listener, &config, &pools, metrics, tls)
        });
        let listeners = listeners.collect();
        let generation = before.map_or(1, |before| before.generation + 1);
        Self { generation, config, material, listeners, pools, published: SystemTime::now() }
    }

    /// The listener of that name.
    #[must_use]
    pub fn listener(&self, name: &ListenerName) -> Option<&Arc<ListenerView>> {
        self.listeners.iter().find(|listener| listener.settings.name == *name)
    }

    /// The pool of that name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.name == *name)
    }
}

fn view(
    listener: &Listener,
    config: &Config,
    pools: &[Arc<Pool>],
    metrics: &Metrics,
    tls: Option<Server>,
) -> Arc<ListenerView> {
    let serves = |names: &[ListenerName]| names.is_empty() || names.contains(&listener.name);
    // `check` has refused routes to pools that do not exist, so nothing is left out here.
    let routes = config.routes.iter().filter(|route| serves(&route.listeners)).filter_map(|route| {
        let pool = pools.iter().find(|pool| pool.name == route.pool)?;
        let stats = metrics.route(&listener.name, &route.name);
        let named_here = !route.listeners.is_empty();
        let view = RouteView {
            name: route.name.clone(),
            pool: Arc::clone(pool),
            named_here,
            certificate: route.client_certificate,
            stats,
        };
        Some((route.hosts.as_slice(), route.path.as_str(), Arc::new(view)))
    });
    Arc::new(ListenerView {
        settings: listener.clone(),
        routes: Table::build(routes),
        stats: metrics.listener(&listener.name),
        unrouted: metrics.unrouted(&listener.name),
        hsts: listener.hsts.as_ref().map(hsts::line).unwrap_or_default(),
        tls,
    })
}

/// Where the process stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Listeners wait for the first verdicts.
    Starting,
    /// Traffic is served.
    Serving,
    /// Told to end: finishes what it has.
    Draining,
}

/// Whether this proxy should get traffic: what `/ready` says, on the admin listener and on a listener's `health_path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not yet.
    Starting,
    /// No more.
    Draining,
    /// Not for now: the service was paused.
    Paused,
    /// A pool marked `required` has no eligible instance.
    NoEligibleInstance(PoolName),
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Starting => f.write_str("starting: waiting for the first verdicts"),
            Self::Draining => f.write_str("draining"),
            Self::Paused => f.write_str("paused"),
            Self::NoEligibleInstance(pool) => write!(f, "no eligible instance in pool `{pool}`"),
        }
    }
}

/// The present snapshot and phase: the only thing that control and data side share by pointer.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    /// The present snapshot's: workers compare it with theirs once per request, which is cheaper than to load.
    generation: AtomicU64,
    phase: AtomicU8,
    paused: AtomicBool,
}

impl Published {
    /// Publishes the first snapshot, in [`Phase::Starting`].
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        let generation = AtomicU64::new(first.generation);
        Self {
            snapshot: ArcSwap::from_pointee(first),
            generation,
            phase: AtomicU8::new(Phase::Starting as u8),
            paused: AtomicBool::new(false),
        }
    }

    /// Replaces the snapshot: requests that begin from now on see the new one, those that run keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
    }

    /// The present snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The generation of the present snapshot.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Moves on to a later phase; never back, so that a reload that ends during a drain cannot undo it.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// From now on new connections are closed at once, and those that are there end with their present request.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    /// Takes [`pause`](Self::pause) back.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Release);
    }

    /// Whether [`pause`](Self::pause) holds.
    #[inline]
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether this proxy should get traffic.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.phase() {
            Phase::Starting => Readiness::Starting,
            Phase::Draining => Readiness::Draining,
            Phase::Serving if self.is_paused() => Readiness::Paused,
            Phase::Serving => {
                let snapshot = self.snapshot.load();
                let without = snapshot.pools.iter().find(|pool| pool.settings.required && pool.eligible_count() == 0);
                without.map_or(Readiness::Ready, |pool| Readiness::NoEligibleInstance(pool.name.clone()))
            }
        }
    }
}
