//! Pool, balance, health and reload together, for hours of invented time, with everything going wrong at random.
//!
//! The real fleet and the real pick run on a paused clock against a world of instances that break and mend, clients that
//! come and go on several workers, operators that drain and enable, and configurations that change under way. After each
//! step the promises are checked; a failure prints its seed, and `PLIMSOLL_SIMULATION_SEED=…` runs that seed alone.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use plimsoll::config::load::{Surroundings, parse};
use plimsoll::config::model::{Balance, Config, InstanceName, PoolName};
use plimsoll::health::probe::{Check, ProbeError, Target};
use plimsoll::health::{Change, DetectionTime, Evidence, Fleet, Observer, ProbeRecord, Reason, detection_time};
use plimsoll::pool::instance::{Admin, Health, InFlight, Instance, InstanceId, State};
use plimsoll::pool::{Member, NoInstance, Pool, Repeat, Turn};
use plimsoll::telemetry::stats::{PoolStats, WorkerId};
use tokio::time::{Instant, sleep};

const SEEDS: u64 = 25;
const STEPS: u32 = 1_500;
const WORKERS: usize = 3;
const INSTANCES: u16 = 9;

#[test]
fn no_order_of_events_breaks_a_promise() {
    let only = std::env::var("PLIMSOLL_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut changes: HashMap<&'static str, u32> = HashMap::new();
    for seed in only.map_or(1..SEEDS + 1, |seed| seed..seed + 1) {
        let _named = NamedSeed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        for (reason, count) in runtime.block_on(Simulation::new(seed).run()) {
            *changes.entry(reason).or_default() += count;
        }
    }
    // The simulation would prove nothing if nothing happened in it.
    for reason in ["first_probe", "probes_failed", "probes_passed", "traffic", "traffic_over", "pool_too_small"] {
        assert!(only.is_some() || changes.get(reason) > Some(&10), "few {reason} in {changes:?}");
    }
}

/// Says which seed it was when a promise is broken.
struct NamedSeed(u64);

impl Drop for NamedSeed {
    #[expect(clippy::print_stderr, reason = "the test's own output")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with PLIMSOLL_SIMULATION_SEED={}", self.0);
        }
    }
}

/// What an instance does to whoever comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Well,
    Failing,
    Refusing,
    Hanging,
    /// Passes its probes and fails its clients.
    Treacherous,
}

impl Mode {
    fn passes_probes(self) -> bool {
        matches!(self, Self::Well | Self::Treacherous)
    }
}

/// How the instances are, and what has been told about them.
struct World {
    modes: HashMap<SocketAddr, (Mode, Instant)>,
    /// What an outsider knows of each record.
    seen: HashMap<InstanceName, Seen>,
    pool: Option<Arc<Pool>>,
    /// When the configuration changed last.
    defined: Instant,
    stats: Arc<PoolStats>,
    changes: HashMap<&'static str, u32>,
    /// Promises that were found broken in a prober's task, where a panic would go unseen.
    broken: Vec<String>,
}

#[derive(Default)]
struct Seen {
    fails: u32,
    passes: u32,
    /// When the last probe that passed began.
    passed: Option<Instant>,
    ejected_until: Option<Instant>,
    /// Since when probes look at it.
    probed_since: Option<Instant>,
    /// What was announced last.
    state: Option<State>,
}

struct Shared(Mutex<World>);

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Check for Shared {
    fn check<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = Result<(), ProbeError>> + Send + 'a>> {
        Box::pin(async move {
            let mode = self.world().modes[&target.address].0;
            if mode != Mode::Refusing {
                sleep(Duration::from_millis(20)).await;
            }
            match mode {
                Mode::Well | Mode::Treacherous => Ok(()),
                Mode::Failing => Err(ProbeError::Status(500)),
                Mode::Refusing => Err(ProbeError::Connect(ErrorKind::ConnectionRefused.into())),
                Mode::Hanging => pending().await,
            }
        })
    }
}

impl Observer for Shared {
    fn probed(&self, _: &PoolName, instance: &InstanceName, record: &ProbeRecord) {
        let mut world = self.world();
        let world = &mut *world;
        let seen = world.seen.entry(instance.clone()).or_default();
        match record.passed {
            Some(true) => {
                (seen.fails, seen.passes) = (0, seen.passes + 1);
                seen.passed = Some(Instant::now() - record.latency);
            }
            Some(false) => (seen.fails, seen.passes) = (seen.fails + 1, 0),
            None => world.broken.push("the invented clock is never late".to_owned()),
        }
    }

