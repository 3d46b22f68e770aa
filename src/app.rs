//! The composition root: the only file that knows every module. Start, wait, drain.
//!
//! One thread runs the control side (this file, the controller, probers, admin listener); the workers have theirs. A
//! start goes: check → take all addresses → probe → first verdicts, or `startup_grace` → open the listeners. The admin
//! listener answers from before the first probe until after the last request.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::admin::{self, Admin};
use crate::config::load::{Loaded, Rejected, load};
use crate::config::model::{Config, InstanceName, ListenerName, PoolName};
use crate::config::watch::{FilesWatch, Watch};
use crate::drain::{Drained, drain};
use crate::health::{Change, Fleet, Observer, ProbeRecord};
use crate::listener::bind::{self, BindError, Bound, Neighbour};
use crate::listener::sockets::{ListenError, ListeningSockets};
use crate::platform::{self, EndSignals, ReloadSignal};
use crate::reload::{ControlHandle, Controller, Force, Starting, Trigger};
use crate::service::{Failure, Lifecycle, Order, Stage};
use crate::snapshot::{Phase, Published};
use crate::telemetry::log::{self, LogControl, LogError, Output};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::stats::PoolStats;
use crate::telemetry::timestamp::Timestamp;
use crate::tls::expiry::{self, Notice, Notices};
use crate::worker::Workers;

/// Accept queue of the admin listener.
const ADMIN_BACKLOG: u32 = 128;

/// Between two tries to have an address: each also asks the system who has it.
const BIND_PAUSE: Duration = Duration::from_millis(250);

/// How often the dates of certificates are looked at.
const EXPIRY_LOOK_INTERVAL: Duration = Duration::from_secs(3_600);

/// How long threads that are still busy (a name that does not resolve) may hold up the end of the process.
const RUNTIME_END_MAX: Duration = Duration::from_millis(100);

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused something that every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The log cannot be started.
    #[error("cannot start the log: {0}")]
    Log(#[from] LogError),
    /// An address of a listener cannot be had.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// The address of the admin listener cannot be had.
    #[error("{0}")]
    Admin(#[from] AdminListenError),
}

/// The address of the admin listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}` for the admin listener: {source}")]
pub struct AdminListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: BindError,
}

/// Why the proxy did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration has a mistake.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// It did not start.
    #[error("{0}")]
    Start(#[from] StartError),
}

impl RunError {
    /// For supervisors that want a number.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Rejected(_) => Failure::Configuration,
            Self::Start(StartError::Listen(_) | StartError::Admin(_)) => Failure::Address,
            Self::Start(StartError::Log(_)) => Failure::Log,
            Self::Start(StartError::System(_)) => Failure::System,
        }
    }
}

/// Runs the proxy with a configuration file until it is told to end: what `plimsoll run` does.
///
/// # Errors
/// If it does not start. No log may stand by then: how and where to log is in the file.
pub fn run(config: &Path, lifecycle: Lifecycle) -> Result<(), RunError> {
    let loaded = load(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::from)?;
    let result = runtime.block_on(serve(loaded, lifecycle));
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    Ok(result?)
}

/// From the log to the last request.
async fn serve(loaded: Loaded, lifecycle: Lifecycle) -> Result<(), StartError> {
    lifecycle.enter(Stage::Starting);
    let mut told = Told { signals: EndSignals::listen()?, lifecycle };
    let reload_signal = ReloadSignal::listen()?;
    let config = Arc::clone(&loaded.config);
    // Dropped last: it writes the lines that wait.
    let log = log::start(&config.log, Output::Stdout)?;
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!(version, process, workers = config.runtime.workers, "plimsoll starts");
    let (path, hash) = (config.path.display(), &config.hash);
    tracing::info!(%path, hash, "configuration loaded");
    for warning in &loaded.warnings {
        tracing::warn!(problem = %warning, "configuration may not mean what was meant");
    }
    raise_descriptor_limit(&config);

    let mut proxy = tokio::select! {
        // Dropped in the middle it serves nobody yet.
        started = Proxy::start(&loaded, Some(log.control())) => started.inspect_err(|error| {
            tracing::error!(%error, "start failed");
        })?,
        signal = told.end_order() => {
            tracing::info!(signal, "ended before the start was finished");
            return Ok(());
        }
    };
    told.lifecycle.enter(Stage::Running);
    let triggers = triggers(&proxy, &config, reload_signal);
    let (handle, published) = (proxy.handle.clone(), Arc::clone(&proxy.published));
    tokio::select! {
        // Dropped in the middle of a reload, that is lost without a trace.
        () = proxy.run() => {}
        signal = told.while_it_runs(&handle, &published) => tracing::info!(signal, "told to end"),
    }
    drop(triggers);
    let runtime = &published.load().config.runtime;
    told.lifecycle.enter(Stage::Stopping { within: runtime.linger + runtime.drain_timeout });
    let at_once = async {
        let signal = told.end_order().await;
        tracing::warn!(signal, "told to end at once");
    };
    proxy.end(at_once).await;
    Ok(())
}

