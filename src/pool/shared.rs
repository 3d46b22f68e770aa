//! What a pool shares over all workers and keeps over reloads: cursors, repeats in flight, the queue.
//!
//! Each worker has a cursor of its own per pool, so that turns cost no shared cache line. That is as correct as one
//! shared cursor: every worker goes round with the weights' shares, so over all workers no instance is further than one
//! request per worker from its share. Workers start at different places, or the first request of each of four workers
//! would go to the same instance.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::queue::Queue;
use crate::telemetry::stats::{PerWorker, PoolStats, WorkerId};

/// What a pool keeps over reloads, beside its instances' records.
#[derive(Debug)]
pub struct PoolShared {
    /// Requests that wait for an instance.
    pub queue: Queue,
    workers: usize,
    cursors: PerWorker<CursorCell>,
    /// Repeated attempts in flight, over all workers.
    retrying: AtomicU32,
    /// Signalled for each of them that ends.
    retry_ended: Notify,
}

impl PoolShared {
    /// For a new pool.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::default(),
            workers,
            cursors: PerWorker::new(workers),
            retrying: AtomicU32::new(0),
            retry_ended: Notify::new(),
        })
    }

    /// Repeated attempts in flight.
    #[must_use]
    pub fn retrying(&self) -> u32 {
        self.retrying.load(Ordering::Relaxed)
    }

    /// Counts a repeated attempt in flight until the guard is dropped, unless `allowed` of them are there already.
    /// What is allowed follows from the budget (`forward::retry`).
    #[must_use]
    pub fn try_retry(self: &Arc<Self>, allowed: u32) -> Option<RetryGuard> {
        self.retrying
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < allowed).then(|| count + 1))
            .ok()
            .map(|_before| RetryGuard(Arc::clone(self)))
    }

    /// As [`PoolShared::try_retry`], waiting for room until `deadline`.
    ///
    /// When an instance dies, all requests that were there come back at once, and may be more than the budget. They are
    /// spread over time instead of being refused: the budget is there to keep repeats from drowning what is left of the
    /// pool, and a bounded number at a time does that.
    ///
    /// # Cancel safety
    /// A request that is dropped while it waits passes on what it was woken for.
    pub async fn wait_retry(self: &Arc<Self>, allowed: impl Fn() -> u32, deadline: Instant) -> Option<RetryGuard> {
        loop {
            let mut ended = pin!(self.retry_ended.notified());
            // Before the look, so that an end between look and wait is not missed.
            ended.as_mut().enable();
            if let Some(guard) = self.try_retry(allowed()) {
                return Some(guard);
            }
            timeout_at(deadline, ended).await.ok()?;
        }
    }

    pub(super) fn cursor(&self, worker: WorkerId) -> Cursor<'_> {
        Cursor { cell: self.cursors.of(worker), worker, workers: self.workers }
    }
}

/// One repeated attempt in flight.
#[derive(Debug)]
pub struct RetryGuard(Arc<PoolShared>);

impl Drop for RetryGuard {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
        self.0.retry_ended.notify_one();
    }
}

/// Zero: not used yet. Else the place after the last choice.
#[derive(Debug, Default)]
struct CursorCell(AtomicU32);

/// Where a worker's next turn in a pool begins. One writer, so load and store suffice.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    cell: &'a CursorCell,
    worker: WorkerId,
    workers: usize,
}

impl Cursor<'_> {
    /// The place, 0 to `len - 1`.
    #[inline]
    pub(super) fn start(self, len: usize) -> usize {
        match self.cell.0.load(Ordering::Relaxed) as usize {
            0 => self.worker.0 * len / self.workers.max(1),
            place if place < len => place,
            _ => 0,
        }
    }

    /// The next turn begins behind `chosen`, not behind the last start: else the instance behind one that is out would
    /// get the turns of both.
    #[inline]
    pub(super) fn moved_past(self, chosen: usize) {
        self.cell.0.store(chosen as u32 + 1, Ordering::Relaxed);
    }
}

/// A worker's own part in picking: who it is, and its random numbers. One per worker, borrowed for each pick.
#[derive(Debug)]
pub struct Turn {
    worker: WorkerId,
    random: RefCell<fastrand::Rng>,
}

impl Turn {
    /// For a worker, with random numbers from the operating system's seed.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self::seeded(worker, fastrand::u64(..))
    }

    /// For a worker in a test that must repeat.
    #[must_use]
    pub fn seeded(worker: WorkerId, seed: u64) -> Self {
        Self { worker, random: RefCell::new(fastrand::Rng::with_seed(seed)) }
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    #[inline]
    pub(super) fn random<T>(&self, with: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        with(&mut self.random.borrow_mut())
    }
}

/// Counts a request as waiting while it lives.
pub(super) struct Queued<'a> {
    stats: &'a PoolStats,
    worker: WorkerId,
}

impl<'a> Queued<'a> {
    pub(super) fn new(stats: &'a PoolStats, worker: WorkerId) -> Self {
        stats.of(worker).queued.increment();
        Self { stats, worker }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.stats.of(self.worker).queued.subtract(1);
    }
}
