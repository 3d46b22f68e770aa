//! Sockets, signals and limits on Linux and other Unix systems; see [`super`].

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use super::{DescriptorLimit, NODELAY_INHERITED, SOCKET_PER_WORKER, Sharing};

pub(super) fn prepare_listener(socket: &Socket, sharing: Sharing) -> io::Result<()> {
    // Lets a port be bound that has old connections in TIME_WAIT, after a restart. On Unix, other than on Windows, a
    // port that somebody listens on stays taken.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithOtherWorkers && SOCKET_PER_WORKER {
        socket.set_reuse_port(true)?;
    }
    if NODELAY_INHERITED {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(())
}

pub(super) fn is_exposed(path: &Path) -> bool {
    const GROUP_AND_OTHERS: u32 = 0o077;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & GROUP_AND_OTHERS != 0)
}

pub(super) fn obstacle(address: SocketAddr, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::AddrInUse => holder_of(address).map(|holder| format!("the address is in use by {holder}")),
        io::ErrorKind::PermissionDenied => {
            Some("permission denied (ports below 1024 need a privilege, such as CAP_NET_BIND_SERVICE)".to_owned())
        }
        _ => None,
    }
}

pub(super) fn may_pass(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

/// Which process listens on an address: `nginx (process 812)`.
#[cfg(target_os = "linux")]
fn holder_of(address: SocketAddr) -> Option<String> {
    use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
    use procfs::process::{FDTarget, all_processes};

    // Another family can hold it as well: `[::]:80` that is not v6-only has port 80 of every IPv4 address.
    let entries = tcp().into_iter().chain(tcp6()).flatten();
    let overlaps = |entry: &TcpNetEntry| {
        let (theirs, ours) = (entry.local_address, address);
        let same = theirs.ip() == ours.ip() || theirs.ip().is_unspecified() || ours.ip().is_unspecified();
        entry.state == TcpState::Listen && theirs.port() == ours.port() && same
    };
    let inode = entries.into_iter().find(overlaps)?.inode;
    // Only our own user's processes show their descriptors, unless we are root: `None` then.
    let holder = all_processes().ok()?.flatten().find(|process| {
        let descriptors = process.fd().into_iter().flatten().flatten();
        descriptors.into_iter().any(|fd| fd.target == FDTarget::Socket(inode))
    })?;
    let name = holder.stat().map_or_else(|_| "unknown".to_owned(), |stat| stat.comm);
    Some(format!("{name} (process {})", holder.pid))
}

#[cfg(not(target_os = "linux"))]
fn holder_of(_address: SocketAddr) -> Option<String> {
    None
}

pub(super) fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

pub(super) fn descriptor_number(socket: &tokio::net::TcpStream) -> Option<u64> {
    use std::os::fd::AsRawFd as _;
    u64::try_from(socket.as_raw_fd()).ok()
}

pub(super) fn raise_descriptor_limit() -> io::Result<Option<DescriptorLimit>> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(Some(DescriptorLimit { before, now: limit.current.unwrap_or(u64::MAX) }))
}

#[derive(Debug)]
pub(super) struct EndSignals {
    terminate: Stream,
    interrupt: Stream,
}

impl EndSignals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        // Both arms are cancel-safe: a signal stays noted until its `recv` returns.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[derive(Debug)]
pub(super) struct ReloadSignal(Stream);

impl ReloadSignal {
    pub(super) fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    pub(super) async fn next(&mut self) {
        self.0.recv().await;
    }
}
