//! Plimsoll: a health-checking reverse proxy and load balancer.
//!
//! The modules stand in the order in which a newcomer should read them; `ARCHITECTURE.md` tells the walk of a request
//! through them in numbered steps.

pub mod app;
pub mod cli;

// Data side, in the order in which a request meets it.
pub mod worker;

pub mod connection;
pub mod forward;
pub mod http;
pub mod http1;
pub mod http2;
pub mod listener;
pub mod pool;
pub mod route;
pub mod tls;
pub mod upstream;
pub mod wire;

// Between the sides.
pub mod cause;
pub mod drain;
pub mod health;
pub mod snapshot;

// Control side: builds and publishes.
pub mod admin;
pub mod config;
pub mod demo;
pub mod reload;
pub mod service;

// Everywhere.
pub mod platform;
pub mod telemetry;
