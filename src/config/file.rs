//! The configuration as it is written: every section, every key, its default with the reason for it, its range.
//!
//! This is the only place where a default stands. `config/reference.toml` explains the same keys to operators, and a
//! test holds the two together. What a key means is said there and in [`model`](super::model); the comments here say why
//! the default is what it is. Values are checked one by one while they are read (`read`), and against
//! each other in `check`.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::model::{Alpn, Balance, ClientCertificate, LogFormat, LogLevel, OnDown, Protocol, Secret, TlsVersion};
use super::problem::Problems;
pub use super::read::Key;
use super::read::{
    Entry, Field, Named, Rule, Section, Table, Tables, Value, default, join, nested, read_section, section, unset,
    within, zero_or,
};
use super::values::{Bytes, ProbeKindWord, RouteCertificateWord, Statuses, kib};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn s(count: u64) -> Duration {
    Duration::from_secs(count)
}

const HOUR: Duration = s(3_600);
const DAY: Duration = s(86_400);
/// Tables and lists of tables are bounded as well: a generated file with a bug must not take the process down.
const MANY: u64 = 1_000_000;

section! {
    /// The whole file.
    Config {
        listener: Tables<Listener> = nested();
        route: Tables<Route> = nested();
        pool: Named<Pool> = nested();
        admin: Admin = nested();
        log: Log = nested();
        runtime: Runtime = nested();
    }
}

section! {
    /// `[[listener]]`
    Listener {
        name: Option<String> = unset();
        bind: Option<Vec<Field<String>>> = unset();
        /// Two descriptors each with its instance's connection, and at most 4 KiB each while idle: 80 MiB.
        connections_max: u64 = within(20_000, 1..=MANY);
        /// Off: whole offices and mobile networks share an address.
        connections_per_client_max: u64 = zero_or(0, 1..=MANY);
        /// The kernel cuts it to `net.core.somaxconn`, which is 4096 since Linux 5.4.
        backlog: u64 = within(4_096, 1..=65_535);
        /// A head is one packet or a few; who needs longer is not a browser.
        request_head_timeout: Duration = within(s(10), ms(100)..=HOUR);
        /// A mobile client that changes its cell pauses for ten seconds or more.
        request_body_timeout: Duration = within(s(30), ms(100)..=HOUR);
        /// As for the body of a request.
        response_write_timeout: Duration = within(s(30), ms(100)..=HOUR);
        /// A tenth of a modem: slower ones are most likely there to hold a connection, a byte now and then.
        request_body_rate_min: Bytes = zero_or(Bytes(240), Bytes(1)..=Bytes(1 << 30));
        /// As for the body of a request.
        response_rate_min: Bytes = zero_or(Bytes(240), Bytes(1)..=Bytes(1 << 30));
        /// A connection needs its first seconds to get going.
        rate_grace: Duration = within(s(5), ms(100)..=HOUR);
        /// Longer than the 60 s after which load balancers above drop their idle connections: the side that sends next
        /// should be the one that closes.
        keep_alive_timeout: Duration = within(s(75), ms(100)..=DAY);
        /// So many cost nothing compared with a new connection, and no connection stays on its worker for good.
        keep_alive_requests_max: u64 = zero_or(10_000, 1..=MANY);
        /// As nginx has it: load balancers above and names that move are noticed within an hour.
        connection_age_max: Duration = zero_or(HOUR, ms(100)..=s(7 * 86_400));
        /// Enough for what is on the way when the answer is sent.
        lingering_timeout: Duration = zero_or(s(2), ms(100)..=s(60));
        /// Four cookies of 4 KiB, a token of 8 KiB, and room.
        request_head_bytes_max: Bytes = within(kib(32), kib(1)..=kib(1_024));
        /// Browsers send about 20.
        request_fields_max: u64 = within(100, 8..=1_000);
        /// What common servers and browsers agree on.
        request_target_bytes_max: Bytes = within(kib(8), Bytes(64)..=kib(256));
        /// Bodies are streamed, so that their size costs no memory; the service knows its own limit.
        request_body_bytes_max: Bytes = zero_or(Bytes(0), Bytes(1)..=Bytes(1 << 50));
        /// Nobody: a client that is believed can take any address it likes.
        trusted_proxies: Vec<Field<String>> = default(Vec::new());
        /// It shows fields that other proxies added.
        allow_trace: bool = default(false);
        /// Some clients close their sending side after the request and still wait for the answer.
        abort_on_close: bool = default(false);
        /// What is behind a listener without TLS is a load balancer or a service mesh; who has set it to HTTP/2 knows.
        h2c: bool = default(false);
        health_path: Option<String> = unset();
        redirect: Option<String> = unset();
        hsts: Hsts = nested();
        http2: Http2 = nested();
        tls: ListenerTls = nested();
    }
}

