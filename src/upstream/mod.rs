//! Connections to instances: making them, keeping the unused ones, and judging what went wrong.

pub mod connect;
pub mod reuse;

use std::sync::Arc;

use crate::pool::instance::Instance;
use crate::telemetry::stats::{InstanceShard, WorkerId};
use crate::tls::client::Dialer;
use crate::wire::Wire;

/// A connection to an instance.
#[derive(Debug)]
pub struct Connection {
    /// What its bytes come and go through.
    pub stream: Wire,
    /// Whether a request went over it before this one.
    pub reused: bool,
    instance: Arc<Instance>,
    /// What made its TLS; `None`: plain.
    dialer: Option<Arc<Dialer>>,
    worker: WorkerId,
    parked: bool,
}

impl Connection {
    fn new(stream: Wire, instance: &Arc<Instance>, dialer: Option<&Arc<Dialer>>, worker: WorkerId) -> Self {
        let (instance, dialer) = (Arc::clone(instance), dialer.cloned());
        let connection = Self { stream, reused: false, instance, dialer, worker, parked: false };
        connection.shard().connections_opened.increment();
        connection.shard().connections_open.increment();
        connection
    }

    /// The instance that it leads to.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Where it is counted.
    #[must_use]
    pub fn shard(&self) -> &InstanceShard {
        self.instance.stats.of(self.worker)
    }

    /// Whether it was made as connections are made now: a reload may ask for TLS, or for another kind of it.
    fn is_made_by(&self, dialer: Option<&Arc<Dialer>>) -> bool {
        match (&self.dialer, dialer) {
            (None, None) => true,
            (Some(ours), Some(dialer)) => Arc::ptr_eq(ours, dialer),
            _ => false,
        }
    }

    /// It is idle from now on.
    fn park(mut self) -> Self {
        self.shard().connections_idle.increment();
        self.parked = true;
        self
    }

    /// It is in use again.
    fn unpark(mut self) -> Self {
        self.shard().connections_idle.subtract(1);
        self.shard().connections_reused.increment();
        self.parked = false;
        self.reused = true;
        self
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.parked {
            self.shard().connections_idle.subtract(1);
        }
        self.shard().connections_open.subtract(1);
    }
}
