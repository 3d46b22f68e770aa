//! systemd as supervisor: told over the socket that it names in `NOTIFY_SOCKET` (`sd_notify(3)`), for `Type=notify`.
//!
//! It orders by signals, and by `ExecReload=plimsoll reload`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::Stage;

/// Beyond `linger` and `drain_timeout`, before systemd kills.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// The way to systemd.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Systemd {
    /// `name` is that of `NOTIFY_SOCKET`: a path, or an abstract name behind `@`.
    ///
    /// # Errors
    /// If there can be no such socket.
    pub fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        Ok(Self { socket: UnixDatagram::unbound()?, address })
    }

    /// Says which stage is reached.
    pub fn tell(&self, stage: Stage) {
        let text = text(stage);
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            tracing::warn!(%error, "systemd not told");
        }
    }
}

fn text(stage: Stage) -> String {
    match stage {
        Stage::Starting => "STATUS=takes addresses, waits for first verdicts".to_owned(),
        Stage::Running => "READY=1\nSTATUS=serves".to_owned(),
        Stage::Paused => "STATUS=paused".to_owned(),
        Stage::Stopping { within } => {
            let micros = (within + STOP_MARGIN).as_micros();
            format!("STOPPING=1\nSTATUS=finishes what is in flight\nEXTEND_TIMEOUT_USEC={micros}")
        }
    }
}
