//! From a path to a checked configuration: read the file, parse it, check it, and say everything that is wrong with it.
//!
//! What lies outside of the file (names to resolve, files with secrets, the number of cores) comes in through
//! [`Surroundings`], so that [`parse`] is a function of its arguments and tests need no network.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use toml::de::DeTable;

use super::check::check;
use super::model::Config;
use super::problem::{Problem, Problems, Severity};
use super::{file, files, values};

use crate::platform;
use crate::tls::material::Material;
use crate::tls::roots::Roots;

pub use super::problem::Rejected;

/// How long all names together may take to resolve. The system's resolver gives up after 10 s and more.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A configuration of 10,000 routes has less than 2 MiB; what is larger is another file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// What the files hold that it names.
    pub material: Arc<Material>,
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
    /// The bytes of a file, for certificates and keys.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path).map(String::into_bytes)
    }
    /// The certificates that the system trusts.
    ///
    /// # Errors
    /// If there are none.
    fn system_roots(&self) -> io::Result<Roots> {
        Roots::of_system()
    }
    /// Whether others than the owner can read a file.
    fn is_exposed(&self, _path: &Path) -> bool {
        false
    }
    /// What is in use now, if Plimsoll runs.
    fn in_use(&self) -> Option<Arc<Material>> {
        None
    }
    /// The date, for certificates.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
    /// How many cores there are, for `workers = 0`.
    fn cores(&self) -> usize;
}

/// Loads a file and everything that it names. Blocks for as long as names take to resolve, at most 5 s.
///
/// # Errors
/// All that is wrong with it, together.
pub fn load(path: &Path) -> Result<Loaded, Rejected> {
    parse(&read_text(path)?, path, &ThisMachine::default())
}

/// As [`load`], while `in_use` is in use: what has not changed is taken over, and what is new must be good.
///
/// # Errors
/// All that is wrong with it, together.
pub fn load_anew(path: &Path, in_use: &Arc<Material>) -> Result<Loaded, Rejected> {
    parse(&read_text(path)?, path, &ThisMachine { in_use: Some(Arc::clone(in_use)) })
}

/// Reads the files of a configuration that is in use anew. What is wrong with one of them is among the problems, and
/// what was in use of it stays.
#[must_use]
pub fn read_files_anew(config: &Config, in_use: &Arc<Material>) -> (Material, Vec<Problem>) {
    files::read(config, &ThisMachine { in_use: Some(Arc::clone(in_use)) })
}

/// Loads a configuration from its text; `path` is shown in messages and is what relative paths are relative to.
///
/// # Errors
/// All that is wrong with it, together.
pub fn parse(text: &str, path: &Path, surroundings: &dyn Surroundings) -> Result<Loaded, Rejected> {
    let hash = fingerprint(text.as_bytes());
    // Windows editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Problems::new(path, text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        return Err(Rejected { problems: syntax_problems(&syntax_errors, document.get_ref(), problems) });
    }
    let file = file::read(document.get_ref(), &mut problems);
    let config = check(&file, path, hash, surroundings, &mut problems);
    let (material, wrong_files) = files::read(&config, surroundings);
    let mut problems = problems.into_sorted();
    problems.extend(wrong_files);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Rejected { problems });
    }
    Ok(Loaded { config: Arc::new(config), material: Arc::new(material), warnings: problems })
}

/// What is not TOML, and what is wrong with single keys in other lines. How values fit together is not looked at: that
/// would be a guess. After a broken `[section]` line it is even a guess what section a key is in.
fn syntax_problems(errors: &[toml::de::Error], recovered: &DeTable<'_>, mut problems: Problems<'_>) -> Vec<Problem> {
    for error in errors {
        let message = error.message();
        let hint = if message.contains("duplicate key") {
            "each key and each `[section]` stands once; add to the first one"
        } else if message.contains("escape") {
            r"in double quotes a `\` begins an escape: write a Windows path in single quotes, `'C:\logs'`"
        } else if message.contains("string") || message.contains("quote") {
            "texts stand in double quotes: `\"5s\"`"
        } else {
            "a line is `key = value`, `[section]` or `[[section]]`; texts, also with units, stand in double quotes"
        };
        problems.error(error.span().as_ref(), format!("this is not TOML: {message}")).hint(hint);
    }
    let broken: Vec<_> = problems.places().map(|place| place.line).collect();
    if !problems.places().any(|place| place.text.trim_start().starts_with('[')) {
        file::read(recovered, &mut problems);
    }
    let mut problems = problems.into_sorted();
    let follows = |problem: &Problem| problem.place.as_ref().is_some_and(|place| broken.contains(&place.line));
    problems.retain(|problem| problem.message.starts_with("this is not TOML") || !follows(problem));
    problems
}

fn read_text(path: &Path) -> Result<String, Rejected> {
    let refuse = |message: &str, hint: &str| Err(Rejected::unreadable(path, message.to_owned(), Some(hint.to_owned())));
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return refuse(
                "the configuration is a directory",
                "name the file in it: `--config DIRECTORY/plimsoll.toml`",
            );
        }
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return refuse("the configuration is larger than 64 MiB", "is it the right file?");
        }
        metadata => metadata,
    };
    let bytes = match metadata.and_then(|_| std::fs::read(path)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::NotFound => "name another one with `--config FILE`".to_owned(),
                ErrorKind::PermissionDenied => "the account that Plimsoll runs as needs to read it".to_owned(),
                _ => "is the file system all right?".to_owned(),
            };
            return Err(Rejected::unreadable(path, format!("cannot read the configuration: {error}"), Some(hint)));
        }
    };
    String::from_utf8(bytes).or_else(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        refuse(
            &format!("the configuration is not UTF-8 (line {line})"),
            "save it as UTF-8, with or without a byte order mark",
        )
    })
}

/// FNV-1a of 64 bits: tells texts apart, and is the same in every build. It is no protection against forgery.
pub(super) fn fingerprint(bytes: &[u8]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

/// The machine that this runs on.
#[derive(Debug, Clone, Default)]
pub struct ThisMachine {
    /// What is in use, if Plimsoll runs.
    pub in_use: Option<Arc<Material>>,
}

impl Surroundings for ThisMachine {
    /// Each name in a thread of its own: the system's resolver cannot be interrupted, and one name that hangs must not
    /// keep the others from being asked for. A thread that is late ends when its resolver gives up.
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        let deadline = Instant::now() + RESOLVE_TIMEOUT;
        let late = || {
            let seconds = values::duration_text(RESOLVE_TIMEOUT);
            io::Error::new(ErrorKind::TimedOut, format!("no answer within {seconds}"))
        };
        let (sender, receiver) = mpsc::sync_channel(hosts.len());
        let mut results: Vec<_> = hosts.iter().map(|_| Err(late())).collect();
        for (index, host) in hosts.iter().enumerate() {
            let (host, sender) = (host.clone(), sender.clone());
            let spawned = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
                let addresses = (host.as_str(), 0).to_socket_addrs();
                // Nobody waits any more: the answer came too late.
                let _late = sender.send((index, addresses.map(|all| all.map(|one| one.ip()).collect()))).is_err();
            });
            if let Err(error) = spawned {
                results[index] = Err(error);
            }
        }
        drop(sender);
        while let Ok((index, result)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            results[index] = result;
        }
        results
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn is_exposed(&self, path: &Path) -> bool {
        platform::is_exposed(path)
    }

    fn in_use(&self) -> Option<Arc<Material>> {
        self.in_use.clone()
    }

    fn cores(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }
}
