//! What picks promise, over all strategies; and pools for the tests of others.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::instance::{Admin, Health, State};
use super::*;
use crate::config::model::{Evidence, HostField, PoolConnection, Probe, ProbeKind, Protocol, Retry};
use crate::telemetry::stats::WorkerId;

pub(crate) const UP: State = State { health: Health::Up, ejected: false, admin: Admin::Active, removed: false };
const DOWN: State = State { health: Health::Down, ..UP };

/// A pool of `count` instances on ports 9001, 9002, …, named after them, with the reference's defaults and no jitter.
pub(crate) fn settings(count: u16) -> model::Pool {
    let second = Duration::from_secs(1);
    model::Pool {
        name: "api".into(),
        instances: (1..=count).map(configured).collect(),
        balance: Balance::LeastConnections,
        protocol: Protocol::H1,
        host: HostField::Keep,
        required: false,
        queue_wait: Duration::ZERO,
        queue_max: 2,
        on_down: model::OnDown::Keep,
        probe: Probe {
            kind: ProbeKind::Tcp,
            port: None,
            interval: 5 * second,
            fast_interval: None,
            timeout: 2 * second,
            fall: 3,
            rise: 2,
            jitter_percent: 0,
            tls: true,
        },
        connection: PoolConnection {
            connect_timeout: 2 * second,
            response_head_timeout: 60 * second,
            response_body_timeout: 60 * second,
            request_write_timeout: 60 * second,
            idle_timeout: 55 * second,
            idle_max: 64,
            unsafe_reuse_max: second,
            response_head_bytes_max: 32 * 1024,
            response_fields_max: 100,
            upgrade_idle_timeout: 60 * second,
            upgrade_lifetime_max: None,
            h2_connections_max: 1,
            h2_streams_max: 1,
            h2_window_bytes: 65_536,
            h2_connection_window_bytes: 65_536,
            h2_frame_bytes_max: 16_384,
            h2_ping_interval: None,
            h2_ping_timeout: second,
        },
        retry: Retry {
            retries: 2,
            budget_percent: 20,
            budget_min: 3,
            budget_wait: Duration::ZERO,
            body_bytes_max: 64 * 1024,
            deadline: 60 * second,
        },
        evidence: Evidence {
            failures: Some(5),
            eject_time: 10 * second,
            eject_time_max: 300 * second,
            judge_5xx: false,
        },
        tls: None,
    }
}

fn configured(number: u16) -> model::Instance {
    let address = SocketAddr::from(([127, 0, 0, 1], 9000 + number));
    model::Instance {
        name: InstanceName::from(number.to_string().as_str()),
        address,
        authority: address.to_string(),
        weight: 1,
        backup: false,
        in_flight_max: None,
    }
}

/// The pool of these settings, every instance up, for four workers.
fn pool(settings: model::Pool) -> Pool {
    const WORKERS: usize = 4;
    let shared = PoolShared::new(WORKERS);
    let members = settings.instances.iter().enumerate().map(|(index, configured)| {
        let (evidence, _prober) = mpsc::channel(1);
        let name = settings.name.clone();
        let id = InstanceId(index as u64 + 1);
        let instance = Instance::new(id, name, configured.address, WORKERS, Arc::clone(&shared), evidence);
        instance.publish(UP);
        Member {
            instance,
            name: configured.name.clone(),
            authority: configured.authority.clone(),
            dialer: None,
            weight: configured.weight,
            backup: configured.backup,
            in_flight_max: configured.in_flight_max,
        }
    });
    let members = members.collect();
    Pool::new(settings, members, Arc::new(PoolStats::new(WORKERS)), shared)
}

fn turn(worker: usize) -> Turn {
    Turn::seeded(WorkerId(worker), 7)
}

/// The names of the next picks of a first attempt, each finished at once.
fn picks(pool: &Pool, turn: &Turn, count: usize) -> Vec<String> {
    (0..count).map(|_| pool.pick(turn, &[], Repeat::Never).expect("one is eligible").member.name.to_string()).collect()
}

fn after(pool: &Pool, tried: &[usize], repeat: Repeat) -> Result<String, NoInstance> {
    let tried: Vec<InstanceId> = tried.iter().map(|index| pool.members[*index].instance.id).collect();
    pool.pick(&turn(0), &tried, repeat).map(|picked| picked.member.name.to_string())
}

const ALL: [Balance; 3] = [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomOfTwo];

#[test]
fn equal_instances_get_their_turns() {
    for balance in [Balance::LeastConnections, Balance::RoundRobin] {
        let pool = pool(model::Pool { balance, ..settings(3) });
        assert_eq!(picks(&pool, &turn(0), 7), ["1", "2", "3", "1", "2", "3", "1"], "{balance:?}");
    }
}

