//! The three axes, one at a time and against each other, with an invented clock.

use tokio::sync::mpsc;

use super::*;
use crate::health::Evidence;
use crate::pool::PoolShared;
use crate::pool::tests::settings;

/// A published pool whose instances have passed their first probe, at second 0.
struct Pool {
    group: Group,
    instances: Vec<Arc<Instance>>,
    began: Now,
}

fn pool(count: u16) -> Pool {
    let mut pool = fresh_pool(count);
    for index in 0..pool.instances.len() {
        assert_eq!(codes(&pool.probe(index, 0, Outcome::Pass)), ["first_probe"]);
    }
    pool
}

/// One whose instances nobody has probed.
fn fresh_pool(count: u16) -> Pool {
    let settings = settings(count);
    let shared = PoolShared::new(1);
    let mut pool = Pool { group: Group::default(), instances: Vec::new(), began: Now::read() };
    for (index, configured) in settings.instances.iter().enumerate() {
        let (evidence, _prober) = mpsc::channel(1);
        let id = InstanceId(index as u64);
        let instance = Instance::new(id, settings.name.clone(), configured.address, 1, Arc::clone(&shared), evidence);
        pool.group.add(Arc::clone(&instance), configured.name.clone(), &settings.probe, settings.evidence.clone());
        pool.group.define(id, configured.name.clone(), &settings.probe, settings.evidence.clone());
        pool.instances.push(instance);
    }
    pool
}

fn codes(changes: &[Change]) -> Vec<&'static str> {
    changes.iter().map(|change| change.reason.code()).collect()
}

impl Pool {
    fn at(&self, second: u64) -> Now {
        let passed = Duration::from_secs(second);
        Now { instant: self.began.instant + passed, wall: self.began.wall + passed }
    }

    fn probe(&mut self, index: usize, second: u64, outcome: Outcome) -> Vec<Change> {
        let now = self.at(second);
        let result = format!("{outcome:?}");
        let probed = Probed { started: now.instant, latency: Duration::ZERO, outcome, result };
        self.group.probed(self.instances[index].id, &probed, now)
    }

    /// So many failures in a row in traffic, each judged.
    fn fail(&mut self, index: usize, second: u64, count: u32) -> Vec<Change> {
        let now = self.at(second);
        let mut changes = Vec::new();
        for _ in 0..count {
            self.instances[index].failed(Evidence::Reset);
            changes.extend(self.group.evidence(self.instances[index].id, now));
        }
        changes
    }

    fn admin(&mut self, index: usize, second: u64, admin: Admin) -> Vec<Change> {
        let (id, now) = (self.instances[index].id, self.at(second));
        self.group.set_admin(id, admin, "operator".to_owned(), "because".to_owned(), now)
    }

    fn labels(&self) -> Vec<&'static str> {
        self.instances.iter().map(|instance| instance.state().label()).collect()
    }
}

#[test]
fn an_instance_that_fails_its_first_probe_is_down_but_was_never_in_to_be_ejected() {
    let mut pool = fresh_pool(1);
    let changes = pool.probe(0, 0, Outcome::Fail);
    assert!(changes[0].begins_down() && !changes[0].ejects());
}

#[test]
fn three_failures_in_a_row_eject_and_two_passes_in_a_row_restore() {
    let mut pool = pool(1);
    for outcome in [Outcome::Fail, Outcome::Fail, Outcome::Pass, Outcome::Fail, Outcome::Fail] {
        assert!(pool.probe(0, 5, outcome).is_empty());
    }
    let changes = pool.probe(0, 10, Outcome::Fail);
    assert!(changes[0].ejects() && !changes[0].restores());
    assert_eq!(changes[0].reason.to_string(), "3 probes in a row failed, the last one: Fail");
    assert!(!pool.instances[0].eligible());
    assert!(pool.probe(0, 15, Outcome::Pass).is_empty());
    assert!(pool.probe(0, 20, Outcome::Fail).is_empty());
    assert!(pool.probe(0, 25, Outcome::Pass).is_empty());
    let changes = pool.probe(0, 30, Outcome::Pass);
    assert!(changes[0].restores() && pool.instances[0].eligible());
    pool.instances[0].report(|report| {
        assert_eq!(report.since, Some(pool.began.wall + Duration::from_secs(30)));
        assert_eq!(report.probes.len(), Report::PROBES, "the last ones are kept");
    });
}