/// Everything that can tell the process what to do from outside: signals and a supervisor.
struct Told {
    signals: EndSignals,
    lifecycle: Lifecycle,
}

impl Told {
    /// Waits until it is told to end, and passes over anything else.
    async fn end_order(&mut self) -> &'static str {
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                signal = self.signals.next() => return signal,
                order = self.lifecycle.next() => if let Order::End(who) = order { return who },
            }
        }
    }

    /// Does what the supervisor says, until it is told to end.
    async fn while_it_runs(&mut self, handle: &ControlHandle, published: &Published) -> &'static str {
        let mut reloads = JoinSet::new();
        loop {
            let order = tokio::select! {
                signal = self.signals.next() => return signal,
                order = self.lifecycle.next() => order,
                // Keeps the set empty.
                Some(_ended) = reloads.join_next() => continue,
            };
            match order {
                Order::End(who) => return who,
                Order::Pause => {
                    published.pause();
                    tracing::info!("paused: new connections are closed, what is in flight is finished");
                    self.lifecycle.enter(Stage::Paused);
                }
                Order::Continue => {
                    published.resume();
                    tracing::info!("goes on: new connections are served again");
                    self.lifecycle.enter(Stage::Running);
                }
                Order::Reload => {
                    let handle = handle.clone();
                    // The controller logs how it went.
                    reloads.spawn(async move { handle.reload(Trigger::Signal, Force::No).await.is_ok() });
                }
            }
        }
    }
}

fn raise_descriptor_limit(config: &Config) {
    match platform::raise_descriptor_limit() {
        Ok(Some(limit)) => {
            // One for the client and one for the instance.
            let needed = config.runtime.connections_max as u64 * 2;
            if limit.now < needed {
                tracing::warn!(limit = limit.now, needed, "fewer descriptors than `runtime.connections_max` needs");
            }
            tracing::debug!(before = limit.before, now = limit.now, "limit of descriptors");
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "limit of descriptors not raised"),
    }
}

/// Starts what asks for reloads: files and the signal. It ends when the set is dropped.
pub(crate) fn triggers(proxy: &Proxy, config: &Config, mut signal: ReloadSignal) -> JoinSet<()> {
    let mut triggers = JoinSet::new();
    let handle = proxy.handle.clone();
    triggers.spawn(async move {
        loop {
            signal.next().await;
            // The controller has logged how it went.
            let _logged = handle.reload(Trigger::Signal, Force::No).await.is_ok();
        }
    });
    let (handle, published) = (proxy.handle.clone(), Arc::clone(&proxy.published));
    let mut watch = Watch::start(&config.path, &config.hash);
    triggers.spawn(async move {
        loop {
            watch.changed().await;
            if published.load().config.runtime.watch {
                let _logged = handle.reload(Trigger::File, Force::No).await.is_ok();
            }
        }
    });
    triggers.spawn(care_for_files(proxy.handle.clone(), Arc::clone(&proxy.published)));
    triggers
}

/// Watches the files that the configuration names, and warns of certificates that expire.
async fn care_for_files(handle: ControlHandle, published: Arc<Published>) {
    let (mut watch, mut notices) = (FilesWatch::new(), Notices::default());
    let (mut generation, mut reminded) = (0, Instant::now());
    loop {
        let snapshot = published.load();
        let fresh = snapshot.generation != generation;
        if fresh {
            generation = snapshot.generation;
            watch.watch(snapshot.material.files());
        }
        if fresh || reminded.elapsed() >= EXPIRY_LOOK_INTERVAL {
            reminded = Instant::now();
            for notice in notices.due(&snapshot.material, SystemTime::now()) {
                remind(&notice);
            }
        }
        let watching = snapshot.config.runtime.watch;
        // Not held while it waits: it keeps all of its pools in memory.
        drop(snapshot);
        if watch.changed().await && watching {
            handle.read_files().await;
        }
    }
}

