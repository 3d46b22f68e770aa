//! Free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Above what services use, below `net.ipv4.ip_local_port_range`.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// An address on loopback that nobody listens on, and from which no outgoing connection comes. None is given out twice,
/// since who asked for it may not listen there yet; test runs beside each other start at different ones.
pub(crate) fn free() -> SocketAddr {
    static NEXT: LazyLock<AtomicUsize> = LazyLock::new(|| AtomicUsize::new(fastrand::usize(..RANGE.len())));
    let ports = || RANGE.start + (NEXT.fetch_add(1, Ordering::Relaxed) % RANGE.len()) as u16;
    std::iter::repeat_with(ports)
        .take(RANGE.len())
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}
