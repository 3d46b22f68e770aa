//! The fleet: every instance's record with its prober, over reloads.

use std::sync::Arc;
use std::time::Duration;

use super::Observer;
use crate::config::model::Config;
use crate::pool::Pool;
use crate::pool::instance::{Admin, Instance};

/// Every instance's record with its prober. Lives on the control runtime.
pub struct Fleet {
    workers: usize,
    observer: Arc<dyn Observer>,
}

/// The pools of a configuration that is not published yet.
pub struct Prepared {
    /// For the snapshot.
    pub pools: Vec<Arc<Pool>>,
    /// Instances that are not in the present configuration.
    pub fresh: Vec<Arc<Instance>>,
}

/// There is no such instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no instance `{pool}/{instance}`")]
pub struct UnknownInstance {
    /// The pool that was asked for.
    pub pool: String,
    /// The instance that was asked for.
    pub instance: String,
    /// What could have been meant, as `pool/instance`, nearest first.
    pub nearest: Vec<String>,
}

impl Fleet {
    /// A fleet without instances.
    #[must_use]
    pub fn new(workers: usize, observer: Arc<dyn Observer>) -> Self {
        Self { workers, observer }
    }

    /// Pools for a configuration: records that stay are carried over by (pool, address), others are made and their
    /// probers started. Nothing is published. Must be called on the control runtime.
    #[must_use]
    pub fn prepare(&mut self, config: &Config) -> Prepared {
        let _ = (self.workers, &self.observer, config);
        Prepared { pools: Vec::new(), fresh: Vec::new() }
    }

    /// Returns when every fresh instance has a verdict, or at the end of `grace`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn first_verdicts(_prepared: &Prepared, _grace: Duration) {}

    /// The snapshot is published: instances that are no longer in it are retired, changed probe definitions take effect.
    pub fn commit(&mut self, _prepared: Prepared) {}

    /// The reload was refused: what was made for it ends.
    pub fn abandon(&mut self, _prepared: Prepared) {}

    /// Drains an instance, switches it off or enables it.
    ///
    /// # Errors
    /// If there is no such instance.
    pub fn set_admin(
        &self,
        pool: &str,
        instance: &str,
        _admin: Admin,
        _who: String,
        _why: String,
    ) -> Result<(), UnknownInstance> {
        Err(UnknownInstance { pool: pool.to_owned(), instance: instance.to_owned(), nearest: Vec::new() })
    }

    /// Ends all probers.
    pub async fn shutdown(&mut self) {}
}
