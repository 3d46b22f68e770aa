//! Black-box tests: the built binary over real sockets, one file per promise to the operator.
//!
//! One test binary for all of them, because each one links anew. Tests in modules named `with_…` need that program;
//! `tests/all.sh` installs it, or skips them and says so.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(clippy::print_stderr, reason = "what a failing test shows beside its assertion")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod balance;
mod client_certificates;
mod commands;
mod documents;
mod end;
mod errors;
mod failover;
mod grpc;
mod headers;
mod health;
mod hostile;
mod http2;
mod http2_upstream;
mod leaving;
mod logs;
mod metrics;
mod proxying;
mod redirect;
mod reload;
mod retry;
mod reuse;
mod spread;
#[cfg(target_os = "linux")]
mod systemd;
mod tls;
mod tls_certificates;
mod tls_resumption;
mod tls_to_instances;
mod upgrade;
mod waits;
mod windows_service;
mod with_nginx;
mod with_openssl;
