//! Requests that wait for an instance (`queue_wait`): first come, first served, over all workers.
//!
//! Only the first in the queue may pick; when it has picked or left, the next one is woken. So nobody overtakes, and one
//! place that becomes free wakes one request instead of all. While nobody waits, the data path pays one load per
//! finished request ([`Queue::wake`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The queue of one pool.
#[derive(Debug, Default)]
pub struct Queue {
    /// Length of `waiters`, to be read without the lock.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<Arc<Notify>>>,
}

impl Queue {
    /// Whether nobody waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Wakes the first in the queue, if there is one: an instance became eligible, or a request ended.
    ///
    /// What made the place free must have been a `SeqCst` write: either this load sees who entered before it looked,
    /// or that one's look (behind the fence in `Queue::enter`) sees the free place.
    #[inline]
    pub fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.wake_first();
        }
    }

    #[cold]
    fn wake_first(&self) {
        if let Some(first) = self.waiters().front() {
            first.notify_one();
        }
    }

    /// Goes to the end of the queue, unless `max` wait already.
    pub(super) fn enter(&self, max: usize) -> Option<Place<'_>> {
        let woken = Arc::new(Notify::new());
        {
            let mut waiters = self.waiters();
            if waiters.len() >= max {
                return None;
            }
            waiters.push_back(Arc::clone(&woken));
            self.waiting.store(waiters.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        Some(Place { queue: self, woken })
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place in the queue; it leaves when dropped.
pub(super) struct Place<'a> {
    queue: &'a Queue,
    woken: Arc<Notify>,
}

impl Place<'_> {
    /// Whether everyone who came before has left.
    pub(super) fn is_first(&self) -> bool {
        self.queue.waiters().front().is_some_and(|first| Arc::ptr_eq(first, &self.woken))
    }

    /// Waits to be woken. A wake that came before is not lost.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiters = self.queue.waiters();
        waiters.retain(|other| !Arc::ptr_eq(other, &self.woken));
        self.queue.waiting.store(waiters.len(), Ordering::SeqCst);
        // Whoever is first now may pick, and there may be more places than the one that was taken.
        if let Some(first) = waiters.front() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_in_the_queue_may_pick_and_the_next_follows_when_it_leaves() {
        let queue = Queue::default();
        let first = queue.enter(2).expect("a place");
        let second = queue.enter(2).expect("a place");
        assert!(queue.enter(2).is_none(), "two wait already");
        assert!(first.is_first() && !second.is_first());
        drop(first);
        assert!(second.is_first() && !queue.is_empty());
        drop(second);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_before_the_wait_is_not_lost() {
        let queue = Queue::default();
        let place = queue.enter(1).expect("a place");
        queue.wake();
        tokio::time::timeout(std::time::Duration::from_secs(1), place.woken()).await.expect("woken");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_passes_the_wake_on() {
        let queue = Queue::default();
        let first = queue.enter(2).expect("a place");
        let second = queue.enter(2).expect("a place");
        queue.wake();
        drop(first);
        tokio::time::timeout(std::time::Duration::from_secs(1), second.woken()).await.expect("woken");
    }
}