#[test]
fn five_failures_in_a_row_in_traffic_eject_for_ten_seconds_and_leave_the_verdict_alone() {
    let mut pool = pool(4);
    assert!(pool.fail(0, 1, 4).is_empty());
    pool.instances[0].succeeded();
    assert!(pool.fail(0, 1, 4).is_empty(), "a success began the row anew");
    let changes = pool.fail(0, 1, 1);
    assert_eq!(codes(&changes), ["traffic"]);
    assert!(changes[0].ejects() && changes[0].to.health == Health::Up);
    assert!(pool.probe(0, 10, Outcome::Pass).is_empty(), "the time is not up");
    assert!(pool.probe(0, 12, Outcome::Fail).is_empty(), "the time is up, but the probe failed");
    assert_eq!(codes(&pool.probe(0, 13, Outcome::Pass)), ["traffic_over"]);
    assert!(pool.instances[0].eligible());
    assert!(pool.fail(0, 14, 4).is_empty());
    pool.fail(0, 14, 1);
    assert!(pool.probe(0, 33, Outcome::Pass).is_empty(), "the second time it is out for twenty seconds");
    assert_eq!(codes(&pool.probe(0, 34, Outcome::Pass)), ["traffic_over"]);
    assert_eq!(pool.instances[0].report(|report| report.ejections), 2);
    pool.probe(0, 334, Outcome::Pass);
    assert_eq!(pool.instances[0].report(|report| report.ejections), 0, "forgotten after 300 s of service");
}

#[test]
fn traffic_never_leaves_less_than_half_of_the_pool_rounded_up() {
    for (count, may_go) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut pool = pool(count);
        let gone: usize = (0..usize::from(count)).map(|index| pool.fail(index, 1, 9).len()).sum();
        assert_eq!(gone, may_go, "of {count}");
    }
}

#[test]
fn instances_that_probes_hold_down_count_as_out_and_drained_ones_do_not_count_at_all() {
    let mut pool = pool(5);
    pool.admin(4, 1, Admin::Drain);
    for second in 1..=3 {
        pool.probe(0, second, Outcome::Fail);
    }
    // Of four that are not drained, one is down: one more may go.
    assert_eq!(codes(&pool.fail(1, 4, 5)), ["traffic"]);
    assert!(pool.fail(2, 4, 9).is_empty());
    assert_eq!(pool.labels(), ["down", "ejected", "up", "up", "drain"]);
    // The one that was down comes back, and the next failure asks again.
    pool.probe(0, 5, Outcome::Pass);
    pool.probe(0, 6, Outcome::Pass);
    assert_eq!(codes(&pool.fail(2, 7, 1)), ["traffic"]);
}

#[test]
fn an_ejected_instance_that_probes_find_well_is_given_back_early_when_probes_take_the_others() {
    let mut pool = pool(4);
    pool.fail(0, 1, 5);
    pool.fail(1, 2, 5);
    assert!(pool.probe(0, 3, Outcome::Pass).is_empty());
    for second in 4..=5 {
        assert!(pool.probe(2, second, Outcome::Fail).is_empty());
    }
    assert_eq!(codes(&pool.probe(2, 6, Outcome::Fail)), ["probes_failed", "pool_too_small"]);
    assert_eq!(pool.labels(), ["up", "ejected", "down", "up"]);
    // The second one has not been probed since it was ejected; its next pass gives it back when it is needed, too.
    for second in 7..=9 {
        pool.probe(3, second, Outcome::Fail);
    }
    assert_eq!(pool.labels(), ["up", "ejected", "down", "down"]);
    assert_eq!(codes(&pool.probe(1, 10, Outcome::Pass)), ["pool_too_small"]);
}

