//! Pools: instances that can be told apart and reached, settings that fit each other.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::file;
use crate::config::load::Surroundings;
use crate::config::model::{
    Evidence, HostField, Instance, InstanceName, Pool, PoolConnection, PoolName, PoolTls, Probe, Protocol, Retry,
};
use crate::config::problem::Problems;
use crate::config::read::{Field, Named, Span};
use crate::config::values::duration_text;
use crate::health::detection_time;
use crate::tls::client::server_name;

use super::listener::Binds;
use super::{Unique, check_name, probe, tls, written};

/// Checks all pools and resolves the names of their instances, all at the same time.
pub(super) fn check_all(
    file: &Field<Named<file::Pool>>,
    path: &Path,
    binds: &Binds,
    surroundings: &dyn Surroundings,
    problems: &mut Problems<'_>,
) -> Vec<Pool> {
    if file.value.0.is_empty() && !file.is_written() {
        problems.error(None, "no pool").hint("add `[pool.NAME]` and below it `instances = [\"127.0.0.1:9001\"]`");
    }
    let names = Resolved::new(&file.value, surroundings);
    file.value
        .0
        .iter()
        .map(|(name, pool)| {
            check_name("a pool", name, problems);
            check(name, pool, path, &names, binds, problems)
        })
        .collect()
}

fn check(
    name: &Field<String>,
    pool: &Field<file::Pool>,
    path: &Path,
    names: &Resolved,
    binds: &Binds,
    problems: &mut Problems<'_>,
) -> Pool {
    let file = &pool.value;
    let header = name.span.as_ref();
    let entries = file.instances.value.as_deref().unwrap_or_default();
    if entries.is_empty() && (!file.instances.is_written() || file.instances.value.is_some()) {
        problems
            .error(file.instances.span.as_ref().or(header), format!("pool `{}` has no instances", name.value))
            .hint("add `instances = [\"127.0.0.1:9001\"]`");
    }
    let mut seen = Seen { names: Unique::new("instance"), addresses: HashMap::new() };
    let instances: Vec<_> =
        entries.iter().filter_map(|entry| check_instance(entry, names, binds, &mut seen, problems)).collect();
    if !instances.is_empty() && instances.iter().all(|instance| instance.backup) {
        problems
            .warning(file.instances.span.as_ref(), format!("all instances of pool `{}` are backups", name.value))
            .hint("leave `backup` out: there is nothing that they could stand in for");
    }
    let tls = tls::check_pool(&name.value, &file.tls, path, problems);
    if let Some(tls) = &tls {
        check_names(&name.value, tls, &instances, file.instances.span.as_ref(), problems);
    }
    check_protocol(&name.value, &file.protocol, tls.is_some(), problems);
    let probe = probe::check(&name.value, &file.probe, header, problems);
    Pool {
        name: PoolName::from(name.value.as_str()),
        instances,
        balance: file.balance.value,
        protocol: file.protocol.value,
        host: host_field(&file.host, problems),
        required: file.required.value,
        queue_wait: file.queue_wait.value,
        queue_max: file.queue_max.value as usize,
        on_down: file.on_down.value,
        connection: connection(&file.connection.value),
        retry: check_retry(&file.retry.value, &probe, header, problems),
        evidence: check_evidence(&file.evidence.value, problems),
        tls,
        probe,
    }
}

/// HTTP/2 is spoken by ALPN over TLS, and by prior knowledge without.
fn check_protocol(pool: &str, protocol: &Field<Protocol>, tls: bool, problems: &mut Problems<'_>) {
    let (message, hint) = match (protocol.value, tls) {
        (Protocol::H2c, true) => ("has `tls`, and `\"h2c\"` is HTTP/2 without it", "write `protocol = \"h2\"`"),
        (Protocol::H2, false) => {
            ("has no `tls`, and `\"h2\"` is HTTP/2 over TLS", "add `tls = true`, or write `protocol = \"h2c\"`")
        }
        _ => return,
    };
    problems.error(protocol.span.as_ref(), format!("pool `{pool}` {message}")).hint(hint);
}

/// What the instances of a pool have taken.
struct Seen {
    names: Unique,
    addresses: HashMap<SocketAddr, String>,
}