section! {
    /// `[listener.http2]`
    Http2 {
        /// What browsers and other servers agree on; each costs memory.
        streams_max: u64 = within(128, 1..=10_000);
        /// A sender fills 256 KiB in 20 ms at 100 Mbit/s, and that is how long most round trips take at most.
        stream_window: Bytes = within(kib(256), kib(64)..=kib(16_384));
        /// All that one connection can make us hold of request bodies.
        connection_window: Bytes = within(kib(1_024), kib(64)..=kib(65_536));
        /// Who leaves a page with 128 pictures under way, three times in ten seconds.
        resets_max: u64 = within(400, 1..=MANY);
        /// Sound clients send two or three in all.
        settings_max: u64 = within(100, 4..=MANY);
        /// Those that measure the line with each answer get more by what we send.
        pings_max: u64 = within(200, 1..=MANY);
        /// Firefox of old sent one with each request and six before.
        priorities_max: u64 = within(500, 1..=MANY);
        /// For uploads alone none is needed; for what we send the limit rises.
        window_updates_max: u64 = within(1_000, 1..=MANY);
        /// `h2` ends connections after a hundred in all, and does not say that it was this.
        empty_frames_max: u64 = within(50, 1..=100);
        /// A head of 32 KiB fits into two.
        continuations_max: u64 = within(5, 1..=100);
        /// Each may have begun a request at an instance.
        errors_max: u64 = within(100, 1..=1_024);
    }
}

section! {
    /// `[listener.hsts]`
    Hsts {
        /// Browsers remember it and nobody can take it back from them: who wants it says so, and for how long.
        max_age: Option<Duration> = within(None, Some(s(0))..=Some(s(10 * 8_760 * 3_600)));
        /// Names below may have services without TLS.
        include_subdomains: bool = default(false);
        /// The lists in browsers are left only after months.
        preload: bool = default(false);
    }
}

section! {
    /// `[listener.tls]`
    ListenerTls {
        certificates: Tables<Certificate> = nested();
        /// 1.0 and 1.1 are forbidden (RFC 8996); 1.2 with these ciphers is sound, and old clients have nothing newer.
        minimum_version: TlsVersion = default(TlsVersion::Tls12);
        /// Browsers speak HTTP/2 wherever it is offered, and gain by it.
        alpn: Vec<Field<Alpn>> = default(vec![Field::absent(Alpn::Http2), Field::absent(Alpn::Http11)]);
        /// Clients that connect to an address, and old ones, send no name.
        strict_sni: bool = default(false);
        /// Four round trips to the other side of the world, twice, with lost packets.
        handshake_timeout: Duration = within(s(10), ms(100)..=s(300));
        /// One for each of the connections that a browser opens first; what others send.
        tickets: u64 = within(2, 0..=8);
        /// A working day; who steals a key reads what was resumed with it, for no longer than this back.
        ticket_lifetime: Duration = within(s(12 * 3_600), s(60)..=s(7 * 86_400));
        ticket_keys: Option<String> = unset();
        /// Browsers ask their users about it.
        client_certificate: ClientCertificate = default(ClientCertificate::Off);
        client_roots: Option<String> = unset();
        /// None: authorities with short-lived certificates have none.
        client_revocations: Vec<Field<String>> = default(Vec::new());
    }
}

section! {
    /// `[[listener.tls.certificates]]`
    Certificate {
        certificate: Option<String> = unset();
        key: Option<String> = unset();
    }
}

section! {
    /// `[[route]]`
    Route {
        name: Option<String> = unset();
        /// Any.
        host: Vec<Field<String>> = default(Vec::new());
        /// Every path.
        path: String = default("/".to_owned());
        /// All.
        listeners: Vec<Field<String>> = default(Vec::new());
        pool: Option<String> = unset();
        /// What the listener asks for is enough.
        client_certificate: RouteCertificateWord = default(RouteCertificateWord::Optional);
    }
}

