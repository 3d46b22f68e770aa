//! The end of the proxy: linger, stop accepting, finish what is there, at the latest at a deadline.
//!
//! [`Phase::Draining`](crate::snapshot::Phase) turns `/ready` to 503 before anything else, and `linger` gives the load
//! balancer above the time to see it, so that nothing new comes when the listeners close. A worker then accepts what is
//! in its queues, closes idle connections, and ends when the last request has. A second signal ends all of this at once.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::reload::Controller;
use crate::worker::{WorkerHandle, Workers};

/// How much longer than the deadline a worker may take to end.
const WORKER_END_MAX: Duration = Duration::from_secs(2);

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request was finished.
    Whole,
    /// The deadline came first: so many requests and upgraded connections were cut.
    TimedOut {
        /// How many.
        left: usize,
    },
    /// It was told to end at once: so many connections were cut.
    AtOnce {
        /// How many.
        left: usize,
    },
}

impl Drained {
    /// How many were cut.
    #[must_use]
    pub fn cut(self) -> usize {
        match self {
            Self::Whole => 0,
            Self::TimedOut { left } | Self::AtOnce { left } => left,
        }
    }
}

/// Lingers, then drains the workers. Ends early when `at_once` does.
///
/// # Cancel safety
/// Workers that were told to drain go on doing so.
pub async fn drain(
    controller: &mut Controller,
    workers: Workers,
    linger: Duration,
    drain_timeout: Duration,
    at_once: impl Future<Output = ()>,
) -> Drained {
    let mut at_once = pin!(at_once);
    let handles = workers.handles().to_vec();
    // Sleeping is cancel-safe, and so is the other arm: it is only lent.
    tokio::select! {
        () = sleep(linger) => {}
        () = &mut at_once => return Drained::AtOnce { left: connections(&handles) },
    }
    let deadline = Instant::now() + drain_timeout;
    let ended = async {
        controller.drain(deadline).await;
        // Joining threads blocks, and the admin listener still answers.
        timeout_at(deadline + WORKER_END_MAX, tokio::task::spawn_blocking(|| workers.join())).await
    };
    // What loses is not needed any more: the process ends.
    tokio::select! {
        ended = ended => match ended {
            Ok(Ok(0)) => Drained::Whole,
            Ok(Ok(left)) => Drained::TimedOut { left },
            // A worker hangs.
            Ok(Err(_)) | Err(_) => Drained::TimedOut { left: connections(&handles) },
        },
        () = &mut at_once => Drained::AtOnce { left: connections(&handles) },
    }
}

fn connections(handles: &[WorkerHandle]) -> usize {
    handles.iter().map(WorkerHandle::connections).sum()
}
