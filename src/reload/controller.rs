//! The controller: the one task that changes what is published, and the steps of a reload in their order.
//!
//! It runs on the control runtime. While a reload waits (for names to resolve, for first verdicts, for sockets to close)
//! operators' drains go through at once and further reloads wait; those that waited together become one.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::{Command, ControlHandle, Force, ReloadError, ReloadOutcome, SetAdmin, SetAdminError, Trigger};
use crate::config::diff::{Diff, diff};
use crate::config::load::{Loaded, Rejected, load_anew, read_files_anew};
use crate::config::model::{CertificateFiles, Config, ListenerName, ListenerTls, PoolName};
use crate::config::problem::{Problem, Severity};
use crate::health::fleet::{Fleet, Prepared};
use crate::listener::sockets::{ListenError, ListeningSockets, Opened, Planned};
use crate::platform::SOCKET_PER_WORKER;
use crate::pool::Pool;
use crate::pool::instance::Health;
use crate::snapshot::{Phase, Published, Snapshot};
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::{Metrics, ReloadResult};
use crate::tls::material::Material;
use crate::worker::{Share, WorkerCommand, WorkerHandle};

/// How long a reload waits for the sockets of listeners that went to be closed. They go on accepting what is in their
/// queues, and close when those are empty, after this as well; the answer just does not wait for it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Everything that a reload changes.
pub struct Controller {
    path: PathBuf,
    fleet: Fleet,
    sockets: ListeningSockets,
    workers: Vec<WorkerHandle>,
    published: Arc<Published>,
    metrics: Metrics,
    /// `None`: somebody else cares for the log.
    log: Option<LogControl>,
    inbox: mpsc::Receiver<Command>,
    waiting: Vec<Waiting>,
    /// Who waits for files to be read anew.
    readers: Vec<oneshot::Sender<()>>,
}

/// A reload that somebody asked for.
struct Waiting {
    trigger: Trigger,
    force: Force,
    reply: oneshot::Sender<Result<ReloadOutcome, ReloadError>>,
}

/// A proxy that has its addresses and its probers, but serves nobody yet.
pub struct Starting {
    controller: Controller,
    planned: Planned,
    prepared: Prepared,
}

impl Starting {
    /// Starts to probe the instances of a configuration whose addresses are taken.
    #[must_use]
    pub fn new(
        loaded: &Loaded,
        (sockets, planned): (ListeningSockets, Planned),
        mut fleet: Fleet,
        metrics: Metrics,
        log: Option<LogControl>,
    ) -> (Self, ControlHandle) {
        let Loaded { config, material, .. } = loaded;
        let prepared = fleet.prepare(config, material);
        let first = Snapshot::build(Arc::clone(config), Arc::clone(material), prepared.pools.clone(), &metrics, None);
        announce(&first, &metrics);
        let (handle, inbox) = ControlHandle::new();
        let controller = Controller {
            path: config.path.clone(),
            fleet,
            sockets,
            workers: Vec::new(),
            published: Arc::new(Published::new(first)),
            metrics,
            log,
            inbox,
            waiting: Vec::new(),
            readers: Vec::new(),
        };
        (Self { controller, planned, prepared }, handle)
    }

    /// What is published, in [`Phase::Starting`].
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.controller.published
    }

    /// Waits for the first verdicts, at most `startup_grace`, then opens the listeners on these workers.
    ///
    /// # Errors
    /// If somebody has taken an address meanwhile.
    ///
    /// # Cancel safety
    /// Nothing is served when the future is dropped; the proxy ends with it.
    pub async fn serve(self, workers: Vec<WorkerHandle>) -> Result<Controller, ListenError> {
        let Self { mut controller, planned, prepared } = self;
        controller.workers = workers;
        let grace = controller.published.load().config.runtime.startup_grace;
        controller.meanwhile(Fleet::first_verdicts(&prepared, grace)).await;
        let unproven: Vec<_> = without_passing(&prepared.pools).map(|pool| pool.name.as_str()).collect();
        if !unproven.is_empty() {
            tracing::warn!(pools = unproven.join(", "), "starting though no instance passes its probes");
        }
        let opened = controller.sockets.open(planned)?;
        controller.fleet.commit(prepared);
        controller.tell_workers(opened).await;
        controller.published.enter(Phase::Serving);
        Ok(controller)
    }
}

