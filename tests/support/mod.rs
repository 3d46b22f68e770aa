//! What the black-box tests are made of: the built binary, fake and real instances, a client with control of each byte.
//!
//! Nothing here uses Plimsoll's own code, so that a mistake there is not repeated here. Nothing sleeps for a guess:
//! tests wait for events, with a bound ([`wait`]). Ports lie below the range from which the kernel takes the ports of
//! outgoing connections, so that a port which a test gives up for a while is not taken by another's connection.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod echo;
pub(crate) mod folder;
pub(crate) mod frames;
pub(crate) mod http2;
pub(crate) mod instance;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod nginx;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod tls;
pub(crate) mod tls_port;
pub(crate) mod wait;

pub(crate) use client::Client;
pub(crate) use config::Config;
pub(crate) use instance::Instance;
pub(crate) use proxy::Proxy;
pub(crate) use wait::{eventually, seconds};
