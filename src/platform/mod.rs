//! What differs between systems, behind one interface with two bodies: sockets, signals, limits.
//!
//! | question | Linux | other Unix | Windows |
//! |---|---|---|---|
//! | how do connections get to the workers? | a socket per worker (`SO_REUSEPORT`) | one socket, handed over | one socket, handed over |
//! | may another process take our port? | only with our user id, while several workers share it | no | no (`SO_EXCLUSIVEADDRUSE`) |
//! | who has a port? | `/proc` | – | the table of listeners; http.sys; excluded ranges |
//! | when is a refused connect known? | at once | at once | at once (`SIO_TCP_INITIAL_RTO`) |
//! | what reloads? | SIGHUP | SIGHUP | – (later: the service's ParamChange) |
//! | what ends? | SIGTERM, SIGINT | SIGTERM, SIGINT | Ctrl-C, Ctrl-Break, close, shutdown |
//! | descriptors | `RLIMIT_NOFILE` is raised | `RLIMIT_NOFILE` is raised | no such limit |

pub mod usage;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(windows)]
pub use windows::service;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use socket2::Socket;
use tokio::net::TcpStream;

/// Whether several sockets of ours may have the same address, so that the kernel spreads connections over workers.
pub const SOCKET_PER_WORKER: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether accepted connections have `TCP_NODELAY` from their listening socket: one system call less for each.
pub const NODELAY_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whether a socket shares its address with other sockets of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It is the only one: fails if anybody else listens there.
    Alone,
    /// One per worker.
    WithOtherWorkers,
}

/// Sets what a listening socket needs before it is bound.
///
/// # Errors
/// If the system refuses an option.
pub fn prepare_listener(socket: &Socket, sharing: Sharing) -> io::Result<()> {
    system::prepare_listener(socket, sharing)
}

/// Why an address cannot be had, in words, if more can be found out than what `error` of a bind says: which process
/// listens there, or what is set aside for others, and the command that shows it. `nginx (process 812)`.
#[must_use]
pub fn obstacle(address: SocketAddr, error: &io::Error) -> Option<String> {
    system::obstacle(address, error)
}

/// Whether an address that could not be bound may become free soon: somebody has it, such as the process before us.
#[must_use]
pub fn may_pass(error: &io::Error) -> bool {
    system::may_pass(error)
}

/// Connects to an instance. A refusal comes at once on every system.
///
/// # Errors
/// What the system says.
///
/// # Cancel safety
/// Dropping it closes the socket.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    system::connect(address).await
}

/// Whether others than its owner can read a file, as far as its mode tells. `false` if it cannot be looked at.
#[must_use]
pub fn is_exposed(path: &Path) -> bool {
    system::is_exposed(path)
}

/// The limit of open descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// As it was found.
    pub before: u64,
    /// As it is now.
    pub now: u64,
}

/// Raises the limit of open descriptors as far as this user may. `None`: the system has no such limit.
///
/// # Errors
/// If the system refuses.
pub fn raise_descriptor_limit() -> io::Result<Option<DescriptorLimit>> {
    system::raise_descriptor_limit()
}

/// How many descriptors may be open now. `None`: the system has no such limit.
#[must_use]
pub fn descriptor_limit() -> Option<u64> {
    system::descriptor_limit()
}

/// The number of a socket's descriptor. The system gives the lowest that is free, so that all below it were in use.
#[must_use]
pub fn descriptor_number(socket: &tokio::net::TcpStream) -> Option<u64> {
    system::descriptor_number(socket)
}

/// The signals that ask the process to end. From its making on, none of them ends the process by itself.
#[derive(Debug)]
pub struct EndSignals(system::EndSignals);

impl EndSignals {
    /// Starts to listen for them. Needs a runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        system::EndSignals::listen().map(Self)
    }

    /// Waits for the next one, and says which it was.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: signals are kept (coalesced, per kind) until they are asked for.
    pub async fn next(&mut self) -> &'static str {
        self.0.next().await
    }
}

/// The signal that asks for a reload. From its making on, it does not end the process.
#[derive(Debug)]
pub struct ReloadSignal(system::ReloadSignal);

impl ReloadSignal {
    /// Starts to listen for it. Needs a runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        system::ReloadSignal::listen().map(Self)
    }

    /// Waits for the next one; for ever where there is no such signal.
    ///
    /// # Cancel safety
    /// As [`EndSignals::next`].
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}
