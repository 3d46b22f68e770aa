//! Accepting: from the worker's own sockets, or handed over by another worker.
//!
//! Over `SO_REUSEPORT` sockets the kernel spreads connections by a hash, so that of four long ones two or three may land
//! on one worker while another has none; a worker that has clearly more than another hands new ones over. Where there is
//! one socket only, its worker hands each to the one that has the fewest. A limit on connections closes what idles
//! longest, on whichever worker that is, before it makes a new client wait.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::alarm::Evict;
use super::clients::Seat;
use super::descriptors::Room;
use super::{Share, Worker, WorkerCommand};
use crate::config::model::ListenerName;
use crate::connection;
use crate::snapshot::ListenerView;
use crate::telemetry::stats::RefusedConnection;

/// Pause after an error that does not go away by itself, such as running out of descriptors.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for room before the limits are looked at again.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// A worker's listening sockets.
#[derive(Default)]
pub(super) struct Acceptors(Vec<Acceptor>);

struct Acceptor {
    listener: ListenerName,
    address: SocketAddr,
    stop: Rc<Notify>,
    task: JoinHandle<()>,
}

impl Acceptors {
    pub(super) fn start(
        &mut self,
        worker: &Rc<Worker>,
        view: Arc<ListenerView>,
        address: SocketAddr,
        socket: std::net::TcpListener,
        share: Share,
    ) {
        let listener = view.settings.name.clone();
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%listener, %address, %error, "cannot accept on a socket");
                return;
            }
        };
        let stop = Rc::new(Notify::new());
        let task = tokio::task::spawn_local(accept_until(Rc::clone(worker), view, socket, share, Rc::clone(&stop)));
        self.0.push(Acceptor { listener, address, stop, task });
    }

    /// Stops one; `done` is answered when its queue is empty and its socket closed.
    pub(super) fn stop(&mut self, listener: &ListenerName, address: SocketAddr, done: oneshot::Sender<()>) {
        let place = self.0.iter().position(|acceptor| acceptor.listener == *listener && acceptor.address == address);
        let Some(acceptor) = place.map(|place| self.0.swap_remove(place)) else {
            // Not here: closed is what was asked for.
            let _gone = done.send(()).is_err();
            return;
        };
        tokio::task::spawn_local(async move {
            acceptor.end().await;
            let _gone = done.send(()).is_err();
        });
    }

    pub(super) async fn stop_all(&mut self) {
        // All at once: one whose listener is full may take long to place what it has accepted.
        for acceptor in &self.0 {
            acceptor.stop.notify_one();
        }
        for acceptor in self.0.drain(..) {
            acceptor.end().await;
        }
    }
}

impl Acceptor {
    async fn end(self) {
        self.stop.notify_one();
        if let Err(error) = self.task.await {
            tracing::error!(listener = %self.listener, %error, "accepting ended badly");
        }
    }
}

/// Accepts until told to stop, then takes what is in the queue already: those clients have connected. `last` is the
/// listener as it was seen last: what a connection is served with that is accepted after a reload took it away.
async fn accept_until(
    worker: Rc<Worker>,
    mut last: Arc<ListenerView>,
    socket: TcpListener,
    share: Share,
    stop: Rc<Notify>,
) {
    let listener = last.settings.name.clone();
    loop {
        // Cancel safe: `accept` takes a connection from the queue only when it returns it.
        let accepted = tokio::select! {
            biased;
            accepted = socket.accept() => accepted,
            () = stop.notified() => break,
        };
        match accepted {
            // The address stays ours, but nobody is served.
            Ok(_) if worker.published.is_paused() => {}
            Ok((stream, peer)) => place(&worker, &mut last, stream, peer, share).await,
            Err(error) => pause_after(&worker, &error, &listener).await,
        }
    }
    // Asks the kernel itself: the runtime only knows of connections that it has been told about, and what is left in the
    // queue when the socket closes is reset.
    let socket = match socket.into_std() {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%listener, %error, "cannot empty the accept queue, its clients are reset"),
    };
    loop {
        match socket.accept().and_then(|(stream, peer)| Ok((from_std(stream)?, peer))) {
            Ok((stream, peer)) => place(&worker, &mut last, stream, peer, share).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::error!(%listener, %error, "cannot empty the accept queue, its clients are reset");
                return;
            }
        }
    }
}

fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Whether it concerns the one connection only, which its client gave up (accept(2)).
fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn pause_after(worker: &Worker, error: &io::Error, listener: &ListenerName) {
    if !is_client_error(error) {
        // Out of descriptors or memory: accepting at once again would spin, and giving up would end the service.
        if worker.crowd.descriptors.may_say() {
            tracing::error!(%listener, %error, "cannot accept connections, trying again");
        }
        tokio::time::sleep(ERROR_PAUSE).await;
    }
}

