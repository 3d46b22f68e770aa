//! When probes are made, with paused time and an instance that answers by a script.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::time::{advance, sleep};

use super::super::probe::ProbeError;
use super::super::{Change, ProbeRecord};
use super::*;
use crate::config::model::{InstanceName, PoolName, Probe};
use crate::pool::PoolShared;
use crate::pool::instance::InstanceId;
use crate::pool::tests::settings;
use crate::telemetry::stats::PoolStats;

/// What the instance does with a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Pass,
    Fail,
    Hang,
    /// Passes after that long.
    Slow(Duration),
}

/// An instance that answers by a script, the last line of it for ever, and notes when it was asked.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Duration>>,
    began: Instant,
}

impl Script {
    fn new(answers: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().copied().collect()),
            asked: Mutex::default(),
            began: Instant::now(),
        })
    }

    fn then(&self, answers: &[Answer]) {
        *self.answers.lock().expect("a lock") = answers.iter().copied().collect();
    }

    /// When probes began, in milliseconds.
    fn asked(&self) -> Vec<u128> {
        self.asked.lock().expect("a lock").iter().map(Duration::as_millis).collect()
    }
}

impl Check for Script {
    fn check<'a>(&'a self, _: &'a Target) -> Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>> {
        self.asked.lock().expect("a lock").push(self.began.elapsed());
        let mut answers = self.answers.lock().expect("a lock");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        Box::pin(async move {
            match answer.expect("a script") {
                Answer::Pass => Ok(()),
                Answer::Fail => Err(ProbeError::Status(503)),
                Answer::Hang => std::future::pending().await,
                Answer::Slow(time) => {
                    sleep(time).await;
                    Ok(())
                }
            }
        })
    }
}

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    changes: Mutex<Vec<&'static str>>,
    results: Mutex<Vec<String>>,
}

impl Observer for Notes {
    fn changed(&self, change: &Change) {
        self.changes.lock().expect("a lock").push(change.to.label());
    }

    fn probed(&self, _: &PoolName, _: &InstanceName, record: &ProbeRecord) {
        self.results.lock().expect("a lock").push(record.result.clone());
    }

    fn pool_stats(&self, _: &PoolName) -> Arc<PoolStats> {
        Arc::new(PoolStats::new(1))
    }
}

/// A prober under way.
struct Rig {
    instance: Arc<Instance>,
    script: Arc<Script>,
    notes: Arc<Notes>,
    orders: watch::Sender<Orders>,
    decided: watch::Receiver<bool>,
}

fn start(answers: &[Answer], change: impl FnOnce(&mut Probe)) -> Rig {
    let mut pool = settings(4);
    change(&mut pool.probe);
    let group: Arc<Mutex<Group>> = Arc::default();
    let add = |index: usize| {
        let (sender, evidence) = mpsc::channel(16);
        let configured = &pool.instances[index];
        let id = InstanceId(index as u64);
        let instance = Instance::new(id, pool.name.clone(), configured.address, 1, PoolShared::new(1), sender);
        let mut group = group.lock().expect("a lock");
        group.add(Arc::clone(&instance), configured.name.clone(), &pool.probe, pool.evidence.clone());
        group.define(id, configured.name.clone(), &pool.probe, pool.evidence.clone());
        (instance, evidence)
    };
    let (instance, evidence) = add(0);
    // Others that are up, so that the pool can spare the first.
    for index in 1..4 {
        let (other, _) = add(index);
        let probed =
            Probed { started: Instant::now(), latency: Duration::ZERO, outcome: Outcome::Pass, result: String::new() };
        group.lock().expect("a lock").probed(other.id, &probed, Now::read());
    }
    let script = Script::new(answers);
    let notes = Arc::new(Notes::default());
    let target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], 9001)),
        authority: String::new(),
        probe: pool.probe.clone(),
        dialer: None,
        protocol: crate::config::model::Protocol::H1,
    };
    let (orders, orders_seen) = watch::channel(Orders { target, probing: Probing::On });
    let (decides, decided) = watch::channel(false);
    let prober = Prober {
        instance: Arc::clone(&instance),
        group,
        observer: Arc::clone(&notes) as Arc<dyn Observer>,
        check: Arc::clone(&script) as Arc<dyn Check>,
        orders: orders_seen,
        evidence,
        decided: decides,
        random: fastrand::Rng::with_seed(7),
    };
    tokio::spawn(prober.run());
    Rig { instance, script, notes, orders, decided }
}

