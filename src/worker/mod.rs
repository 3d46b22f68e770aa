//! Workers: one single-threaded runtime per core, with its own listening sockets and its own upstream connections.
//!
//! Nothing on the request path is shared between workers but the instances' in-flight counts. The control side talks to
//! a worker through [`WorkerCommand`]s and by publishing snapshots; workers talk to each other only to hand over
//! connections (the kernel spreads them over the sockets by chance, which is far from even for few long ones) and to
//! make room when a connection limit is reached.

mod accept;
pub mod alarm;
pub mod buffers;
mod clients;
mod descriptors;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::config::model::ListenerName;
use crate::http::date::HttpDate;
use crate::pool::Turn;
use crate::snapshot::{ListenerView, Published, Readiness, Snapshot};
use crate::telemetry::stats::{ListenerStats, WorkerId};
use crate::upstream::h2::Links;
use crate::upstream::reuse::Idle;
use alarm::{Alarms, Evict, Ring, Ticks};
use buffers::Buffers;
use clients::{Clients, Seat};
use descriptors::{Descriptors, Room};

/// Commands that may wait for a worker; senders on the control side wait for room, workers among themselves do not.
const COMMANDS_MAX: usize = 1024;

/// How many new tasks and events a worker handles before it looks for I/O again. Tokio's default, 61, is for runtimes
/// whose tasks compute; here every task ends in a wait after microseconds, and each look is a system call.
const EVENT_INTERVAL: u32 = 256;

/// How often the limit of descriptors is looked at.
const LIMIT_LOOK: Duration = Duration::from_secs(1);

/// What the control side (or another worker) asks of a worker.
#[derive(Debug)]
pub enum WorkerCommand {
    /// Accept connections for `listener` from this socket.
    Listen {
        /// The listener that the connections belong to, as it is now.
        listener: Arc<ListenerView>,
        /// The address that it is bound to.
        address: SocketAddr,
        /// The listening socket, non-blocking.
        socket: std::net::TcpListener,
        /// Whether other workers have sockets of their own for this address.
        share: Share,
    },
    /// Accept what waits in the queue of this socket, then close it and answer.
    Unlisten {
        /// As in `Listen`.
        listener: ListenerName,
        /// As in `Listen`.
        address: SocketAddr,
        /// Answered when the socket is closed.
        done: oneshot::Sender<()>,
    },
    /// A connection that was accepted elsewhere.
    Accepted {
        /// The listener that it came in on, as it was then.
        listener: Arc<ListenerView>,
        /// The connection, non-blocking.
        socket: std::net::TcpStream,
        /// The client's address.
        peer: SocketAddr,
        /// Where it is counted among its client's, if they are.
        seat: Option<Seat>,
    },
    /// Close a connection that idles, to make room; of this listener, or any.
    EvictIdle {
        /// Of which listener; `None`: of any.
        listener: Option<ListenerName>,
        /// Which of them.
        which: Evict,
    },
    /// A new snapshot is published: idle workers let go of the old one, and connections of listeners that are gone end.
    SnapshotPublished,
    /// Finish what is there, begin nothing new, and end: at the latest at the deadline.
    Drain {
        /// When connections that are still open are cut.
        deadline: Instant,
    },
}

/// How the sockets of an address are spread over the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Each worker has its own (`SO_REUSEPORT`); it hands connections over only when it has many more than others.
    OnePerWorker,
    /// This is the only one: connections go to the worker that has the fewest.
    Only,
}

/// What all workers can see of each other.
#[derive(Debug)]
pub struct Crowd {
    workers: Vec<WorkerHandle>,
    clients: Arc<Clients>,
    descriptors: Descriptors,
    /// Signalled when a connection closes while somebody waits for room.
    freed: Notify,
    waiting: AtomicUsize,
}

/// The way to a worker.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    commands: mpsc::Sender<WorkerCommand>,
    connections: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Sends a command, waiting for room. Does nothing when the worker has ended.
    pub async fn send(&self, command: WorkerCommand) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("worker has ended, command dropped");
        }
    }

    /// Open client connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// All workers: made once, at start.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<WorkerHandle>,
    threads: Vec<JoinHandle<usize>>,
}

