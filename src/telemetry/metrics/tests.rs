//! Tests of records and scrape, over a configuration as a reload would bring it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::advance;

use super::*;
use crate::cause::Cause;
use crate::config::load::{self, Surroundings};
use crate::health::Reason;
use crate::http2::guard::Flood;
use crate::pool::instance::{InstanceId, State};
use crate::pool::shared::PoolShared;
use crate::telemetry::stats::{RetryOutcome, RetryReason, WorkerId};
use crate::tls::failure::Failure;

const WORKERS: usize = 2;

struct Nowhere;

impl Surroundings for Nowhere {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        hosts.iter().map(|_| Err(io::ErrorKind::NotFound.into())).collect()
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> usize {
        WORKERS
    }
}

/// A configuration with one listener `front`, and one pool and route per name.
fn config(pools: &[&str]) -> Arc<Config> {
    let pools = pools.iter().map(|pool| {
        format!(
            "[pool.{pool}]\ninstances = [\"127.0.0.1:9001\"]\n\
             [[route]]\nname = \"to-{pool}\"\npath = \"/{pool}\"\npool = \"{pool}\"\n"
        )
    });
    let text = "[[listener]]\nname = \"front\"\nbind = \"127.0.0.1:8080\"\n".to_owned() + &pools.collect::<String>();
    load::parse(&text, Path::new("plimsoll.toml"), &Nowhere).unwrap().config
}

fn instance(id: u64, pool: &str) -> Arc<Instance> {
    let (evidence, _prober) = mpsc::channel(1);
    let address = ([127, 0, 0, 1], 9000 + id as u16).into();
    Instance::new(InstanceId(id), pool.into(), address, WORKERS, PoolShared::new(WORKERS), evidence)
}

fn publish(metrics: &Metrics, pools: &[&str], members: &[(&str, &Arc<Instance>)]) {
    // As a snapshot does while it is built.
    let config = config(pools);
    for listener in &config.listeners {
        let _built = (metrics.listener(&listener.name), metrics.unrouted(&listener.name));
        for route in &config.routes {
            let _built = metrics.route(&listener.name, &route.name);
        }
    }
    for pool in &config.pools {
        let _built = metrics.pool(&pool.name);
    }
    let members = members.iter().map(|(name, instance)| (InstanceName::from(*name), Arc::clone(instance)));
    metrics.published(1, &config, members);
}

/// The value of a series, written as in the text format.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

fn change(instance: &Arc<Instance>, from: State, to: State, reason: Reason) -> Change {
    Change {
        pool: instance.pool.clone(),
        instance: Arc::clone(instance),
        name: "a".into(),
        from,
        to,
        reason,
        at: SystemTime::UNIX_EPOCH,
    }
}

fn probe(passed: Option<bool>) -> ProbeRecord {
    ProbeRecord { at: SystemTime::UNIX_EPOCH, latency: Duration::from_millis(3), result: String::new(), passed }
}

/// Metrics of which every family has a series.
fn populated() -> Metrics {
    let metrics = Metrics::new(WORKERS);
    let a = instance(1, "api");
    publish(&metrics, &["api"], &[("a", &a)]);
    let route = metrics.route(&"front".into(), &"to-api".into());
    route.of(WorkerId(0)).durations[1].observe(Duration::from_millis(2));
    route.of(WorkerId(1)).durations[1].observe(Duration::from_secs(20));
    route.of(WorkerId(1)).local.of(Cause::QueueFull).increment();
    let front = metrics.listener(&"front".into());
    front.of(WorkerId(0)).open.add(7);
    front.of(WorkerId(1)).http2_accepted.add(3);
    front.of(WorkerId(0)).http2_floods[Flood::Pings as usize].increment();
    front.of(WorkerId(1)).handshakes[1][0].add(4);
    front.of(WorkerId(0)).handshake_failures[Failure::PlainHttp as usize].increment();
    let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    metrics.certificates([("front".into(), [(Arc::from("a.pem"), not_after)].into())].into());
    let shard = a.stats.of(WorkerId(1));
    shard.responses[1].increment();
    shard.handshakes[0].increment();
    shard.errors.of(Cause::ConnectRefused).increment();
    shard.first_byte.observe(Duration::from_micros(700));
    shard.connections_open.add(3);
    shard.connections_idle.add(2);
    let pool = metrics.pool(&"api".into());
    pool.of(WorkerId(0)).retries[RetryReason::Reset as usize][RetryOutcome::Answered as usize].increment();
    let (from, to) = (a.state(), State { health: Health::Up, ..a.state() });
    a.publish(to);
    metrics.changed(&change(&a, from, to, Reason::FirstProbe("pass".to_owned())));
    for passed in [Some(true), Some(false), None] {
        metrics.probed(&"api".into(), &"a".into(), &probe(passed));
    }
    metrics.reload(ReloadResult::Applied);
    metrics.watch_log(crate::telemetry::log::Drops::none());
    metrics
}