impl Controller {
    /// Does what it is asked for, for ever.
    ///
    /// # Cancel safety
    /// A reload that has not been published is lost without a trace; call this again only to go on, or end.
    pub async fn run(&mut self) {
        loop {
            if self.waiting.is_empty() && self.readers.is_empty() {
                match self.inbox.recv().await {
                    Some(command) => self.take(command),
                    None => std::future::pending().await,
                }
            }
            // A burst of triggers is one reload.
            while let Ok(command) = self.inbox.try_recv() {
                self.take(command);
            }
            let readers = std::mem::take(&mut self.readers);
            if !readers.is_empty() {
                self.read_files().await;
            }
            for reader in readers {
                let _left = reader.send(()).is_err();
            }
            let asked = std::mem::take(&mut self.waiting);
            let Some(first) = asked.first() else { continue };
            let force = if asked.iter().any(|one| one.force == Force::Yes) { Force::Yes } else { Force::No };
            let result = self.reload(first.trigger, force).await;
            for one in asked {
                // Who asked may have left.
                let _left = one.reply.send(result.clone()).is_err();
            }
        }
    }

    /// The listeners' real addresses.
    #[must_use]
    pub fn sockets(&self) -> &ListeningSockets {
        &self.sockets
    }

    /// Answers everything that is asked from now on with "ending".
    pub fn refuse(&mut self) {
        self.inbox.close();
        // Dropped, they answer by that.
        while self.inbox.try_recv().is_ok() {}
        self.waiting.clear();
        self.readers.clear();
    }

    /// Stops accepting, and tells the workers to finish what is there until `deadline`.
    ///
    /// # Cancel safety
    /// Some workers may not have been told.
    pub async fn drain(&mut self, deadline: Instant) {
        // Ours first: a socket of which one handle stays open would go on taking connections that nobody accepts.
        self.sockets.close();
        for worker in &self.workers {
            worker.send(WorkerCommand::Drain { deadline }).await;
        }
    }

