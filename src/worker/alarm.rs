//! One timer per worker instead of one per wait.
//!
//! Arming and cancelling a runtime timer per request costs 10 % of the whole proxying; a deadline here is one store.
//! Each connection owns an [`Alarm`] and waits through [`Alarm::run`]; the worker's `Alarms::tick` looks at all of
//! them every [`TICK`] and rings those whose deadline has passed. What else may end a wait from outside rings the same
//! bell: an instance that was ejected while its response head is awaited, a drain, an eviction. So deadlines are coarse
//! (late by one tick at most), which is fine for waits of 100 ms and more.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pool::instance::{Health, Instance};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(50);

/// After how many ticks those are polled again who want to look at something that wakes nobody.
const LOOK_TICKS: u32 = 5;

/// Why a wait ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The deadline has passed.
    Deadline,
    /// The instance that the connection waits for was ejected.
    Ejected,
    /// The connection idles, and is to end: drain or eviction.
    Close,
    /// The connection idles, and a new snapshot was published: it must let go of the old one, or a connection that
    /// stays idle for long would keep all of it in memory.
    Published,
}

/// Whether somebody beside the client connections lives by the ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticks {
    /// Go on, also without client connections.
    Needed,
    /// A worker without client connections may sleep.
    NotNeeded,
}

/// What a connection is doing, as far as others must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Without a request: may be closed at any time without loss.
    Idle {
        /// Since when.
        since: Instant,
        /// What it waits for.
        awaits: Awaits,
    },
    /// In a request.
    Busy,
    /// In several requests, each with an alarm of its own: must not be closed, but wants to hear of what rings idle ones.
    Serving,
}

/// How a connection loses its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It was ejected or went down; requests at one that was removed may finish.
    Ejected,
    /// Or it was removed.
    EjectedOrRemoved,
}

/// Which request an idle connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// Its first: the client has just connected, most likely to ask something.
    First,
    /// A further one.
    Next,
}

/// Which connections may be closed to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evict {
    /// Those that have had a request.
    Served,
    /// Those as well that have been waiting for their first one for more than a second.
    Any,
}

/// How long a connection is not closed to make room that waits for its first request.
const GREETING_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Entry {
    deadline: Cell<Option<Instant>>,
    phase: Cell<Phase>,
    ring: Cell<Option<Ring>>,
    /// Whether the connection wants to be polled again, without a ring.
    look: Cell<bool>,
    attempt: RefCell<Option<(Arc<Instance>, Loss)>>,
    waker: RefCell<Option<Waker>>,
    /// Which listener the connection came in on: a number of the owner's choice.
    group: usize,
}

impl Entry {
    fn ring(&self, ring: Ring) {
        self.ring.set(Some(ring));
        self.wake();
    }

    fn wake(&self) {
        // Taken out first: waking may run code that looks at this entry.
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lost(&self) -> bool {
        self.attempt.borrow().as_ref().is_some_and(|(instance, loss)| {
            let state = instance.state();
            state.health == Health::Down || state.ejected || state.removed && *loss == Loss::EjectedOrRemoved
        })
    }
}

/// All alarms of a worker.
#[derive(Debug)]
pub struct Alarms {
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
    /// The time of the last tick: enough for deadlines of body progress, and free.
    now: Cell<Instant>,
    ticks: Cell<u32>,
    registered: Notify,
    /// Where the search for a connection to evict goes on.
    cursor: Cell<usize>,
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            free: RefCell::default(),
            now: Cell::new(Instant::now()),
            ticks: Cell::new(0),
            registered: Notify::new(),
            cursor: Cell::new(0),
        }
    }
}