/// Finds the worker that serves a new connection.
async fn place(worker: &Rc<Worker>, last: &mut Arc<ListenerView>, stream: TcpStream, peer: SocketAddr, share: Share) {
    if let Some(listener) = worker.view().listener(&last.settings.name) {
        *last = Arc::clone(listener);
    }
    let listener = &*last;
    // Before room is made: a client that has enough must not have others closed.
    let Ok(seat) = seat(worker, listener, peer) else {
        listener.stats.of(worker.id).refused[RefusedConnection::ClientLimit as usize].increment();
        return tracing::debug!(listener = %listener.settings.name, client = %peer, "client has too many connections");
    };
    if worker.crowd.descriptors.room(&stream) > Room::Ample && !evict(worker, None, Evict::Any) {
        listener.stats.of(worker.id).refused[RefusedConnection::Descriptors as usize].increment();
        return tracing::debug!(listener = %listener.settings.name, client = %peer, "no descriptor for a client");
    }
    make_room(worker, &listener.settings.name).await;
    let target = target(worker, share);
    if target == worker.id.0 {
        serve(worker, listener, stream, peer, seat);
        return;
    }
    let Ok(socket) = stream.into_std() else { return };
    let command = WorkerCommand::Accepted { listener: Arc::clone(listener), socket, peer, seat };
    if let Err(error) = worker.crowd.workers[target].commands.try_send(command)
        && let WorkerCommand::Accepted { listener, socket, peer, seat } = error.into_inner()
    {
        adopt(worker, &listener, socket, peer, seat);
    }
}

/// Counts the connection among its client's, where they are limited.
fn seat(worker: &Worker, listener: &ListenerView, peer: SocketAddr) -> Result<Option<Seat>, ()> {
    let settings = &listener.settings;
    let Some(max) = settings.connections_per_client_max else { return Ok(None) };
    let address = peer.ip().to_canonical();
    if settings.trusted_proxies.iter().any(|network| network.contains(&address)) {
        return Ok(None);
    }
    worker.crowd.clients.enter(&settings.name, address, max).map(Some).ok_or(())
}

/// The number of the worker that should serve one more connection.
fn target(worker: &Worker, share: Share) -> usize {
    let workers = &worker.crowd.workers;
    let mine = worker.handle().connections();
    let Some((fewest, at)) = workers.iter().enumerate().map(|(at, handle)| (handle.connections(), at)).min() else {
        return worker.id.0;
    };
    // An eighth of tolerance: with many connections a handover, which costs two wake-ups, buys nothing.
    let enough = match share {
        Share::OnePerWorker => fewest + fewest / 8,
        Share::Only => fewest,
    };
    if mine <= enough { worker.id.0 } else { at }
}

/// Serves a connection that another worker accepted.
pub(super) fn adopt(
    worker: &Rc<Worker>,
    listener: &Arc<ListenerView>,
    socket: std::net::TcpStream,
    peer: SocketAddr,
    seat: Option<Seat>,
) {
    match TcpStream::from_std(socket) {
        Ok(stream) => serve(worker, listener, stream, peer, seat),
        Err(error) => {
            let listener = &listener.settings.name;
            tracing::error!(%listener, %error, "cannot serve a connection");
        }
    }
}

fn serve(worker: &Rc<Worker>, listener: &Arc<ListenerView>, stream: TcpStream, peer: SocketAddr, seat: Option<Seat>) {
    let view = worker.view();
    let name = &listener.settings.name;
    // Where a reload took the listener away meanwhile, the connection is served as it was: its client has connected.
    let listener_view = view.listener(name).unwrap_or(listener);
    let alarm = worker.alarms.register(worker.group(name));
    let open = worker.open(&listener_view.stats);
    let (worker, listener_view) = (Rc::clone(worker), Arc::clone(listener_view));
    tokio::task::spawn_local(async move {
        connection::serve(&worker, listener_view, stream, peer, &alarm).await;
        drop((open, seat));
    });
}

/// Waits until one more connection is within the limits, and has one closed that idles, if there is one.
async fn make_room(worker: &Rc<Worker>, listener: &ListenerName) {
    let crowd = &worker.crowd;
    let mut which = Evict::Served;
    loop {
        let view = worker.view();
        let Some(listener_view) = view.listener(listener) else { return };
        let Some(full) = full(worker, listener_view, view.config.runtime.connections_max) else { return };
        evict(worker, full.listener(), which);
        crowd.waiting.fetch_add(1, Ordering::Relaxed);
        let freed = crowd.freed.notified();
        let _pause_over = tokio::time::timeout(ROOM_PAUSE, freed).await.is_err();
        crowd.waiting.fetch_sub(1, Ordering::Relaxed);
        // Nowhere is one that has had a request: the next look takes those as well that have not asked for long.
        which = Evict::Any;
    }
}

/// Has a connection closed that idles, of this listener or of any; of ours, if there is one, else the other workers look.
/// Returns whether it is one of ours.
fn evict(worker: &Worker, listener: Option<&ListenerName>, which: Evict) -> bool {
    let ours = worker.alarms.evict_idle(listener.map(|name| worker.group(name)), which);
    if !ours {
        for (at, other) in worker.crowd.workers.iter().enumerate() {
            if at != worker.id.0 {
                // A full inbox means that they are at it already.
                let command = WorkerCommand::EvictIdle { listener: listener.cloned(), which };
                let _full = other.commands.try_send(command).is_err();
            }
        }
    }
    ours
}

/// A limit on connections that is reached.
enum Full {
    /// The one of this listener.
    Listener(ListenerName),
    /// The one of all listeners together.
    All,
}

impl Full {
    /// Whose connections count against it; `None`: everybody's.
    fn listener(&self) -> Option<&ListenerName> {
        match self {
            Self::Listener(name) => Some(name),
            Self::All => None,
        }
    }
}

fn full(worker: &Worker, listener: &ListenerView, connections_max: usize) -> Option<Full> {
    let here = listener.stats.sum(|shard| &shard.open);
    if here >= listener.settings.connections_max as u64 {
        return Some(Full::Listener(listener.settings.name.clone()));
    }
    let all: usize = worker.crowd.workers.iter().map(super::WorkerHandle::connections).sum();
    (all >= connections_max).then_some(Full::All)
}