#[test]
fn four_workers_with_one_request_each_spread_over_four_instances() {
    for balance in [Balance::LeastConnections, Balance::RoundRobin] {
        let pool = pool(model::Pool { balance, ..settings(4) });
        // None sees the others' requests: each is finished before the next begins.
        let mut names: Vec<String> = (0..4).flat_map(|worker| picks(&pool, &turn(worker), 1)).collect();
        names.sort();
        assert_eq!(names, ["1", "2", "3", "4"], "{balance:?}");
    }
}

#[test]
fn the_least_loaded_instance_is_picked_whichever_worker_loaded_the_others() {
    let pool = pool(settings(3));
    let held: Vec<Picked<'_>> =
        (0..2).map(|worker| pool.pick(&turn(worker), &[], Repeat::Never).expect("eligible")).collect();
    let idle = pool.members.iter().find(|member| member.instance.in_flight() == 0).expect("one of three is idle");
    for worker in 0..4 {
        assert_eq!(picks(&pool, &turn(worker), 1), [idle.name.as_str()]);
    }
    assert_eq!(pool.in_flight(), 2);
    drop(held);
    assert_eq!(pool.in_flight(), 0);
}

#[test]
fn an_instance_that_is_out_leaves_its_turns_to_the_others_evenly() {
    for balance in [Balance::LeastConnections, Balance::RoundRobin] {
        let pool = pool(model::Pool { balance, ..settings(4) });
        pool.members[1].instance.publish(DOWN);
        let names = picks(&pool, &turn(0), 300);
        for name in ["1", "3", "4"] {
            assert_eq!(names.iter().filter(|picked| *picked == name).count(), 100, "{balance:?} {name}");
        }
    }
}

#[test]
fn weights_share_the_requests_that_are_in_flight() {
    for balance in ALL {
        let mut settings = model::Pool { balance, ..settings(2) };
        settings.instances[0].weight = 3;
        let pool = pool(settings);
        let turn = turn(0);
        let held: Vec<Picked<'_>> = (0..400).map(|_| pool.pick(&turn, &[], Repeat::Never).expect("eligible")).collect();
        let heavy = pool.members[0].instance.in_flight();
        assert!((295..=305).contains(&heavy), "{balance:?}: {heavy} of 300");
        drop(held);
    }
}

#[test]
fn suspects_are_picked_last_and_still_picked() {
    for balance in ALL {
        let pool = pool(model::Pool { balance, ..settings(3) });
        for member in &pool.members[..2] {
            member.instance.failed(crate::health::Evidence::NotConnected);
        }
        assert!(picks(&pool, &turn(0), 20).iter().all(|name| name == "3"), "{balance:?}");
        pool.members[2].instance.publish(DOWN);
        assert!(picks(&pool, &turn(0), 20).iter().all(|name| name != "3"), "{balance:?}");
    }
}

#[test]
fn a_connection_that_could_not_be_made_moves_on_to_every_other_instance_and_then_to_the_backups() {
    for balance in ALL {
        let mut settings = model::Pool { balance, ..settings(4) };
        settings.instances[0].backup = true;
        let pool = pool(settings);
        let turn = turn(0);
        let (mut tried, mut names) = (Vec::new(), Vec::new());
        while let Ok(picked) = pool.pick(&turn, &tried, Repeat::Never) {
            tried.push(picked.member.instance.id);
            names.push(picked.member.name.to_string());
        }
        assert_eq!(names.pop().as_deref(), Some("1"), "{balance:?}: the backup comes last");
        names.sort();
        assert_eq!(names, ["2", "3", "4"], "{balance:?}");
        assert_eq!(pool.pick(&turn, &tried, Repeat::Never).expect_err("all tried"), NoInstance::AllTried);
    }
}

#[test]
fn a_repeated_request_goes_to_another_instance_while_one_is_eligible() {
    for balance in ALL {
        let pool = pool(model::Pool { balance, ..settings(2) });
        assert_eq!(after(&pool, &[0], Repeat::IfNoOther), Ok("2".to_owned()), "{balance:?}");
        pool.members[1].instance.failed(crate::health::Evidence::NotConnected);
        assert_eq!(after(&pool, &[0], Repeat::IfNoOther), Ok("2".to_owned()), "{balance:?}: a suspect is another one");
        pool.members[1].instance.publish(DOWN);
        assert_eq!(after(&pool, &[0], Repeat::IfNoOther), Ok("1".to_owned()), "{balance:?}");
    }
}

#[test]
fn backups_serve_only_when_no_other_instance_is_eligible() {
    for balance in ALL {
        let mut settings = model::Pool { balance, ..settings(3) };
        settings.instances[1].backup = true;
        let pool = pool(settings);
        assert!(picks(&pool, &turn(0), 20).iter().all(|name| name != "2"));
        for member in pool.members.iter().filter(|member| !member.backup) {
            member.instance.publish(DOWN);
        }
        assert!(picks(&pool, &turn(0), 20).iter().all(|name| name == "2"));
    }
}

