//! Reload as a transaction: load → check → diff → build everything new → prove it → publish once → drain what went.
//!
//! The [`Controller`] is the one task that changes what is published; file watch, SIGHUP and the admin
//! listener ask it through a [`ControlHandle`]. Until the publish, everything that a reload made can be dropped without a
//! trace, so any error leaves the running state exactly as it was; after the publish nothing can fail any more.

mod controller;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::diff::Diff;
use crate::config::load::Rejected;
use crate::config::model::PoolName;
use crate::config::problem::Problem;
use crate::health::fleet::UnknownInstance;
use crate::listener::sockets::ListenError;
use crate::pool::instance::Admin;

pub use controller::{Controller, Starting};

/// Requests that may wait for the controller; who asks waits for room.
const COMMANDS_MAX: usize = 64;

/// What asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The file was changed or replaced.
    File,
    /// SIGHUP, or the service's counterpart.
    Signal,
    /// `POST /reload`.
    Admin,
}

impl Trigger {
    /// As logs say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Admin => "admin",
        }
    }
}

/// Whether a reload is applied though a pool would be without any instance that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is refused then.
    No,
    /// It is applied all the same.
    Yes,
}

/// A reload that went through.
#[derive(Debug, Clone)]
pub struct ReloadOutcome {
    /// The generation that is published now; the one from before if nothing changed.
    pub generation: u64,
    /// The hash of the file that it was made from.
    pub hash: String,
    /// What changed. Its `needs_restart` names what is in the file but not in effect.
    pub diff: Diff,
    /// What may not be as it was meant.
    pub warnings: Vec<Problem>,
    /// From the trigger to the publish.
    pub took: Duration,
}

/// Why nothing changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be used.
    #[error("{0}")]
    Invalid(Rejected),
    /// An address of a listener cannot be had.
    #[error("{0}")]
    Listen(Arc<ListenError>),
    /// Pools would be without any instance that passes.
    #[error("no instance would pass its probes in {}", Pools(.0))]
    NothingPasses(Vec<PoolName>),
    /// Plimsoll is ending.
    #[error("plimsoll is ending")]
    Ending,
}

struct Pools<'a>(&'a [PoolName]);

impl fmt::Display for Pools<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pool) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}pool `{pool}`")?;
        }
        Ok(())
    }
}

/// Names what could have been meant.
struct Nearest<'a>(&'a [String]);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{} `{name}`", if index == 0 { ", did you mean" } else { " or" })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { "?" })
    }
}

/// What the controller is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Load the file anew.
    Reload { trigger: Trigger, force: Force, reply: oneshot::Sender<Result<ReloadOutcome, ReloadError>> },
    /// Read the files anew that the configuration names.
    ReadFiles(oneshot::Sender<()>),
    /// Drain an instance, switch it off, or let it serve.
    SetAdmin(SetAdmin, oneshot::Sender<Result<(), SetAdminError>>),
}

/// What an operator wants of an instance.
#[derive(Debug, Clone)]
pub struct SetAdmin {
    /// The pool's name.
    pub pool: String,
    /// The instance's name.
    pub instance: String,
    /// What it shall be.
    pub admin: Admin,
    /// Who wants it.
    pub who: String,
    /// Why, in the operator's words.
    pub why: String,
}

/// Why an instance's admin state was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetAdminError {
    /// No such pool or instance.
    #[error("{0}{nearest}", nearest = Nearest(&.0.nearest))]
    Unknown(UnknownInstance),
    /// Plimsoll is ending.
    #[error("plimsoll is ending")]
    Ending,
}

/// The way to the controller, for everything that wants something changed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    commands: mpsc::Sender<Command>,
}

impl ControlHandle {
    /// A handle and what the controller reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        (Self { commands }, inbox)
    }

    /// Asks for a reload and waits for its end. Those that ask while one runs get the result of one further reload.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing was changed then.
    ///
    /// # Cancel safety
    /// A dropped future takes nothing back: the reload goes on.
    pub async fn reload(&self, trigger: Trigger, force: Force) -> Result<ReloadOutcome, ReloadError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Reload { trigger, force, reply }).await;
        sent.map_err(|_| ReloadError::Ending)?;
        answer.await.unwrap_or(Err(ReloadError::Ending))
    }

    /// Has the files read anew that the configuration names, and waits until what is good in them is in use. The
    /// configuration stays: a mistake that somebody has left in it must not keep a certificate from being renewed.
    ///
    /// # Cancel safety
    /// A dropped future takes nothing back.
    pub async fn read_files(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::ReadFiles(reply)).await.is_ok() {
            let _ending = done.await.is_err();
        }
    }

    /// Drains an instance, switches it off, or lets it serve.
    ///
    /// # Errors
    /// If there is no such instance.
    ///
    /// # Cancel safety
    /// A dropped future takes nothing back.
    pub async fn set_admin(&self, wanted: SetAdmin) -> Result<(), SetAdminError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::SetAdmin(wanted, reply)).await;
        sent.map_err(|_| SetAdminError::Ending)?;
        answer.await.unwrap_or(Err(SetAdminError::Ending))
    }
}
