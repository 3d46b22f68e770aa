//! Rules of the house that no compiler checks: which module may know which, where `unsafe` may stand, that the documents
//! name what there is. Reads the sources; ARCHITECTURE.md tells the reasons.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Modules in which requests are served. They read the snapshot and know nothing of how it is made.
const DATA_SIDE: [&str; 13] = [
    "worker",
    "connection",
    "forward",
    "http",
    "http1",
    "http2",
    "listener",
    "pool",
    "route",
    "tls",
    "upstream",
    "wire",
    "cause",
];

/// Control side and file formats, which the data side must not know.
const CONTROL_SIDE: [&str; 11] = [
    "crate::admin",
    "crate::app",
    "crate::cli",
    "crate::demo",
    "crate::reload",
    "crate::config::file",
    "crate::config::load",
    "crate::config::check",
    "crate::config::diff",
    "serde",
    "toml::",
];

/// Decide, and do nothing else: what they need comes in as arguments.
const PURE: [&str; 13] = [
    "src/http1/",
    "src/http2/head.rs",
    "src/route/",
    "src/pool/balance/",
    "src/health/state.rs",
    "src/health/passive.rs",
    "src/forward/retry.rs",
    "src/config/diff.rs",
    "src/config/check/",
    "src/config/model.rs",
    "src/tls/pem.rs",
    "src/tls/certificate.rs",
    "src/tls/expiry.rs",
];

/// What a pure module must not do: wait, look at a clock, touch a file or a socket, roll dice.
const EFFECTS: [&str; 10] = [
    "tokio::net",
    "tokio::spawn",
    "tokio::sync",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net::Tcp",
    "TcpStream",
    "fastrand::Rng::new",
    ".await",
];