fn remind(Notice { path, subject, not_after, stage }: &Notice<'_>) {
    let (path, not_after) = (path.display(), Timestamp(*not_after));
    match stage {
        expiry::Stage::Expired => tracing::error!(%path, subject, %not_after, "certificate has expired"),
        expiry::Stage::Month => tracing::warn!(%path, subject, %not_after, "certificate expires in less than 30 days"),
        expiry::Stage::Week => tracing::warn!(%path, subject, %not_after, "certificate expires in less than 7 days"),
        expiry::Stage::Day => tracing::warn!(%path, subject, %not_after, "certificate expires in less than a day"),
    }
}

/// A proxy that serves.
pub struct Proxy {
    controller: Controller,
    workers: Workers,
    handle: ControlHandle,
    published: Arc<Published>,
    admin: Option<AdminServer>,
}

struct AdminServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts everything, and returns when the listeners are open. Must be called on the control runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    ///
    /// # Cancel safety
    /// Nothing is served when the future is dropped.
    pub async fn start(loaded: &Loaded, log: Option<LogControl>) -> Result<Self, StartError> {
        let config = &loaded.config;
        let metrics = Metrics::new(config.runtime.workers);
        if let Some(log) = &log {
            metrics.watch_log(log.drops());
        }
        let announcer = Arc::new(Announcer { metrics: metrics.clone(), published: OnceLock::new() });
        let fleet = Fleet::new(config.runtime.workers, Arc::<Announcer>::clone(&announcer));
        let patience = Patience::for_addresses(config);
        let sockets = ListeningSockets::default();
        let planned = patience.until(|| sockets.plan(config, config.runtime.workers), |error| &error.source).await?;
        let admin = match config.admin.bind {
            Some(address) => Some(patience.until(|| AdminServer::bind(address), |error| &error.source).await?),
            None => None,
        };
        let (starting, handle) = Starting::new(loaded, (sockets, planned), fleet, metrics.clone(), log);
        let published = Arc::clone(starting.published());
        let _set_once = announcer.published.set(Arc::downgrade(&published)).is_ok();
        let api = Admin::new(Arc::clone(&published), metrics, handle.clone());
        let admin = admin.map(|bound| AdminServer::start(bound, api)).transpose()?;
        let workers = Workers::start(config.runtime.workers, &published)?;
        let controller = starting.serve(workers.handles().to_vec()).await?;
        let proxy = Self { controller, workers, handle, published, admin };
        proxy.announce();
        Ok(proxy)
    }

    /// Does what the admin listener and others ask for, for ever.
    ///
    /// # Cancel safety
    /// See [`Controller::run`].
    pub async fn run(&mut self) {
        self.controller.run().await;
    }

    /// The listeners' real addresses.
    pub fn addresses(&self) -> impl Iterator<Item = (&ListenerName, SocketAddr)> {
        self.controller.sockets().addresses()
    }

    /// The admin listener's real address.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// The way to ask for changes.
    #[must_use]
    pub fn handle(&self) -> &ControlHandle {
        &self.handle
    }

    /// What is published.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Ends gracefully; early when `at_once` does.
    pub async fn end(mut self, at_once: impl Future<Output = ()>) -> Drained {
        self.published.enter(Phase::Draining);
        self.controller.refuse();
        let began = Instant::now();
        let runtime = self.published.load().config.runtime.clone();
        let (linger, drain_timeout) = (runtime.linger.as_secs_f64(), runtime.drain_timeout.as_secs_f64());
        tracing::info!(linger, drain_timeout, "draining");
        let drained = drain(&mut self.controller, self.workers, runtime.linger, runtime.drain_timeout, at_once).await;
        let (cut, seconds) = (drained.cut(), began.elapsed().as_secs_f64());
        match drained {
            Drained::Whole => tracing::info!(cut, seconds, "ended, every request was finished"),
            Drained::TimedOut { .. } => tracing::warn!(cut, seconds, "ended, requests were cut at `drain_timeout`"),
            Drained::AtOnce { .. } => tracing::warn!(cut, seconds, "ended at once, connections were cut"),
        }
        self.controller.end().await;
        if let (Some(admin), false) = (self.admin, matches!(drained, Drained::AtOnce { .. })) {
            admin.end().await;
        }
        drained
    }

    fn announce(&self) {
        for (listener, address) in self.addresses() {
            tracing::info!(%listener, %address, "listening");
        }
        if let Some(address) = self.admin_address() {
            tracing::info!(%address, "admin listener");
        }
        for pool in &self.published.load().pools {
            let (instances, eligible) = (pool.members.len(), pool.eligible_count());
            tracing::info!(pool = %pool.name, instances, eligible, "pool");
        }
        tracing::info!("ready");
    }
}