impl Workers {
    /// Starts `count` workers, which take their view from `published`.
    ///
    /// # Errors
    /// When a thread or its runtime can't be made.
    pub fn start(count: usize, published: &Arc<Published>) -> std::io::Result<Self> {
        let (handles, inboxes): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
                (WorkerHandle { commands, connections: Arc::default() }, inbox)
            })
            .unzip();
        let crowd = Arc::new(Crowd {
            workers: handles.clone(),
            clients: Arc::default(),
            descriptors: Descriptors::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
        });
        let mut threads = Vec::with_capacity(count);
        let (report, reports) = std::sync::mpsc::sync_channel(count);
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let (published, crowd, report) = (Arc::clone(published), Arc::clone(&crowd), report.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || {
                // Made on its own thread, because it can't leave it: its tasks are not `Send`.
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .event_interval(EVENT_INTERVAL)
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        drop(report);
                        runtime.block_on(run(WorkerId(index), published, crowd, inbox))
                    }
                    Err(error) => {
                        let _gone = report.send(error).is_err();
                        0
                    }
                }
            })?);
        }
        drop(report);
        // Ends without an error as soon as the last worker has let go of its sender.
        match reports.recv() {
            Ok(error) => Err(error),
            Err(std::sync::mpsc::RecvError) => Ok(Self { handles, threads }),
        }
    }

    /// The ways to the workers, in the order of their numbers.
    #[must_use]
    pub fn handles(&self) -> &[WorkerHandle] {
        &self.handles
    }

    /// Waits for the workers to end after [`WorkerCommand::Drain`], and says how many connections were cut in requests.
    /// Blocks: call it where nothing else is left to do.
    #[must_use]
    pub fn join(self) -> usize {
        self.threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    }
}

/// The view of a worker: the snapshot that requests which begin now see. Cloned per request without touching anything
/// that other workers touch.
#[derive(Debug)]
pub struct View(Arc<Snapshot>);

impl std::ops::Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// What lives once per worker; connections share it.
#[derive(Debug)]
pub struct Worker {
    /// Which one.
    pub id: WorkerId,
    /// Deadlines, and what else ends waits.
    pub alarms: Rc<Alarms>,
    /// Buffers that nobody uses now.
    pub buffers: Buffers,
    /// Whose turn it is where instances are equally good.
    pub turn: Turn,
    /// Random numbers for trace ids.
    pub random: RefCell<fastrand::Rng>,
    /// The time as `Date` tells it.
    pub date: RefCell<HttpDate>,
    /// Upstream connections that nobody uses now.
    pub idle: RefCell<Idle>,
    /// Upstream connections that requests share.
    pub links: RefCell<Links>,
    /// Itself, for tasks that outlive a request.
    me: Weak<Self>,
    published: Arc<Published>,
    view: RefCell<Rc<View>>,
    crowd: Arc<Crowd>,
    /// Listener names that this worker has seen; their places are the groups of [`Alarms::register`].
    groups: RefCell<Vec<ListenerName>>,
    draining: Cell<bool>,
    /// Open connections whose client waits for an answer.
    busy: Cell<usize>,
    emptied: Notify,
}

impl Worker {
    fn new(id: WorkerId, published: Arc<Published>, crowd: Arc<Crowd>, me: Weak<Self>) -> Self {
        let view = Rc::new(View(published.load()));
        Self {
            id,
            alarms: Rc::default(),
            buffers: Buffers::default(),
            turn: Turn::new(id),
            random: RefCell::new(fastrand::Rng::new()),
            date: RefCell::new(HttpDate::at(SystemTime::now())),
            idle: RefCell::default(),
            links: RefCell::default(),
            me,
            published,
            view: RefCell::new(view),
            crowd,
            groups: RefCell::default(),
            draining: Cell::new(false),
            busy: Cell::new(0),
            emptied: Notify::new(),
        }
    }

    /// The snapshot that is published now.
    pub fn view(&self) -> Rc<View> {
        let mut view = self.view.borrow_mut();
        if view.generation != self.published.generation() {
            *view = Rc::new(View(self.published.load()));
        }
        Rc::clone(&view)
    }