    fn changed(&self, change: &Change) {
        let mut world = self.world();
        *world.changes.entry(change.reason.code()).or_default() += 1;
        if let Err(broken) = world.judge(change) {
            world.broken.push(format!("{broken}: {change:?}"));
        }
    }

    fn pool_stats(&self, _: &PoolName) -> Arc<PoolStats> {
        Arc::clone(&self.world().stats)
    }
}

impl World {
    /// Holds a change against what an outsider knows.
    fn judge(&mut self, change: &Change) -> Result<(), String> {
        let ensure = |holds: bool, promise: &str| if holds { Ok(()) } else { Err(promise.to_owned()) };
        let left = self.pool.as_deref().map(serving);
        let seen = self.seen.entry(change.name.clone()).or_default();
        let now = Instant::now();
        ensure(change.from != change.to, "a change changes something")?;
        ensure(seen.state.is_none_or(|state| state == change.from), "changes are told without a gap")?;
        seen.state = Some(change.to);
        match &change.reason {
            Reason::FirstProbe(_) => ensure(change.from.health == Health::Unproven, "the first one decides")?,
            Reason::ProbesFailed(fall, _) => ensure(seen.fails >= *fall, "it takes `fall` failures in a row")?,
            Reason::ProbesPassed(rise) => ensure(seen.passes >= *rise, "it takes `rise` passes in a row")?,
            Reason::Traffic(_, time) => {
                ensure(change.from.health == Health::Up, "traffic judges what is up")?;
                seen.ejected_until = Some(now + *time);
                let kept = left.is_some_and(|(serving, undrained)| serving >= undrained.div_ceil(2));
                ensure(kept, "half of the pool stays")?;
            }
            Reason::PoolTooSmall => {
                let needed = left.is_some_and(|(serving, undrained)| serving <= undrained.div_ceil(2));
                ensure(needed, "given back early only when needed")?;
                ensure(seen.passes > 0, "given back early only when a probe found it well")?;
                seen.ejected_until = None;
            }
            Reason::Operator(..) if change.from.admin == Admin::Off => {
                *seen = Seen { probed_since: Some(now), state: Some(change.to), ..Seen::default() };
            }
            Reason::Operator(..) | Reason::TrafficOver => {}
            Reason::Removed => {
                self.seen.remove(&change.name);
                return Ok(());
            }
        }
        if change.from.ejected && !change.to.ejected {
            ensure(seen.passed >= seen.ejected_until, "it takes a pass that began after the time")?;
            seen.ejected_until = None;
        }
        Ok(())
    }
}

/// Instances that are up and not ejected, and all that the operator lets serve.
fn serving(pool: &Pool) -> (usize, usize) {
    let states = || pool.members.iter().map(|member| member.instance.state()).filter(|state| !state.removed);
    let undrained = states().filter(|state| state.admin == Admin::Active);
    (states().filter(|state| state.eligible()).count(), undrained.count())
}

