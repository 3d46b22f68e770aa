//! `plimsoll run`: in a console, below systemd, or as the service that Windows' service controller has started; it finds
//! out which.

use std::path::Path;
use std::process::ExitCode;

use super::complain;
use crate::app;
use crate::service::Lifecycle;

pub(super) fn run(config: &Path) -> ExitCode {
    #[cfg(windows)]
    {
        use crate::platform::service::{self, Started};
        let of_service = config.to_path_buf();
        // Nobody reads what a service complains of: its exit code says what kind of failure it was, and its log more.
        let started = service::run(move |lifecycle| app::run(&of_service, lifecycle).map_err(|error| error.failure()));
        match started {
            Ok(Started::ByController) => return ExitCode::SUCCESS,
            Ok(Started::ByHand) => {}
            Err(error) => {
                complain(&format!("cannot run as a service: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    match app::run(config, lifecycle()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// systemd says by this variable that it wants to be told.
#[cfg(target_os = "linux")]
fn lifecycle() -> Lifecycle {
    use crate::service::systemd::Systemd;

    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Lifecycle::console();
    };
    match Systemd::at(&name) {
        Ok(systemd) => Lifecycle::supervised(move |stage| systemd.tell(stage)).0,
        Err(error) => {
            complain(&format!("NOTIFY_SOCKET is no socket ({error}), systemd is not told"));
            Lifecycle::console()
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn lifecycle() -> Lifecycle {
    Lifecycle::console()
}