impl AdminServer {
    fn bind(address: SocketAddr) -> Result<Bound, AdminListenError> {
        bind::bind(address, 1, Neighbour::None).map_err(|source| AdminListenError { address, source })
    }

    fn start(bound: Bound, api: Arc<Admin>) -> Result<Self, StartError> {
        let address = bound.address;
        let sockets = bound.listen(ADMIN_BACKLOG).map_err(|source| AdminListenError { address, source })?;
        let Some(socket) = sockets.into_iter().next() else {
            return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into());
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(admin::serve(api, TcpListener::from_std(socket)?, stopped));
        Ok(Self { address, stop, task })
    }

    async fn end(self) {
        self.stop.send_replace(true);
        // It has bounds of its own; if it panicked, the end is what was asked for.
        let _ended = self.task.await.is_ok();
    }
}

/// How long a start tries to have addresses that somebody else still has: the process before this one, most often.
struct Patience {
    wait: Duration,
    deadline: Instant,
}

impl Patience {
    fn for_addresses(config: &Config) -> Self {
        let wait = config.runtime.bind_wait;
        Self { wait, deadline: Instant::now() + wait }
    }

    /// Tries until it succeeds, fails for a reason that does not pass, or the time is over.
    async fn until<T, E: std::error::Error>(
        &self,
        attempt: impl Fn() -> Result<T, E>,
        cause: impl Fn(&E) -> &BindError,
    ) -> Result<T, E> {
        let mut told = false;
        loop {
            match attempt() {
                Err(error) if cause(&error).may_pass() && Instant::now() < self.deadline => {
                    if !told {
                        let wait = self.wait.as_secs_f64();
                        tracing::warn!(%error, wait, "address not to be had yet, trying again");
                        told = true;
                    }
                    sleep(BIND_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

/// Makes log lines and metrics of what the fleet sees.
struct Announcer {
    metrics: Metrics,
    /// Set right after the first snapshot is built, before any probe can have ended.
    published: OnceLock<Weak<Published>>,
}

impl Announcer {
    /// How many instances the pool has left, if it is published.
    fn eligible(&self, pool: &PoolName) -> Option<usize> {
        let published = self.published.get().and_then(Weak::upgrade)?;
        published.load().pool(pool).map(|pool| pool.eligible_count())
    }
}

impl Observer for Announcer {
    fn changed(&self, change: &Change) {
        let Change { pool, instance, name, from, to, reason, .. } = change;
        self.metrics.changed(change);
        let (address, from, to_label) = (instance.address, from.label(), to.label());
        if change.ejects() {
            tracing::warn!(%pool, instance = %name, %address, from, to = to_label, %reason, "instance ejected");
        } else if change.begins_down() {
            tracing::warn!(%pool, instance = %name, %address, %reason, "instance is down");
        } else if change.restores() {
            tracing::info!(%pool, instance = %name, %address, from, to = to_label, %reason, "instance restored");
        } else {
            tracing::info!(%pool, instance = %name, %address, from, to = to_label, %reason, "instance changed");
        }
        if change.from.eligible() && !to.eligible() && self.eligible(pool) == Some(0) {
            tracing::error!(%pool, "pool has no eligible instance");
        }
    }

    fn probed(&self, pool: &PoolName, instance: &InstanceName, record: &ProbeRecord) {
        self.metrics.probed(pool, instance, record);
        tracing::debug!(%pool, %instance, result = record.result, latency = ?record.latency, "probe ended");
    }

    fn pool_stats(&self, pool: &PoolName) -> Arc<PoolStats> {
        self.metrics.pool(pool)
    }
}