struct Simulation {
    random: fastrand::Rng,
    shared: Arc<Shared>,
    fleet: Fleet,
    turns: Vec<Turn>,
    /// The present snapshot's pool last; older ones are those that requests may still hold.
    pools: Vec<Arc<Pool>>,
    held: Vec<InFlight>,
    /// Every record that ever was.
    records: HashMap<InstanceId, Arc<Instance>>,
    requests: u32,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let shared = Arc::new(Shared(Mutex::new(World {
            modes: (1..=INSTANCES).map(|number| (address(number), (Mode::Well, now))).collect(),
            seen: HashMap::new(),
            pool: None,
            defined: now,
            stats: Arc::new(PoolStats::new(WORKERS)),
            changes: HashMap::new(),
            broken: Vec::new(),
        })));
        Self {
            random: fastrand::Rng::with_seed(seed),
            fleet: Fleet::with_check(WORKERS, Arc::clone(&shared) as _, Arc::clone(&shared) as _),
            shared,
            turns: (0..WORKERS).map(|worker| Turn::seeded(WorkerId(worker), seed)).collect(),
            pools: Vec::new(),
            held: Vec::new(),
            records: HashMap::new(),
            requests: 0,
        }
    }

    /// Runs all steps. Returns how often states changed, by reason.
    async fn run(mut self) -> HashMap<&'static str, u32> {
        self.reload().await;
        for _ in 0..STEPS {
            match self.random.u32(0..100) {
                0..50 => {
                    for _ in 0..self.random.u32(1..6) {
                        self.request();
                    }
                }
                50..75 => self.finish(),
                75..90 => sleep(Duration::from_millis(self.random.u64(1..4_000))).await,
                90..95 => self.break_or_mend(),
                95..97 => self.operate(),
                97..98 => self.stand_still().await,
                _ => self.reload().await,
            }
            // Lets the probers take in what the step left for them.
            sleep(Duration::from_millis(1)).await;
            self.check();
        }
        self.calm_down().await
    }

    /// A client's request with all its attempts, on any worker, sometimes on a snapshot from before the last reload.
    fn request(&mut self) {
        let pool = Arc::clone(if self.random.u32(0..10) == 0 {
            &self.pools[self.random.usize(0..self.pools.len())]
        } else {
            self.pools.last().expect("published")
        });
        let worker = self.random.usize(0..WORKERS);
        let mut tried: Vec<InstanceId> = Vec::new();
        let mut repeat = Repeat::Never;
        while tried.len() < 12 {
            let expected = Expected::of(&pool, &tried, repeat);
            let picked = match pool.pick(&self.turns[worker], &tried, repeat) {
                Ok(picked) => picked,
                Err(why) => return expected.none(why),
            };
            expected.one(&pool, picked.member);
            let member = picked.member;
            tried.push(member.instance.id);
            let mode = self.shared.world().modes[&member.instance.address].0;
            match mode {
                Mode::Refusing => {
                    repeat = Repeat::Never;
                    member.instance.failed(Evidence::NotConnected);
                    continue;
                }
                Mode::Hanging | Mode::Treacherous if self.random.u32(0..5) > 0 => {
                    repeat = Repeat::IfNoOther;
                    member.instance.failed([Evidence::Timeout, Evidence::Reset][self.random.usize(0..2)]);
                    continue;
                }
                Mode::Hanging | Mode::Treacherous => {}
                Mode::Failing | Mode::Well => member.instance.succeeded(),
            }
            self.requests += 1;
            self.held.push(picked.guard);
            return;
        }
    }

    fn finish(&mut self) {
        for _ in 0..self.random.usize(0..10).min(self.held.len()) {
            let index = self.random.usize(0..self.held.len());
            drop(self.held.swap_remove(index));
        }
    }

    fn break_or_mend(&mut self) {
        let address = address(self.random.u16(1..=INSTANCES));
        let modes = [Mode::Well, Mode::Treacherous, Mode::Failing, Mode::Refusing, Mode::Hanging];
        let mode = modes[self.random.usize(0..8).saturating_sub(3)];
        let mut world = self.shared.world();
        let (present, since) = world.modes[&address];
        // From one failure to another it stays broken; the promise counts from the first.
        let since = if present.passes_probes() == mode.passes_probes() { since } else { Instant::now() };
        world.modes.insert(address, (mode, since));
    }

    fn operate(&mut self) {
        let name = self.random.u16(1..=INSTANCES).to_string();
        let admin = [Admin::Active, Admin::Active, Admin::Drain, Admin::Off][self.random.usize(0..4)];
        let known = self.pools.last().expect("published").members.iter().any(|member| member.name.as_str() == name);
        let set = self.fleet.set_admin("api", &name, admin, "operator".to_owned(), String::new());
        assert_eq!(set.is_ok(), known, "{set:?}");
    }

    /// Long enough for ejections to end and verdicts to change.
    async fn stand_still(&mut self) {
        sleep(Duration::from_secs(self.random.u64(10..120))).await;
    }

    async fn reload(&mut self) {
        let config = configuration(&mut self.random);
        let before: Vec<_> = self.pools.last().map(|pool| states(pool)).unwrap_or_default();
        let prepared = self.fleet.prepare(&config, &plimsoll::tls::material::Material::default());
        for pool in &prepared.pools {
            self.records.extend(pool.members.iter().map(|member| (member.instance.id, Arc::clone(&member.instance))));
        }
        if !self.pools.is_empty() && self.random.u32(0..4) == 0 {
            self.fleet.abandon(prepared);
            assert_eq!(states(self.pools.last().expect("published")), before, "a refused reload changes nothing");
            return;
        }
        Fleet::first_verdicts(&prepared, Duration::from_secs(3)).await;
        let pool = Arc::clone(&prepared.pools[0]);
        let kept: Vec<_> = states(&pool);
        {
            let mut world = self.shared.world();
            world.pool = Some(Arc::clone(&pool));
            world.defined = Instant::now();
        }
        self.fleet.commit(prepared);
        for ((id, before), (_, after)) in kept.iter().zip(states(&pool)) {
            assert_eq!(before.health, after.health, "{id:?} keeps its verdict");
        }
        self.pools.push(pool);
        if self.pools.len() > 4 {
            self.pools.remove(0);
        }
    }

    /// What must hold at any moment.
    fn check(&self) {
        let mut counts: HashMap<InstanceId, u32> = HashMap::new();
        for guard in &self.held {
            *counts.entry(guard.instance().id).or_default() += 1;
        }
        for (id, instance) in &self.records {
            assert_eq!(instance.in_flight(), counts.get(id).copied().unwrap_or(0), "guards are what is counted");
        }
        let pool = self.pools.last().expect("published");
        let now = Instant::now();
        let world = self.shared.world();
        assert!(world.broken.is_empty(), "{:#?}", world.broken);
        let DetectionTime { hang, .. } = detection_time(&pool.settings.probe);
        let probe = &pool.settings.probe;
        // A probe that hangs ends first; then so many passes.
        let recovery = probe.timeout + probe.interval * (probe.rise + 1);
        let margin = Duration::from_millis(100);
        for member in &pool.members {
            let state = member.instance.state();
            assert!(!state.removed, "what is published is not removed");
            let announced = world.seen.get(&member.name).and_then(|seen| seen.state);
            assert!(announced.is_none_or(|announced| announced == state), "{announced:?} was announced, not {state:?}");
            if state.admin == Admin::Off {
                continue;
            }
            let (mode, since) = world.modes[&member.instance.address];
            let probed_since = world.seen.get(&member.name).and_then(|seen| seen.probed_since).unwrap_or(since);
            let settled = now - since.max(world.defined).max(probed_since);
            if !mode.passes_probes() && settled > hang + margin {
                assert_eq!(state.health, Health::Down, "{} is {mode:?} for {settled:?}", member.name);
            }
            if mode.passes_probes() && settled > recovery + margin {
                assert_eq!(state.health, Health::Up, "{} is well for {settled:?}", member.name);
            }
        }
        for member in self.pools.iter().flat_map(|older| &older.members) {
            let stays = pool.members.iter().any(|other| other.instance.id == member.instance.id);
            assert_eq!(member.instance.state().removed, !stays, "what went is out in older snapshots, too");
        }
    }

    /// When everything is well again for long enough, everything serves again.
    async fn calm_down(mut self) -> HashMap<&'static str, u32> {
        self.held.clear();
        let now = Instant::now();
        for (mode, since) in self.shared.world().modes.values_mut() {
            (*mode, *since) = (Mode::Well, now);
        }
        let pool = Arc::clone(self.pools.last().expect("published"));
        for member in &pool.members {
            let set = self.fleet.set_admin("api", member.name.as_str(), Admin::Active, String::new(), String::new());
            set.expect("published");
        }
        sleep(pool.settings.evidence.eject_time_max + Duration::from_secs(60)).await;
        self.check();
        assert_eq!(pool.eligible_count(), pool.members.len());
        assert_eq!(pool.in_flight(), 0);
        assert!(self.requests > STEPS / 20, "{} requests", self.requests);
        self.shared.world().changes.clone()
    }
}