section! {
    /// `[pool.NAME]`
    Pool {
        instances: Option<Vec<Field<InstanceEntry>>> = unset();
        /// Right for short and for long requests alike, and it gives slow instances less.
        balance: Balance = default(Balance::LeastConnections);
        /// Every instance speaks it.
        protocol: Protocol = default(Protocol::H1);
        /// Services build links and check origins with the name that the client used.
        host: String = default("keep".to_owned());
        /// One broken service must not make the load balancer above drop all others.
        required: bool = default(false);
        /// A quick 503 is better than a queue that nobody knows of.
        queue_wait: Duration = zero_or(s(0), ms(1)..=s(300));
        /// At 100 requests a second that is a wait of ten seconds.
        queue_max: u64 = within(1_000, 1..=MANY);
        /// What was agreed between client and instance goes on as long as both want.
        on_down: OnDown = default(OnDown::Keep);
        probe: Probe = nested();
        connection: Connection = nested();
        retry: Retry = nested();
        evidence: Evidence = nested();
        tls: PoolTlsEntry = nested();
    }
}

section! {
    /// `[pool.NAME.tls]`
    PoolTls {
        /// Instances commonly stand behind the proxy in one's own network.
        enabled: bool = default(false);
        roots: Option<String> = unset();
        server_name: Option<String> = unset();
        client_certificate: Option<String> = unset();
        client_key: Option<String> = unset();
        /// As on listeners; instances on old systems have nothing newer.
        minimum_version: TlsVersion = default(TlsVersion::Tls12);
        /// Without it, anybody on the way can pass for an instance.
        verify: bool = default(true);
    }
}

section! {
    /// An instance, written as a table; as a string it is its address alone.
    Instance {
        address: Option<String> = unset();
        name: Option<String> = unset();
        /// Equal shares.
        weight: u64 = within(1, 1..=1_000);
        backup: bool = default(false);
        /// The instance knows its own limit.
        in_flight_max: u64 = zero_or(0, 1..=MANY);
    }
}

section! {
    /// `[pool.NAME.probe]`
    Probe {
        kind: ProbeKindWord = default(ProbeKindWord::Http);
        port: Option<u64> = within(None, Some(1)..=Some(65_535));
        /// Out after 15 s; a probe every 5 s costs an instance nothing.
        interval: Duration = within(s(5), ms(10)..=HOUR);
        /// Off, so that it is exactly `fall` intervals; 1 s is recommended where 15 s are too long.
        fast_interval: Duration = zero_or(s(0), ms(10)..=HOUR);
        /// A health endpoint that needs 2 s is in trouble, and it must be shorter than the interval.
        timeout: Duration = within(s(2), ms(1)..=s(300));
        /// One lost packet or one long garbage collection is no failure; three in a row are.
        fall: u64 = within(3, 1..=100);
        /// One pass may be luck; a service that starts often passes once and fails again.
        rise: u64 = within(2, 1..=100);
        /// Enough that probes of many instances, or from several proxies, do not stay in step.
        jitter_percent: u64 = within(10, 0..=50);
        /// Some frameworks answer HEAD without running the check.
        method: String = default("GET".to_owned());
        /// What most frameworks and orchestrators call it.
        path: String = default("/health".to_owned());
        host: Option<String> = unset();
        /// The server as a whole.
        service: Option<String> = unset();
        /// None beside `Host`, `User-Agent` and `Accept`.
        headers: Named<String> = nested();
        /// A redirect is no health: it often is the login page.
        expect_status: Vec<Field<Statuses>> = default(vec![Field::absent(Statuses(200, 299))]);
        expect_body: Option<String> = unset();
        /// As traffic: what probes see should be what clients would get.
        tls: bool = default(true);
    }
}

