//! What a pick costs, per strategy and size of the pool.
//!
//! Each round picks, and finishes the oldest of 64 requests in flight, as a worker under load does; so it holds the cost
//! of counting, too. The promise: at 10,000 instances well below a look at each of them (`scan_of_all` in the output).

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::config::load::{Surroundings, parse};
use plimsoll::config::model::{self, Balance};
use plimsoll::pool::instance::{Admin, Health, Instance, InstanceId, State};
use plimsoll::pool::{Member, Pool, PoolShared, Repeat, Turn};
use plimsoll::telemetry::stats::{PoolStats, WorkerId};
use tokio::sync::mpsc;

const SIZES: [usize; 4] = [4, 64, 1_000, 10_000];
const IN_FLIGHT: usize = 64;

/// Nothing is resolved or read here.
struct Nothing;

impl Surroundings for Nothing {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        hosts.iter().map(|_| Err(io::ErrorKind::NotFound.into())).collect()
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cores(&self) -> usize {
        1
    }
}

/// A pool's settings with the defaults of the reference.
fn settings(balance: Balance) -> model::Pool {
    let text = "[[listener]]\nbind = \"127.0.0.1:8080\"\n[pool.api]\ninstances = [\"127.0.0.1:9001\"]\n";
    let loaded = parse(text, Path::new("bench.toml"), &Nothing).unwrap_or_else(|rejected| panic!("{rejected:?}"));
    model::Pool { balance, ..loaded.config.pools[0].clone() }
}

fn pool(size: usize, balance: Balance, weight: impl Fn(usize) -> u32) -> Pool {
    let settings = settings(balance);
    let shared = PoolShared::new(1);
    let members = (0..size).map(|index| {
        let (evidence, _prober) = mpsc::channel(1);
        let address = SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8], 80));
        let id = InstanceId(index as u64);
        let instance = Instance::new(id, settings.name.clone(), address, 1, Arc::clone(&shared), evidence);
        instance.publish(State { health: Health::Up, ejected: false, admin: Admin::Active, removed: false });
        Member {
            instance,
            name: address.to_string().as_str().into(),
            authority: address.to_string(),
            dialer: None,
            weight: weight(index),
            backup: false,
            in_flight_max: None,
        }
    });
    let members = members.collect();
    Pool::new(settings, members, Arc::new(PoolStats::new(1)), shared)
}

fn picks(criterion: &mut Criterion) {
    for balance in [Balance::LeastConnections, Balance::RoundRobin, Balance::RandomOfTwo] {
        let mut group = criterion.benchmark_group(name(balance));
        for size in SIZES {
            for (weights, weight) in
                [("equal", (|_| 1) as fn(usize) -> u32), ("weighted", |index| 1 + index as u32 % 5)]
            {
                let pool = pool(size, balance, weight);
                let turn = Turn::seeded(WorkerId(0), 7);
                let mut held = VecDeque::with_capacity(IN_FLIGHT + 1);
                group.bench_function(BenchmarkId::new(weights, size), |bencher| {
                    bencher.iter(|| {
                        if let Ok(picked) = pool.pick(&turn, black_box(&[]), Repeat::Never) {
                            held.push_back(picked.guard);
                        }
                        if held.len() > IN_FLIGHT {
                            held.pop_front();
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

/// What the picks are measured against: the least loaded of all, looked for among all.
fn scans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan_of_all");
    for size in SIZES {
        let pool = pool(size, Balance::LeastConnections, |_| 1);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let eligible = pool.members.iter().filter(|member| member.eligible());
                black_box(eligible.min_by_key(|member| member.instance.in_flight()).map(|member| member.instance.id))
            });
        });
    }
    group.finish();
}

fn name(balance: Balance) -> &'static str {
    match balance {
        Balance::LeastConnections => "least_connections",
        Balance::RoundRobin => "round_robin",
        Balance::RandomOfTwo => "random_of_two",
    }
}

criterion_group!(benches, picks, scans);
criterion_main!(benches);
