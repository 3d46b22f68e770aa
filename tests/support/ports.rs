//! Free ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Above what services use, below `net.ipv4.ip_local_port_range`.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// An address on loopback that nobody listens on, and from which no outgoing connection comes.
pub(crate) fn free() -> SocketAddr {
    free_on(Ipv4Addr::LOCALHOST)
}

/// As [`free`], on another address.
pub(crate) fn free_on(ip: Ipv4Addr) -> SocketAddr {
    (0..1000)
        .map(|_| SocketAddr::from((ip, fastrand::u16(RANGE))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port in 1000 tries")
}
