//! The promise to the operator: a configuration that is right is accepted, and one that is wrong is refused with a
//! message that says what, where, and what to write instead, for every mistake in it.
//!
//! Each `tests/config/invalid/NAME.toml` has its message beside it in `NAME.expected`. After a deliberate change of a
//! message, `PLIMSOLL_BLESS=1 cargo test --test config` writes them anew; read the difference before you commit it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

    /// Certificates and keys are in a folder of their own, wherever a configuration has them.
    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/files");
        fs::read(folder.join(path.file_name().unwrap_or_default())).map_err(|_| io::Error::other("no such file"))
    }

    fn is_exposed(&self, path: &Path) -> bool {
        path.ends_with("exposed/example.com.key")
    }

    /// 2030-01-01.
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000)
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

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    let folder = std::env::temp_dir().join(format!("plimsoll-config-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("latin1.toml"), b"# f\xfcr\n").expect("a file");
    for (file, expected) in [
        ("missing.toml", "error: cannot read the configuration: No such file or directory (os error 2)"),
        ("", "error: the configuration is a directory"),
        ("latin1.toml", "error: the configuration is not UTF-8 (line 1)"),
    ] {
        let path = folder.join(file);
        let message = load::load(&path).expect_err(file).to_string();
        let mut lines = message.lines();
        if cfg!(unix) {
            assert_eq!(lines.next(), Some(expected));
        }
        assert!(message.contains(&format!("--> {}", path.display())), "{message}");
        assert!(message.contains("\nhint: "), "{message}");
    }
    fs::remove_dir_all(&folder).expect("the folder goes");
}

#[test]
fn a_token_file_stands_beside_the_configuration_and_loses_its_line_end() {
    let folder = std::env::temp_dir().join(format!("plimsoll-token-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("secret"), "0123456789abcdef0123456789abcdef\r\n").expect("a file");
    let text = format!("{MINIMAL}[admin]\ntoken_file = \"secret\"\n");
    fs::write(folder.join("plimsoll.toml"), text).expect("a file");
    let loaded = load::load(&folder.join("plimsoll.toml")).unwrap_or_else(|rejected| panic!("{rejected}"));
    let token = loaded.config.admin.token.as_ref().expect("a token");
    assert_eq!(token.reveal(), "0123456789abcdef0123456789abcdef");
    assert!(!format!("{:?}", loaded.config).contains("0123456789abcdef"));
    fs::remove_dir_all(&folder).expect("the folder goes");
}

const MINIMAL: &str = r#"
[[listener]]
bind = "127.0.0.1:8080"

[pool.api]
instances = ["127.0.0.1:9001"]

"#;

#[test]
fn names_are_resolved_to_one_address_that_stays_the_same() {
    let text = MINIMAL.replace("127.0.0.1:9001", "Many.Internal:80");
    let loaded = parse(&text).unwrap_or_else(|rejected| panic!("{rejected}"));
    let instance = &loaded.config.pools[0].instances[0];
    assert_eq!(instance.address.to_string(), "10.0.0.8:80");
    assert_eq!(instance.authority, "Many.Internal:80");
    assert_eq!(loaded.warnings.len(), 1, "{}", Listing(&loaded.warnings));
}

#[test]
fn what_is_not_written_has_its_default_and_what_is_zero_is_no_limit() {
    let text = format!("{MINIMAL}[pool.api.evidence]\nfailures = 0\n");
    let loaded = parse(&text).unwrap_or_else(|rejected| panic!("{rejected}"));
    let config = &loaded.config;
    assert_eq!(config.listeners[0].name.as_str(), "127.0.0.1:8080");
    assert_eq!(config.listeners[0].request_body_bytes_max, None);
    assert_eq!(config.routes.len(), 1);
    assert_eq!((config.routes[0].path.as_str(), config.routes[0].pool.as_str()), ("/", "api"));
    assert_eq!(config.pools[0].evidence.failures, None);
    assert_eq!(config.pools[0].probe.fast_interval, None);
    assert_eq!(config.runtime.workers, 4);
}

#[test]
fn doubtful_configurations_are_accepted_with_a_warning() {
    let with = |more: &str| format!("{MINIMAL}{more}");
    let tls = |files: &str| {
        MINIMAL.replace("[pool.api]", &format!("[listener.tls]\ncertificates = [{{ {files} }}]\n\n[pool.api]"))
    };
    for (text, expected) in [
        (with("[pool.api.probe]\ninterval = \"30s\"\n"), "an instance that hangs is ejected after 101s"),
        (with("[runtime]\nconnections_max = 100\n"), "listener `127.0.0.1:8080` allows 20000 connections"),
        (with("[pool.api.retry]\nbudget_percent = 0\nbudget_min = 0\n"), "without a budget nothing is tried again"),
        (tls("certificate = \"expired.pem\", key = \"example.com.key\""), "`expired.pem`: the certificate"),
        (
            tls("certificate = \"example.com.pem\", key = \"exposed/example.com.key\""),
            "`exposed/example.com.key` holds secrets, and others than its owner can read it",
        ),
        (with("[admin]\ntoken = \"short\"\n"), "the admin token is shorter than 16 characters"),
        (with("[pool.b]\ninstances = [\"127.0.0.1:1\"]\n[[route]]\npool = \"api\"\n"), "no route leads to pool `b`"),
        (MINIMAL.replace("9001", "8080"), "`127.0.0.1:8080` is an address of this proxy itself"),
        (
            MINIMAL.replace("\"127.0.0.1:9001\"", "{ address = \"127.0.0.1:9001\", backup = true }"),
            "all instances of pool `api` are backups",
        ),
    ] {
        let loaded = parse(&text).unwrap_or_else(|rejected| panic!("{rejected}"));
        let shown = Listing(&loaded.warnings).to_string();
        assert!(shown.starts_with(&format!("warning: {expected}")), "{text}\n{shown}");
        assert_eq!(loaded.warnings.len(), 1, "{shown}");
        assert!(!shown.contains("short\""), "{shown}");
    }
}

// The reference and the code agree.

/// A key of the reference, with the comment above it.
struct Documented {
    /// With its sections: `pool.NAME.probe.interval`.
    path: String,
    value: String,
    /// Whether there is a `#` before it: not set by default.
    commented_out: bool,
    /// Whether there is one before its section: nothing in it is set by default.
    section_out: bool,
    comment: String,
    line: usize,
}

fn reference() -> String {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.toml"))
}

/// The keys of the reference: lines like `key = value` and `#key = value`. (Prose has a space after its `#`.)
fn documented(text: &str) -> Vec<Documented> {
    let (mut section, mut section_out) = (String::new(), false);
    let (mut comment, mut keys) = (String::new(), Vec::new());
    for (line, content) in text.lines().enumerate() {
        let (commented_out, code) = match content.strip_prefix('#') {
            Some(prose) if prose.is_empty() || prose.starts_with([' ', '-']) => {
                comment.push_str(prose);
                continue;
            }
            Some(code) => (true, code),
            None => (false, content),
        };
        if code.starts_with('[') {
            section = code.trim_matches(['[', ']']).replace("pool.api", "pool.NAME");
            section_out = commented_out;
        } else if let Some((key, value)) = code.split_once(" = ") {
            let (path, value) = (format!("{section}.{key}"), value.to_owned());
            let comment = std::mem::take(&mut comment);
            keys.push(Documented { path, value, commented_out, section_out, comment, line });
        }
        comment.clear();
    }
    keys
}

#[test]
fn every_key_of_the_code_is_in_the_reference_and_every_key_of_the_reference_is_in_the_code() {
    let mut in_code: Vec<_> = plimsoll::config::file::keys().into_iter().map(|key| key.path).collect();
    let mut in_reference: Vec<_> = documented(&reference()).into_iter().map(|key| key.path).collect();
    in_code.sort();
    in_reference.sort();
    assert_eq!(in_code, in_reference);
}

#[test]
fn every_key_of_the_reference_tells_meaning_range_and_default_as_the_code_has_them() {
    let text = reference();
    let documented = documented(&text);
    let mut wrong = Vec::new();
    for key in plimsoll::config::file::keys() {
        let reference = documented.iter().find(|one| one.path == key.path).expect("the key is documented");
        let mut complain = |what: String| wrong.push(format!("line {}: `{}` {what}", reference.line + 1, key.path));
        if reference.comment.len() < 10 {
            complain("has no comment".to_owned());
        }
        if let Some(range) = &key.range
            && !reference.comment.contains(&format!("Range: {range}."))
        {
            complain(format!("does not say `Range: {range}.`"));
        }
        match &key.default {
            Some(default) if *default != reference.value => complain(format!("has another default, {default}")),
            Some(_) if reference.commented_out && !reference.section_out => {
                complain("has a default and is commented out".to_owned());
            }
            None if !reference.commented_out && !reference.comment.contains("Required") => {
                complain("has no default and is neither commented out nor `Required`".to_owned());
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reference_without_its_defaults_means_the_same() {
    let text = reference();
    let required: Vec<_> =
        documented(&text).into_iter().filter(|key| key.comment.contains("Required")).map(|key| key.line).collect();
    let bare: Vec<_> = text
        .lines()
        .enumerate()
        .filter(|(line, content)| content.starts_with('[') || required.contains(line))
        .map(|(_, content)| content)
        .collect();
    let whole = parse(&text).unwrap_or_else(|rejected| panic!("{rejected}"));
    let bare = parse(&bare.join("\n")).unwrap_or_else(|rejected| panic!("{rejected}"));
    let mut expected = plimsoll::config::model::Config::clone(&whole.config);
    expected.hash.clone_from(&bare.config.hash);
    assert_eq!(expected, *bare.config);
}

#[test]
fn every_example_of_the_reference_is_accepted_when_it_is_switched_on() {
    let text = reference();
    let documented = documented(&text);
    for key in documented.iter().filter(|key| key.commented_out) {
        // A section that is switched on needs its other keys, too, and those of the sections in it.
        let root = |path: &str| path.split('.').take(2).collect::<Vec<_>>().join(".");
        let together = |other: &&Documented| other.section_out && root(&other.path) == root(&key.path);
        let on: Vec<_> = documented.iter().filter(together).filter(|_| key.section_out).map(|key| key.line).collect();
        let header = |content: &str| {
            let section = content.trim_start_matches('#').trim_matches(['[', ']']);
            key.section_out && content.starts_with("#[") && root(section) == root(&key.path)
        };
        let lines = text.lines().enumerate().map(|(line, content)| {
            if line == key.line || on.contains(&line) || header(content) { &content[1..] } else { content }
        });
        // The short form of `instances` stands in the place of the tables.
        let short = key.path == "pool.NAME.instances";
        let in_tables =
            |line: &&str| short && (line.starts_with("[[pool.api.instances]]") || line.starts_with("address"));
        let others =
            |line: &&str| short && ["weight", "backup", "in_flight_max"].iter().any(|key| line.starts_with(key));
        // A key of gRPC probes goes with their kind, and without the keys of others.
        let grpc = key.path == "pool.NAME.probe.service";
        let of_http = |line: &&str| {
            grpc && ["method", "path = \"/health\"", "headers", "expect_"].iter().any(|key| line.starts_with(key))
        };
        let switched: Vec<_> = lines
            .filter(|line| !in_tables(line) && !others(line) && !of_http(line))
            .map(|line| if grpc && line == "kind = \"http\"" { "kind = \"grpc\"" } else { line })
            .collect();
        if let Err(rejected) = parse(&switched.join("\n")) {
            panic!("{}:\n{rejected}", key.path);
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_is_refused_or_accepted_but_never_a_crash(
        start in 0_usize..20_000, length in 0_usize..40, put in "[a-z0-9=\\[\\]\\{\\}\"'.,#\n \u{e4}]{0,12}",
    ) {
        let mut text = reference();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        proptest::prop_assume!(text.is_char_boundary(start) && text.is_char_boundary(end));
        text.replace_range(start..end, &put);
        match parse(&text) {
            Ok(loaded) => proptest::prop_assert!(!loaded.config.pools.is_empty()),
            Err(rejected) => proptest::prop_assert!(rejected.to_string().starts_with("error: ") || rejected.problems.len() > 1),
        }
    }
}