    /// Ends the probers.
    ///
    /// # Cancel safety
    /// They end with the runtime then.
    pub async fn end(mut self) {
        self.fleet.shutdown().await;
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Reload { trigger, force, reply } => self.waiting.push(Waiting { trigger, force, reply }),
            Command::ReadFiles(reply) => self.readers.push(reply),
            Command::SetAdmin(wanted, reply) => {
                let result = self.set_admin(wanted);
                let _left = reply.send(result).is_err();
            }
        }
    }

    fn set_admin(&mut self, wanted: SetAdmin) -> Result<(), SetAdminError> {
        let SetAdmin { pool, instance, admin, who, why } = wanted;
        self.fleet.set_admin(&pool, &instance, admin, who, why).map_err(SetAdminError::Unknown)
    }

    /// Waits for something, and takes commands while it does.
    async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            // Both are cancel-safe: the future is only lent, and a command that is not received stays in the channel.
            tokio::select! {
                done = &mut future => return done,
                Some(command) = self.inbox.recv() => self.take(command),
            }
        }
    }

    /// Reloads, and says in log and metric how it went.
    async fn reload(&mut self, trigger: Trigger, force: Force) -> Result<ReloadOutcome, ReloadError> {
        let began = Instant::now();
        let trigger = trigger.as_str();
        tracing::debug!(trigger, "reload begins");
        let result = self.transaction(force, began).await;
        let metric = match &result {
            Ok(Outcome { changed: Changed::Yes, .. }) => ReloadResult::Applied,
            Ok(Outcome { changed: Changed::No, .. }) => ReloadResult::Unchanged,
            Err(ReloadError::Invalid(_)) => ReloadResult::Invalid,
            Err(_) => ReloadResult::Refused,
        };
        self.metrics.reload(metric);
        match result {
            Ok(Outcome { reported, changed }) => {
                let ReloadOutcome { generation, hash, diff, warnings, took } = &reported;
                for warning in warnings {
                    tracing::warn!(trigger, problem = %warning, "configuration may not mean what was meant");
                }
                let message = match changed {
                    Changed::Yes => "configuration reloaded",
                    Changed::No => "configuration unchanged",
                };
                let restart = diff.needs_restart.join(", ");
                let changes = diff.to_string();
                let seconds = took.as_secs_f64();
                tracing::info!(trigger, generation, hash, changes, needs_restart = restart, seconds, "{message}");
                Ok(reported)
            }
            Err(error) => {
                tracing::error!(trigger, %error, "reload refused, the present configuration stays");
                Err(error)
            }
        }
    }

    /// The reload itself. Up to the publish, an error leaves everything as it was.
    async fn transaction(&mut self, force: Force, began: Instant) -> Result<Outcome, ReloadError> {
        let running = self.published.load();
        let loaded = self.load(Arc::clone(&running.material)).await.map_err(ReloadError::Invalid)?;
        let Loaded { config: written, material, warnings } = loaded;
        let diff = diff(&running.config, &written);
        let config = in_effect(&written, &running.config);
        if *config == *running.config && material.changes(&running.material) == 0 {
            let reported = report(&running, diff, warnings, began);
            return Ok(Outcome { reported, changed: Changed::No });
        }

        // Build everything new. Addresses are taken first, since that fails fast.
        let planned = self.sockets.plan(&config, config.runtime.workers).map_err(listen_error)?;
        let prepared = self.fleet.prepare(&config, &material);
        self.meanwhile(Fleet::first_verdicts(&prepared, config.runtime.startup_grace)).await;
        let opened = match admissible(&prepared, &running, force) {
            Ok(()) => self.sockets.open(planned).map_err(listen_error),
            Err(error) => Err(error),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.fleet.abandon(prepared);
                return Err(error);
            }
        };

        // From here on nothing can fail.
        let snapshot = self.publish(config, material, prepared, &running);
        let outcome = report(&snapshot, diff, warnings, began);
        self.tell_workers(opened).await;
        Ok(Outcome { reported: outcome, changed: Changed::Yes })
    }

    /// Publishes, once, and then drains what went.
    fn publish(
        &mut self,
        config: Arc<Config>,
        material: Arc<Material>,
        prepared: Prepared,
        running: &Snapshot,
    ) -> Arc<Snapshot> {
        self.metrics.files_applied(material.changes(&running.material));
        let pools = prepared.pools.clone();
        let snapshot = Arc::new(Snapshot::build(config, material, pools, &self.metrics, Some(running)));
        self.published.publish(Arc::clone(&snapshot));
        announce(&snapshot, &self.metrics);
        if let Some(log) = &self.log {
            log.apply(&snapshot.config.log);
        }
        // Only now, so that no request finds a retired instance in the snapshot that it begins with.
        self.fleet.commit(prepared);
        snapshot
    }

    /// Puts in use what is good of the files that the configuration names; of the rest stays what was in use.
    async fn read_files(&mut self) {
        let running = self.published.load();
        let (config, in_use) = (Arc::clone(&running.config), Arc::clone(&running.material));
        let reading = tokio::task::spawn_blocking(move || read_files_anew(&config, &in_use));
        let (material, problems) = match self.meanwhile(reading).await {
            Ok(read) => read,
            Err(error) => return tracing::error!(%error, "files cannot be read anew, what is in use stays"),
        };
        let refused = problems.iter().filter(|problem| problem.severity == Severity::Error);
        self.metrics.files_refused(refused.clone().count());
        for problem in refused {
            tracing::error!(%problem, "changed file refused, what was in use stays");
        }
        let changes = material.changes(&running.material);
        if changes == 0 {
            return;
        }
        let config = Arc::clone(&running.config);
        let prepared = self.fleet.prepare(&config, &material);
        let snapshot = self.publish(config, Arc::new(material), prepared, &running);
        tracing::info!(changes, generation = snapshot.generation, "changed files are in use");
        self.tell_workers(Opened::default()).await;
    }

    /// Reading files and resolving names blocks, so it happens on a thread of its own: probes go on.
    async fn load(&mut self, in_use: Arc<Material>) -> Result<Loaded, Rejected> {
        let path = self.path.clone();
        let loading = tokio::task::spawn_blocking(move || load_anew(&path, &in_use));
        match self.meanwhile(loading).await {
            Ok(loaded) => loaded,
            Err(error) => Err(Rejected::unreadable(&self.path, format!("loading it failed: {error}"), None)),
        }
    }

    /// Hands sockets to the workers, tells them about the snapshot, and has them let go of the sockets that went.
    async fn tell_workers(&mut self, opened: Opened) {
        let snapshot = self.published.load();
        let share = if SOCKET_PER_WORKER { Share::OnePerWorker } else { Share::Only };
        for (name, address, sockets) in opened.fresh {
            // The sockets were opened for this snapshot.
            let Some(listener) = snapshot.listener(&name) else { continue };
            // One socket per worker, or a single one, which goes to the first worker.
            for (worker, socket) in self.workers.iter().zip(sockets) {
                let listener = Arc::clone(listener);
                worker.send(WorkerCommand::Listen { listener, address, socket, share }).await;
            }
        }
        let mut closing = Vec::new();
        for worker in &self.workers {
            for (listener, address) in &opened.gone {
                let (done, closed) = oneshot::channel();
                worker.send(WorkerCommand::Unlisten { listener: listener.clone(), address: *address, done }).await;
                closing.push(closed);
            }
        }
        let all_closed = async {
            for closed in closing {
                // A worker that has no such socket answers by dropping its end.
                let _had_none = closed.await.is_err();
            }
        };
        let _in_time = self.meanwhile(timeout(CLOSE_WAIT, all_closed)).await.is_ok();
        // After the last accept of listeners that went, so that these connections, too, are told to end.
        for worker in &self.workers {
            worker.send(WorkerCommand::SnapshotPublished).await;
        }
    }
}

