//! A scrape: sums the shards of all workers and writes the text format of Prometheus.
//!
//! Works on a copy of the list of records, so that nothing waits for it. Every worker's counts are read while it writes
//! them; a histogram's count is taken from its buckets, so the two always agree.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use tokio::time::Instant;

use super::names::{self, Definition, Kind};
use super::records::{Member, Records};
use super::{ReloadResult, UNROUTED};
use crate::cause::Cause;
use crate::config::model::{InstanceName, PoolName};
use crate::http2::guard::Flood;
use crate::platform::usage::{self, Machine, Process};
use crate::pool::instance::{Admin, Health, Instance};
use crate::telemetry::stats::{
    self, BUCKETS_MICROS, H2Event, HANDSHAKES, InstanceStats, ListenerStats, PerCause, PerWorker, RefusedConnection,
    RetryOutcome, RetryReason, STATUS_CLASSES,
};
use crate::tls::failure::Failure;
use crate::tls::session;

/// Causes that an attempt can fail with: shown from the start, so that the first one is an increase of a known series.
const ATTEMPT_CAUSES: [Cause; 12] = [
    Cause::ConnectRefused,
    Cause::ConnectTimeout,
    Cause::ConnectReset,
    Cause::TlsHandshake,
    Cause::UpstreamReset,
    Cause::UpstreamClosedEarly,
    Cause::UpstreamBadResponse,
    Cause::ResponseHeaderTimeout,
    Cause::ResponseBodyTimeout,
    Cause::RequestWriteTimeout,
    Cause::Ejected,
    Cause::StreamRefused,
];

/// Causes of local responses that are shown from the start, for the same reason.
const LOCAL_CAUSES: [Cause; 2] = [Cause::NoEligibleInstance, Cause::Internal];

/// All metrics as text.
pub(super) fn text(records: &Records, now: Instant, workers: usize) -> String {
    let mut scrape = Scrape::default();
    scrape.routes(records, now);
    scrape.listeners(records, now);
    scrape.instances(records, now);
    scrape.pools(records, now);
    scrape.control(records, workers);
    scrape.process(usage::process());
    scrape.machine(usage::machine());
    scrape.encode()
}

// --- sums over workers ---

/// A histogram, summed.
#[derive(Debug, Clone, Default)]
pub(super) struct HistogramTotals {
    buckets: [u64; BUCKETS_MICROS.len() + 1],
    sum_micros: u64,
}

impl HistogramTotals {
    fn of<T: Default>(stats: &PerWorker<T>, histogram: impl Fn(&T) -> &stats::Histogram) -> Self {
        let mut totals = Self::default();
        for shard in stats.shards() {
            totals.count(histogram(shard));
        }
        totals
    }

    fn count(&mut self, histogram: &stats::Histogram) {
        let (buckets, sum_micros) = histogram.values();
        for (total, count) in self.buckets.iter_mut().zip(buckets) {
            *total += count;
        }
        self.sum_micros = self.sum_micros.wrapping_add(sum_micros);
    }

    fn observe(&mut self, took: Duration) {
        let one = stats::Histogram::default();
        one.observe(took);
        self.count(&one);
    }