impl Alarms {
    /// An alarm for one connection. `group` says which connections [`Alarms::evict_idle`] means together.
    #[must_use]
    pub fn register(self: &Rc<Self>, group: usize) -> Alarm {
        let entry = Rc::new(Entry {
            deadline: Cell::new(None),
            phase: Cell::new(Phase::Busy),
            ring: Cell::new(None),
            look: Cell::new(false),
            attempt: RefCell::new(None),
            waker: RefCell::new(None),
            group,
        });
        let free = self.free.borrow_mut().pop();
        let mut entries = self.entries.borrow_mut();
        let key = free.unwrap_or(entries.len());
        if key == entries.len() {
            entries.push(None);
        }
        if entries.len() == self.free.borrow().len() + 1 {
            self.now.set(Instant::now());
            self.registered.notify_one();
        }
        entries[key] = Some(Rc::clone(&entry));
        Alarm { alarms: Rc::clone(self), entry, key }
    }

    /// The time of the last tick, at most [`TICK`] ago (while there are connections).
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Rings what is due, for as long as the worker lives. `extra` runs with each tick, and says whether it needs more of
    /// them also when no connection does.
    pub async fn run(&self, mut extra: impl FnMut(Instant) -> Ticks) {
        let mut ticks = Ticks::NotNeeded;
        loop {
            if self.is_empty() && ticks == Ticks::NotNeeded {
                self.registered.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            self.tick(now);
            ticks = extra(now);
        }
    }

    fn is_empty(&self) -> bool {
        self.entries.borrow().len() == self.free.borrow().len()
    }

    fn tick(&self, now: Instant) {
        self.now.set(now);
        self.ticks.set(self.ticks.get().wrapping_add(1));
        let look = self.ticks.get().is_multiple_of(LOOK_TICKS);
        for entry in self.entries.borrow().iter().flatten() {
            if entry.deadline.get().is_some_and(|deadline| deadline <= now) {
                entry.ring(Ring::Deadline);
            } else if entry.lost() {
                entry.ring(Ring::Ejected);
            } else if look && entry.look.take() {
                entry.wake();
            }
        }
    }

    /// Rings all connections that idle, or serve several requests: [`Ring::Close`] or [`Ring::Published`].
    pub fn ring_idle(&self, ring: Ring) {
        for entry in self.entries.borrow().iter().flatten() {
            if entry.phase.get() != Phase::Busy && entry.ring.get() != Some(Ring::Close) {
                entry.ring(ring);
            }
        }
    }

    /// Ends one connection that has been idle for long, to make room: one that has had a request, if there is any. Looks
    /// at a sample, so that a flood of connections does not make this quadratic. Returns whether there was one.
    pub fn evict_idle(&self, group: Option<usize>, which: Evict) -> bool {
        const LOOKED_AT_MAX: usize = 2_048;
        const SAMPLE: usize = 64;
        let entries = self.entries.borrow();
        let mut oldest: Option<(bool, Instant, &Rc<Entry>)> = None;
        let mut served = 0;
        let looked_at = entries.len().min(LOOKED_AT_MAX);
        let start = self.cursor.get();
        for offset in 0..looked_at {
            let index = (start + offset) % entries.len();
            self.cursor.set(index);
            let Some(entry) = &entries[index] else { continue };
            let Phase::Idle { since, awaits } = entry.phase.get() else { continue };
            let fresh = awaits == Awaits::First;
            let may_go = !fresh || which == Evict::Any && since + GREETING_TIME <= self.now();
            if may_go && group.is_none_or(|group| group == entry.group) && entry.ring.get() != Some(Ring::Close) {
                served += usize::from(!fresh);
                if oldest.is_none_or(|(other, time, _)| (fresh, since) < (other, time)) {
                    oldest = Some((fresh, since, entry));
                }
                if served == SAMPLE {
                    break;
                }
            }
        }
        oldest.inspect(|(_, _, entry)| entry.ring(Ring::Close)).is_some()
    }
}

/// One connection's alarm; see the module.
#[derive(Debug)]
pub struct Alarm {
    alarms: Rc<Alarms>,
    entry: Rc<Entry>,
    key: usize,
}

impl Alarm {
    /// The time of the worker's last tick.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.alarms.now()
    }

