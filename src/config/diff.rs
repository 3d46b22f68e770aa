//! What a reload changes: two configurations compared, by name, down to the single setting.
//!
//! Pure. It is what `plimsoll diff` prints, what a reload logs and answers, and what it applies.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::Serialize;

use super::model::{
    Admin, Config, Evidence, GrpcProbe, Hsts, Http2, HttpProbe, Instance, Listener, ListenerTls, Log, LogFile, Pool,
    PoolConnection, PoolName, PoolTls, Probe, ProbeKind, Retry, Route, Runtime, Secret,
};
use super::text::{Size, Text as _};

/// Everything in which a new configuration differs from the old one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Listeners, by name.
    pub listeners: Changes,
    /// Routes, by name.
    pub routes: Changes,
    /// Pools, by name; with their probes (`probe.…`), connections, retries and evidence, without their instances.
    pub pools: Changes,
    /// Instances, as `POOL/NAME`; the same instance is the same pool and address.
    pub instances: Changes,
    /// `admin.…`, `log.…`, `runtime.…`.
    pub settings: Vec<Setting>,
    /// Keys of `settings` whose change takes effect at the next start only.
    pub needs_restart: Vec<String>,
}

/// Changes to things that have names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Only in the new configuration.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, with other settings.
    pub changed: Vec<Changed>,
}

/// One thing that has other settings now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// The settings that differ.
    pub settings: Vec<Setting>,
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The key, as in the file, below the thing it belongs to (`probe.interval`).
    pub key: String,
    /// As it was.
    pub old: String,
    /// As it is.
    pub new: String,
}

impl Diff {
    /// Whether the two configurations mean the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One line for each change: `+` added, `-` removed, `~` changed.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        let kinds = [
            ("listener", &self.listeners),
            ("pool", &self.pools),
            ("instance", &self.instances),
            ("route", &self.routes),
        ];
        for (kind, changes) in kinds {
            lines.extend(changes.added.iter().map(|name| format!("+ {kind} {name}")));
            lines.extend(changes.removed.iter().map(|name| format!("- {kind} {name}")));
            for changed in &changes.changed {
                lines.extend(changed.settings.iter().map(|setting| format!("~ {kind} {}: {setting}", changed.name)));
            }
        }
        for setting in &self.settings {
            let restart = if self.needs_restart.contains(&setting.key) { " (at the next start)" } else { "" };
            lines.push(format!("~ {setting}{restart}"));
        }
        if lines.is_empty() { f.write_str("no changes") } else { f.write_str(&lines.join("\n")) }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.key, self.old, self.new)
    }
}

/// What only a new process can change: threads are started once, and so are the admin listener and the log's file.
const NEEDS_RESTART: [&str; 7] = [
    "admin.bind",
    "runtime.workers",
    "log.file",
    "log.file_bytes_max",
    "log.file_daily",
    "log.file_compress",
    "log.file_days_max",
];

/// Compares two configurations.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut settings = differing(process_settings(old), process_settings(new));
    if old.admin.token != new.admin.token {
        let shown = |token: &Option<Secret>| if token.is_some() { "[secret]" } else { "none" }.to_owned();
        let (old, new) = (shown(&old.admin.token), shown(&new.admin.token));
        settings.push(Setting { key: "admin.token".to_owned(), old, new });
    }
    Diff {
        listeners: changes(&old.listeners, &new.listeners, |listener| listener.name.clone(), listener_settings),
        routes: changes(&old.routes, &new.routes, |route| route.name.clone(), route_settings),
        pools: changes(&old.pools, &new.pools, |pool| pool.name.clone(), pool_settings),
        instances: instance_changes(&members(old), &members(new)),
        needs_restart: settings
            .iter()
            .map(|setting| setting.key.clone())
            .filter(|key| NEEDS_RESTART.contains(&key.as_str()))
            .collect(),
        settings,
    }
}

/// Things with names compared: which came, which went, which have other settings.
fn changes<T, Id: Eq + Hash + fmt::Display>(
    old: &[T],
    new: &[T],
    identity: impl Fn(&T) -> Id,
    settings: impl Fn(&T) -> Settings,
) -> Changes {
    let before: HashMap<_, _> = old.iter().map(|thing| (identity(thing), thing)).collect();
    let after: HashSet<_> = new.iter().map(&identity).collect();
    let mut changes = Changes::default();
    for thing in new {
        let id = identity(thing);
        let Some(old) = before.get(&id) else {
            changes.added.push(id.to_string());
            continue;
        };
        let settings = differing(settings(old), settings(thing));
        if !settings.is_empty() {
            changes.changed.push(Changed { name: id.to_string(), settings });
        }
    }
    changes.removed = old.iter().map(identity).filter(|id| !after.contains(id)).map(|id| id.to_string()).collect();
    changes
}

