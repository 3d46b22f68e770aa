//! HTTP/1.1 in both directions: what clients send to the proxy, what instances send to it, and what it makes of both.

mod chunks;
mod connections;
mod passing;
mod requests;
mod responses;

use crate::{assert_all, shown};
