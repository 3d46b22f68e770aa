//! One shared connection: made, driven and ended in one task of its worker.
//!
//! Whoever sends over it only leaves work behind and wakes the task. The worker's sweep looks after it from outside: an
//! idle one is retired, so that it ends when its last stream does; a silent one is asked by a ping, and cut when it does not
//! answer, because a peer that lost its power sends no end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::watched::Watched;
use super::{Demand, Group};
use crate::config::model::PoolConnection;
use crate::http2::Payload;
use crate::pool::instance::{Health, Instance};
use crate::telemetry::stats::{H2Event, InstanceShard, WorkerId};
use crate::tls::client::Dialer;
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::{Connection, Reused};
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Ring};

/// The group of alarms that no listener has: what is made here cannot be evicted to make room for clients.
const NO_LISTENER: usize = usize::MAX;

/// A shared connection, as those see it who use it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) instance: Arc<Instance>,
    /// What makes its TLS; `None`: plain.
    dialer: Option<Arc<Dialer>>,
    demand: Demand,
    worker: WorkerId,
    settings: PoolConnection,
    state: RefCell<State>,
    /// Whether the first SETTINGS of the instance have come.
    greeted: Cell<bool>,
    /// Streams that are open, and whether there was any before.
    streams: Cell<usize>,
    used: Cell<bool>,
    /// Counted as idle.
    idle: Cell<bool>,
    idle_since: Cell<Instant>,
    heard_at: Cell<Instant>,
    ping: Cell<Asked>,
    /// No answer came to a ping.
    silent: Cell<bool>,
    /// Wakes the task.
    driver: RefCell<Option<Waker>>,
}

#[derive(Debug)]
enum State {
    Making,
    Open(SendRequest<Payload>),
    /// It could not be made.
    Failed(Arc<ConnectError>),
    /// The instance chose HTTP/1.1 by ALPN: whoever comes first may have the connection.
    Http1(Option<Connection>),
    /// No new streams; those that are there may end.
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// A ping has to be sent.
    Due,
    /// It was sent then.
    At(Instant),
}

// For those who want a place.

impl Link {
    pub(super) fn new(
        instance: &Arc<Instance>,
        dialer: Option<&Arc<Dialer>>,
        worker: WorkerId,
        demand: Demand,
        settings: &PoolConnection,
    ) -> Self {
        let now = Instant::now();
        Self {
            instance: Arc::clone(instance),
            dialer: dialer.cloned(),
            demand,
            worker,
            settings: settings.clone(),
            state: RefCell::new(State::Making),
            greeted: Cell::new(false),
            streams: Cell::new(0),
            used: Cell::new(false),
            idle: Cell::new(false),
            idle_since: Cell::new(now),
            heard_at: Cell::new(now),
            ping: Cell::new(Asked::No),
            silent: Cell::new(false),
            driver: RefCell::new(None),
        }
    }

    /// Whether it is made as connections are made now; else it ends by its idle time.
    pub(super) fn is_made_by(&self, dialer: Option<&Arc<Dialer>>) -> bool {
        match (&self.dialer, dialer) {
            (None, None) => true,
            (Some(ours), Some(dialer)) => Arc::ptr_eq(ours, dialer),
            _ => false,
        }
    }

    pub(super) fn is_in_the_making(&self) -> bool {
        matches!(*self.state.borrow(), State::Making)
    }

    /// Whether it takes no new streams, now or ever again.
    pub(super) fn is_closing(&self) -> bool {
        matches!(*self.state.borrow(), State::Closing | State::Failed(_) | State::Http1(_))
    }

    /// Why it could not be made.
    pub(super) fn failure(&self) -> Option<Arc<ConnectError>> {
        match &*self.state.borrow() {
            State::Failed(error) => Some(Arc::clone(error)),
            _ => None,
        }
    }

    /// Whether the instance chose HTTP/1.1.
    pub(super) fn is_http1(&self) -> bool {
        matches!(*self.state.borrow(), State::Http1(_))
    }

    /// The connection that was made where the instance chose HTTP/1.1, once.
    pub(super) fn take_http1(&self) -> Option<Connection> {
        match &mut *self.state.borrow_mut() {
            State::Http1(connection) => connection.take(),
            _ => None,
        }
    }

    /// Whether another stream fits, by our limit and by the instance's.
    pub(super) fn has_room(&self, streams_max: usize) -> bool {
        match &*self.state.borrow() {
            State::Open(sender) => self.streams.get() < streams_max.min(sender.current_max_send_streams()),
            _ => false,
        }
    }