fn check_instance(
    entry: &Field<file::InstanceEntry>,
    names: &Resolved,
    binds: &Binds,
    seen: &mut Seen,
    problems: &mut Problems<'_>,
) -> Option<Instance> {
    let file = &entry.value.0;
    let Some(text) = written(&file.address) else {
        if !file.address.is_written() {
            let hint = "add `address = \"10.0.0.1:8080\"`";
            problems.error(entry.span.as_ref(), "an instance without `address`").hint(hint);
        }
        return None;
    };
    let span = text.span.as_ref();
    let address = match parse_address(&text.value) {
        Ok(Address::Ip(address)) => address,
        Ok(Address::Name(host, port)) => SocketAddr::new(names.address(&host, &text, problems)?, port),
        Err(hint) => {
            problems.error(span, format!("`{}` is no address of an instance", text.value)).hint(hint);
            return None;
        }
    };
    let name = match written(&file.name) {
        Some(name) => {
            check_name("an instance", &name, problems);
            name
        }
        None => text.clone(),
    };
    if let Some(other) = seen.addresses.insert(address, text.value.clone()) {
        let message = if other == text.value {
            format!("`{other}` stands twice in one pool")
        } else {
            format!("`{}` and `{other}` are the same address, `{address}`", text.value)
        };
        problems.error(span, message).hint("remove one of them; to give an instance a larger share use `weight`");
        return None;
    }
    seen.names.claim(&name.value, name.span.as_ref(), problems);
    if binds.includes(address) {
        problems
            .warning(span, format!("`{}` is an address of this proxy itself", text.value))
            .hint("requests would come back here until they are answered with 508");
    }
    Some(Instance {
        name: InstanceName::from(name.value.as_str()),
        address,
        authority: text.value,
        weight: file.weight.value as u32,
        backup: file.backup.value,
        in_flight_max: Some(file.in_flight_max.value as u32).filter(|max| *max > 0),
    })
}

/// Each instance needs a name that a certificate can be for.
fn check_names(pool: &str, tls: &PoolTls, instances: &[Instance], span: Option<&Span>, problems: &mut Problems<'_>) {
    let nameless = |instance: &&Instance| tls.server_name.is_none() && server_name(tls.name_for(instance)).is_err();
    for instance in instances.iter().filter(nameless) {
        let name = tls.name_for(instance);
        problems
            .error(span, format!("no certificate can be for `{name}`, which pool `{pool}` reaches with `tls`"))
            .hint("set `server_name` in `tls` to the name that is in the certificate");
    }
}

/// Where an instance listens, as written.
enum Address {
    Ip(SocketAddr),
    Name(String, u16),
}