/// An instance in its pool. The same pool and address is the same instance, whatever its name.
#[derive(Clone)]
struct Member<'a> {
    pool: &'a PoolName,
    instance: &'a Instance,
}

impl PartialEq for Member<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.pool, self.instance.address) == (other.pool, other.instance.address)
    }
}

impl Eq for Member<'_> {}

impl Hash for Member<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.pool, self.instance.address).hash(state);
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.instance.name)
    }
}

/// An instance that keeps its name at another address is a new one, but for people it is the address that changes.
fn instance_changes(old: &[Member<'_>], new: &[Member<'_>]) -> Changes {
    let mut changes = changes(old, new, Member::clone, |member| instance_settings(member.instance));
    let before: HashMap<_, _> = old.iter().map(|member| (member.to_string(), member.instance)).collect();
    let gone: HashSet<_> = changes.removed.iter().cloned().collect();
    let mut moved = HashSet::new();
    for member in new {
        let name = member.to_string();
        let Some(old) = before.get(&name).filter(|old| gone.contains(&name) && old.address != member.instance.address)
        else {
            continue;
        };
        let mut settings = differing(instance_settings(old), instance_settings(member.instance));
        if old.authority == member.instance.authority {
            let (old, new) = (old.address.text(), member.instance.address.text());
            settings.push(Setting { key: "address".to_owned(), old, new });
        }
        moved.insert(name.clone());
        changes.changed.push(Changed { name, settings });
    }
    changes.added.retain(|name| !moved.contains(name));
    changes.removed.retain(|name| !moved.contains(name));
    changes
}

fn members(config: &Config) -> Vec<Member<'_>> {
    let of = |pool: &'_ Pool| pool.instances.len();
    let mut members = Vec::with_capacity(config.pools.iter().map(of).sum());
    for pool in &config.pools {
        members.extend(pool.instances.iter().map(|instance| Member { pool: &pool.name, instance }));
    }
    members
}

