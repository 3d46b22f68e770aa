//! The layers that a request passes on its way to an instance, one file per layer, as pure functions on `http1::head::Head`.
//!
//! `stack` has their order and the reasons for it; the layers know neither sockets nor clocks nor each other. They edit
//! the head in place: fields are looked at by `Head::has`, which costs one test, and written to the head's added lines.
//! What must hold after all of them: an instance sees one valid `Host`, one framing, no field that only the connection
//! concerned, and no statement about client, scheme or trace that Plimsoll has not made itself or got from a peer in
//! `trusted_proxies`.

pub mod admit;
pub mod body;
pub mod client_certificate;
pub mod date;
pub mod forwarded;
pub mod grpc;
pub mod hop_by_hop;
pub mod hsts;
pub mod imitation;
pub mod max_forwards;
pub mod pace;
pub mod redirect;
pub mod rescue;
pub mod stack;
pub mod trace_id;
pub mod via;

mod accept;
mod authority;
mod refusal;
mod target;

pub use refusal::Refusal;

#[cfg(test)]
pub(crate) mod testing;