/// How a reload that was not refused ended.
struct Outcome {
    reported: ReloadOutcome,
    changed: Changed,
}

enum Changed {
    Yes,
    No,
}

fn report(snapshot: &Snapshot, diff: Diff, warnings: Vec<Problem>, began: Instant) -> ReloadOutcome {
    let (generation, hash) = (snapshot.generation, snapshot.config.hash.clone());
    ReloadOutcome { generation, hash, diff, warnings, took: began.elapsed() }
}

/// What of a configuration can take effect without a restart: the rest (`Diff::needs_restart`) stays as it is.
fn in_effect(written: &Arc<Config>, running: &Config) -> Arc<Config> {
    let mut config = Config::clone(written);
    config.runtime.workers = running.runtime.workers;
    config.admin.bind = running.admin.bind;
    Arc::new(config)
}

fn passes(pool: &Pool) -> bool {
    pool.members.iter().any(|member| member.instance.state().health == Health::Up)
}

fn without_passing(pools: &[Arc<Pool>]) -> impl Iterator<Item = &Arc<Pool>> {
    pools.iter().filter(|pool| !passes(pool))
}

/// Whether each pool would have an instance that passes; a pool that has none already, and gets no instances that
/// it did not have, is not made worse, and must not stand in the way of a change elsewhere.
fn admissible(prepared: &Prepared, running: &Snapshot, force: Force) -> Result<(), ReloadError> {
    let worse = |pool: &&Arc<Pool>| {
        running.pool(&pool.name).is_none_or(|old| {
            let had = |id| old.members.iter().any(|member| member.instance.id == id);
            passes(old) || pool.members.iter().any(|member| !had(member.instance.id))
        })
    };
    let names: Vec<PoolName> = without_passing(&prepared.pools).filter(worse).map(|pool| pool.name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let error = ReloadError::NothingPasses(names);
    if force == Force::No {
        return Err(error);
    }
    tracing::warn!(reason = %error, "reload is forced");
    Ok(())
}

/// Tells the metrics what is published.
fn announce(snapshot: &Snapshot, metrics: &Metrics) {
    let members = snapshot.pools.iter().flat_map(|pool| &pool.members);
    let members = members.map(|member| (member.name.clone(), Arc::clone(&member.instance)));
    metrics.published(snapshot.generation, &snapshot.config, members);
    metrics.certificates(expiry(snapshot));
}

/// When the certificates of each listener with TLS expire, by their files.
fn expiry(snapshot: &Snapshot) -> BTreeMap<ListenerName, BTreeMap<Arc<str>, SystemTime>> {
    let listeners = snapshot.config.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let certificates = |files: &CertificateFiles| {
        let about = &snapshot.material.certificate(files)?.about;
        Some((Arc::clone(&files.certificate.written), about.not_after))
    };
    let of = |tls: &ListenerTls| tls.certificates.iter().filter_map(certificates).collect();
    listeners.map(|(listener, tls)| (listener.name.clone(), of(tls))).collect()
}

fn listen_error(error: ListenError) -> ReloadError {
    ReloadError::Listen(Arc::new(error))
}