    fn observations(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Labels of [`ProbeTotals::results`].
const PROBE_RESULTS: [&str; 3] = ["pass", "fail", "inconclusive"];

/// Probes of an instance.
#[derive(Debug, Clone, Default)]
pub(super) struct ProbeTotals {
    results: [u64; PROBE_RESULTS.len()],
    duration: HistogramTotals,
}

impl ProbeTotals {
    pub(super) fn count(&mut self, passed: Option<bool>, took: Duration) {
        let result = match passed {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        self.results[result] += 1;
        // An inconclusive probe measured a busy machine, not the instance.
        if passed.is_some() {
            self.duration.observe(took);
        }
    }
}

/// What was counted on an instance, summed. Only what never falls: it outlives the record (see `Records::carried`).
#[derive(Debug, Clone)]
pub(super) struct InstanceTotals {
    responses: [u64; STATUS_CLASSES.len()],
    errors: [u64; Cause::COUNT],
    connect: HistogramTotals,
    first_byte: HistogramTotals,
    total: HistogramTotals,
    opened: u64,
    reused: u64,
    handshakes: [u64; HANDSHAKES.len()],
    unasked_bytes: u64,
    h2_events: [u64; H2Event::ALL.len()],
}

impl Default for InstanceTotals {
    fn default() -> Self {
        Self {
            responses: Default::default(),
            errors: [0; Cause::COUNT],
            connect: HistogramTotals::default(),
            first_byte: HistogramTotals::default(),
            total: HistogramTotals::default(),
            opened: 0,
            reused: 0,
            handshakes: [0; HANDSHAKES.len()],
            unasked_bytes: 0,
            h2_events: Default::default(),
        }
    }
}

impl InstanceTotals {
    /// Adds what all shards of a record have counted.
    pub(super) fn count(&mut self, stats: &InstanceStats) {
        for shard in stats.shards() {
            for (total, counter) in self.responses.iter_mut().zip(&shard.responses) {
                *total += counter.value();
            }
            for cause in Cause::ALL {
                self.errors[cause as usize] += shard.errors.of(cause).value();
            }
            self.connect.count(&shard.connect);
            self.first_byte.count(&shard.first_byte);
            self.total.count(&shard.total);
            self.opened += shard.connections_opened.value();
            self.reused += shard.connections_reused.value();
            for (total, counter) in self.handshakes.iter_mut().zip(&shard.handshakes) {
                *total += counter.value();
            }
            self.unasked_bytes += shard.unasked_bytes.value();
            for (total, counter) in self.h2_events.iter_mut().zip(&shard.h2_events) {
                *total += counter.value();
            }
        }
    }
}

/// One instance's series: all records that had its name.
#[derive(Default)]
struct InstanceRow<'a> {
    totals: InstanceTotals,
    /// The record whose state is shown: of the published snapshot, else the last that was in one.
    latest: Option<&'a Instance>,
    in_flight: u64,
    open: u64,
    idle: u64,
}

impl<'a> InstanceRow<'a> {
    fn add(&mut self, member: &'a Member) {
        let instance = &*member.instance;
        self.totals.count(&instance.stats);
        self.in_flight += u64::from(instance.in_flight());
        self.open += instance.stats.sum(|shard| &shard.connections_open);
        self.idle += instance.stats.sum(|shard| &shard.connections_idle);
        // Records are numbered in the order in which they were made.
        if self.latest.is_none_or(|latest| latest.id < instance.id) {
            self.latest = Some(instance);
        }
    }
}

// --- families ---

/// The families of one scrape, by name.
#[derive(Default)]
struct Scrape(BTreeMap<&'static str, (&'static Definition, Vec<Metric>)>);

impl Scrape {
    fn routes(&mut self, records: &Records, now: Instant) {
        for ((listener, route), stats) in records.routes.visible(now) {
            let (listener, route) = (listener.as_str(), route.as_str());
            for (class, code) in STATUS_CLASSES.into_iter().enumerate() {
                let durations = HistogramTotals::of(stats, |shard| &shard.durations[class]);
                let observed = durations.observations();
                // 1xx is the end of a request only for upgrades; an empty histogram per class would be 21 lines each.
                if observed > 0 {
                    self.histogram(&names::REQUEST_DURATION, &[listener, route, code], &durations);
                }
                if observed > 0 || class > 0 {
                    self.counter(&names::REQUESTS, &[listener, route, code], observed);
                }
            }
            self.counter(&names::REQUEST_BYTES, &[listener, route], stats.sum(|shard| &shard.request_bytes));
            self.counter(&names::RESPONSE_BYTES, &[listener, route], stats.sum(|shard| &shard.response_bytes));
            let always: &[Cause] = if route == UNROUTED { &[Cause::NoRoute] } else { &LOCAL_CAUSES };
            for (cause, count) in causes(stats, |shard| &shard.local, always) {
                self.counter(&names::LOCAL_RESPONSES, &[listener, route, cause.code()], count);
            }
        }
    }

    fn listeners(&mut self, records: &Records, now: Instant) {
        for (listener, stats) in records.listeners.visible(now) {
            let labels = [listener.as_str()];
            self.gauge(&names::LISTENER_CONNECTIONS, &labels, stats.sum(|shard| &shard.open) as f64);
            self.counter(&names::LISTENER_ACCEPTED, &labels, stats.sum(|shard| &shard.accepted));
            for reason in RefusedConnection::ALL {
                let count = stats.sum(|shard| &shard.refused[reason as usize]);
                self.counter(&names::LISTENER_REFUSED, &[labels[0], reason.code()], count);
            }
            self.counter(&names::LISTENER_EVICTED, &labels, stats.sum(|shard| &shard.evicted));
            self.counter(&names::LISTENER_REDIRECTED, &labels, stats.sum(|shard| &shard.redirected));
            self.counter(&names::LISTENER_CLIENT_ERRORS, &labels, stats.sum(|shard| &shard.client_errors));
            let http2 = stats.sum(|shard| &shard.http2_accepted);
            // Most listeners of a large file are alike: what they do not speak makes no series.
            if http2 > 0 {
                self.gauge(&names::HTTP2_CONNECTIONS, &labels, stats.sum(|shard| &shard.http2_open) as f64);
                self.counter(&names::HTTP2_ACCEPTED, &labels, http2);
                self.gauge(&names::HTTP2_STREAMS, &labels, stats.sum(|shard| &shard.http2_streams) as f64);
                for flood in Flood::ALL {
                    let count = stats.sum(|shard| &shard.http2_floods[flood as usize]);
                    self.counter(&names::HTTP2_FLOODS, &[listener.as_str(), flood.code()], count);
                }
            }
            if let Some(certificates) = records.certificates.get(listener) {
                self.handshakes(listener.as_str(), stats);
                for (certificate, not_after) in certificates {
                    self.gauge(
                        &names::TLS_NOT_AFTER,
                        &[listener.as_str(), certificate],
                        seconds_since_1970(*not_after),
                    );
                }
            }
        }
    }

