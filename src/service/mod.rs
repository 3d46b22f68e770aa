//! The life of the process as whoever supervises it sees it: a console, systemd, or Windows' service controller.
//!
//! One [`Lifecycle`] for all of them: the application says which [`Stage`] it has reached and takes [`Order`]s; what a
//! stage means to a supervisor is decided in the supervisor's own file. A console is told nothing and orders by signals.

#[cfg(target_os = "linux")]
pub mod systemd;
#[cfg(windows)]
pub mod windows;

use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Orders that may wait: an operator gives one at a time, and those that find no room are refused.
const ORDERS_MAX: usize = 16;

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It takes addresses and waits for first verdicts.
    Starting,
    /// It serves.
    Running,
    /// It has its addresses, closes new connections at once, and finishes what is in flight.
    Paused,
    /// It finishes what is in flight, and ends.
    Stopping {
        /// After which time at most.
        within: Duration,
    },
}

/// What a supervisor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Finish what is in flight, then end; the second one ends at once. With who says so.
    End(&'static str),
    /// Take nothing new, but keep the addresses.
    Pause,
    /// Take new connections again.
    Continue,
    /// Load the configuration anew.
    Reload,
}

/// Whether the process has ended well, for supervisors that want a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Failure {
    /// The configuration has a mistake.
    Configuration = 1,
    /// An address cannot be had.
    Address = 2,
    /// The log cannot be written.
    Log = 3,
    /// The system refused something else.
    System = 4,
}

/// The way between the application and its supervisor.
pub struct Lifecycle {
    tell: Box<dyn Fn(Stage) + Send>,
    orders: Receiver<Order>,
    /// Held so that waiting for orders waits for ever where nobody gives any.
    _sender: Sender<Order>,
}

impl Lifecycle {
    /// Nobody is told, and nobody orders but by signals.
    #[must_use]
    pub fn console() -> Self {
        Self::supervised(|_| {}).0
    }

    /// `tell` is called with each stage; orders come through the sender.
    #[must_use]
    pub fn supervised(tell: impl Fn(Stage) + Send + 'static) -> (Self, Sender<Order>) {
        let (sender, orders) = channel(ORDERS_MAX);
        (Self { tell: Box::new(tell), orders, _sender: sender.clone() }, sender)
    }

    /// Says which stage is reached.
    pub fn enter(&self, stage: Stage) {
        (self.tell)(stage);
    }

    /// Waits for the next order.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}
