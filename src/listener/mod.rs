//! Listening sockets: how they are bound ([`bind`]) and which of them live on over a reload ([`sockets`]).
//!
//! Accepting is the workers' (`worker`): a socket is bound here, on the control side, and sent to them.

pub mod bind;
pub mod sockets;
