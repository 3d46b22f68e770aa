//! `plimsoll service …`, on Windows only: words typed → what `service::windows` does.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use windows_service::service::ServiceState;

use super::{ConfigFile, complain, print};
use crate::service::windows::{self, Install};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Install the service, or set an installed one anew; needs an administrator
    #[command(after_help = "\
The configuration is checked first. The service starts with the system, is started again when it ends by itself, and runs
as `NT SERVICE\\NAME`, an account that exists for it alone and has no rights but those that it is given: let it read the
configuration, and write where `[log] file` lies.")]
    Install(Installation),
    /// Stop the service and remove it; its files stay
    Uninstall(Name),
    /// Start it, and wait until it serves
    Start(Name),
    /// Stop it, and wait until what is in flight is finished
    Stop(Name),
    /// Stop it, then start it
    Restart(Name),
    /// Show what the service controller says of it; exits 0 if it runs
    Status(Name),
    /// Load the configuration anew (as `sc control NAME paramchange`)
    Reload(Name),
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// Name of the service
    #[arg(long, default_value = "plimsoll")]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Installation {
    #[command(flatten)]
    name: Name,
    /// Name for people
    #[arg(long, value_name = "TEXT", default_value = "Plimsoll reverse proxy")]
    display_name: String,
    /// Account to run as, without a password: a virtual or managed one, or LocalSystem
    #[arg(long)]
    account: Option<String>,
    /// Start some minutes after the system
    #[arg(long)]
    delayed: bool,
    /// Service that has to run before; may be given several times
    #[arg(long, value_name = "NAME")]
    depends: Vec<String>,
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Install(Installation { name, display_name, account, delayed, depends, file }) => {
            windows::install(&Install { name: name.name, display_name, config: file.config, account, delayed, depends })
        }
        Command::Uninstall(Name { name }) => windows::uninstall(&name),
        Command::Start(Name { name }) => windows::start(&name),
        Command::Stop(Name { name }) => windows::stop(&name),
        Command::Restart(Name { name }) => windows::restart(&name),
        Command::Reload(Name { name }) => windows::reload(&name),
        Command::Status(Name { name }) => match windows::status(&name) {
            Ok((state, text)) => {
                print(&text);
                return if state == ServiceState::Running { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
