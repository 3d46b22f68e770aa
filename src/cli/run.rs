//! `plimsoll run`: in a console, or as the service that Windows' service controller has started; it finds out which.

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
    match app::run(config, Lifecycle::console()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