#[test]
fn why_there_is_no_instance_is_told_apart() {
    let mut settings = settings(1);
    settings.instances[0].in_flight_max = Some(1);
    let pool = pool(settings);
    let held = pool.pick(&turn(0), &[], Repeat::Never).expect("eligible");
    assert_eq!(after(&pool, &[], Repeat::Never), Err(NoInstance::AtLimit));
    drop(held);
    assert_eq!(after(&pool, &[0], Repeat::Never), Err(NoInstance::AllTried));
    assert_eq!(pool.eligible_count(), 1);
    pool.members[0].instance.publish(DOWN);
    assert_eq!(after(&pool, &[], Repeat::Never), Err(NoInstance::NoneEligible));
    assert_eq!(pool.eligible_count(), 0);
}

#[test]
fn workers_that_race_never_pass_a_limit_and_leave_nothing_counted() {
    let mut settings = settings(2);
    for instance in &mut settings.instances {
        instance.in_flight_max = Some(2);
    }
    let pool = pool(settings);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let turn = turn(worker);
                for _ in 0..2_000 {
                    let picked = pool.pick(&turn, &[], Repeat::Never);
                    assert!(pool.members.iter().all(|member| member.instance.in_flight() <= 2));
                    drop(picked);
                }
            });
        }
    });
    assert_eq!(pool.in_flight(), 0);
}

#[test]
fn the_retry_count_stops_at_what_the_budget_allows() {
    let shared = PoolShared::new(1);
    let guards: Vec<_> = (0..3).filter_map(|_| shared.try_retry(2)).collect();
    assert_eq!((guards.len(), shared.retrying()), (2, 2));
    drop(guards);
    assert_eq!(shared.retrying(), 0);
}

/// A pool of one instance with room for one request, and a queue for two.
fn queueing() -> Pool {
    let mut settings = model::Pool { queue_wait: Duration::from_secs(1), ..settings(1) };
    settings.instances[0].in_flight_max = Some(1);
    pool(settings)
}

fn deadline(pool: &Pool) -> Instant {
    Instant::now() + pool.settings.queue_wait
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order_when_requests_end() {
    let pool = queueing();
    let turn = turn(0);
    let held = pool.pick(&turn, &[], Repeat::Never).expect("eligible");
    let order = std::cell::RefCell::new(Vec::new());
    let wait = async |name: &'static str| {
        let picked = pool.pick_or_wait(&turn, &[], Repeat::Never, deadline(&pool)).await.expect("in time");
        order.borrow_mut().push(name);
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(picked);
    };
    tokio::join!(wait("first"), wait("second"), async {
        tokio::task::yield_now().await;
        assert_eq!(pool.stats.sum(|shard| &shard.queued), 2);
        let refused = pool.pick_or_wait(&turn, &[], Repeat::Never, deadline(&pool)).await;
        assert_eq!(refused.expect_err("two wait"), NoInstance::QueueFull);
        drop(held);
        assert!(!pool.shared.queue.is_empty(), "who was woken has not picked yet, so that nobody may overtake");
    });
    assert_eq!(*order.borrow(), ["first", "second"]);
    assert!(pool.shared.queue.is_empty());
    assert_eq!((pool.in_flight(), pool.stats.sum(|shard| &shard.queued)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_an_instance_comes_back() {
    let pool = queueing();
    pool.members[0].instance.publish(DOWN);
    let turn = turn(0);
    let (picked, ()) = tokio::join!(pool.pick_or_wait(&turn, &[], Repeat::Never, deadline(&pool)), async {
        tokio::task::yield_now().await;
        pool.members[0].instance.publish(UP);
    });
    assert!(picked.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_so_at_the_deadline() {
    let pool = queueing();
    pool.members[0].instance.publish(DOWN);
    let began = Instant::now();
    let picked = pool.pick_or_wait(&turn(0), &[], Repeat::Never, deadline(&pool)).await;
    assert_eq!(picked.expect_err("down"), NoInstance::QueueTimeout);
    assert_eq!(began.elapsed(), pool.settings.queue_wait);
    assert!(pool.shared.queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_been_everywhere_does_not_wait() {
    let pool = queueing();
    let tried = [pool.members[0].instance.id];
    let picked = pool.pick_or_wait(&turn(0), &tried, Repeat::Never, deadline(&pool)).await;
    assert_eq!(picked.expect_err("tried"), NoInstance::AllTried);
}

#[test]
fn no_wake_is_lost_between_workers_on_threads_of_their_own() {
    let mut settings = model::Pool { queue_wait: Duration::from_secs(20), queue_max: 100, ..settings(1) };
    settings.instances[0].in_flight_max = Some(1);
    let pool = pool(settings);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
                runtime.block_on(async {
                    let turn = turn(worker);
                    for _ in 0..1_000 {
                        let picked = pool.pick_or_wait(&turn, &[], Repeat::Never, deadline(pool)).await;
                        let picked = picked.expect("a lost wake ends in a timeout");
                        tokio::task::yield_now().await;
                        drop(picked);
                    }
                });
            });
        }
    });
    assert!(pool.shared.queue.is_empty());
    assert_eq!(pool.in_flight(), 0);
}
