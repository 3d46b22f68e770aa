//! The command line: words typed → what is to be done.
//!
//! `run`, `check` and `demo` work by themselves; the others ask a running Plimsoll over its admin listener (`client.rs`).
//! Exit codes: 0 done, 1 failed, 64 misused (`EX_USAGE` of sysexits.h). Results go to standard output, errors to standard
//! error, so that output can be piped.

mod check;
mod client;
mod remote;
mod run;
#[cfg(windows)]
mod service;
mod show;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use check::Strictness;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::demo;
use crate::pool::instance::Admin;

/// The exit code of a command line that is not understood.
const MISUSE: u8 = 64;

/// A health-checking reverse proxy and load balancer.
#[derive(Debug, Parser)]
#[command(
    name = "plimsoll",
    version,
    arg_required_else_help = true,
    after_help = "\
First steps:
  plimsoll demo                         see it work, without any configuration
  plimsoll check config/plimsoll.toml   is this file right?
  plimsoll run                          serve config/plimsoll.toml
  plimsoll status                       what it thinks of each instance, and why

config/reference.toml explains every key. Exit codes: 0 done, 1 failed, 64 misused."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until told to end
    #[command(after_help = "\
Logs go to standard output, as JSON lines unless `[log] format` says otherwise.

Signals:
  SIGHUP            reload the configuration (so does a change of the file)
  SIGTERM, SIGINT   finish what is in flight, then end; a second one ends at once

On Windows Ctrl-C, Ctrl-Break and closing the console do the latter. Started by the service controller, it is a service.")]
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Install it as a Windows service, and control that
    #[cfg(windows)]
    #[command(subcommand)]
    Service(service::Command),
    /// Say everything that is wrong with configuration files
    #[command(after_help = "\
Prints all errors at once, each with its place and what to write instead. For a file that is right it prints how long
each pool takes at worst to notice a broken instance. Exits 1 if a file has an error, with `--strict`
also if it has a warning, such as instances whose certificates are not verified.")]
    Check {
        /// Refuse files that have warnings, too
        #[arg(long)]
        strict: bool,
        /// Files to check
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show what a reload to a file would change
    #[command(after_help = "\
The running Plimsoll reads the file's text as if it stood where its own configuration does; nothing is changed.")]
    Diff {
        /// The new configuration
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show each pool and instance, and why they are as they are
    Status {
        /// The answer of `GET /status` as it is, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Load the configuration anew, and wait for the result
    #[command(after_help = "\
All or nothing: on any error the old configuration stays in force. A reload that would leave a pool without any instance
that passes its probes is refused, unless forced.")]
    Reload {
        /// Apply it though a pool would be without any instance that passes
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Give an instance nothing new and let it finish what it has
    #[command(after_help = "Holds until `plimsoll enable`, also over reloads; `plimsoll status` shows who, why and \
                            since when.\n\nExample:\n  plimsoll drain api/10.0.0.7:9001 --why 'kernel update'")]
    Drain(InstanceChange),
    /// Let an instance that was drained or switched off serve again
    #[command(after_help = "It gets requests as soon as its probes pass.")]
    Enable(InstanceChange),
    /// As drain, and stop its probes too
    #[command(after_help = "For an instance that is down on purpose. Holds until `plimsoll enable`.")]
    Off(InstanceChange),
    /// See it work: three sample instances, a proxy, a light load, and an instance that dies and comes back
    Demo {
        /// One round, then a summary; exits 0 only if no client request failed
        #[arg(long)]
        once: bool,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "config/plimsoll.toml", env = "PLIMSOLL_CONFIG")]
    config: PathBuf,
}

/// How to reach a running Plimsoll.
#[derive(Debug, Args)]
struct Connection {
    #[command(flatten)]
    file: ConfigFile,
    /// Where its admin listener is, instead of what `[admin]` in the configuration says
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// File that holds the admin token, instead of what `[admin]` in the configuration says
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InstanceChange {
    /// Which one, as `plimsoll status` names it
    #[arg(value_name = "POOL/INSTANCE", value_parser = InstancePath::parse)]
    instance: InstancePath,
    /// For those who read `plimsoll status` later
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    #[command(flatten)]
    connection: Connection,
}

/// `POOL/INSTANCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InstancePath {
    pool: String,
    instance: String,
}

impl InstancePath {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once('/') {
            Some((pool, instance)) if !pool.is_empty() && !instance.is_empty() => {
                Ok(Self { pool: pool.to_owned(), instance: instance.to_owned() })
            }
            _ => Err("write it as POOL/INSTANCE, such as `api/127.0.0.1:9001`; `plimsoll status` lists them"),
        }
    }
}

/// Why a command failed: what is said on standard error before the exit code 1.
#[derive(Debug)]
struct Failed(String);

/// Runs what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do for an output that is closed.
            let _closed = error.print().is_err();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(MISUSE),
            };
        }
    };
    let result = match arguments.command {
        Command::Run { file } => return run::run(&file.config),
        #[cfg(windows)]
        Command::Service(command) => return service::run(command),
        Command::Demo { once } => return demo::run(if once { demo::Rounds::Once } else { demo::Rounds::Endless }),
        Command::Check { strict, files } => {
            return check::check(&files, if strict { Strictness::Strict } else { Strictness::Usual });
        }
        Command::Diff { file, connection } => remote::diff(&connection, &file),
        Command::Status { json, connection } => remote::status(&connection, json.into()),
        Command::Reload { force, connection } => remote::reload(&connection, force),
        Command::Drain(change) => remote::set_admin(&change, Admin::Drain),
        Command::Enable(change) => remote::set_admin(&change, Admin::Active),
        Command::Off(change) => remote::set_admin(&change, Admin::Off),
    };
    match result {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(Failed(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Writes a result. A reader that has gone (`| head`) has what it wanted.
fn print(text: &str) {
    let _closed = std::io::stdout().write_all(text.as_bytes()).is_err();
}

/// Writes what went wrong, or may.
fn complain(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}").is_err();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_instance_is_named_by_pool_and_instance() {
        let path = |text| InstancePath::parse(text).map(|path| (path.pool, path.instance)).ok();
        assert_eq!(path("api/127.0.0.1:9001"), Some(("api".to_owned(), "127.0.0.1:9001".to_owned())));
        assert_eq!(path("api/[::1]:9001"), Some(("api".to_owned(), "[::1]:9001".to_owned())));
        for wrong in ["api", "api/", "/a", ""] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_command_of_the_manual_is_understood() {
        for line in [
            "run",
            "run --config a.toml",
            "check a.toml b.toml",
            "diff a.toml --admin 127.0.0.1:1",
            "status --json --config a.toml",
            "reload --force",
            "drain api/a --why update",
            "enable api/a",
            "off api/a --token-file t",
            "demo --once",
        ] {
            let words = std::iter::once("plimsoll").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
        for line in ["", "check", "drain", "drain api", "statsu", "run --port 1", "diff"] {
            let words = std::iter::once("plimsoll").chain(line.split(' ').filter(|word| !word.is_empty()));
            let error = Arguments::try_parse_from(words).map(|_| ()).unwrap_err();
            assert!(!matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
        }
    }
}
