//! Black-box tests: the built binary over real sockets, one file per promise to the operator.
//!
//! One test binary for all of them, because each one links anew.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(clippy::print_stderr, reason = "what a failing test shows beside its assertion")]

#[path = "../support/mod.rs"]
mod support;

mod proxying;
