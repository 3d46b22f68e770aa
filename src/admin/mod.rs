//! The admin listener: what operators and their tools ask of a running Plimsoll, over HTTP.
//!
//! ```text
//! GET  /live                          200 while the process runs
//! GET  /ready                         200, or 503 with the reason in the body
//! GET  /metrics                       Prometheus' text format
//! GET  /status                        JSON: every pool and instance, and why they are as they are
//! POST /diff                          a configuration as body: what a reload to it would change
//! POST /reload[?force=true]           as SIGHUP, with the result as answer
//! POST /instances/POOL/INSTANCE/{drain,off,enable}[?why=…]
//! ```
//!
//! Runs on the control runtime, so it answers under any load of traffic. Answers that only read ([`status`], metrics,
//! ready) take them from the published snapshot, not from the controller: they also work while a reload is under way.
//! Whatever a client does, it costs bounded memory and time; `auth.rs` says who may ask what.

mod answer;
mod auth;
mod change;
mod routes;
mod server;
pub mod status;
pub mod uri;

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::reload::ControlHandle;
use crate::snapshot::Published;
use crate::telemetry::metrics::Metrics;

pub(crate) use answer::Failure;
pub(crate) use change::Note;
pub use server::serve;

/// The largest configuration that `/diff` reads.
pub const CONFIG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the admin listener reads, and whom it asks for changes.
#[derive(Debug)]
pub struct Admin {
    published: Arc<Published>,
    metrics: Metrics,
    control: ControlHandle,
    started: Instant,
    started_at: SystemTime,
    /// Scrapes and diffs take time on a thread of their own: one at a time.
    heavy: Arc<Semaphore>,
}

impl Admin {
    /// An admin API over these; the token is the one of the published configuration.
    #[must_use]
    pub fn new(published: Arc<Published>, metrics: Metrics, control: ControlHandle) -> Arc<Self> {
        Arc::new(Self {
            published,
            metrics,
            control,
            started: Instant::now(),
            started_at: SystemTime::now(),
            heavy: Arc::new(Semaphore::new(1)),
        })
    }
}

#[cfg(test)]
mod tests;
