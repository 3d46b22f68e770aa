//! HTTP/2 (RFC 9113), on the `h2` crate: frames, flow control and header compression are its, what they mean is ours.
//!
//! A message of HTTP/2 becomes the same `Head` and the same stream of bytes as one of HTTP/1.1 at the edge, so that all
//! between (admission, route, retry, bodies) is written once. In the order in which a connection meets them:
//!
//! 1. [`head`] turns heads and trailers from one form into the other, and refuses what has no equivalent;
//! 2. [`stream`] is one request and its answer as a stream of bytes whose end is `END_STREAM`.

pub mod guard;
pub mod head;
mod io;
pub mod preface;
pub mod server;
pub mod stream;
mod streams;
pub mod websocket;

/// What carries our payload in frames.
pub type Payload = bytes::Bytes;
