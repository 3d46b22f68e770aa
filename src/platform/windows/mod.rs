//! Sockets and signals on Windows; see [`super`].
#![allow(unsafe_code, reason = "what Windows has alone, no safe crate has; each call is argued where it stands")]

mod ports;
pub mod service;

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsRawSocket;
use std::path::Path;
use std::ptr::null_mut;

use socket2::Socket;
use tokio::net::{TcpSocket, TcpStream};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};
use windows_sys::Win32::Networking::WinSock::{
    SIO_TCP_INITIAL_RTO, SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS,
    TCP_INITIAL_RTO_PARAMETERS, WSAIoctl, setsockopt,
};

use super::{DescriptorLimit, Sharing};

pub(super) fn is_exposed(_path: &Path) -> bool {
    // Access lists are inherited from the folder, and a science of their own.
    false
}

/// Windows lets any process bind a port that is in use if it asks with `SO_REUSEADDR`, and gives it the connections: so
/// every listener asks for exclusive use.
pub(super) fn prepare_listener(socket: &Socket, _sharing: Sharing) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the socket is open for as long as it is borrowed; the pointer and the length describe `on`, a 32-bit BOOL,
    // which outlives the call; the function keeps neither.
    let result = unsafe {
        setsockopt(
            socket.as_raw_socket() as SOCKET,
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            (&raw const on).cast::<u8>(),
            size_of_val(&on) as i32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn obstacle(address: SocketAddr, error: &io::Error) -> Option<String> {
    ports::obstacle(address, error)
}

/// Another process that has the address for itself makes a bind fail as if it were not allowed; so does a range of ports
/// that is set aside, which does not pass, but cannot be told apart by the error.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Windows repeats a SYN also when it was refused, and tells of the refusal after 2 s: as late as a host that is not
/// there, and as late as a probe's time limit. So it may not repeat it.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Wine and systems before Windows 8.1 do not know it: there a refusal is seen late, and that is all.
    let _unknown = forbid_syn_repeats(&socket).is_err();
    socket.connect(address).await
}

fn forbid_syn_repeats(socket: &TcpSocket) -> io::Result<()> {
    /// Leaves the system's time as it is.
    const ANY_TIME: u16 = u16::MAX;
    let parameters = TCP_INITIAL_RTO_PARAMETERS {
        Rtt: ANY_TIME,
        MaxSynRetransmissions: TCP_INITIAL_RTO_NO_SYN_RETRANSMISSIONS as u8,
    };
    let mut returned = 0;
    // SAFETY: the socket is open for as long as it is borrowed; the input is `parameters` with its size, which outlives
    // the call; there is no output but `returned`, and no overlapped operation, so that nothing is kept.
    let result = unsafe {
        WSAIoctl(
            socket.as_raw_socket() as SOCKET,
            SIO_TCP_INITIAL_RTO,
            (&raw const parameters).cast(),
            size_of_val(&parameters) as u32,
            null_mut(),
            0,
            &raw mut returned,
            null_mut(),
            None,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(clippy::unnecessary_wraps, reason = "one interface for all systems")]
pub(super) fn descriptor_limit() -> Option<u64> {
    None
}

pub(super) fn descriptor_number(_socket: &tokio::net::TcpStream) -> Option<u64> {
    None
}

pub(super) fn raise_descriptor_limit() -> io::Result<Option<DescriptorLimit>> {
    Ok(None)
}

#[derive(Debug)]
pub(super) struct EndSignals {
    ctrl_c: CtrlC,
    ctrl_break: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl EndSignals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { ctrl_c: ctrl_c()?, ctrl_break: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        // All arms are cancel-safe: a signal stays noted until its `recv` returns.
        tokio::select! {
            _ = self.ctrl_c.recv() => "Ctrl-C",
            _ = self.ctrl_break.recv() => "Ctrl-Break",
            _ = self.close.recv() => "console close",
            _ = self.shutdown.recv() => "shutdown",
        }
    }
}

#[derive(Debug)]
pub(super) struct ReloadSignal;

#[expect(clippy::unnecessary_wraps, clippy::unused_async, reason = "one interface for all systems")]
impl ReloadSignal {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) {
        std::future::pending().await
    }
}