/// What a pick may give, worked out from the members one by one.
struct Expected {
    /// Those that may be picked: the first tier and rank that has any.
    best: Vec<InstanceId>,
    least: Option<f64>,
    any_serving: bool,
    any_below_limit: bool,
}

impl Expected {
    fn of(pool: &Pool, tried: &[InstanceId], repeat: Repeat) -> Self {
        let usable: Vec<&Member> = pool
            .members
            .iter()
            .filter(|member| member.eligible())
            .filter(|member| repeat == Repeat::IfNoOther || !tried.contains(&member.instance.id))
            .collect();
        let rank = |member: &Member| (member.backup, tried.contains(&member.instance.id), member.instance.suspect());
        let best = usable.iter().map(|member| rank(member)).min();
        let best: Vec<&&Member> = usable.iter().filter(|member| Some(rank(member)) == best).collect();
        Self {
            least: best.iter().map(|member| load(member, 0)).min_by(f64::total_cmp),
            best: best.iter().map(|member| member.instance.id).collect(),
            any_serving: pool.members.iter().any(|member| member.instance.state().eligible()),
            any_below_limit: pool.members.iter().any(Member::eligible),
        }
    }

    fn one(&self, pool: &Pool, member: &Member) {
        assert!(self.best.contains(&member.instance.id), "{} was preferred to {:?}", member.name, self.best);
        assert!(member.in_flight_max.is_none_or(|max| member.instance.in_flight() <= max));
        if pool.settings.balance == Balance::LeastConnections {
            let picked = load(member, 1);
            assert!(self.least.is_some_and(|least| picked <= least + 1e-9), "{picked} is not the least load");
        }
    }

