//! Connections to instances: making them, keeping the unused ones, and judging what went wrong.

pub mod connect;
pub mod h2;
pub mod reuse;

use std::sync::Arc;

use crate::http2::stream::Stream;
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
    /// A place on a shared connection, which is counted there; `None`: the connection is ours alone.
    place: Option<h2::Place>,
}

/// Whether a connection had a request before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reused {
    Yes,
    No,
}

impl Connection {
    fn new(stream: Wire, instance: &Arc<Instance>, dialer: Option<&Arc<Dialer>>, worker: WorkerId) -> Self {
        let (instance, dialer) = (Arc::clone(instance), dialer.cloned());
        let connection = Self { stream, reused: false, instance, dialer, worker, parked: false, place: None };
        connection.shard().connections_opened.increment();
        connection.shard().connections_open.increment();
        connection
    }

    /// One stream of a shared connection; nothing has been sent on it.
    fn shared(place: h2::Place, reused: Reused, instance: &Arc<Instance>, worker: WorkerId) -> Self {
        let stream = Wire::H2(Box::new(Stream::sent(None)));
        let reused = reused == Reused::Yes;
        Self { stream, reused, instance: Arc::clone(instance), dialer: None, worker, parked: false, place: Some(place) }
    }

    /// The place that it has on a shared connection.
    #[must_use]
    pub fn place(&self) -> Option<&h2::Place> {
        self.place.as_ref()
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
        if self.place.is_some() {
            return;
        }
        if self.parked {
            self.shard().connections_idle.subtract(1);
        }
        self.shard().connections_open.subtract(1);
    }
}
