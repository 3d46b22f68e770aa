//! A configuration with short times, made key by key.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::proxy::under_wine;
use super::{Instance, Proxy, eventually, ports};

/// Sections in the order in which they are written, with their keys.
#[derive(Clone)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) front: SocketAddr,
    /// Where the admin listener is.
    pub(crate) admin: SocketAddr,
    sections: Vec<(String, Vec<(String, String)>)>,
    instances: Vec<String>,
    rest: String,
}

impl Config {
    /// One listener `front`, one pool `api` without instances yet; probes every 200 ms, and all waits short.
    pub(crate) fn new() -> Self {
        let (front, admin) = (ports::free(), ports::free());
        let config = Self { front, admin, sections: Vec::new(), instances: Vec::new(), rest: String::new() };
        config
            .set("admin", "bind", quoted(admin))
            .set("log", "level", "\"debug\"")
            .set("runtime", "workers", 2)
            .set("runtime", "startup_grace", "\"2s\"")
            .set("runtime", "drain_timeout", "\"5s\"")
            .set("[listener]", "name", "\"front\"")
            .set("[listener]", "bind", quoted(front))
            .set("pool.api.probe", "interval", if under_wine() { "\"500ms\"" } else { "\"200ms\"" })
            .set("pool.api.probe", "timeout", if under_wine() { "\"490ms\"" } else { "\"190ms\"" })
            .set("pool.api.probe", "jitter_percent", 0)
    }

    /// One pool `api` of these.
    pub(crate) fn of(instances: &[&Instance]) -> Self {
        instances.iter().fold(Self::new(), |config, instance| config.instance(instance))
    }

    /// Adds an instance to the pool `api`.
    pub(crate) fn instance(self, instance: &Instance) -> Self {
        self.instance_at(instance.name(), instance.address(), "")
    }

    /// Adds an instance with further keys, like `weight = 2`.
    pub(crate) fn instance_with(self, instance: &Instance, more: &str) -> Self {
        self.instance_at(instance.name(), instance.address(), more)
    }

    /// Adds an instance by its address.
    pub(crate) fn instance_at(mut self, name: &str, address: SocketAddr, more: &str) -> Self {
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        self.instances.push(format!("{{ name = \"{name}\", address = \"{address}\"{more} }}"));
        self
    }

    /// Without the instances that it has by now.
    pub(crate) fn without_instances(mut self) -> Self {
        self.instances.clear();
        self
    }

    /// Sets a key; the value as TOML. `[listener]` stands for `[[listener]]`.
    #[expect(clippy::needless_pass_by_value, reason = "numbers, texts and truth values are written as they are")]
    pub(crate) fn set(mut self, section: &str, key: &str, value: impl ToString) -> Self {
        let index = self.sections.iter().position(|(name, _)| name == section).unwrap_or_else(|| {
            self.sections.push((section.to_owned(), Vec::new()));
            self.sections.len() - 1
        });
        let keys = &mut self.sections[index].1;
        keys.retain(|(name, _)| name != key);
        keys.push((key.to_owned(), value.to_string()));
        self
    }

    /// Sets a key of the listener `front`.
    pub(crate) fn listener(self, key: &str, value: impl ToString) -> Self {
        self.set("[listener]", key, value)
    }

    /// Sets a key of the pool `api`.
    pub(crate) fn pool(self, key: &str, value: impl ToString) -> Self {
        self.set("pool.api", key, value)
    }

    /// Sets a key of its probe.
    pub(crate) fn probe(self, key: &str, value: impl ToString) -> Self {
        self.set("pool.api.probe", key, value)
    }

    /// Sets a key of its connections.
    pub(crate) fn connection(self, key: &str, value: impl ToString) -> Self {
        self.set("pool.api.connection", key, value)
    }

    /// Sets a key of its retries.
    pub(crate) fn retry(self, key: &str, value: impl ToString) -> Self {
        self.set("pool.api.retry", key, value)
    }

    /// Sets a key of its evidence from traffic.
    pub(crate) fn evidence(self, key: &str, value: impl ToString) -> Self {
        self.set("pool.api.evidence", key, value)
    }

    /// Adds text at the end: more listeners, pools and routes.
    pub(crate) fn and(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }

    /// The file's text.
    pub(crate) fn text(&self) -> String {
        let mut with_pool = self.clone();
        if !self.instances.is_empty() {
            with_pool = with_pool.set("pool.api", "instances", format!("[{}]", self.instances.join(", ")));
        }
        let mut text = String::new();
        for (section, keys) in &with_pool.sections {
            writeln!(text, "[{section}]").expect("a String takes all");
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").expect("a String takes all");
            }
            text.push('\n');
        }
        text + &self.rest
    }

    /// Starts the binary with it, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Proxy {
        Proxy::start(&self)
    }

    /// As [`start`](Self::start), where the log goes to a file of this name beside the configuration.
    #[track_caller]
    pub(crate) fn start_with_log(self, name: &str) -> Proxy {
        let proxy = Proxy::launch(&self);
        let path = proxy.config_path().with_file_name(name);
        eventually("the proxy is ready", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.contains(r#""message":"ready""#).then_some(())
        });
        proxy
    }
}

fn quoted(address: SocketAddr) -> String {
    format!("\"{address}\"")
}
