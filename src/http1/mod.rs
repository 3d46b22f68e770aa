//! The HTTP/1 codec, one for both directions: bytes in, a [`Head`] and a body's framing out, and back to bytes.
//!
//! Pure: no sockets, no clock, no runtime. `connection` and `upstream` feed it with what they read. RFC 9110 and 9112
//! are the measure, and what could be read in two ways is refused rather than interpreted: a proxy that guesses
//! differently than the instance behind it lets requests be smuggled. In the order in which a message meets them:
//!
//! 1. [`read`] takes a head out of what came, under any cut into reads;
//! 2. [`head`] parses it into offsets and keeps the bytes (`start_line`, and `field` on httparse); [`name`] knows the field
//!    names that matter;
//! 3. [`framing`] decides how long the body is and whether the connection may be kept;
//! 4. [`chunked`] takes the chunked coding off a body; [`mod@write`] puts it on, and writes heads by copying ranges.

mod build;
pub mod chunked;
mod field;
pub mod framing;
pub mod head;
pub mod name;
pub mod read;
mod start_line;
pub mod write;

pub use build::HeadBuilder;
pub use chunked::{ChunkedDecoder, ChunkedError, ChunkedLimits, Decoded};
pub use framing::{BodyLength, FramingError, Persistence, persistence, request_body, response_body};
pub use head::{ConnectionOptions, FieldRef, Head, HeadError, HeadStorage, Method, Span, Version};
pub use name::{Name, NameSet};
pub use read::{HeadLimits, HeadReader};
pub use write::{ChunkHead, LAST_CHUNK, chunk_head, last_chunk};