    fn none(&self, why: NoInstance) {
        assert!(self.best.is_empty(), "{why} with {:?}", self.best);
        match why {
            NoInstance::NoneEligible => assert!(!self.any_serving),
            NoInstance::AtLimit => assert!(self.any_serving),
            NoInstance::AllTried => assert!(self.any_serving && self.best.is_empty()),
            NoInstance::QueueFull | NoInstance::QueueTimeout => panic!("nobody waited"),
        }
        assert!(self.any_serving || !self.any_below_limit);
    }
}

/// `(in flight + 1) / weight`, without the request that has just been counted.
fn load(member: &Member, counted: u32) -> f64 {
    f64::from(member.instance.in_flight() + 1 - counted) / f64::from(member.weight)
}

fn states(pool: &Pool) -> Vec<(InstanceId, State)> {
    pool.members.iter().map(|member| (member.instance.id, member.instance.state())).collect()
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9000 + number))
}

/// Any configuration of one pool.
fn configuration(random: &mut fastrand::Rng) -> Config {
    let balance = ["least_connections", "round_robin", "random_of_two"][random.usize(0..3)];
    let first = random.u16(1..=INSTANCES);
    let mut instances = Vec::new();
    for number in 1..=INSTANCES {
        if number != first && random.u32(0..3) == 0 {
            continue;
        }
        let address = address(number);
        let weight = random.u32(1..5);
        let backup = number != first && random.u32(0..5) == 0;
        let limit = if random.u32(0..4) == 0 { ", in_flight_max = 3" } else { "" };
        instances.push(format!(
            "{{ address = \"{address}\", name = \"{number}\", weight = {weight}, backup = {backup}{limit} }}"
        ));
    }
    let (fall, rise) = (random.u32(1..5), random.u32(1..4));
    let fast = if random.bool() { "fast_interval = \"1s\"" } else { "" };
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:8080\"\n[pool.api]\nbalance = \"{balance}\"\ninstances = [\n{}\n]\n\
         [pool.api.probe]\nfall = {fall}\nrise = {rise}\n{fast}\n",
        instances.join(",\n")
    );
    let loaded = parse(&text, Path::new("simulation.toml"), &Nothing);
    let loaded = loaded.unwrap_or_else(|rejected| panic!("{rejected:?}\n{text}"));
    let mut config = Config::clone(&loaded.config);
    for pool in &mut config.pools {
        // The same seed must give the same run, and the probers draw their jitter themselves.
        pool.probe.jitter_percent = 0;
    }
    config
}

/// Nothing is resolved or read here.
struct Nothing;

impl Surroundings for Nothing {
    fn resolve(&self, hosts: &[String]) -> Vec<io::Result<Vec<IpAddr>>> {
        hosts.iter().map(|_| Err(ErrorKind::NotFound.into())).collect()
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(ErrorKind::NotFound.into())
    }

    fn cores(&self) -> usize {
        WORKERS
    }
}