    fn handshakes(&mut self, listener: &str, stats: &ListenerStats) {
        for (version, version_label) in session::VERSIONS.into_iter().enumerate() {
            for (origin, origin_label) in session::ORIGINS.into_iter().enumerate() {
                let count = stats.sum(|shard| &shard.handshakes[version][origin]);
                self.counter(&names::TLS_HANDSHAKES, &[listener, version_label, origin_label], count);
            }
        }
        for reason in Failure::ALL {
            let count = stats.sum(|shard| &shard.handshake_failures[reason as usize]);
            self.counter(&names::TLS_HANDSHAKE_FAILURES, &[listener, reason.code()], count);
        }
        let duration = HistogramTotals::of(stats, |shard| &shard.handshake_duration);
        self.histogram(&names::TLS_HANDSHAKE_DURATION, &[listener], &duration);
    }

    fn instances(&mut self, records: &Records, now: Instant) {
        let mut rows: BTreeMap<(&PoolName, &InstanceName), InstanceRow<'_>> = BTreeMap::new();
        for member in records.members.iter().filter(|member| member.life.visible(now)) {
            rows.entry((&member.instance.pool, &member.name)).or_default().add(member);
        }
        // A reload that was refused may have left counts of instances that never were in a snapshot.
        let shown: HashSet<_> = rows.keys().map(|(pool, name)| ((*pool).clone(), (*name).clone())).collect();
        for ((pool, name), mut row) in rows {
            if let Some(carried) = records.carried.get(&(pool.clone(), name.clone())) {
                row.totals.merge(carried);
            }
            self.instance(pool.as_str(), name.as_str(), &row);
        }
        for ((pool, instance), probes) in records.probes.iter().filter(|(name, _)| shown.contains(*name)) {
            let labels = [pool.as_str(), instance.as_str()];
            for (result, count) in PROBE_RESULTS.into_iter().zip(probes.results) {
                self.counter(&names::PROBES, &[labels[0], labels[1], result], count);
            }
            self.histogram(&names::PROBE_DURATION, &labels, &probes.duration);
        }
        for ((pool, instance, to, reason), count) in &records.transitions {
            self.counter(&names::INSTANCE_TRANSITIONS, &[pool.as_str(), instance.as_str(), to, reason], *count);
        }
    }

    fn instance(&mut self, pool: &str, name: &str, row: &InstanceRow<'_>) {
        let labels = [pool, name];
        let totals = &row.totals;
        for (code, count) in STATUS_CLASSES.into_iter().zip(totals.responses) {
            self.counter(&names::UPSTREAM_REQUESTS, &[pool, name, code], count);
        }
        for cause in Cause::ALL {
            let count = totals.errors[cause as usize];
            if count > 0 || ATTEMPT_CAUSES.contains(&cause) {
                self.counter(&names::UPSTREAM_ERRORS, &[pool, name, cause.code()], count);
            }
        }
        let phases = [("connect", &totals.connect), ("first_byte", &totals.first_byte), ("total", &totals.total)];
        for (phase, durations) in phases {
            self.histogram(&names::UPSTREAM_DURATION, &[pool, name, phase], durations);
        }
        self.gauge(&names::UPSTREAM_IN_FLIGHT, &labels, row.in_flight as f64);
        // Two workers' counts are not read at one instant, so the difference may be short of zero for a moment.
        let active = row.open.saturating_sub(row.idle);
        self.gauge(&names::UPSTREAM_CONNECTIONS, &[pool, name, "active"], active as f64);
        self.gauge(&names::UPSTREAM_CONNECTIONS, &[pool, name, "idle"], row.idle as f64);
        self.counter(&names::UPSTREAM_OPENED, &labels, totals.opened);
        self.counter(&names::UPSTREAM_REUSED, &labels, totals.reused);
        // A series for each instance without TLS would be two more lines of nothing.
        if totals.handshakes.iter().any(|count| *count > 0) {
            for (kind, count) in HANDSHAKES.into_iter().zip(totals.handshakes) {
                self.counter(&names::UPSTREAM_HANDSHAKES, &[pool, name, kind], count);
            }
        }
        self.counter(&names::UPSTREAM_UNASKED_BYTES, &labels, totals.unasked_bytes);
        for event in H2Event::ALL {
            self.counter(&names::UPSTREAM_H2_EVENTS, &[pool, name, event.code()], totals.h2_events[event as usize]);
        }
        if let Some(instance) = row.latest {
            for (state, holds) in states(instance) {
                self.gauge(&names::INSTANCE_STATE, &[pool, name, state], f64::from(u8::from(holds)));
            }
        }
    }