    /// The generation of the snapshot that is published now: whoever has seen it need not look at the view.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.published.generation()
    }

    /// Whether this proxy should get traffic, as a listener's `health_path` tells it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.published.readiness()
    }

    /// Whether the process is ending.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether connections are to end with their present request: at the end, and while the service is paused.
    #[must_use]
    pub fn leaving(&self) -> bool {
        self.draining.get() || self.published.is_paused()
    }

    /// The number under which the connections of a listener are registered.
    fn group(&self, listener: &ListenerName) -> usize {
        let mut groups = self.groups.borrow_mut();
        groups.iter().position(|name| name == listener).unwrap_or_else(|| {
            groups.push(listener.clone());
            groups.len() - 1
        })
    }

    /// Whether a new socket to an instance may be used: not one of the last descriptors.
    #[must_use]
    pub fn has_room_for(&self, socket: &TcpStream) -> bool {
        self.crowd.descriptors.room(socket) < Room::None
    }

    /// Itself, for a task that outlives the request which starts it.
    #[must_use]
    pub fn keep(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    fn handle(&self) -> &WorkerHandle {
        &self.crowd.workers[self.id.0]
    }

    /// Counts a connection until the guard is dropped.
    fn open(self: &Rc<Self>, stats: &Arc<ListenerStats>) -> Open {
        self.handle().connections.fetch_add(1, Ordering::Relaxed);
        stats.of(self.id).accepted.increment();
        stats.of(self.id).open.increment();
        Open { worker: Rc::clone(self), stats: Arc::clone(stats) }
    }

    /// Counts a request until the guard is dropped: what a drain waits for, and what is cut when its time is up.
    #[must_use]
    pub fn begin(&self) -> Busy<'_> {
        self.busy.set(self.busy.get() + 1);
        Busy(self)
    }
}

/// An open connection.
#[derive(Debug)]
struct Open {
    worker: Rc<Worker>,
    stats: Arc<ListenerStats>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (worker, crowd) = (&self.worker, &self.worker.crowd);
        self.stats.of(worker.id).open.subtract(1);
        if worker.handle().connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            worker.emptied.notify_one();
        }
        if crowd.waiting.load(Ordering::Relaxed) > 0 {
            crowd.freed.notify_waiters();
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub struct Busy<'a>(&'a Worker);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// A worker's life. Returns how many requests were cut at its end.
async fn run(
    id: WorkerId,
    published: Arc<Published>,
    crowd: Arc<Crowd>,
    inbox: mpsc::Receiver<WorkerCommand>,
) -> usize {
    let worker = Rc::new_cyclic(|me| Worker::new(id, published, crowd, me.clone()));
    tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let deadline = obey(&worker, inbox).await;
    while worker.handle().connections() > 0 {
        if tokio::time::timeout_at(deadline, worker.emptied.notified()).await.is_err() {
            break;
        }
    }
    worker.busy.get()
}

/// Rings alarms, and closes upstream connections that nobody used for long or that the instance closed.
async fn tick(worker: Rc<Worker>) {
    let alarms = Rc::clone(&worker.alarms);
    let mut looked_at = Instant::now();
    let sweep = |now: Instant| {
        if now.saturating_duration_since(looked_at) >= LIMIT_LOOK {
            looked_at = now;
            worker.crowd.descriptors.refresh();
        }
        let mut idle = worker.idle.borrow_mut();
        idle.sweep(now);
        let mut links = worker.links.borrow_mut();
        links.sweep(now);
        if idle.is_empty() && links.is_empty() { Ticks::NotNeeded } else { Ticks::Needed }
    };
    alarms.run(sweep).await;
}

/// Does what it is told until it is told to drain; returns the drain's deadline.
async fn obey(worker: &Rc<Worker>, mut inbox: mpsc::Receiver<WorkerCommand>) -> Instant {
    let mut acceptors = accept::Acceptors::default();
    while let Some(command) = inbox.recv().await {
        match command {
            WorkerCommand::Listen { listener, address, socket, share } => {
                acceptors.start(worker, listener, address, socket, share);
            }
            WorkerCommand::Unlisten { listener, address, done } => acceptors.stop(&listener, address, done),
            WorkerCommand::Accepted { listener, socket, peer, seat } => {
                accept::adopt(worker, &listener, socket, peer, seat);
            }
            WorkerCommand::EvictIdle { listener, which } => {
                worker.alarms.evict_idle(listener.map(|name| worker.group(&name)), which);
            }
            WorkerCommand::SnapshotPublished => {
                drop(worker.view());
                worker.alarms.ring_idle(Ring::Published);
            }
            WorkerCommand::Drain { deadline } => {
                worker.draining.set(true);
                // Whoever is in the queue of a listener that is full may wait for room that never comes.
                let _full = tokio::time::timeout_at(deadline, acceptors.stop_all()).await.is_err();
                worker.alarms.ring_idle(Ring::Close);
                return deadline;
            }
        }
    }
    Instant::now()
}