impl Rig {
    fn changes(&self) -> Vec<&'static str> {
        self.notes.changes.lock().expect("a lock").clone()
    }

    fn results(&self) -> Vec<String> {
        self.notes.results.lock().expect("a lock").clone()
    }
}

async fn until(second: f64) {
    sleep(Duration::from_secs_f64(second)).await;
}

use Answer::{Fail, Hang, Pass, Slow};

#[tokio::test(start_paused = true)]
async fn the_first_probe_is_made_at_once_and_then_one_every_interval() {
    let rig = start(&[Slow(Duration::from_secs(1))], |_| {});
    assert!(!rig.instance.eligible() && !*rig.decided.borrow(), "no traffic before the first verdict");
    until(16.0).await;
    assert_eq!(rig.script.asked(), [0, 5_000, 10_000, 15_000], "counted from start to start");
    assert_eq!(rig.changes(), ["up"]);
    assert!(*rig.decided.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_detected_within_the_promised_time() {
    let rig = start(&[Pass, Fail], |_| {});
    until(14.9).await;
    assert!(rig.instance.eligible());
    until(0.2).await;
    assert_eq!(rig.changes(), ["up", "down"]);
    assert_eq!(rig.results().last().map(String::as_str), Some("status 503"));
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_detected_within_the_promised_time() {
    let rig = start(&[Pass, Hang], |_| {});
    until(16.9).await;
    assert!(rig.instance.eligible());
    until(0.2).await;
    assert_eq!(rig.changes(), ["up", "down"]);
    assert_eq!(rig.results().last().map(String::as_str), Some("no answer within 2s"));
}

#[tokio::test(start_paused = true)]
async fn the_fast_interval_is_used_while_a_streak_runs_down_and_up() {
    let rig = start(&[Pass, Fail, Fail, Fail, Fail, Pass], |probe| {
        probe.fast_interval = Some(Duration::from_secs(1));
    });
    until(18.5).await;
    assert_eq!(rig.script.asked(), [0, 5_000, 6_000, 7_000, 12_000, 17_000, 18_000]);
    assert_eq!(rig.changes(), ["up", "down", "up"]);
}

#[tokio::test(start_paused = true)]
async fn probes_of_one_instance_never_overlap() {
    let rig = start(&[Pass, Hang], |probe| probe.fast_interval = Some(Duration::from_secs(1)));
    until(11.1).await;
    assert_eq!(rig.script.asked(), [0, 5_000, 7_000, 9_000]);
    assert_eq!(rig.changes(), ["up", "down"], "eleven seconds, as `check` prints");
}

#[tokio::test(start_paused = true)]
async fn jitter_moves_probes_by_its_share_at_most() {
    let rig = start(&[Pass], |probe| probe.jitter_percent = 10);
    until(60.0).await;
    let asked = rig.script.asked();
    let intervals: Vec<u128> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(intervals.iter().all(|interval| (4_500..=5_501).contains(interval)), "{intervals:?}");
    assert!(intervals.iter().any(|interval| *interval != intervals[0]), "{intervals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_asks_for_a_probe_at_once_and_at_most_one_per_second() {
    let rig = start(&[Pass, Fail], |probe| probe.fall = 9);
    until(2.0).await;
    for _ in 0..25 {
        rig.instance.failed(Evidence::NotConnected);
        until(0.1).await;
    }
    assert_eq!(rig.script.asked(), [0, 2_000, 3_000, 4_000]);
    rig.instance.failed(Evidence::Reset);
    until(0.6).await;
    assert_eq!(rig.script.asked().last(), Some(&5_000), "the last refusal asked for this one, the reset for none");
    until(4.8).await;
    assert_eq!(rig.script.asked().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_passed_probe_clears_suspicion_unless_traffic_was_refused_meanwhile() {
    let rig = start(&[Pass, Slow(Duration::from_millis(500)), Pass], |_| {});
    until(2.0).await;
    rig.instance.failed(Evidence::NotConnected);
    assert!(rig.instance.suspect());
    until(0.2).await;
    rig.instance.failed(Evidence::NotConnected);
    until(0.4).await;
    assert_eq!(rig.results(), ["pass", "pass"]);
    assert!(rig.instance.suspect(), "refused while the probe was under way");
    until(0.5).await;
    assert_eq!(rig.script.asked(), [0, 2_000, 3_000], "which asked for another one");
    assert!(!rig.instance.suspect());
}

#[tokio::test(start_paused = true)]
async fn traffic_ejects_while_a_probe_hangs_and_a_probe_at_the_end_of_the_time_restores() {
    let rig = start(&[Pass, Hang, Pass], |_| {});
    until(5.5).await;
    for _ in 0..5 {
        rig.instance.failed(Evidence::Timeout);
    }
    until(0.1).await;
    assert_eq!(rig.changes(), ["up", "ejected"], "at 5.5 s, with a probe under way until 7 s");
    until(9.8).await;
    assert_eq!(rig.changes(), ["up", "ejected"], "passed at 10 and 15 s, but the time is up at 15.5 s only");
    until(0.2).await;
    assert_eq!(rig.changes(), ["up", "ejected", "up"]);
    assert_eq!(rig.script.asked(), [0, 5_000, 10_000, 15_000, 15_500]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_woken_late_is_inconclusive() {
    let rig = start(&[Pass, Hang], |probe| probe.fall = 1);
    until(5.5).await;
    // The machine stands still for a minute.
    advance(Duration::from_secs(60)).await;
    until(0.01).await;
    assert_eq!(rig.changes(), ["up"]);
    let late = rig.results().pop().expect("a result");
    assert!(late.starts_with("woken ") && late.ends_with(" too late"), "{late}");
    rig.script.then(&[Pass]);
    until(4.0).await;
    rig.script.then(&[Fail]);
    until(6.0).await;
    assert_eq!(rig.changes(), ["up", "down"], "probes that end in time count again");
}

#[tokio::test(start_paused = true)]
async fn a_changed_definition_is_probed_at_once_even_when_a_probe_is_under_way() {
    let rig = start(&[Pass, Hang, Pass], |_| {});
    until(2.0).await;
    let change = |fall| rig.orders.send_modify(|orders| orders.target.probe.fall = fall);
    change(4);
    until(1.0).await;
    change(5);
    until(1.0).await;
    assert_eq!(rig.script.asked(), [0, 2_000, 3_000]);
    assert_eq!(rig.results(), ["pass", "pass"], "the one that was under way is not counted");
    assert_eq!(rig.changes(), ["up"]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_off_is_not_probed_and_at_once_when_it_is_back() {
    let rig = start(&[Pass], |_| {});
    until(1.0).await;
    rig.orders.send_modify(|orders| orders.probing = Probing::Off);
    until(60.0).await;
    assert_eq!(rig.script.asked(), [0]);
    rig.orders.send_modify(|orders| orders.probing = Probing::On);
    until(0.1).await;
    assert_eq!(rig.script.asked(), [0, 61_000]);
}

#[tokio::test(start_paused = true)]
async fn the_prober_ends_when_the_fleet_drops_the_instance() {
    let rig = start(&[Hang], |_| {});
    until(1.0).await;
    let Rig { orders, mut decided, .. } = rig;
    drop(orders);
    assert!(decided.changed().await.is_err(), "the task has dropped its end");
}

#[test]
fn jitter_is_a_share_of_the_interval_in_both_directions() {
    let second = Duration::from_secs(1);
    let millis = |percent, random| jittered(second, percent, random).as_millis();
    assert_eq!([millis(10, 0.0), millis(10, 0.5), millis(10, 1.0), millis(0, 1.0)], [900, 1_000, 1_100, 1_000]);
}
