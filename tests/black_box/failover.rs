//! Failover under load: no GET fails, none waits beyond the promise, no POST is sent twice.
//!
//! Instances are real processes that are killed, stopped and made unreachable while clients go on sending.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::load::{Load, Sent};
use crate::support::process::Process;
use crate::support::wait::{millis, seconds};
use crate::support::{Config, Proxy};

/// Short times, in proportion like the defaults.
const INTERVAL: Duration = millis(200);
const TIMEOUT: Duration = millis(150);
const FALL: u32 = 3;
const RISE: u32 = 2;

/// Worst case of detecting a hang, as `check` computes it: `fall` intervals and the last timeout.
const DETECTION: Duration = millis(200 * 3 + 150);

/// What scheduling on a busy test machine may add.
const SLACK: Duration = seconds(2);

struct Bench {
    instances: Vec<Process>,
    proxy: Proxy,
    load: Option<Load>,
}

impl Bench {
    fn start() -> Self {
        let instances: Vec<_> = (0..4).map(|index| Process::start(&format!("p{index}"))).collect();
        let mut config = Config::new()
            .probe("interval", format!("\"{}ms\"", INTERVAL.as_millis()))
            .probe("timeout", format!("\"{}ms\"", TIMEOUT.as_millis()))
            .probe("fall", FALL)
            .probe("rise", RISE)
            .evidence("eject_time", "\"300ms\"")
            .evidence("eject_time_max", "\"600ms\"")
            .connection("connect_timeout", "\"300ms\"")
            .retry("budget_min", 100)
            .set("log", "level", "\"info\"");
        for process in &instances {
            config = config.instance_at(&process.name, process.address, "");
        }
        let proxy = config.start();
        proxy.wait_eligible(4);
        let load = Some(Load::start(proxy.front, 6, 4));
        Self { instances, proxy, load }
    }

    fn load(&self) -> &Load {
        self.load.as_ref().unwrap()
    }

    /// Harms instances, waits until probes see it, heals them, waits until they are back.
    fn round(&mut self, victims: &[usize], harm: impl Fn(&mut Process), heal: impl Fn(&mut Process)) {
        self.load().wait_more(60);
        let begin = Instant::now();
        for &victim in victims {
            harm(&mut self.instances[victim]);
        }
        for &victim in victims {
            self.proxy.wait_state(&self.instances[victim].name, "down");
        }
        let out = begin.elapsed();
        assert!(out < DETECTION + SLACK, "out after {out:?}");
        self.load().wait_more(60);
        for &victim in victims {
            heal(&mut self.instances[victim]);
        }
        let begin = Instant::now();
        self.proxy.wait_eligible(4);
        let back = begin.elapsed();
        // `rise` passes; an ejection by traffic may have to run out as well.
        assert!(back < INTERVAL * (RISE + 1) + millis(600) + SLACK, "back after {back:?}");
    }

    /// Ends the load and judges it.
    fn judge(mut self) {
        let all = self.load.take().unwrap().end();
        let mut reached: BTreeMap<String, usize> = BTreeMap::new();
        for instance in &self.instances {
            for id in instance.ids() {
                *reached.entry(id).or_default() += 1;
            }
        }
        let failed: Vec<&Sent> = all.iter().filter(|sent| sent.method == "GET" && sent.failed()).collect();
        for sent in failed.iter().take(5) {
            eprintln!("{sent:?}: {}", self.proxy.wait_access(&format!("/load/{}", sent.id)));
        }
        assert!(failed.is_empty(), "{} of {} requests: GETs failed", failed.len(), all.len());
        let slowest = all.iter().filter(|sent| sent.method == "GET").max_by_key(|sent| sent.took).unwrap();
        assert!(slowest.took < DETECTION + seconds(1) + SLACK, "a GET waited: {slowest:?}");
        let twice: Vec<_> = reached.iter().filter(|(id, count)| id.starts_with("POST") && **count > 1).collect();
        assert!(twice.is_empty(), "sent twice: {twice:?}");
        let lost: Vec<_> = all
            .iter()
            .filter(|sent| sent.method == "POST" && !sent.failed() && !reached.contains_key(&sent.id))
            .collect();
        assert!(lost.is_empty(), "answered, but never arrived: {lost:?}");
        // A POST may fail only if it may have arrived, and then it says so.
        let odd: Vec<_> = all
            .iter()
            .filter(|sent| sent.method == "POST" && sent.failed())
            .filter(|sent| !matches!(sent.result, Ok(502 | 504)))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
        let posts = all.iter().filter(|sent| sent.method == "POST").count();
        let bad = all.iter().filter(|sent| sent.method == "POST" && sent.failed()).count();
        eprintln!("{} requests, slowest GET {:?}; {bad} of {posts} POSTs cut", all.len(), slowest.took);
        assert!(posts > 20);
    }
}

#[test]
fn killed_instance_fails_no_request_and_is_back_after_rise_passes() {
    let mut bench = Bench::start();
    for round in 0..8 {
        bench.round(&[round % 4], Process::kill, Process::restart);
    }
    bench.judge();
}

#[test]
fn three_of_four_killed_at_once_fail_no_get() {
    let mut bench = Bench::start();
    for round in 0..4 {
        let victims: Vec<_> = (0..4).filter(|index| *index != round).collect();
        bench.round(&victims, Process::kill, Process::restart);
    }
    bench.judge();
}

#[test]
fn frozen_instance_fails_no_get() {
    let mut bench = Bench::start();
    for round in 0..4 {
        bench.round(&[round], |process| process.freeze(), |process| process.thaw());
    }
    bench.judge();
}

#[test]
fn instance_behind_a_blackhole_fails_no_request() {
    let mut bench = Bench::start();
    for round in 0..4 {
        bench.round(&[round], Process::blackhole, Process::restart);
    }
    bench.judge();
}

#[test]
#[ignore = "a drill of four minutes: bash tests/all.sh --long"]
fn drill_of_two_hundred_mixed_rounds() {
    let mut bench = Bench::start();
    for round in 0..50 {
        bench.round(&[round % 4], Process::kill, Process::restart);
        bench.round(&[(round + 1) % 4], |process| process.freeze(), |process| process.thaw());
        bench.round(&[(round + 2) % 4], Process::blackhole, Process::restart);
        let victims: Vec<_> = (0..4).filter(|index| *index != round % 4).collect();
        bench.round(&victims, Process::kill, Process::restart);
    }
    bench.judge();
}