    fn pools(&mut self, records: &Records, now: Instant) {
        for (pool, stats) in records.pools.visible(now) {
            let name = pool.as_str();
            let members = || {
                let shown = records.members.iter().filter(|member| member.instance.pool == *pool);
                shown.filter(|member| !member.instance.state().removed && member.life.visible(now))
            };
            let eligible = members().filter(|member| member.instance.state().eligible()).count();
            self.gauge(&names::POOL_INSTANCES, &[name], members().count() as f64);
            self.gauge(&names::POOL_ELIGIBLE, &[name], eligible as f64);
            self.gauge(&names::QUEUE_DEPTH, &[name], stats.sum(|shard| &shard.queued) as f64);
            for reason in RetryReason::ALL {
                for outcome in RetryOutcome::ALL {
                    let count = stats.sum(|shard| &shard.retries[reason as usize][outcome as usize]);
                    self.counter(&names::RETRIES, &[name, reason.code(), outcome.code()], count);
                }
            }
        }
    }

    fn control(&mut self, records: &Records, workers: usize) {
        self.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        self.gauge(&names::WORKERS, &[], workers as f64);
        self.gauge(&names::CONFIG_GENERATION, &[], records.generation as f64);
        if let Some(at) = records.last_applied {
            self.gauge(&names::CONFIG_INFO, &[&records.hash], 1.0);
            self.gauge(&names::CONFIG_LAST_SUCCESS, &[], seconds_since_1970(at));
        }
        self.counter(&names::TLS_FILES, &[ReloadResult::Applied.code()], records.files_applied);
        self.counter(&names::TLS_FILES, &[ReloadResult::Refused.code()], records.files_refused);
        for (result, count) in ReloadResult::ALL.into_iter().zip(records.reloads) {
            self.counter(&names::CONFIG_RELOADS, &[result.code()], count);
        }
        if let Some(drops) = &records.log {
            self.counter(&names::LOG_DROPPED, &[drops.sink()], drops.lines());
        }
    }

    fn process(&mut self, process: Process) {
        if let Some(seconds) = process.cpu_seconds {
            self.seconds(&names::PROCESS_CPU, &[], seconds);
        }
        let gauges = [
            (&names::PROCESS_START, process.start_time_seconds),
            (&names::PROCESS_RESIDENT, process.resident_bytes.map(|bytes| bytes as f64)),
            (&names::PROCESS_VIRTUAL, process.virtual_bytes.map(|bytes| bytes as f64)),
            (&names::PROCESS_OPEN_FDS, process.open_fds.map(|count| count as f64)),
            (&names::PROCESS_MAX_FDS, process.max_fds.map(|count| count as f64)),
            (&names::PROCESS_THREADS, process.threads.map(|count| count as f64)),
        ];
        for (definition, value) in gauges {
            if let Some(value) = value {
                self.gauge(definition, &[], value);
            }
        }
    }

    fn machine(&mut self, machine: Machine) {
        if let Some(cpu) = machine.cpu {
            for (mode, seconds) in [("user", cpu.user), ("system", cpu.system), ("idle", cpu.idle)] {
                self.seconds(&names::SYSTEM_CPU, &[mode], seconds);
            }
        }
        let gauges = [
            (&names::SYSTEM_MEMORY_AVAILABLE, machine.memory_available_bytes),
            (&names::SYSTEM_MEMORY, machine.memory_bytes),
            (&names::SYSTEM_OPEN_FDS, machine.open_fds),
            (&names::SYSTEM_THREADS, machine.threads),
        ];
        for (definition, value) in gauges {
            if let Some(value) = value {
                self.gauge(definition, &[], value as f64);
            }
        }
    }

