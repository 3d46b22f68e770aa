//! Routing: from the host and path of a request to what serves it.
//!
//! Stands between the layers of `http::stack` and `forward`. Pure: no clock, no I/O, no knowledge of pools. The control
//! side builds a [`Table`] per listener when it builds a snapshot; workers only read it.

mod edges;
pub mod path;
mod table;

pub use path::canonical;
pub use table::Table;
