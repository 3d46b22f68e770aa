//! From the configuration as written to the checked one: values against each other, names against what they name.
//!
//! Pure but for [`Surroundings`], and it never stops at an error: what is wrong is noted, something harmless takes its
//! place, and the next check follows. Only if nothing was wrong does anybody see the result.

mod listener;
mod pool;
mod probe;
mod route;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file;
use super::load::Surroundings;
use super::model::{Admin, Config, FileRef, Log, LogFile, Runtime, Secret};
use super::problem::Problems;
use super::read::{Field, Span};

/// Below that a token is guessed rather than known.
const TOKEN_CHARS_RECOMMENDED: usize = 16;

/// Checks everything.
pub(super) fn check(
    file: &file::Config,
    path: &Path,
    hash: String,
    surroundings: &dyn Surroundings,
    problems: &mut Problems<'_>,
) -> Config {
    let mut binds = listener::Binds::default();
    let listeners = listener::check_all(file, path, &mut binds, problems);
    let admin = check_admin(&file.admin.value, path, &mut binds, surroundings, problems);
    let pools = pool::check_all(&file.pool, path, &binds, surroundings, problems);
    let routes = route::check_all(file, &listeners, problems);
    Config {
        path: path.to_path_buf(),
        hash,
        listeners,
        pools,
        routes,
        admin,
        log: log(&file.log.value, path, problems),
        runtime: runtime(&file.runtime.value, surroundings),
    }
}

fn check_admin(
    file: &file::Admin,
    path: &Path,
    binds: &mut listener::Binds,
    surroundings: &dyn Surroundings,
    problems: &mut Problems<'_>,
) -> Admin {
    let span = file.bind.span.as_ref();
    let text = file.bind.value.as_str();
    let bind = text.parse::<SocketAddr>().ok();
    if bind.is_none() && text != "off" {
        problems
            .error(span, format!("`{text}` is no address for `admin.bind`"))
            .hint("write `\"IP:port\"`, such as `\"127.0.0.1:1876\"`, or `\"off\"`");
    }
    let token = check_token(file, path, surroundings, problems);
    if let Some(address) = bind {
        binds.claim(address, span, "the admin listener", problems);
        let asked_for = file.token.is_written() || file.token_file.is_written();
        if !address.ip().is_loopback() && !asked_for {
            problems
                .error(span, format!("the admin listener at `{address}` is not on loopback and has no token"))
                .hint("set `token_file` (or `token`) in `[admin]`, or bind it to `127.0.0.1`");
        }
    }
    Admin { bind, token }
}

fn check_token(
    file: &file::Admin,
    path: &Path,
    surroundings: &dyn Surroundings,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    if file.token.is_written() && file.token_file.is_written() {
        problems
            .error(file.token_file.span.as_ref(), "`admin.token` and `admin.token_file` are both set")
            .hint("keep one of them");
        return None;
    }
    let (token, span) = match &file.token_file.value {
        None => (file.token.value.clone()?, &file.token.span),
        Some(name) => {
            let token_path = path.parent().unwrap_or(Path::new("")).join(name);
            match surroundings.read(&token_path) {
                Ok(text) => (Secret::new(text.trim()), &file.token_file.span),
                Err(error) => {
                    problems
                        .error(
                            file.token_file.span.as_ref(),
                            format!("cannot read `{}`: {error}", token_path.display()),
                        )
                        .hint("the path is relative to the folder of the configuration file");
                    return None;
                }
            }
        }
    };
    let text = token.reveal();
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        problems
            .error(span.as_ref(), "the admin token is empty, or has characters that cannot stand in a header")
            .hint("use visible ASCII characters without spaces, such as the output of `openssl rand -hex 32`");
    } else if text.len() < TOKEN_CHARS_RECOMMENDED {
        problems
            .warning(span.as_ref(), format!("the admin token is shorter than {TOKEN_CHARS_RECOMMENDED} characters"))
            .hint("use the output of `openssl rand -hex 32`");
    }
    Some(token)
}

