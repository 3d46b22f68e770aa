//! The demo (see ARCHITECTURE.md).

use std::process::ExitCode;

/// How often the demo kills an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Until it is told to end.
    Endless,
    /// Once, then a summary.
    Once,
}

/// Runs the demo.
#[must_use]
pub fn run(_rounds: Rounds) -> ExitCode {
    ExitCode::FAILURE
}