struct Source {
    /// From the root of the project, with `/`.
    path: String,
    /// Without its tests.
    code: String,
    /// All of it.
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder of the project.
fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    paths.sort();
    paths.iter().map(|path| source(path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        // What a build of the fuzz targets leaves behind is not ours.
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn source(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).expect("a readable source");
    let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
    // Tests stand last in a file, or in a file of their own that only tests have.
    let of_tests = ["tests.rs", "testing.rs"].iter().any(|name| path.ends_with(name)) || path.contains("/tests/");
    let code = if of_tests { "" } else { text.split("#[cfg(test)]\nmod ").next().unwrap_or_default() };
    Source { code: code.to_owned(), path, text }
}

/// Lines of code with `wanted` that are no comments, as `path:line: text`.
fn lines_with(source: &Source, wanted: &str) -> String {
    let mut found = String::new();
    for (index, line) in source.code.lines().enumerate() {
        if line.contains(wanted) && !line.trim_start().starts_with("//") {
            writeln!(found, "  {}:{}: {}", source.path, index + 1, line.trim()).expect("a String takes all");
        }
    }
    found
}

fn in_module(source: &Source, module: &str) -> bool {
    source.path == format!("src/{module}.rs") || source.path.starts_with(&format!("src/{module}/"))
}

#[test]
fn data_side_does_not_know_the_control_side() {
    let mut wrong = String::new();
    for source in sources("src") {
        if DATA_SIDE.iter().any(|module| in_module(&source, module)) {
            wrong.extend(CONTROL_SIDE.iter().map(|module| lines_with(&source, module)));
        }
    }
    assert!(wrong.is_empty(), "the data side reads the snapshot and nothing else of the control side:\n{wrong}");
}

#[test]
fn pure_modules_have_no_effects() {
    let mut wrong = String::new();
    for source in sources("src").iter().filter(|source| PURE.iter().any(|path| source.path.starts_with(path))) {
        wrong.extend(EFFECTS.iter().map(|effect| lines_with(source, effect)));
    }
    assert!(wrong.is_empty(), "time, chance and sockets come in as arguments here:\n{wrong}");
}

#[test]
fn rustls_is_known_below_tls_and_wire_only() {
    let mut wrong = String::new();
    for source in sources("src").iter().filter(|source| !in_module(source, "tls") && !in_module(source, "wire")) {
        wrong.extend(["rustls::", "tokio_rustls", "aws_lc_rs"].map(|name| lines_with(source, name)));
    }
    assert!(wrong.is_empty(), "TLS has one door:\n{wrong}");
}

#[test]
fn unsafe_stands_in_platform_only() {
    let mut wrong = String::new();
    for source in sources("src").iter().filter(|source| !source.path.starts_with("src/platform/")) {
        for wanted in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code", "expect(unsafe_code"] {
            wrong += &lines_with(source, wanted);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn rustls_is_reached_through_one_door() {
    let mut wrong = String::new();
    for source in sources("src").iter().filter(|source| !in_module(source, "tls") && !in_module(source, "wire")) {
        wrong += &lines_with(source, "rustls");
    }
    assert!(wrong.is_empty(), "settings of TLS are made in `tls`, and nowhere else:\n{wrong}");
}

#[test]
fn environment_is_read_by_config_and_cli_only() {
    let mut wrong = String::new();
    for source in sources("src") {
        if !in_module(&source, "config") && !in_module(&source, "cli") {
            wrong += &lines_with(&source, "env::var");
        }
    }
    assert!(wrong.is_empty(), "settings come from the configuration, where an operator looks for them:\n{wrong}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        wrong.extend(
            sources(folder).into_iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path),
        );
    }
    assert!(wrong.is_empty(), "no header of `//!`: {wrong:?}");
}

#[test]
fn modules_are_folders_with_mod_rs_once_they_hold_more_than_one_file() {
    let doubled: Vec<_> = sources("src")
        .into_iter()
        .filter(|source| root().join(source.path.trim_end_matches(".rs")).is_dir())
        .map(|source| source.path)
        .collect();
    assert!(doubled.is_empty(), "a file beside a folder of its name is hard to find: {doubled:?}");
}

#[test]
fn nothing_is_called_by_what_says_nothing() {
    let vague = ["utils", "util", "common", "helpers", "helper", "misc"];
    let wrong: Vec<_> = sources("src")
        .into_iter()
        .map(|source| source.path)
        .filter(|path| path.split(['/', '.']).any(|part| vague.contains(&part)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The texts between backticks in a document.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn documents_name_files_that_exist() {
    let mut wrong = Vec::new();
    let files: Vec<_> = sources("src").into_iter().map(|source| source.path).collect();
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = std::fs::read_to_string(root().join(document)).expect("a document");
        for name in quoted(&text).filter(|name| !name.contains([' ', '*', '{', '<'])) {
            let here = [".", "config", "tests"].iter().any(|folder| root().join(folder).join(name).exists())
                || files.iter().any(|path| path == &format!("src/{name}") || path.ends_with(&format!("/{name}")))
                || files.iter().any(|path| path.contains(&format!("/{name}")));
            let is_file = ["rs", "toml", "sh", "md"].iter().any(|end| name.ends_with(&format!(".{end}")));
            let is_folder = name.ends_with('/') && !name.starts_with('/');
            if (is_file || is_folder) && !here {
                wrong.push(format!("{document}: `{name}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "not there: {wrong:?}");
}

#[test]
fn documents_name_metrics_that_exist() {
    let names = plimsoll::telemetry::metrics::names::ALL;
    let mut wrong = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md", "CHANGELOG.md", "config/reference.toml"] {
        let text = std::fs::read_to_string(root().join(document)).expect("a document");
        for word in text.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_') {
            if word.len() > "plimsoll_".len()
                && word.starts_with("plimsoll_")
                && !names.iter().any(|metric| metric.name == word)
            {
                wrong.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no such metric: {wrong:?}");
}

#[test]
fn readme_is_short_and_architecture_has_its_chapters() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
    for command in ["cargo run --release -- demo", "bash tests/all.sh"] {
        assert!(readme.contains(command), "`{command}` is not in the README");
    }
}