fn log(file: &file::Log, path: &Path, problems: &mut Problems<'_>) -> Log {
    Log {
        level: file.level.value,
        format: file.format.value,
        access: file.access.value,
        access_query: file.access_query.value,
        queue_lines: file.queue_lines.value as usize,
        file: written(&file.file).and_then(|name| log_file(file, &name, path, problems)),
    }
}

fn log_file(file: &file::Log, name: &Field<String>, path: &Path, problems: &mut Problems<'_>) -> Option<LogFile> {
    const DAY: Duration = Duration::from_secs(86_400);
    // Not the folder of the process: a Windows service's is System32.
    let log_path = path.parent().unwrap_or(Path::new("")).join(&name.value);
    if name.value.is_empty() || name.value.ends_with(['/', '\\']) || log_path.file_name().is_none() {
        problems
            .error(name.span.as_ref(), format!("`{}` names no file for `log.file`", name.value))
            .hint("write a file's path, such as `\"plimsoll.log\"`, relative to the folder of the configuration file");
        return None;
    }
    let days = file.file_days_max.value as u32;
    Some(LogFile {
        path: log_path,
        bytes_max: file.file_bytes_max.value.0,
        daily: file.file_daily.value,
        compress: file.file_compress.value,
        age_max: (days > 0).then(|| DAY * days),
    })
}

fn runtime(file: &file::Runtime, surroundings: &dyn Surroundings) -> Runtime {
    Runtime {
        workers: match file.workers.value {
            0 => surroundings.cores().max(1),
            workers => workers as usize,
        },
        connections_max: file.connections_max.value as usize,
        bind_wait: file.bind_wait.value,
        startup_grace: file.startup_grace.value,
        linger: file.linger.value,
        drain_timeout: file.drain_timeout.value,
        watch: file.watch.value,
    }
}

/// Names that must be unique among things of one kind.
struct Unique {
    kind: &'static str,
    seen: HashMap<String, Option<Span>>,
}

impl Unique {
    fn new(kind: &'static str) -> Self {
        Self { kind, seen: HashMap::new() }
    }

    /// Takes a name; the second time it is an error at `span`.
    fn claim(&mut self, name: &str, span: Option<&Span>, problems: &mut Problems<'_>) {
        let Some(first) = self.seen.insert(name.to_owned(), span.cloned()) else { return };
        let line =
            first.map_or_else(String::new, |first| format!("the first one is in line {}; ", problems.line(&first)));
        problems
            .error(span, format!("two {}s have the name `{name}`", self.kind))
            .hint(format!("{line}set `name` to tell them apart"));
    }
}

/// A name that the operator chose: it becomes a label, a word on the command line and a part of a URL.
fn check_name(kind: &str, name: &Field<String>, problems: &mut Problems<'_>) {
    const CHARS_MAX: usize = 100;
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\'' | '\\' | '?' | '#' | '%' | '{' | '}');
    if name.value.is_empty() || name.value.len() > CHARS_MAX || !name.value.chars().all(fits) {
        problems
            .error(name.span.as_ref(), format!("`{}` is no name for {kind}", name.value))
            .hint(format!("use letters, digits, `-`, `_`, `.` and `:`, at most {CHARS_MAX}"));
    }
}

/// A file that the configuration names; relative to its folder.
fn file_ref(name: &str, span: Option<&Span>, path: &Path, problems: &Problems<'_>) -> FileRef {
    FileRef {
        path: path.parent().unwrap_or(Path::new("")).join(name),
        written: Arc::from(name),
        place: span.map(|span| problems.place(span)),
    }
}

/// The span of a field that has a value of its own, with the value.
fn written<T: Clone>(field: &Field<Option<T>>) -> Option<Field<T>> {
    field.value.clone().map(|value| Field { value, span: field.span.clone() })
}
