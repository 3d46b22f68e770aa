//! Binds the sockets of one address: one per worker where the system spreads connections over them, else one.
//!
//! In two steps, so that a reload can take an address without a client noticing before everything else has succeeded:
//! [`bind`] takes the address, [`Bound::listen`] opens it. With `SO_REUSEPORT` a second process could bind a port that is
//! in use, and both would get half of the connections; a trial bind without it finds that out first.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::platform::{self, SOCKET_PER_WORKER, Sharing};

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{}", Explained { error: source, obstacle: obstacle.as_deref() })]
pub struct BindError {
    /// What the system said.
    #[source]
    source: io::Error,
    /// Who or what is in the way, if that could be found out.
    obstacle: Option<String>,
}

struct Explained<'a> {
    error: &'a io::Error,
    obstacle: Option<&'a str>,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.obstacle, self.error.kind()) {
            (Some(obstacle), _) => f.write_str(obstacle),
            (None, io::ErrorKind::AddrInUse) => f.write_str("the address is in use"),
            (None, io::ErrorKind::AddrNotAvailable) => f.write_str("this machine has no such address"),
            (None, _) => self.error.fmt(f),
        }
    }
}

impl BindError {
    pub(super) fn new(source: io::Error, address: SocketAddr) -> Self {
        let obstacle = platform::obstacle(address, &source);
        Self { source, obstacle }
    }

    /// Whether the address may become free soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        platform::may_pass(&self.source)
    }

    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Sockets that have their address, but do not listen yet: dropped, they leave no trace.
#[derive(Debug)]
pub struct Bound {
    /// The address; its port is never 0.
    pub address: SocketAddr,
    sockets: Vec<Socket>,
}

/// Who may have the address already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Nobody: whoever has it is a stranger, and the bind fails.
    None,
    /// A socket of ours that overlaps with it (`0.0.0.0:80` and `10.0.0.1:80`) and is about to go.
    Ours,
}

/// Takes an address for `workers` workers. Port 0 lets the kernel choose one.
///
/// # Errors
/// If the address cannot be had; see [`BindError`].
pub fn bind(address: SocketAddr, workers: usize, neighbour: Neighbour) -> Result<Bound, BindError> {
    take(address, workers, neighbour).map_err(|error| BindError::new(error, address))
}

fn take(address: SocketAddr, workers: usize, neighbour: Neighbour) -> io::Result<Bound> {
    if !SOCKET_PER_WORKER {
        let socket = socket(address, Sharing::Alone)?;
        return Ok(Bound { address: local_address(&socket)?, sockets: vec![socket] });
    }
    if neighbour == Neighbour::None {
        trial(address)?;
    }
    let first = socket(address, Sharing::WithOtherWorkers)?;
    let address = local_address(&first)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(address, Sharing::WithOtherWorkers)?);
    }
    Ok(Bound { address, sockets })
}

/// Finds out whether somebody else has the address. The short time between this and the real bind is left open: a
/// process that binds in it, also with `SO_REUSEPORT` and with our user id, shares the port with us.
fn trial(address: SocketAddr) -> io::Result<()> {
    // Listening is part of the trial: sockets that are bound with `SO_REUSEADDR` on both sides clash only there.
    socket(address, Sharing::Alone)?.listen(1)
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Systems differ in its default. `[::]` is IPv6 here; `*` in the configuration has become both families.
        socket.set_only_v6(true)?;
    }
    platform::prepare_listener(&socket, sharing)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

impl Bound {
    /// Opens the address: from now on the kernel takes connections for it.
    ///
    /// # Errors
    /// If somebody has begun to listen there since the bind.
    pub fn listen(self, backlog: u32) -> Result<Vec<TcpListener>, BindError> {
        let backlog = backlog_for_kernel(backlog);
        for socket in &self.sockets {
            socket.listen(backlog).map_err(|error| BindError::new(error, self.address))?;
        }
        Ok(self.sockets.into_iter().map(TcpListener::from).collect())
    }
}

/// Changes the length of the accept queue of sockets that listen already.
///
/// # Errors
/// If the system refuses.
pub fn set_backlog(sockets: &[TcpListener], backlog: u32) -> io::Result<()> {
    sockets.iter().try_for_each(|socket| SockRef::from(socket).listen(backlog_for_kernel(backlog)))
}

fn backlog_for_kernel(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_chosen_port_is_the_same_for_all_workers() {
        let bound = bind(ANY_PORT, 4, Neighbour::None).unwrap();
        let address = bound.address;
        let sockets = bound.listen(16).unwrap();
        assert_eq!(sockets.len(), if SOCKET_PER_WORKER { 4 } else { 1 });
        for socket in sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_noticed_and_the_holder_named() {
        let holder = bind(ANY_PORT, 2, Neighbour::None).unwrap();
        let address = holder.address;
        let _open = holder.listen(16).unwrap();
        let error = bind(address, 2, Neighbour::None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        if cfg!(target_os = "linux") {
            let process = format!("(process {})", std::process::id());
            assert!(error.to_string().contains(&process), "{error}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_overlapping_socket_of_ours_is_no_obstacle() {
        let old = bind(ANY_PORT, 2, Neighbour::None).unwrap();
        let port = old.address.port();
        let _open = old.listen(16).unwrap();
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        assert!(bind(all, 2, Neighbour::None).is_err());
        bind(all, 2, Neighbour::Ours).unwrap().listen(16).unwrap();
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        let four = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), 1, Neighbour::None).unwrap();
        let port = four.address.port();
        let _four = four.listen(16).unwrap();
        // A machine without IPv6 has nothing to show here.
        match bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), 1, Neighbour::None) {
            Ok(six) => drop(six.listen(16).unwrap()),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::AddrInUse),
        }
    }

    #[test]
    fn bound_but_not_listening_refuses_clients_and_leaves_no_trace() {
        let bound = bind(ANY_PORT, 2, Neighbour::None).unwrap();
        let address = bound.address;
        assert!(TcpStream::connect(address).is_err());
        drop(bound);
        bind(address, 2, Neighbour::None).unwrap();
    }
}
