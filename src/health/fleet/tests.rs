//! Records over reloads, with paused time and instances that answer as told.

use std::collections::HashSet;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::time::{Instant, sleep};

use super::super::ProbeRecord;
use super::super::probe::ProbeError;
use super::*;
use crate::config::model::{InstanceName, LogFormat, LogLevel, ProbeKind};
use crate::pool::tests::settings;
use crate::telemetry::stats::PoolStats;

/// Instances whose ports are in here fail their probes; the others pass after 100 ms.
#[derive(Default)]
struct Broken(Mutex<HashSet<u16>>);

impl Check for Broken {
    fn check<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>> {
        Box::pin(async move {
            sleep(Duration::from_millis(100)).await;
            let broken = self.0.lock().expect("a lock").contains(&target.address.port());
            if broken { Err(ProbeError::Status(500)) } else { Ok(()) }
        })
    }
}

#[derive(Default)]
struct Notes {
    changes: Mutex<Vec<String>>,
    probes: Mutex<usize>,
}

impl Observer for Notes {
    fn changed(&self, change: &Change) {
        self.changes.lock().expect("a lock").push(format!("{} {}", change.name, change.to.label()));
    }

    fn probed(&self, _: &PoolName, _: &InstanceName, _: &ProbeRecord) {
        *self.probes.lock().expect("a lock") += 1;
    }

    fn pool_stats(&self, _: &PoolName) -> Arc<PoolStats> {
        Arc::new(PoolStats::new(1))
    }
}

struct Rig {
    fleet: Fleet,
    broken: Arc<Broken>,
    notes: Arc<Notes>,
}

fn rig() -> Rig {
    let (broken, notes) = (Arc::new(Broken::default()), Arc::new(Notes::default()));
    let fleet = Fleet::with_check(1, Arc::clone(&notes) as _, Arc::clone(&broken) as _);
    Rig { fleet, broken, notes }
}

impl Rig {
    /// A reload as it is applied.
    async fn apply(&mut self, config: &Config) -> Vec<Arc<Pool>> {
        let prepared = self.fleet.prepare(config, &Material::default());
        Fleet::first_verdicts(&prepared, Duration::from_secs(5)).await;
        let pools = prepared.pools.clone();
        self.fleet.commit(prepared);
        pools
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.changes.lock().expect("a lock"))
    }

    fn set(&self, instance: &str, admin: Admin) -> Result<(), UnknownInstance> {
        self.fleet.set_admin("api", instance, admin, "somebody".to_owned(), "a reason".to_owned())
    }
}

/// One pool with instances `1` to `count`.
fn config(count: u16) -> Config {
    Config {
        path: PathBuf::new(),
        hash: String::new(),
        listeners: Vec::new(),
        pools: vec![settings(count)],
        routes: Vec::new(),
        admin: model::Admin { bind: None, token: None },
        log: model::Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
            access: false,
            access_query: false,
            queue_lines: 1,
            file: None,
        },
        runtime: model::Runtime {
            workers: 1,
            connections_max: 1,
            bind_wait: Duration::ZERO,
            startup_grace: Duration::ZERO,
            linger: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            watch: false,
        },
    }
}

fn labels(pool: &Pool) -> Vec<&'static str> {
    pool.members.iter().map(|member| member.instance.state().label()).collect()
}

#[tokio::test(start_paused = true)]
async fn first_verdicts_are_waited_for_as_long_as_the_slowest_probe_takes() {
    let mut rig = rig();
    rig.broken.0.lock().expect("a lock").insert(9002);
    let began = Instant::now();
    let pools = rig.apply(&config(3)).await;
    assert_eq!(began.elapsed().as_millis(), 100);
    assert_eq!(labels(&pools[0]), ["up", "down", "up"]);
}

#[tokio::test(start_paused = true)]
async fn first_verdicts_are_waited_for_no_longer_than_the_grace() {
    let mut rig = rig();
    let prepared = rig.fleet.prepare(&config(1), &Material::default());
    let began = Instant::now();
    Fleet::first_verdicts(&prepared, Duration::from_millis(50)).await;
    assert_eq!(began.elapsed().as_millis(), 50);
    assert_eq!(labels(&prepared.pools[0]), ["unproven"]);
    rig.fleet.abandon(prepared);
}