    pub(super) fn sender(&self) -> Option<SendRequest<Payload>> {
        match &*self.state.borrow() {
            State::Open(sender) => Some(sender.clone()),
            _ => None,
        }
    }

    /// Takes a place.
    pub(super) fn enter(&self) -> Reused {
        self.streams.set(self.streams.get() + 1);
        self.count_idle(false);
        if self.used.replace(true) {
            self.shard().connections_reused.increment();
            Reused::Yes
        } else {
            Reused::No
        }
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 && matches!(*self.state.borrow(), State::Open(_)) {
            self.idle_since.set(Instant::now());
            self.count_idle(true);
        }
    }

    /// Whether the instance has not been heard for `silence_max`.
    pub(super) fn is_doubtful(&self, silence_max: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.heard_at.get()) >= silence_max
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.get()
    }

    /// Asks whether the instance is there.
    pub(super) fn ask(&self) {
        if self.ping.get() == Asked::No {
            self.ping.set(Asked::Due);
            self.wake();
        }
    }

    /// Lets it end with its last stream.
    pub(super) fn retire(&self) {
        let was = match &mut *self.state.borrow_mut() {
            state @ State::Open(_) => std::mem::replace(state, State::Closing),
            _ => return,
        };
        // Outside of the borrow: the last sender that goes wakes the task.
        drop(was);
        self.wake();
    }

    /// What the worker's sweep does for it.
    pub(super) fn look_after(&self, now: Instant) {
        let state = self.instance.state();
        let idles = self.streams.get() == 0;
        let too_long = idles && now.saturating_duration_since(self.idle_since.get()) >= self.settings.idle_timeout;
        if too_long || state.health == Health::Down || state.removed {
            self.retire();
        }
        match (self.ping.get(), self.settings.h2_ping_interval) {
            // Other bytes show as well that somebody is there.
            (Asked::At(asked), _) if self.is_overdue(asked, now) => {
                if !self.silent.replace(true) {
                    self.shard().h2_events[H2Event::PingTimeout as usize].increment();
                    tracing::debug!(instance = %self.instance.address, "no answer to a ping, connection cut");
                }
                self.wake();
            }
            (Asked::No, Some(interval)) if !idles && self.is_doubtful(interval, now) => self.ask(),
            _ => {}
        }
    }

    fn is_overdue(&self, asked: Instant, now: Instant) -> bool {
        let last = self.heard_at.get().max(asked);
        now.saturating_duration_since(last) >= self.settings.h2_ping_timeout
    }

    fn count_idle(&self, idle: bool) {
        if self.idle.replace(idle) != idle {
            if idle {
                self.shard().connections_idle.increment();
            } else {
                self.shard().connections_idle.subtract(1);
            }
        }
    }

    fn shard(&self) -> &InstanceShard {
        self.instance.stats.of(self.worker)
    }

    fn wake(&self) {
        // Taken out first: waking may run code that looks at this link.
        let waker = self.driver.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// For the bytes.

impl Link {
    pub(super) fn heard(&self) {
        self.heard_at.set(Instant::now());
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.greeted.get()
    }

    pub(super) fn greeted(&self) {
        self.greeted.set(true);
    }
}

/// The life of a shared connection.
pub(super) async fn run(worker: Rc<Worker>, link: Rc<Link>, group: Rc<Group>) {
    // Dropped last, also when the task is: whoever waits looks again.
    let _ending = Ending { link: &link, group: &group };
    let deadline = Instant::now() + link.settings.connect_timeout;
    let alarm = worker.alarms.register(NO_LISTENER);
    alarm.attempt(Some(&link.instance));
    let mut connection =
        match connect(&link.instance, link.dialer.as_ref(), &worker, &alarm, link.settings.connect_timeout).await {
            Ok(connection) => connection,
            Err(error) => return link.fail(error),
        };
    if link.dialer.is_some() && connection.stream.alpn() != Some(b"h2") {
        match link.demand {
            Demand::Http2 => return link.fail(ConnectError::NoAgreement),
            Demand::Negotiated => {
                *link.state.borrow_mut() = State::Http1(Some(connection));
                return;
            }
        }
    }
    let io = Watched::new(&mut connection.stream, &link);
    let (sender, mut http2) = match link.builder().handshake(io).await {
        Ok(made) => made,
        Err(error) => return link.fail(not_made(error)),
    };
    let mut pings = http2.ping_pong();
    if let Err(error) = greeting(&link, &alarm, deadline, &mut http2).await {
        return link.fail(error);
    }
    drop((alarm, worker));
    link.open(sender);
    group.changed.notify_waiters();
    let ended = poll_fn(|context| link.poll_drive(&group, context, &mut http2, &mut pings)).await;
    if let Err(error) = ended {
        tracing::debug!(instance = %link.instance.address, %error, "shared connection broke");
    }
}

/// Waits until the instance has shown that it speaks HTTP/2.
async fn greeting(
    link: &Link,
    alarm: &Alarm,
    deadline: Instant,
    http2: &mut (impl Future<Output = Result<(), h2::Error>> + Unpin),
) -> Result<(), ConnectError> {
    let mut http2 = pin!(http2);
    let greeted = poll_fn(|context| match http2.as_mut().poll(context) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(ConnectError::Failed(std::io::ErrorKind::UnexpectedEof.into()))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(not_made(error))),
        Poll::Pending if link.has_greeted() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    match alarm.run(deadline, greeted).await {
        Ok(result) => result,
        Err(Ring::Ejected) => Err(ConnectError::Ejected),
        Err(Ring::Deadline | Ring::Close | Ring::Published) => {
            Err(ConnectError::TimedOut(link.settings.connect_timeout))
        }
    }
}

fn not_made(error: h2::Error) -> ConnectError {
    if error.is_io() {
        return ConnectError::Failed(crate::http2::stream::broken(error));
    }
    ConnectError::NotHttp2(error)
}

/// Sizes are far below that by their ranges in the configuration.
fn bounded(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Link {
    fn builder(&self) -> h2::client::Builder {
        let settings = &self.settings;
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            // Nothing goes out before the instance has said how many it takes.
            .initial_max_send_streams(0)
            .initial_window_size(bounded(settings.h2_window_bytes))
            .initial_connection_window_size(bounded(settings.h2_connection_window_bytes))
            .max_frame_size(bounded(settings.h2_frame_bytes_max))
            .max_header_list_size(bounded(settings.response_head_bytes_max));
        builder
    }

    fn open(&self, sender: SendRequest<Payload>) {
        *self.state.borrow_mut() = State::Open(sender);
        self.idle_since.set(Instant::now());
        self.count_idle(true);
    }

    fn fail(&self, error: ConnectError) {
        *self.state.borrow_mut() = State::Failed(Arc::new(error));
    }

    fn poll_drive(
        &self,
        group: &Group,
        context: &mut Context<'_>,
        http2: &mut (impl Future<Output = Result<(), h2::Error>> + Unpin),
        pings: &mut Option<PingPong>,
    ) -> Poll<Result<(), h2::Error>> {
        self.driver.borrow_mut().replace(context.waker().clone());
        if self.silent.get() {
            return Poll::Ready(Ok(()));
        }
        if let Some(pings) = pings {
            if self.ping.get() == Asked::Due && pings.send_ping(Ping::opaque()).is_ok() {
                self.ping.set(Asked::At(Instant::now()));
            }
            if matches!(self.ping.get(), Asked::At(_)) && pings.poll_pong(context).is_ready() {
                self.ping.set(Asked::No);
                group.changed.notify_waiters();
            }
        }
        let polled = Pin::new(http2).poll(context);
        self.notice_goaway(group);
        polled
    }

    /// After a GOAWAY no new stream may begin (RFC 9113 section 6.8).
    fn notice_goaway(&self, group: &Group) {
        let refused = match &mut *self.state.borrow_mut() {
            State::Open(sender) => match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Err(error)) => error,
                _ => return,
            },
            _ => return,
        };
        if refused.is_go_away() && refused.is_remote() {
            self.shard().h2_events[H2Event::Goaway as usize].increment();
            tracing::debug!(instance = %self.instance.address, error = %refused, "shared connection goes away");
        }
        self.retire();
        group.changed.notify_waiters();
    }
}

/// The end of a shared connection, however it comes.
struct Ending<'a> {
    link: &'a Rc<Link>,
    group: &'a Group,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.link.count_idle(false);
        self.link.retire();
        let mut state = self.link.state.borrow_mut();
        if matches!(*state, State::Making) {
            *state = State::Closing;
        }
        drop(state);
        self.group.links.borrow_mut().retain(|link| !Rc::ptr_eq(link, self.link));
        self.group.changed.notify_waiters();
    }
}
