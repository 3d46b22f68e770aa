//! The requests of one connection, inside the connection's own task.
//!
//! A task per request would cost 2 k instructions. Here each request is a future with a bell of its own: what it waits for
//! rings the bell, and only those that rang are polled, in the order in which they rang, so that none starves another.
//! The connection has a bell, too. While the task runs, bells only leave a note, since the task looks at the notes before
//! it waits; so what requests and connection tell each other costs no trip through the scheduler.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The bell of the connection; those of requests are counted from 0.
const CONNECTION: usize = usize::MAX;

/// Requests that are being served.
pub(super) struct Streams<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    /// Those that rang and are being polled now; kept for its memory.
    turn: Vec<usize>,
    notes: Arc<Notes>,
    connection: Arc<Bell>,
}

struct Slot<F> {
    future: Option<Pin<Box<F>>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// What rang since it was looked at last.
struct Notes(Mutex<Rung>);

struct Rung {
    indices: Vec<usize>,
    /// Whoever rings first wakes it; `None` while it runs, or is about to.
    task: Option<Waker>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        // Nothing under the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Bell {
    index: usize,
    rung: AtomicBool,
    notes: Arc<Notes>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut rung = self.notes.lock();
            rung.indices.push(self.index);
            rung.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Streams<F> {
    pub(super) fn new() -> Self {
        let notes = Arc::new(Notes(Mutex::new(Rung { indices: Vec::new(), task: None })));
        let connection = Arc::new(Bell { index: CONNECTION, rung: AtomicBool::new(false), notes: Arc::clone(&notes) });
        Self { slots: Vec::new(), free: Vec::new(), turn: Vec::new(), notes, connection }
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// What rings for the connection.
    pub(super) fn connection_waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.connection))
    }

    /// Adds a request, which will be polled with the next [`Streams::poll_rung`].
    pub(super) fn insert(&mut self, future: F) {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.slots.len();
            let bell = Arc::new(Bell { index, rung: AtomicBool::new(false), notes: Arc::clone(&self.notes) });
            self.slots.push(Slot { future: None, waker: Waker::from(Arc::clone(&bell)), bell });
            index
        });
        let slot = &mut self.slots[index];
        slot.future = Some(Box::pin(future));
        slot.bell.wake_by_ref();
    }

    /// Polls every request that has rung, once. Returns whether the connection has rung, too; `None`: nothing has.
    pub(super) fn poll_rung(&mut self) -> Option<Whose> {
        std::mem::swap(&mut self.turn, &mut self.notes.lock().indices);
        if self.turn.is_empty() {
            return None;
        }
        let mut whose = Whose::Requests;
        for index in self.turn.drain(..) {
            if index == CONNECTION {
                self.connection.rung.store(false, Ordering::Release);
                whose = Whose::Connection;
                continue;
            }
            let slot = &mut self.slots[index];
            // Before it is polled: what rings meanwhile is for the next time.
            slot.bell.rung.store(false, Ordering::Release);
            // A bell may ring when its request is over.
            let Some(future) = &mut slot.future else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&slot.waker)).is_ready() {
                slot.future = None;
                self.free.push(index);
            }
        }
        Some(whose)
    }

    /// The task waits, unless something has rung meanwhile.
    pub(super) fn poll_wait(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut rung = self.notes.lock();
        if !rung.indices.is_empty() {
            return Poll::Ready(());
        }
        rung.task = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Whose bell rang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The connection's, and perhaps others.
    Connection,
    /// Only requests', which have been polled.
    Requests,
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;

    /// Counts how often it wakes a task.
    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request that notes its name with each poll and ends with its last.
    fn request(
        name: u8,
        polls: u8,
        log: &Rc<RefCell<Vec<u8>>>,
        wakers: &Rc<RefCell<Vec<Waker>>>,
    ) -> impl Future<Output = ()> + use<> {
        let (log, wakers, mut left) = (Rc::clone(log), Rc::clone(wakers), polls);
        poll_fn(move |context| {
            log.borrow_mut().push(name);
            wakers.borrow_mut().push(context.waker().clone());
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    #[test]
    fn only_requests_whose_bell_rang_are_polled_and_in_that_order() {
        let (log, wakers) = (Rc::default(), Rc::default());
        let mut streams = Streams::new();
        for name in 0..3 {
            streams.insert(request(name, 2, &log, &wakers));
        }
        assert_eq!(streams.poll_rung(), Some(Whose::Requests));
        assert_eq!(streams.poll_rung(), None);
        let [first, _, third] = wakers.take().try_into().expect("three wakers");
        third.wake_by_ref();
        first.wake_by_ref();
        third.wake_by_ref();
        assert_eq!(streams.poll_rung(), Some(Whose::Requests));
        assert_eq!(*log.borrow(), [0, 1, 2, 2, 0]);
        assert_eq!(streams.len(), 1);
        // The bell of one that is over does no harm, and its place is used again.
        third.wake();
        streams.insert(request(3, 2, &log, &wakers));
        assert_eq!(streams.poll_rung(), Some(Whose::Requests));
        assert_eq!((log.borrow().len(), streams.len()), (6, 2));
    }

    #[test]
    fn the_task_is_woken_once_and_only_while_it_waits() {
        let (log, wakers) = (Rc::default(), Rc::default());
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut streams = Streams::new();
        streams.insert(request(0, 9, &log, &wakers));
        assert_eq!(streams.poll_wait(&mut Context::from_waker(&waker)), Poll::Ready(()), "it has just been inserted");
        assert_eq!(streams.poll_rung(), Some(Whose::Requests));
        assert_eq!(streams.poll_wait(&mut Context::from_waker(&waker)), Poll::Pending);
        wakers.take().pop().expect("a waker").wake();
        streams.connection_waker().wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert_eq!(streams.poll_rung(), Some(Whose::Connection));
        wakers.take().pop().expect("a waker").wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "it runs, and will look");
        assert_eq!(log.borrow().len(), 2);
    }
}