#[tokio::test(start_paused = true)]
async fn instances_that_stay_keep_their_records_and_those_that_go_are_out_in_old_snapshots_too() {
    let mut rig = rig();
    let old = rig.apply(&config(3)).await;
    let held = old[0].members[0].instance.begin();
    let mut changed = config(4);
    changed.pools[0].instances.remove(1);
    changed.pools[0].instances[0].weight = 7;
    let new = rig.apply(&changed).await;
    assert!(Arc::ptr_eq(&old[0].members[0].instance, &new[0].members[0].instance));
    assert!(Arc::ptr_eq(&old[0].shared, &new[0].shared));
    assert_eq!((new[0].in_flight(), new[0].members[0].weight), (1, 7));
    assert_eq!(labels(&old[0]), ["up", "removed", "up"]);
    assert_eq!(labels(&new[0]), ["up", "up", "up"]);
    drop(held);
    assert_eq!(rig.changes(), ["1 up", "2 up", "3 up", "4 up", "2 removed"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_goes_takes_its_instances_out() {
    let mut rig = rig();
    let old = rig.apply(&config(2)).await;
    let mut renamed = config(2);
    renamed.pools[0].name = "other".into();
    let new = rig.apply(&renamed).await;
    assert_eq!((labels(&old[0]), labels(&new[0])), (vec!["removed"; 2], vec!["up"; 2]));
    assert_ne!(old[0].members[0].instance.id, new[0].members[0].instance.id);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_reload_changes_nothing_and_stops_its_probers() {
    let mut rig = rig();
    let old = rig.apply(&config(2)).await;
    let mut other = config(4);
    other.pools.push(model::Pool { name: "other".into(), ..settings(1) });
    let prepared = rig.fleet.prepare(&other, &Material::default());
    assert_eq!(prepared.fresh.len(), 3);
    let fresh = prepared.fresh.clone();
    rig.fleet.abandon(prepared);
    assert_eq!(labels(&old[0]), ["up", "up"]);
    let before = *rig.notes.probes.lock().expect("a lock");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(*rig.notes.probes.lock().expect("a lock"), before + 2, "those of the two that stayed");
    assert!(fresh.iter().all(|instance| !instance.eligible() && instance.state().removed));
}

#[tokio::test(start_paused = true)]
async fn a_changed_probe_keeps_the_verdict_and_probes_at_once() {
    let mut rig = rig();
    rig.apply(&config(1)).await;
    rig.broken.0.lock().expect("a lock").insert(9001);
    let mut changed = config(1);
    changed.pools[0].probe.port = Some(9001);
    changed.pools[0].probe.kind = ProbeKind::Tcp;
    let pools = rig.apply(&changed).await;
    assert_eq!(labels(&pools[0]), ["up"]);
    sleep(Duration::from_millis(150)).await;
    assert_eq!(*rig.notes.probes.lock().expect("a lock"), 2);
    assert_eq!(labels(&pools[0]), ["up"]);
    rig.apply(&changed).await;
    sleep(Duration::from_millis(150)).await;
    assert_eq!(*rig.notes.probes.lock().expect("a lock"), 2, "the same definition asks for nothing");
}

#[tokio::test(start_paused = true)]
async fn the_operator_drains_switches_off_and_enables_and_a_reload_keeps_it() {
    let mut rig = rig();
    rig.apply(&config(2)).await;
    rig.set("1", Admin::Drain).expect("by name");
    rig.set("127.0.0.1:9002", Admin::Off).expect("by address");
    let pools = rig.apply(&config(3)).await;
    assert_eq!(labels(&pools[0]), ["drain", "off", "up"]);
    let before = *rig.notes.probes.lock().expect("a lock");
    sleep(Duration::from_millis(5_050)).await;
    assert_eq!(*rig.notes.probes.lock().expect("a lock"), before + 2, "one is off");
    rig.set("1", Admin::Active).expect("known");
    rig.set("2", Admin::Active).expect("known");
    assert_eq!(labels(&pools[0]), ["up", "unproven", "up"]);
    sleep(Duration::from_millis(150)).await;
    assert_eq!(labels(&pools[0]), ["up", "up", "up"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_instance_is_answered_with_the_nearest_ones() {
    let mut rig = rig();
    rig.apply(&config(2)).await;
    let unknown = rig.set("3", Admin::Drain).expect_err("there are two");
    assert_eq!(unknown.nearest, ["api/1", "api/2"]);
    assert_eq!(unknown.to_string(), "there is no instance `api/3`");
    let elsewhere = rig.fleet.set_admin("apis", "1", Admin::Drain, String::new(), String::new());
    assert_eq!(elsewhere.expect_err("no such pool").nearest[0], "api/1");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_all_probers() {
    let mut rig = rig();
    rig.apply(&config(2)).await;
    rig.fleet.shutdown().await;
    let before = *rig.notes.probes.lock().expect("a lock");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*rig.notes.probes.lock().expect("a lock"), before);
}