section! {
    /// `[pool.NAME.connection]`
    Connection {
        /// Two SYN repeats of Linux (after 1 s and 3 s) would be 3 s; in a data centre the first one arrives.
        connect_timeout: Duration = within(s(2), ms(1)..=s(300));
        /// What clients and load balancers above commonly wait.
        response_head_timeout: Duration = within(s(60), ms(10)..=DAY);
        /// Longer than the 15 to 30 s between the keep-alive comments of event streams.
        response_body_timeout: Duration = within(s(60), ms(10)..=DAY);
        /// An instance that takes no byte for 30 s hangs.
        request_write_timeout: Duration = within(s(30), ms(10)..=HOUR);
        /// Below the 60 s after which common servers close idle connections: we should be first.
        idle_timeout: Duration = zero_or(s(55), ms(100)..=DAY);
        /// Per worker, so that bursts find connections: with 4 workers 256 for each instance.
        idle_max: u64 = within(64, 0..=65_535);
        /// Shorter than any server's idle time, so that it has hardly just closed.
        unsafe_reuse_max: Duration = zero_or(s(1), ms(1)..=HOUR);
        /// Twice what requests may have: services set many cookies at a login.
        response_head_bytes_max: Bytes = within(kib(64), kib(1)..=kib(1_024));
        /// Twice what requests may have.
        response_fields_max: u64 = within(200, 8..=1_000);
        /// Idle `WebSocket`s of services without pings live through a lunch break.
        upgrade_idle_timeout: Duration = within(HOUR, s(1)..=s(7 * 86_400));
        /// Off: a connection that is in use has a reason to live.
        upgrade_lifetime_max: Duration = zero_or(s(0), s(1)..=s(30 * 86_400));
        /// With the next key 400 requests at a time from each worker; one loss on the wire stops a quarter of them.
        h2_connections_max: u64 = within(4, 1..=1_024);
        /// What most servers allow.
        h2_streams_max: u64 = within(100, 1..=10_000);
        /// At 1 ms to the instance that is 250 MB/s for each response.
        h2_window_bytes: Bytes = within(kib(256), kib(16)..=Bytes(16 << 20));
        /// More than a hundred windows of one response: clients that read slowly do not stop the others.
        h2_connection_window_bytes: Bytes = within(Bytes(32 << 20), kib(64)..=Bytes(1 << 30));
        /// The smallest that the RFC allows: streams take turns more often.
        h2_frame_bytes_max: Bytes = within(kib(16), kib(16)..=Bytes(8 << 20));
        /// Half-open connections are noticed after 15 s, as fast as probes eject.
        h2_ping_interval: Duration = zero_or(s(10), ms(100)..=HOUR);
        /// An event loop that answers no ping for 5 s hangs.
        h2_ping_timeout: Duration = within(s(5), ms(10)..=s(300));
    }
}

section! {
    /// `[pool.NAME.retry]`
    Retry {
        /// The third failure in a row is hardly bad luck.
        retries: u64 = within(2, 0..=10);
        /// A pool that fails as a whole gets at most a fifth more load from it.
        budget_percent: u64 = within(20, 0..=100);
        /// Pools with few requests in flight may still repeat some.
        budget_min: u64 = within(3, 0..=10_000);
        /// When an instance dies, its requests come back all at once: spread over a second, they fit in the budget.
        budget_wait: Duration = within(s(1), s(0)..=s(60));
        /// Most forms and API calls; uploads are not worth the memory.
        body_bytes_max: Bytes = zero_or(kib(64), Bytes(1)..=Bytes(64 << 20));
        /// Longer than it takes to detect an instance that hangs (18.5 s), so that its requests can move on.
        deadline: Duration = within(s(30), ms(1)..=HOUR);
    }
}

section! {
    /// `[pool.NAME.evidence]`
    Evidence {
        /// More than a restart that refuses a few connections, far fewer than clients would put up with.
        failures: u64 = zero_or(5, 1..=1_000);
        /// Two probes.
        eject_time: Duration = within(s(10), ms(100)..=HOUR);
        /// An instance that was mended is back within five minutes.
        eject_time_max: Duration = within(s(300), ms(100)..=DAY);
        /// A 500 may be about the request alone, and a client could eject instances with it.
        judge_5xx: bool = default(false);
    }
}

section! {
    /// `[admin]`
    Admin {
        /// Loopback, so that it is there when it is needed, and for nobody else. (In 1876 the load line became law.)
        bind: String = default("127.0.0.1:1876".to_owned());
        token: Option<Secret> = unset();
        token_file: Option<String> = unset();
    }
}

