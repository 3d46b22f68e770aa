//! The command line: words typed → what is to be done.

/// Runs what the command line says.
#[must_use]
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
