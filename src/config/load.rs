//! From a path to a checked configuration: read the file, parse it, check it, and say everything that is wrong with it.
//!
//! What lies outside of the file (names to resolve, files with secrets, the number of cores) comes in through
//! [`Surroundings`], so that [`parse`] is a function of its arguments and tests need no network.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::model::Config;
use super::problem::Problem;
pub use super::problem::Rejected;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// What may not be as it was meant.
    pub warnings: Vec<Problem>,
}

/// What a configuration needs to know that does not stand in the file.
pub trait Surroundings {
    /// The addresses of some host names, one result for each. Bounded in time for all of them together.
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>>;
    /// The text of a file, for `token_file`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// How many cores there are, for `workers = 0`.
    fn cores(&self) -> usize;
}

/// Loads a file and everything that it names. Blocks: names are resolved.
///
/// # Errors
/// All that is wrong with it, together.
pub fn load(path: &Path) -> Result<Loaded, Rejected> {
    Err(Rejected::unreadable(path, "not built yet".to_owned(), None))
}

/// Loads a configuration from its text; `path` is shown in messages and is what relative paths are relative to.
///
/// # Errors
/// All that is wrong with it, together.
pub fn parse(_text: &str, path: &Path, _surroundings: &dyn Surroundings) -> Result<Loaded, Rejected> {
    Err(Rejected::unreadable(path, "not built yet".to_owned(), None))
}
