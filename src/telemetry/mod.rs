//! What operators see of the inside: counters, metrics, logs.
//!
//! Workers write [`stats`] (one shard each, no lock, no label); [`metrics`] has every metric's name once and sums the
//! shards when it is scraped. [`log`] is the one place where lines are
//! formatted and written, and never makes a worker wait; [`access`] is the one event per request, off by default.

pub mod access;
pub mod log;
pub mod metrics;
pub mod stats;
pub mod timestamp;
