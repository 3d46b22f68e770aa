//! Pools: which instance gets the next request.

pub mod instance;