    /// Waits for `future`, at most until `deadline`.
    ///
    /// # Errors
    /// The [`Ring`] that ended the wait.
    ///
    /// # Cancel safety
    /// As safe as `future`.
    pub async fn run<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Ring> {
        let mut future = pin!(future);
        // What rang before has nothing to do with this wait.
        self.clear();
        self.set(deadline);
        let result = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_ring(context).map(Err),
        })
        .await;
        self.clear();
        result
    }

    /// As [`Alarm::run`], while the connection has no request: it may be closed from outside meanwhile.
    ///
    /// # Errors
    /// The [`Ring`] that ended the wait.
    pub async fn run_idle<F: Future>(&self, deadline: Instant, awaits: Awaits, future: F) -> Result<F::Output, Ring> {
        self.entry.phase.set(Phase::Idle { since: self.now(), awaits });
        let result = self.run(deadline, future).await;
        self.entry.phase.set(Phase::Busy);
        result
    }

    /// Sets the deadline that [`Alarm::poll_ring`] waits for: with each poll, moved by progress or not. What has rung
    /// stays, since it may be what caused this poll; a deadline that progress has overtaken does not.
    pub fn set(&self, deadline: Instant) {
        self.entry.deadline.set(Some(deadline));
        if self.entry.ring.get() == Some(Ring::Deadline) && self.now() < deadline {
            self.entry.ring.set(None);
        }
    }

    /// No deadline until the next [`Alarm::set`].
    pub fn clear(&self) {
        self.entry.deadline.set(None);
        self.entry.ring.set(None);
        self.entry.look.set(false);
    }

    /// Has the task polled again in a quarter of a second, for what it must look at because nothing wakes it.
    pub fn look_again(&self, context: &Context<'_>) {
        self.entry.look.set(true);
        self.register(context);
    }

    /// Ready when the alarm has rung.
    pub fn poll_ring(&self, context: &mut Context<'_>) -> Poll<Ring> {
        if let Some(ring) = self.entry.ring.take() {
            return Poll::Ready(ring);
        }
        self.register(context);
        Poll::Pending
    }

    fn register(&self, context: &Context<'_>) {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Says what the connection is doing, where [`Alarm::run_idle`] does not.
    pub fn enter(&self, phase: Phase) {
        self.entry.phase.set(phase);
    }

    /// No deadline, but what else rings goes on ringing.
    pub fn unset(&self) {
        self.entry.deadline.set(None);
    }

    /// An alarm for a part of the same connection.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.alarms.register(self.entry.group)
    }

    /// From now on the ejection of `instance` rings; `None`: no longer.
    pub fn attempt(&self, instance: Option<&Arc<Instance>>) {
        *self.entry.attempt.borrow_mut() = instance.map(|instance| (Arc::clone(instance), Loss::Ejected));
    }

    /// From now on the ejection of `instance` rings, and its removal.
    pub fn depend_on(&self, instance: &Arc<Instance>) {
        *self.entry.attempt.borrow_mut() = Some((Arc::clone(instance), Loss::EjectedOrRemoved));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.entries.borrow_mut()[self.key] = None;
        self.alarms.free.borrow_mut().push(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms() -> Rc<Alarms> {
        Rc::new(Alarms::default())
    }

    async fn with_ticks<T>(alarms: &Rc<Alarms>, test: impl Future<Output = T>) -> T {
        tokio::select! {
            output = test => output,
            () = alarms.run(|_| Ticks::NotNeeded) => unreachable!("runs for ever"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline_or_one_tick_later() {
        let alarms = alarms();
        let alarm = alarms.register(0);
        let start = Instant::now();
        let wait = alarm.run(start + Duration::from_secs(2), std::future::pending::<()>());
        assert_eq!(with_ticks(&alarms, wait).await, Err(Ring::Deadline));
        assert!(start.elapsed() >= Duration::from_secs(2));
        assert!(start.elapsed() <= Duration::from_secs(2) + TICK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_that_came_too_late_does_not_end_the_next_wait() {
        let alarms = alarms();
        let alarm = alarms.register(0);
        alarm.entry.ring(Ring::Deadline);
        let start = Instant::now();
        let wait = alarm.run(start + Duration::from_secs(1), std::future::pending::<()>());
        assert_eq!(with_ticks(&alarms, wait).await, Err(Ring::Deadline));
        assert!(start.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_set_with_each_poll_ends_the_wait_unless_progress_moves_it() {
        let alarms = alarms();
        let alarm = alarms.register(0);
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut progress = Some(Box::pin(tokio::time::sleep(second / 2)));
        let mut moved_at = start;
        let wait = poll_fn(|context| {
            if progress.as_mut().is_some_and(|progress| progress.as_mut().poll(context).is_ready()) {
                progress = None;
                moved_at = alarm.now();
            }
            alarm.set(moved_at + second);
            alarm.poll_ring(context)
        });
        assert_eq!(with_ticks(&alarms, wait).await, Ring::Deadline);
        assert!(start.elapsed() + TICK >= second * 3 / 2 && start.elapsed() <= second * 3 / 2 + TICK);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_go_on_without_connections_while_somebody_needs_them() {
        let alarms = alarms();
        drop(alarms.register(0));
        let mut left = 5;
        let run = alarms.run(|_| {
            left -= 1;
            if left > 0 { Ticks::Needed } else { Ticks::NotNeeded }
        });
        assert!(tokio::time::timeout(Duration::from_secs(60), run).await.is_err());
        assert_eq!(left, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_idle_connections_are_closed_from_outside() {
        let alarms = alarms();
        let (idle, busy) = (alarms.register(0), alarms.register(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        let both = async {
            tokio::join!(idle.run_idle(deadline, Awaits::First, std::future::pending::<()>()), async {
                let wait = busy.run(deadline, tokio::time::sleep(Duration::from_secs(1)));
                tokio::join!(wait, async { alarms.ring_idle(Ring::Close) }).0
            })
        };
        assert_eq!(with_ticks(&alarms, both).await, (Err(Ring::Close), Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_idles_longest_is_evicted_first() {
        let alarms = alarms();
        let (old, young) = (alarms.register(0), alarms.register(0));
        let deadline = Instant::now() + Duration::from_secs(10);
        let test = async {
            tokio::select! {
                ring = old.run_idle(deadline, Awaits::Next, std::future::pending::<()>()) => assert_eq!(ring, Err(Ring::Close)),
                _ = async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    young.run_idle(deadline, Awaits::Next, std::future::pending::<()>()).await
                } => panic!("the younger one was evicted"),
                () = async {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    assert!(alarms.evict_idle(None, Evict::Any));
                    std::future::pending::<()>().await;
                } => {}
            }
        };
        with_ticks(&alarms, test).await;
        drop((old, young));
        assert!(!alarms.evict_idle(None, Evict::Any), "nobody is left");
        assert!(alarms.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_had_no_request_is_evicted_last_and_not_at_once() {
        let alarms = alarms();
        let (fresh, served) = (alarms.register(0), alarms.register(0));
        let deadline = Instant::now() + Duration::from_secs(100);
        let ended = RefCell::new(Vec::new());
        let wait = async |alarm: &Alarm, awaits, name| {
            let ring = alarm.run_idle(deadline, awaits, std::future::pending::<()>()).await;
            assert_eq!(ring, Err(Ring::Close));
            ended.borrow_mut().push(name);
        };
        let test = async {
            tokio::join!(wait(&fresh, Awaits::First, "fresh"), wait(&served, Awaits::Next, "served"), async {
                tokio::time::sleep(TICK * 2).await;
                assert!(alarms.evict_idle(None, Evict::Any));
                tokio::time::sleep(TICK * 2).await;
                assert_eq!(*ended.borrow(), ["served"]);
                assert!(!alarms.evict_idle(None, Evict::Any), "it has just connected");
                tokio::time::sleep(GREETING_TIME * 2).await;
                assert!(!alarms.evict_idle(None, Evict::Served));
                assert!(alarms.evict_idle(None, Evict::Any));
            })
        };
        with_ticks(&alarms, test).await;
        assert_eq!(*ended.borrow(), ["served", "fresh"]);
    }
}
