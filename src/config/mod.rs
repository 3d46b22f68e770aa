//! Configuration in three types, each made from the one before: [`mod@file`] (as written, with spans) → [`model`]
//! (checked, names resolved, no option that means "default") → `snapshot` (handles and counters, for the data side).
//!
//! [`load`] does the way from a path to a model; [`diff`] compares two models. All mistakes of a file are collected and
//! shown together ([`problem`]), because an operator who fixes one error per attempt fixes the last one at night.

mod check;
pub mod diff;
pub mod file;
mod files;
pub mod load;
pub mod model;
pub mod problem;
mod read;
mod text;
mod values;
pub mod watch;