    // --- one series ---

    /// A counter of time.
    fn seconds(&mut self, definition: &'static Definition, labels: &[&str], seconds: f64) {
        let mut metric = labelled(definition, labels);
        let mut counter = Counter::default();
        counter.set_value(seconds);
        metric.set_counter(counter);
        self.push(definition, metric);
    }

    fn counter(&mut self, definition: &'static Definition, labels: &[&str], value: u64) {
        let mut metric = labelled(definition, labels);
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        metric.set_counter(counter);
        self.push(definition, metric);
    }

    fn gauge(&mut self, definition: &'static Definition, labels: &[&str], value: f64) {
        let mut metric = labelled(definition, labels);
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
        self.push(definition, metric);
    }

    fn histogram(&mut self, definition: &'static Definition, labels: &[&str], totals: &HistogramTotals) {
        let mut metric = labelled(definition, labels);
        let mut histogram = prometheus::proto::Histogram::default();
        let mut cumulative = 0;
        let mut bounded = Vec::with_capacity(BUCKETS_MICROS.len());
        for (bound, count) in BUCKETS_MICROS.into_iter().zip(totals.buckets) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(bound));
            bucket.set_cumulative_count(cumulative);
            bounded.push(bucket);
        }
        histogram.set_bucket(bounded);
        histogram.set_sample_count(totals.observations());
        histogram.set_sample_sum(seconds(totals.sum_micros));
        metric.set_histogram(histogram);
        self.push(definition, metric);
    }

    fn push(&mut self, definition: &'static Definition, metric: Metric) {
        self.0.entry(definition.name).or_insert_with(|| (definition, Vec::new())).1.push(metric);
    }

    fn encode(self) -> String {
        let families: Vec<MetricFamily> = self
            .0
            .into_values()
            .map(|(definition, metrics)| {
                let mut family = MetricFamily::default();
                family.set_name(definition.name.to_owned());
                family.set_help(definition.help.to_owned());
                family.set_field_type(match definition.kind {
                    Kind::Counter => MetricType::COUNTER,
                    Kind::Gauge => MetricType::GAUGE,
                    Kind::Histogram => MetricType::HISTOGRAM,
                });
                family.set_metric(metrics);
                family
            })
            .collect();
        let mut text = String::new();
        // The encoder refuses families without series only, and none is made without one.
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            tracing::error!(error = %error, "metrics could not be written");
        }
        text
    }
}

impl InstanceTotals {
    /// Adds what was summed before.
    fn merge(&mut self, other: &Self) {
        let add = |into: &mut [u64], from: &[u64]| into.iter_mut().zip(from).for_each(|(total, count)| *total += count);
        add(&mut self.responses, &other.responses);
        add(&mut self.errors, &other.errors);
        add(&mut self.handshakes, &other.handshakes);
        let histograms = [
            (&mut self.connect, &other.connect),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.total, &other.total),
        ];
        for (into, from) in histograms {
            add(&mut into.buckets, &from.buckets);
            into.sum_micros = into.sum_micros.wrapping_add(from.sum_micros);
        }
        self.opened += other.opened;
        self.reused += other.reused;
        self.unasked_bytes += other.unasked_bytes;
        add(&mut self.h2_events, &other.h2_events);
    }
}

/// Everything that [`names::INSTANCE_STATE`] says of an instance.
fn states(instance: &Instance) -> [(&'static str, bool); 9] {
    let state = instance.state();
    [
        ("eligible", state.eligible()),
        ("unproven", state.health == Health::Unproven),
        ("up", state.health == Health::Up),
        ("down", state.health == Health::Down),
        ("ejected", state.ejected),
        ("drain", state.admin == Admin::Drain),
        ("off", state.admin == Admin::Off),
        ("suspect", instance.suspect()),
        ("removed", state.removed),
    ]
}

/// The counts per cause that are shown: those that `always` names, and those above zero.
fn causes<T: Default>(
    stats: &PerWorker<T>,
    counts: impl Fn(&T) -> &PerCause,
    always: &[Cause],
) -> impl Iterator<Item = (Cause, u64)> {
    Cause::ALL
        .into_iter()
        .map(move |cause| (cause, stats.sum(|shard| counts(shard).of(cause))))
        .filter(move |(cause, count)| *count > 0 || always.contains(cause))
}

fn labelled(definition: &Definition, values: &[&str]) -> Metric {
    debug_assert_eq!(definition.labels.len(), values.len(), "labels of {}", definition.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(definition.labels.iter().zip(values).map(pair).collect())
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn seconds_since_1970(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