#[test]
fn probes_can_empty_a_pool() {
    let mut pool = pool(2);
    for second in 1..=3 {
        pool.probe(0, second, Outcome::Fail);
        pool.probe(1, second, Outcome::Fail);
    }
    assert_eq!(pool.labels(), ["down", "down"]);
}

#[test]
fn what_the_operator_does_never_hides_why_an_instance_is_down() {
    let mut pool = pool(2);
    pool.probe(0, 1, Outcome::Fail);
    let why = |pool: &Pool| pool.instances[0].report(|report| report.reason.clone());
    let before = why(&pool);
    assert!(!before.is_empty());
    pool.admin(0, 2, Admin::Drain);
    assert_eq!(why(&pool), before);
    pool.admin(0, 3, Admin::Active);
    assert_eq!(why(&pool), before);
}

#[test]
fn what_the_operator_wants_is_an_axis_of_its_own_with_who_and_why() {
    let mut pool = pool(2);
    let changes = pool.admin(0, 1, Admin::Drain);
    assert_eq!(changes[0].reason.to_string(), "set by operator: because");
    assert!(!changes[0].ejects(), "a drained instance finishes what it has");
    let note = pool.instances[0].report(|report| report.admin.clone()).expect("a note");
    assert_eq!((note.who.as_str(), note.why.as_str()), ("operator", "because"));
    assert!(pool.admin(0, 2, Admin::Drain).is_empty(), "nothing changed");
    pool.probe(0, 3, Outcome::Pass);
    assert_eq!(pool.labels()[0], "drain");
    pool.admin(0, 4, Admin::Active);
    assert_eq!(pool.labels()[0], "up", "probes went on");
    assert!(pool.instances[0].report(|report| report.admin.is_none()));
}

#[test]
fn an_instance_that_was_off_proves_itself_anew() {
    let mut pool = pool(2);
    pool.admin(0, 1, Admin::Off);
    assert_eq!(pool.labels()[0], "off");
    pool.admin(0, 100, Admin::Active);
    assert_eq!(pool.labels()[0], "unproven");
    assert_eq!(codes(&pool.probe(0, 101, Outcome::Pass)), ["first_probe"]);
    assert!(pool.instances[0].eligible());
}

#[test]
fn a_removed_instance_is_out_for_good() {
    let mut pool = pool(2);
    let id = pool.instances[0].id;
    let now = pool.at(1);
    assert_eq!(pool.group.remove(id, now).map(|change| change.reason), Some(Reason::Removed));
    assert!(pool.probe(0, 2, Outcome::Pass).is_empty());
    assert_eq!(pool.labels(), ["removed", "up"]);
    assert_eq!(pool.group.undrained(), 1);
}

#[test]
fn a_new_question_keeps_the_verdict_and_drops_the_streak() {
    let mut pool = pool(1);
    pool.probe(0, 1, Outcome::Fail);
    pool.probe(0, 2, Outcome::Fail);
    pool.group.forget_streak(pool.instances[0].id);
    assert!(pool.probe(0, 3, Outcome::Fail).is_empty());
    assert_eq!(pool.group.verdict(pool.instances[0].id), Verdict::Up { fails: 1 });
}

#[test]
fn an_instance_that_is_only_prepared_does_not_count_as_part_of_the_pool() {
    let mut pool = pool(2);
    let settings = settings(1);
    let (evidence, _prober) = mpsc::channel(1);
    let shared = PoolShared::new(1);
    let address = settings.instances[0].address;
    let fresh = Instance::new(InstanceId(9), settings.name.clone(), address, 1, shared, evidence);
    pool.group.add(fresh, "fresh".into(), &settings.probe, settings.evidence.clone());
    assert_eq!((pool.group.undrained(), pool.group.serving()), (2, 2));
}