#[test]
fn a_scrape_sums_what_all_workers_counted() {
    let metrics = populated();
    for (series, expected) in [
        (r#"plimsoll_requests_total{listener="front",route="to-api",code="2xx"}"#, 2.0),
        (r#"plimsoll_requests_total{listener="front",route="to-api",code="5xx"}"#, 0.0),
        (r#"plimsoll_request_duration_seconds_bucket{listener="front",route="to-api",code="2xx",le="0.001"}"#, 0.0),
        (r#"plimsoll_request_duration_seconds_bucket{listener="front",route="to-api",code="2xx",le="0.0025"}"#, 1.0),
        (r#"plimsoll_request_duration_seconds_bucket{listener="front",route="to-api",code="2xx",le="10"}"#, 1.0),
        (r#"plimsoll_request_duration_seconds_bucket{listener="front",route="to-api",code="2xx",le="+Inf"}"#, 2.0),
        (r#"plimsoll_request_duration_seconds_sum{listener="front",route="to-api",code="2xx"}"#, 20.002),
        (r#"plimsoll_local_responses_total{listener="front",route="to-api",cause="queue_full"}"#, 1.0),
        (r#"plimsoll_local_responses_total{listener="front",route="-",cause="no_route"}"#, 0.0),
        (r#"plimsoll_listener_connections{listener="front"}"#, 7.0),
        (r#"plimsoll_http2_connections_accepted_total{listener="front"}"#, 3.0),
        (r#"plimsoll_http2_floods_total{listener="front",reason="pings"}"#, 1.0),
        (r#"plimsoll_tls_handshakes_total{listener="front",version="1.3",session="full"}"#, 4.0),
        (r#"plimsoll_tls_handshake_failures_total{listener="front",reason="plain_http"}"#, 1.0),
        (
            r#"plimsoll_tls_certificate_not_after_timestamp_seconds{listener="front",certificate="a.pem"}"#,
            4_000_000_000.0,
        ),
        (r#"plimsoll_upstream_requests_total{pool="api",instance="a",code="2xx"}"#, 1.0),
        (r#"plimsoll_upstream_tls_handshakes_total{pool="api",instance="a",kind="full"}"#, 1.0),
        (r#"plimsoll_upstream_errors_total{pool="api",instance="a",cause="connect_refused"}"#, 1.0),
        (r#"plimsoll_upstream_errors_total{pool="api",instance="a",cause="upstream_reset"}"#, 0.0),
        (r#"plimsoll_upstream_connections{pool="api",instance="a",state="active"}"#, 1.0),
        (r#"plimsoll_upstream_connections{pool="api",instance="a",state="idle"}"#, 2.0),
        (r#"plimsoll_upstream_duration_seconds_count{pool="api",instance="a",phase="first_byte"}"#, 1.0),
        (r#"plimsoll_instance_state{pool="api",instance="a",state="eligible"}"#, 1.0),
        (r#"plimsoll_instance_state{pool="api",instance="a",state="down"}"#, 0.0),
        (r#"plimsoll_instance_transitions_total{pool="api",instance="a",to="up",reason="first_probe"}"#, 1.0),
        (r#"plimsoll_probes_total{pool="api",instance="a",result="inconclusive"}"#, 1.0),
        (r#"plimsoll_probe_duration_seconds_count{pool="api",instance="a"}"#, 2.0),
        (r#"plimsoll_pool_eligible_instances{pool="api"}"#, 1.0),
        (r#"plimsoll_retries_total{pool="api",reason="reset",outcome="answered"}"#, 1.0),
        ("plimsoll_config_generation", 1.0),
        (r#"plimsoll_config_reloads_total{result="success"}"#, 1.0),
        (r#"plimsoll_log_dropped_total{sink="none"}"#, 0.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}");
    }
}

#[test]
fn every_metric_is_in_a_scrape_of_a_running_proxy_and_nothing_else() {
    let text = populated().text();
    let announced: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let known: BTreeSet<_> = names::ALL.iter().map(|definition| definition.name).collect();
    assert_eq!(announced, known);
}

#[tokio::test(start_paused = true)]
async fn what_went_from_the_configuration_keeps_its_series_for_five_minutes() {
    let metrics = Metrics::new(WORKERS);
    let (a, b) = (instance(1, "api"), instance(2, "web"));
    publish(&metrics, &["api", "web"], &[("a", &a), ("b", &b)]);
    b.stats.of(WorkerId(0)).responses[1].add(5);
    publish(&metrics, &["api"], &[("a", &a)]);
    b.publish(State { removed: true, ..b.state() });

    let series = [
        r#"plimsoll_upstream_requests_total{pool="web",instance="b",code="2xx"}"#,
        r#"plimsoll_requests_total{listener="front",route="to-web",code="2xx"}"#,
        r#"plimsoll_queue_depth{pool="web"}"#,
    ];
    assert_eq!(series.map(|series| value(&metrics, series)), [Some(5.0), Some(0.0), Some(0.0)]);
    assert_eq!(value(&metrics, r#"plimsoll_pool_instances{pool="web"}"#), Some(0.0));
    advance(KEPT_AFTER_REMOVAL.saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(value(&metrics, series[0]), Some(5.0));
    advance(Duration::from_secs(1)).await;
    assert_eq!(series.map(|series| value(&metrics, series)), [None; 3]);
}

#[tokio::test(start_paused = true)]
async fn counters_survive_reloads_and_a_new_address_under_the_same_name() {
    let metrics = Metrics::new(WORKERS);
    let (before, after) = (instance(1, "api"), instance(2, "api"));
    publish(&metrics, &["api"], &[("a", &before)]);
    metrics.route(&"front".into(), &"to-api".into()).of(WorkerId(0)).durations[1].observe(Duration::ZERO);
    before.stats.of(WorkerId(0)).responses[1].add(5);
    metrics.probed(&"api".into(), &"a".into(), &probe(Some(true)));

    publish(&metrics, &["api"], &[("a", &after)]);
    after.stats.of(WorkerId(0)).responses[1].add(2);
    let answers = r#"plimsoll_upstream_requests_total{pool="api",instance="a",code="2xx"}"#;
    assert_eq!(value(&metrics, answers), Some(7.0));
    advance(KEPT_AFTER_REMOVAL * 2).await;
    publish(&metrics, &["api"], &[("a", &after)]);
    assert_eq!(value(&metrics, answers), Some(7.0), "the old record is forgotten, its counts are not");
    assert_eq!(value(&metrics, r#"plimsoll_probes_total{pool="api",instance="a",result="pass"}"#), Some(1.0));
    assert_eq!(value(&metrics, r#"plimsoll_requests_total{listener="front",route="to-api",code="2xx"}"#), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_was_refused_shows_nothing_of_what_it_built() {
    let metrics = Metrics::new(WORKERS);
    publish(&metrics, &["api"], &[("a", &instance(1, "api"))]);
    let _built = metrics.route(&"front".into(), &"to-new".into());
    metrics.probed(&"new".into(), &"n".into(), &probe(Some(false)));
    let text = metrics.text();
    assert!(!text.contains("to-new") && !text.contains(r#""new""#), "{text}");
}

mod with_promtool {
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool (`bash tests/all.sh` installs it)");
        promtool.stdin.take().unwrap().write_all(super::populated().text().as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
}
