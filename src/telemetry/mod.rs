//! What operators see: counters ([`stats`], written by workers), metrics (names and scrape), logs.

pub mod stats;