/// Keys with their values as text, always in the same order; both sides of a comparison may have other keys.
type Settings = Vec<(&'static str, String)>;

fn differing(old: Settings, new: Settings) -> Vec<Setting> {
    const ABSENT: &str = "none";
    let mut before: HashMap<_, _> = old.iter().cloned().collect();
    let mut differing = Vec::new();
    for (key, new) in new {
        let old = before.remove(key).unwrap_or_else(|| ABSENT.to_owned());
        if old != new {
            differing.push(Setting { key: key.to_owned(), old, new });
        }
    }
    for (key, old) in old {
        // Only what the new side does not have is left: the keys of an HTTP probe where there is a TCP one now.
        if before.contains_key(key) && old != ABSENT {
            differing.push(Setting { key: key.to_owned(), old, new: ABSENT.to_owned() });
        }
    }
    differing
}

// Settings of each thing. Every field is named, so that a new one cannot be forgotten: it would not compile.

/// Takes a struct apart into keys and texts; `bytes` are shown with their unit, what follows `without` is not shown.
macro_rules! settings {
    ($prefix:literal, $value:expr, $type:ident {
        $($field:ident),*; bytes $($bytes:ident),*; without $($skipped:ident),*
    }) => {{
        let $type { $($field,)* $($bytes,)* $($skipped: _,)* } = $value;
        let settings: Settings = vec![
            $((concat!($prefix, stringify!($field)), $field.text()),)*
            $((concat!($prefix, stringify!($bytes)), Size(*$bytes as u64).text()),)*
        ];
        settings
    }};
}

fn listener_settings(listener: &Listener) -> Settings {
    let mut settings = settings!("", listener, Listener {
        bind, connections_max, connections_per_client_max, backlog, request_head_timeout, request_body_timeout,
        response_write_timeout, keep_alive_timeout, keep_alive_requests_max, connection_age_max, lingering_timeout,
        rate_grace, request_fields_max, trusted_proxies, allow_trace, abort_on_close, h2c,
        health_path, redirect;
        bytes request_head_bytes_max, request_target_bytes_max;
        without name, request_body_bytes_max, request_body_rate_min, response_rate_min, hsts, http2, tls
    });
    settings.push(("request_body_bytes_max", listener.request_body_bytes_max.map(Size).text()));
    settings.push(("request_body_rate_min", listener.request_body_rate_min.map(Size).text()));
    settings.push(("response_rate_min", listener.response_rate_min.map(Size).text()));
    settings.extend(settings!("http2.", &listener.http2, Http2 {
        streams_max, resets_max, settings_max, pings_max, priorities_max, window_updates_max,
        empty_frames_max, continuations_max, errors_max;
        bytes stream_window, connection_window;
        without
    }));
    if let Some(hsts) = &listener.hsts {
        settings.extend(settings!("hsts.", hsts, Hsts { max_age, include_subdomains, preload; bytes; without }));
    }
    if let Some(tls) = &listener.tls {
        settings.extend(settings!("tls.", tls, ListenerTls {
            certificates, minimum_version, alpn, strict_sni, handshake_timeout, tickets, ticket_lifetime, ticket_keys,
            client_certificate, client_roots, client_revocations;
            bytes;
            without
        }));
    }
    settings
}

fn route_settings(route: &Route) -> Settings {
    let mut settings =
        settings!("", route, Route { path, listeners, pool, client_certificate; bytes; without name, hosts });
    settings.push(("host", route.hosts.text()));
    settings
}

fn pool_settings(pool: &Pool) -> Settings {
    let mut settings = settings!("", pool, Pool {
        balance, protocol, host, required, queue_wait, queue_max, on_down;
        bytes;
        without name, instances, probe, connection, retry, evidence, tls
    });
    settings.extend(settings!("probe.", &pool.probe, Probe {
        port, interval, fast_interval, timeout, fall, rise, jitter_percent, tls; bytes; without kind
    }));
    settings.extend(probe_kind_settings(&pool.probe.kind));
    settings.extend(settings!("connection.", &pool.connection, PoolConnection {
        connect_timeout, response_head_timeout, response_body_timeout, request_write_timeout, idle_timeout, idle_max,
        unsafe_reuse_max, response_fields_max, upgrade_idle_timeout, upgrade_lifetime_max, h2_connections_max,
        h2_streams_max, h2_ping_interval, h2_ping_timeout;
        bytes response_head_bytes_max, h2_window_bytes, h2_connection_window_bytes, h2_frame_bytes_max;
        without
    }));
    settings.extend(settings!("retry.", &pool.retry, Retry {
        retries, budget_percent, budget_min, budget_wait, deadline; bytes body_bytes_max; without
    }));
    settings.extend(settings!("evidence.", &pool.evidence, Evidence {
        failures, eject_time, eject_time_max, judge_5xx; bytes; without
    }));
    settings.push(("tls.enabled", pool.tls.is_some().text()));
    if let Some(tls) = &pool.tls {
        settings.extend(settings!("tls.", tls, PoolTls {
            roots, server_name, client_certificate, minimum_version, verify; bytes; without
        }));
    }
    settings
}

fn probe_kind_settings(kind: &ProbeKind) -> Settings {
    let (mut settings, kind) = match kind {
        ProbeKind::Tcp => (Vec::new(), "tcp"),
        ProbeKind::Grpc(grpc) => (settings!("probe.", grpc, GrpcProbe { service, host; bytes; without }), "grpc"),
        ProbeKind::Http(http) => {
            let settings = settings!("probe.", http, HttpProbe {
                method, path, host, headers, expect_status, expect_body; bytes; without
            });
            (settings, "http")
        }
    };
    settings.push(("probe.kind", kind.to_owned()));
    settings
}

fn instance_settings(instance: &Instance) -> Settings {
    let mut settings =
        settings!("", instance, Instance { name, weight, backup, in_flight_max; bytes; without address, authority });
    settings.push(("address", instance.authority.text()));
    settings
}

fn process_settings(config: &Config) -> Settings {
    let Config { admin, log, runtime, path: _, hash: _, listeners: _, pools: _, routes: _ } = config;
    let mut settings = settings!("admin.", admin, Admin { bind; bytes; without token });
    settings
        .extend(settings!("log.", log, Log { level, format, access, access_query, queue_lines; bytes; without file }));
    settings.extend(log_file_settings(log.file.as_ref()));
    settings.extend(settings!("runtime.", runtime, Runtime {
        workers, connections_max, bind_wait, startup_grace, linger, drain_timeout, watch; bytes; without
    }));
    settings
}

/// As in the file, where they stand beside the other keys of the log.
fn log_file_settings(file: Option<&LogFile>) -> Settings {
    let text = |value: &dyn Fn(&LogFile) -> String| file.map_or_else(|| "none".to_owned(), value);
    vec![
        ("log.file", text(&|file| file.path.display().to_string())),
        ("log.file_bytes_max", text(&|file| Size(file.bytes_max).text())),
        ("log.file_daily", text(&|file| file.daily.text())),
        ("log.file_compress", text(&|file| file.compress.text())),
        ("log.file_days_max", text(&|file| file.age_max.map_or(0, |age| age.as_secs() / 86_400).to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;
    use crate::config::load::{Surroundings, parse};

    struct Nothing;

    impl Surroundings for Nothing {
        fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
            hosts.iter().map(|_| Err(io::Error::other("no resolver"))).collect()
        }

        fn read(&self, _path: &Path) -> io::Result<String> {
            Err(io::Error::other("no files"))
        }

        fn cores(&self) -> usize {
            1
        }
    }

    fn config(text: &str) -> Config {
        let loaded = parse(text, Path::new("test.toml"), &Nothing).unwrap_or_else(|rejected| panic!("{rejected}"));
        Config::clone(&loaded.config)
    }

    const OLD: &str = r#"
        listener = [{ name = "a", bind = "127.0.0.1:1" }, { name = "b", bind = "127.0.0.1:2" }]
        route = [{ name = "r", path = "/api", pool = "api" }, { name = "w", pool = "web" }]
        pool.api.instances = ["127.0.0.1:9001", "127.0.0.1:9002"]
        pool.api.probe.interval = "5s"
        pool.web.instances = ["127.0.0.1:9003"]
        admin.token = "0123456789abcdef"
    "#;

    const NEW: &str = r#"
        listener = [{ name = "a", bind = "127.0.0.1:1", request_head_bytes_max = "16KiB" }, { name = "c", bind = "127.0.0.1:3" }]
        route = [{ name = "r", host = "*.example.com", path = "/api", pool = "api" }]
        pool.api.instances = [{ address = "127.0.0.1:9002", name = "two", weight = 3 }, "127.0.0.1:9004"]
        pool.api.probe = { interval = "10s", kind = "tcp" }
        admin.token = "fedcba9876543210"
        runtime.workers = 2
    "#;

    #[test]
    fn every_kind_of_change_is_shown_on_a_line_of_its_own() {
        let diff = diff(&config(OLD), &config(NEW));
        let expected = "\
            + listener c\n\
            - listener b\n\
            ~ listener a: request_head_bytes_max 32KiB → 16KiB\n\
            - pool web\n\
            ~ pool api: probe.interval 5s → 10s\n\
            ~ pool api: probe.kind http → tcp\n\
            ~ pool api: probe.method GET → none\n\
            ~ pool api: probe.path /health → none\n\
            ~ pool api: probe.headers [] → none\n\
            ~ pool api: probe.expect_status [200-299] → none\n\
            + instance api/127.0.0.1:9004\n\
            - instance api/127.0.0.1:9001\n\
            - instance web/127.0.0.1:9003\n\
            ~ instance api/two: name 127.0.0.1:9002 → two\n\
            ~ instance api/two: weight 1 → 3\n\
            - route w\n\
            ~ route r: host [] → [*.example.com]\n\
            ~ runtime.workers 1 → 2 (at the next start)\n\
            ~ admin.token [secret] → [secret]";
        assert_eq!(diff.to_string(), expected);
        assert_eq!(diff.needs_restart, ["runtime.workers"]);
    }

    #[test]
    fn an_instance_that_keeps_its_name_at_another_address_shows_both_addresses() {
        let with = |instances: &str| {
            config(&format!("listener = [{{ bind = \"127.0.0.1:1\" }}]\npool.api.instances = [{instances}]"))
        };
        let old = with(r#"{ name = "one", address = "127.0.0.1:9001" }, { name = "two", address = "127.0.0.1:9002" }"#);
        let new = with(r#"{ name = "one", address = "127.0.0.1:9003", weight = 2 }, { address = "127.0.0.1:9002" }"#);
        let diff = diff(&old, &new);
        let expected = "\
            ~ instance api/127.0.0.1:9002: name two → 127.0.0.1:9002\n\
            ~ instance api/one: weight 1 → 2\n\
            ~ instance api/one: address 127.0.0.1:9001 → 127.0.0.1:9003";
        assert_eq!(diff.to_string(), expected);
    }

    #[test]
    fn a_configuration_does_not_differ_from_itself_nor_by_comments_and_order() {
        let old = config(OLD);
        assert!(diff(&old, &old).is_empty());
        assert_eq!(diff(&old, &old).to_string(), "no changes");
        let mut reordered = config(&format!("# a comment\n{OLD}"));
        reordered.routes.reverse();
        reordered.pools.reverse();
        assert!(diff(&old, &reordered).is_empty());
    }

    #[test]
    fn what_was_added_is_removed_on_the_way_back() {
        let (old, new) = (config(OLD), config(NEW));
        let (there, back) = (diff(&old, &new), diff(&new, &old));
        for (there, back) in [
            (there.listeners, back.listeners),
            (there.routes, back.routes),
            (there.pools, back.pools),
            (there.instances, back.instances),
        ] {
            assert_eq!(there.added, back.removed);
            assert_eq!(there.removed, back.added);
            assert_eq!(there.changed.len(), back.changed.len());
        }
    }
}