/// An address, or what to write instead.
fn parse_address(text: &str) -> Result<Address, String> {
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        return Err(format!("write host and port alone: `\"{authority}\"`"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match (address.port(), address.ip().is_unspecified()) {
            (0, _) => Err("a port is a number from 1 to 65535".to_owned()),
            (port, true) => Err(format!("nothing can be reached there; for this machine write `\"127.0.0.1:{port}\"`")),
            _ => Ok(Address::Ip(address)),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("write an IPv6 address in brackets, and a port: `\"[{text}]:80\"`"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let named = is_host_name(host);
    match port.parse::<u16>() {
        Ok(port) if port > 0 && named => Ok(Address::Name(host.to_ascii_lowercase(), port)),
        _ if port.is_empty() && (named || host.parse::<IpAddr>().is_ok()) => {
            Err(format!("add a port: `\"{host}:80\"`"))
        }
        _ if named => Err("a port is a number from 1 to 65535".to_owned()),
        _ => Err("write `\"IP:port\"` or `\"name:port\"`".to_owned()),
    }
}

/// Whether it can be asked for; four numbers with dots are an address with a mistake in it.
fn is_host_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(fits);
    let numeric = text.rsplit('.').next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    text.len() <= 253 && !numeric && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Host names and what became of them.
struct Resolved(HashMap<String, std::io::Result<Vec<IpAddr>>>);

impl Resolved {
    fn new(file: &Named<file::Pool>, surroundings: &dyn Surroundings) -> Self {
        let mut hosts: Vec<_> = file
            .0
            .iter()
            .flat_map(|(_, pool)| pool.value.instances.value.iter().flatten())
            .filter_map(|entry| entry.value.0.address.value.as_deref())
            .filter_map(|text| match parse_address(text) {
                Ok(Address::Name(host, _)) => Some(host),
                _ => None,
            })
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        if hosts.is_empty() {
            return Self(HashMap::new());
        }
        let results = surroundings.resolve(&hosts);
        Self(hosts.into_iter().zip(results).collect())
    }

    /// One address of a host: IPv4 before IPv6, then the smallest, because name servers shuffle their answers and an
    /// instance keeps its record as long as its address stays.
    fn address(&self, host: &str, text: &Field<String>, problems: &mut Problems<'_>) -> Option<IpAddr> {
        let span = text.span.as_ref();
        let addresses = match self.0.get(host) {
            Some(Ok(addresses)) => addresses.as_slice(),
            Some(Err(error)) => {
                problems
                    .error(span, format!("cannot resolve `{host}`: {error}"))
                    .hint("is the name right, and does the resolver answer? an IP address needs neither");
                return None;
            }
            None => &[],
        };
        let Some(address) = addresses.iter().min() else {
            problems.error(span, format!("`{host}` has no address")).hint("is the name right?");
            return None;
        };
        if addresses.len() > 1 {
            problems
                .warning(span, format!("`{host}` has {} addresses, and only `{address}` is used", addresses.len()))
                .hint("write one instance for each");
        }
        Some(*address)
    }
}

fn host_field(host: &Field<String>, problems: &mut Problems<'_>) -> HostField {
    match host.value.as_str() {
        "keep" => HostField::Keep,
        "instance" => HostField::Instance,
        name if probe::is_authority(name) => HostField::Fixed(name.to_owned()),
        name => {
            problems
                .error(host.span.as_ref(), format!("`{name}` is no host"))
                .hint("write `\"keep\"`, `\"instance\"` or a name such as `\"api.internal\"`");
            HostField::Keep
        }
    }
}

fn connection(file: &file::Connection) -> PoolConnection {
    PoolConnection {
        connect_timeout: file.connect_timeout.value,
        response_head_timeout: file.response_head_timeout.value,
        response_body_timeout: file.response_body_timeout.value,
        request_write_timeout: file.request_write_timeout.value,
        idle_timeout: file.idle_timeout.value,
        idle_max: file.idle_max.value as usize,
        unsafe_reuse_max: file.unsafe_reuse_max.value,
        response_head_bytes_max: file.response_head_bytes_max.value.0 as usize,
        response_fields_max: file.response_fields_max.value as usize,
        upgrade_idle_timeout: file.upgrade_idle_timeout.value,
        upgrade_lifetime_max: Some(file.upgrade_lifetime_max.value).filter(|life| !life.is_zero()),
        h2_connections_max: file.h2_connections_max.value as usize,
        h2_streams_max: file.h2_streams_max.value as usize,
        h2_window_bytes: file.h2_window_bytes.value.0 as usize,
        h2_connection_window_bytes: file.h2_connection_window_bytes.value.0 as usize,
        h2_frame_bytes_max: file.h2_frame_bytes_max.value.0 as usize,
        h2_ping_interval: Some(file.h2_ping_interval.value).filter(|interval| !interval.is_zero()),
        h2_ping_timeout: file.h2_ping_timeout.value,
    }
}

fn check_retry(file: &file::Retry, probe: &Probe, header: Option<&Span>, problems: &mut Problems<'_>) -> Retry {
    let hang = detection_time(probe).hang;
    if file.retries.value > 0 && file.deadline.value < hang {
        let (deadline, hang) = (duration_text(file.deadline.value), duration_text(hang));
        problems
            .warning(
                file.deadline.span.as_ref().or(header),
                format!("an instance that hangs is ejected after {hang}, when its requests may not move on any more"),
            )
            .hint(format!("set `fast_interval` in `probe`, or raise `deadline` in `retry`, which is {deadline}"));
    }
    let no_budget = file.budget_percent.value == 0 && file.budget_min.value == 0;
    if no_budget && file.retries.value > 0 {
        problems
            .warning(
                file.budget_percent.span.as_ref(),
                "without a budget nothing is tried again, whatever `retries` says",
            )
            .hint("set `retries = 0` to say so, or `budget_min` above 0");
    }
    Retry {
        retries: file.retries.value as u32,
        budget_percent: file.budget_percent.value as u32,
        budget_min: file.budget_min.value as u32,
        budget_wait: file.budget_wait.value,
        body_bytes_max: file.body_bytes_max.value.0 as usize,
        deadline: file.deadline.value,
    }
}

fn check_evidence(file: &file::Evidence, problems: &mut Problems<'_>) -> Evidence {
    if file.eject_time.value > file.eject_time_max.value {
        let span = file.eject_time.span.as_ref().or(file.eject_time_max.span.as_ref());
        problems
            .error(span, "`eject_time` is longer than `eject_time_max`")
            .hint("it begins with the first and doubles up to the second");
    }
    Evidence {
        failures: Some(file.failures.value as u32).filter(|failures| *failures > 0),
        eject_time: file.eject_time.value,
        eject_time_max: file.eject_time_max.value,
        judge_5xx: file.judge_5xx.value,
    }
}
