//! The composition root (see ARCHITECTURE.md).

use std::path::Path;
use std::process::ExitCode;

/// Serves a configuration until the process is told to end.
#[must_use]
pub fn run(_config: &Path) -> ExitCode {
    ExitCode::FAILURE
}
