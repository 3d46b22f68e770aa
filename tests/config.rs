//! The promise to the operator: a configuration that is right is accepted, and one that is wrong is refused with a
//! message that says what, where, and what to write instead, for every mistake in it.
//!
//! Each `tests/config/invalid/NAME.toml` has its message beside it in `NAME.expected`. After a deliberate change of a
//! message, `PLIMSOLL_BLESS=1 cargo test --test config` writes them anew; read the difference before you commit it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use plimsoll::config::load::{self, Loaded, Rejected, Surroundings};
use plimsoll::config::problem::Listing;

/// A machine with four cores, two names and one secret.
struct Fake;

impl Surroundings for Fake {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        hosts
            .iter()
            .map(|host| match host.as_str() {
                "api.internal" => Ok(vec![ip("10.0.0.7")]),
                "many.internal" => Ok(vec![ip("fd00::1"), ip("10.0.0.9"), ip("10.0.0.8")]),
                _ => Err(io::Error::other("name or service not known")),
            })
            .collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("token") => Ok("0123456789abcdef0123456789abcdef\n".to_owned()),
            _ => Err(io::Error::other("no such file or directory")),
        }
    }

    fn cores(&self) -> usize {
        4
    }
}

fn parse(text: &str) -> Result<Loaded, Rejected> {
    load::parse(text, Path::new("plimsoll.toml"), &Fake)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", folder.display());
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_invalid_file_is_refused_with_its_expected_message() {
    let bless = std::env::var_os("PLIMSOLL_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files("tests/config/invalid") {
        let message = match parse(&read(&path)) {
            Ok(_) => {
                wrong.push(format!("{} is accepted", path.display()));
                continue;
            }
            Err(rejected) => format!("{rejected}\n"),
        };
        let expected_path = path.with_extension("expected");
        if bless {
            fs::write(&expected_path, &message).expect("the message can be written");
        } else if fs::read_to_string(&expected_path).unwrap_or_default() != message {
            wrong.push(format!("{}:\n{message}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_valid_file_is_accepted_without_a_warning() {
    for folder in ["tests/config/valid", "config"] {
        for path in files(folder) {
            match parse(&read(&path)) {
                Ok(loaded) => {
                    assert!(loaded.warnings.is_empty(), "{}:\n{}", path.display(), Listing(&loaded.warnings));
                }
                Err(rejected) => panic!("{}:\n{rejected}", path.display()),
            }
        }
    }
}
