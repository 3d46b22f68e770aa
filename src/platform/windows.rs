//! Sockets and signals on Windows; see [`super`].
#![allow(unsafe_code, reason = "socket2 has no SO_EXCLUSIVEADDRUSE; the only call is argued where it stands")]

use std::io;
use std::net::SocketAddr;
use std::os::windows::io::AsRawSocket;

use socket2::Socket;
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};
use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, setsockopt};

use super::{DescriptorLimit, Sharing};

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

pub(super) fn holder_of(_address: SocketAddr) -> Option<String> {
    None
}

#[allow(clippy::unnecessary_wraps, reason = "one interface for all systems")]
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