section! {
    /// `[log]`
    Log {
        /// Changes of state; single requests are in the access log.
        level: LogLevel = default(LogLevel::Info);
        /// Logs of a proxy are read by machines first.
        format: LogFormat = default(LogFormat::Json);
        /// The first question after an incident is what was asked and what was answered.
        access: bool = default(true);
        /// Query strings carry names, addresses and tokens.
        access_query: bool = default(false);
        /// Some 5 MiB at most, and seconds of a disk that stalls.
        queue_lines: u64 = within(10_000, 100..=MANY);
        file: Option<String> = unset();
        /// Small enough for any editor, large enough for an hour at a thousand requests a second.
        file_bytes_max: Bytes = within(Bytes(1 << 30), kib(64)..=Bytes(1 << 40));
        /// Who looks for an incident knows its day.
        file_daily: bool = default(true);
        /// Access lines become a tenth.
        file_compress: bool = default(true);
        /// Half a year: what auditors ask for most often, and no more personal data than that.
        file_days_max: u64 = zero_or(180, 1..=36_500);
    }
}

section! {
    /// `[runtime]`
    Runtime {
        /// One per core.
        workers: u64 = zero_or(0, 1..=1_024);
        /// Two full listeners.
        connections_max: u64 = within(40_000, 1..=MANY);
        /// The process before us is gone within a second or two, where it was told to go.
        bind_wait: Duration = zero_or(s(5), ms(1)..=s(300));
        /// An interval, which is longer than a first probe can take.
        startup_grace: Duration = zero_or(s(5), ms(1)..=s(300));
        /// Set it where a load balancer above watches `/ready`: to its interval times its failures.
        linger: Duration = zero_or(s(0), ms(1)..=HOUR);
        /// Orchestrators kill after 30 s or later.
        drain_timeout: Duration = zero_or(s(30), ms(1)..=DAY);
        /// What was saved holds; a file with a mistake changes nothing.
        watch: bool = default(true);
    }
}

/// Reads a parsed document.
pub(super) fn read(document: &DeTable<'_>, problems: &mut Problems<'_>) -> Config {
    read_section("", document, problems)
}

/// Every key that a file can have, in the order of this file.
#[must_use]
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    Config::list_section_keys("", &mut keys);
    keys
}

/// The sections that know a key, as they are written.
pub(super) fn sections_with_key(name: &str) -> Vec<String> {
    keys()
        .iter()
        .filter_map(|key| key.path.rsplit_once('.').filter(|(_, last)| *last == name))
        .map(|(section, _)| match section {
            "listener" | "route" | "listener.tls.certificates" => format!("`[[{section}]]`"),
            "pool.NAME.instances" => "a table in `instances`".to_owned(),
            _ => format!("`[{section}]`"),
        })
        .collect()
}

/// `tls` of a pool: a table, or `true` for one with nothing else in it.
#[derive(Debug, Clone, Default)]
pub(super) struct PoolTlsEntry(pub(super) PoolTls);

impl Value for PoolTlsEntry {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match entry.value {
            DeValue::Boolean(enabled) => {
                let enabled = Field { value: *enabled, span: Some(entry.span.clone()) };
                Some(Self(PoolTls { enabled, ..PoolTls::default() }))
            }
            DeValue::Table(entries) => Some(Self(read_section(entry.path, entries, problems))),
            _ => {
                let hint = format!("write `tls = true`, or `[{}]` on a line of its own", entry.path);
                entry.unexpected("`true`, `false` or a table", hint, problems);
                None
            }
        }
    }

    fn written(&self) -> String {
        String::new()
    }

    fn list_keys(path: String, _rule: Rule<Self>, keys: &mut Vec<Key>) {
        PoolTls::list_section_keys(&path, keys);
    }
}

/// An item of `instances`: an address, or a table with more.
#[derive(Debug, Clone)]
pub(super) struct InstanceEntry(pub(super) Instance);

impl Value for InstanceEntry {
    fn read(entry: &Entry<'_>, problems: &mut Problems<'_>) -> Option<Self> {
        match entry.value {
            DeValue::String(text) => {
                let address = Field { value: Some(text.to_string()), span: Some(entry.span.clone()) };
                Some(Self(Instance { address, ..Instance::default() }))
            }
            DeValue::Table(entries) => Some(Self(read_section(entry.path, entries, problems))),
            _ => {
                let hint = "write `\"10.0.0.1:8080\"` or `{ address = \"10.0.0.1:8080\", weight = 2 }`";
                entry.unexpected("an address or a table", hint, problems);
                None
            }
        }
    }

    fn written(&self) -> String {
        self.0.address.value.written()
    }

    fn list_item_keys(path: &str, keys: &mut Vec<Key>) {
        Instance::list_section_keys(path, keys);
    }
}
