//! Pools: which instance gets the next request.
//!
//! A [`Pool`] is part of a snapshot: settings and members, immutable. What must survive a reload stands behind it: the
//! instances' records ([`instance`]) and the pool's own shared part ([`shared`]: cursors, repeats in flight, the queue).
//!
//! `forward` calls [`Pool::pick`] once per attempt, so the pick allocates nothing and takes no lock: per member one load
//! of the state word and, where the strategy compares load, one of the count in flight. The strategies themselves are
//! pure functions in [`balance`]; this file says who is a candidate at all, in which order of preference.

pub mod balance;
pub mod instance;
pub mod queue;
pub mod shared;

use std::ops::Range;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::config::model::{self, Balance, InstanceName, PoolName};
use crate::telemetry::stats::PoolStats;
use crate::tls::client::Dialer;
use balance::sampler::Sampler;
use balance::{Candidate, Rank, least_connections, random_of_two, round_robin};
use instance::{InFlight, Instance, InstanceId};
pub use shared::{PoolShared, RetryGuard, Turn};

/// The data side's view of a pool: one per snapshot.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// The configuration that it was made from.
    pub settings: model::Pool,
    /// Its instances: those that always serve, then the backups, each in the order of the file.
    pub members: Vec<Member>,
    /// What is counted per pool.
    pub stats: Arc<PoolStats>,
    /// What survives reloads.
    pub shared: Arc<PoolShared>,
    /// In order of preference: those that always serve, the backups. A tier may be empty.
    tiers: [Tier; 2],
}

/// An instance as this snapshot's configuration sees it.
#[derive(Debug)]
pub struct Member {
    /// The record, shared with other snapshots.
    pub instance: Arc<Instance>,
    /// Unique in the pool.
    pub name: InstanceName,
    /// As written, for `Host` with `host = "instance"`.
    pub authority: String,
    /// Makes TLS of connections to it; `None`: they are plain.
    pub dialer: Option<Arc<Dialer>>,
    /// Its share.
    pub weight: u32,
    /// Serves only when no other instance is eligible.
    pub backup: bool,
    /// Requests at a time over all workers.
    pub in_flight_max: Option<u32>,
}

impl Member {
    /// Whether it may get a request now: its state allows it, and it is below its limit.
    #[inline]
    #[must_use]
    pub fn eligible(&self) -> bool {
        self.instance.eligible() && self.below_limit()
    }

    #[inline]
    fn below_limit(&self) -> bool {
        self.in_flight_max.is_none_or(|max| self.instance.in_flight() < max)
    }
}

/// Members that are equal in preference, and what the strategy prepared for them.
#[derive(Debug)]
struct Tier {
    range: Range<usize>,
    /// Round robin: the smooth order of turns, as offsets into `range`.
    slots: Box<[u32]>,
    /// Strategies that draw: who is drawn how often.
    sampler: Sampler,
}

impl Tier {
    fn new(members: &[Member], range: Range<usize>, balance: Balance) -> Self {
        let weights: Vec<u32> = members[range.clone()].iter().map(|member| member.weight).collect();
        let slots = match balance {
            Balance::RoundRobin => round_robin::slots(&weights),
            Balance::LeastConnections | Balance::RandomOfTwo => Box::default(),
        };
        Self { range, slots, sampler: Sampler::new(&weights) }
    }
}

/// Whether a request may go to an instance a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// No: after a connection that could not be made, every other instance gets its chance, and none twice.
    Never,
    /// Only when no other one of equal preference is eligible: after an attempt that failed with bytes sent.
    IfNoOther,
}

/// Why there is no instance for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoInstance {
    /// Every instance is unproven, down, ejected, drained or off.
    #[error("no instance is eligible")]
    NoneEligible,
    /// Those that could serve have `in_flight_max` requests each.
    #[error("every instance is at its limit")]
    AtLimit,
    /// The request has been to every eligible instance.
    #[error("every eligible instance was tried")]
    AllTried,
    /// `queue_max` requests wait already.
    #[error("the queue is full")]
    QueueFull,
    /// None became eligible within `queue_wait`.
    #[error("no instance became eligible in time")]
    QueueTimeout,
}

/// The instance for an attempt, with the guard that counts the request there until the response body has ended.
#[derive(Debug)]
pub struct Picked<'a> {
    /// Which one.
    pub member: &'a Member,
    /// Counts while it lives.
    pub guard: InFlight,
}

impl Pool {
    /// A pool for a snapshot. `shared` and the members' records come from the snapshot before, where they were in it.
    #[must_use]
    pub fn new(
        settings: model::Pool,
        mut members: Vec<Member>,
        stats: Arc<PoolStats>,
        shared: Arc<PoolShared>,
    ) -> Self {
        members.sort_by_key(|member| member.backup);
        let backups = members.partition_point(|member| !member.backup);
        let tiers = [
            Tier::new(&members, 0..backups, settings.balance),
            Tier::new(&members, backups..members.len(), settings.balance),
        ];
        Self { name: settings.name.clone(), settings, members, stats, shared, tiers }
    }

    /// Picks an instance and counts the request in flight there.
    ///
    /// `tried` are the instances that this request has been to. Preferred are, in this order: those that always serve
    /// before backups; then, within these, not tried before tried (which `repeat` may rule out altogether), and not
    /// suspect before suspect; then what the strategy says. A backup serves when none of the others can: with
    /// [`Repeat::Never`] also when this request has been to all of them.
    ///
    /// # Errors
    /// Why there is none: [`NoInstance::NoneEligible`], [`NoInstance::AtLimit`] or [`NoInstance::AllTried`].
    pub fn pick(&self, turn: &Turn, tried: &[InstanceId], repeat: Repeat) -> Result<Picked<'_>, NoInstance> {
        for tier in &self.tiers {
            while let Some(index) = self.choose(tier, turn, tried, repeat) {
                let member = &self.members[index];
                if let Some(guard) = member.instance.begin_below(member.in_flight_max) {
                    return Ok(Picked { member, guard });
                }
                // Another worker took the last place meanwhile; the next look sees that.
            }
        }
        Err(self.why_none(tried, repeat))
    }

    /// As [`Pool::pick`] for who may have to wait: `None`, if it has to, by [`Pool::pick_or_wait`].
    #[inline]
    pub fn pick_at_once(
        &self,
        turn: &Turn,
        tried: &[InstanceId],
        repeat: Repeat,
    ) -> Option<Result<Picked<'_>, NoInstance>> {
        let queues = !self.settings.queue_wait.is_zero();
        if queues && !self.shared.queue.is_empty() {
            return None;
        }
        match self.pick(turn, tried, repeat) {
            Err(NoInstance::NoneEligible | NoInstance::AtLimit) if queues => None,
            done => Some(done),
        }
    }

    /// As [`Pool::pick`]; where no instance is eligible or below its limit, waits for one in the pool's queue until
    /// `deadline`. Requests are served in the order in which they came: who comes while others wait goes behind them.
    ///
    /// # Errors
    /// As [`Pool::pick`] when `queue_wait` is zero or the request has been everywhere; else
    /// [`NoInstance::QueueFull`] and [`NoInstance::QueueTimeout`].
    ///
    /// # Cancel safety
    /// A request that is dropped while it waits leaves the queue, and passes on what it was woken for.
    pub async fn pick_or_wait(
        &self,
        turn: &Turn,
        tried: &[InstanceId],
        repeat: Repeat,
        deadline: Instant,
    ) -> Result<Picked<'_>, NoInstance> {
        if let Some(done) = self.pick_at_once(turn, tried, repeat) {
            return done;
        }
        let place = self.shared.queue.enter(self.settings.queue_max).ok_or(NoInstance::QueueFull)?;
        let _counted = shared::Queued::new(&self.stats, turn.worker());
        loop {
            if place.is_first() {
                match self.pick(turn, tried, repeat) {
                    Err(NoInstance::NoneEligible | NoInstance::AtLimit) => {}
                    done => return done,
                }
            }
            timeout_at(deadline, place.woken()).await.map_err(|_elapsed| NoInstance::QueueTimeout)?;
        }
    }

    /// Requests in flight at all its instances. Other pools' requests do not count, those of older snapshots do.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.members.iter().map(|member| member.instance.in_flight()).fold(0, u32::saturating_add)
    }

    /// How many instances may get a request now.
    #[must_use]
    pub fn eligible_count(&self) -> usize {
        self.members.iter().filter(|member| member.eligible()).count()
    }

    /// The strategy's choice within one tier, as an index into `members`.
    #[inline]
    fn choose(&self, tier: &Tier, turn: &Turn, tried: &[InstanceId], repeat: Repeat) -> Option<usize> {
        let members = &self.members[tier.range.clone()];
        if members.is_empty() {
            return None;
        }
        let look = |offset: usize| candidate(&members[offset], tried, repeat);
        let draw = || turn.random(|random| tier.sampler.draw(random));
        let cursor = self.shared.cursor(turn.worker());
        let chosen = match self.settings.balance {
            Balance::LeastConnections if members.len() <= least_connections::SCAN_MAX => {
                let chosen = least_connections::scan(members.len(), cursor.start(members.len()), look)?;
                cursor.moved_past(chosen);
                chosen
            }
            Balance::LeastConnections => least_connections::sample(members.len(), draw, look)?,
            Balance::RoundRobin => {
                let slot = round_robin::next(&tier.slots, cursor.start(tier.slots.len()), look)?;
                cursor.moved_past(slot);
                tier.slots[slot] as usize
            }
            Balance::RandomOfTwo => random_of_two::pick(members.len(), draw, look)?,
        };
        Some(tier.range.start + chosen)
    }

    #[cold]
    fn why_none(&self, tried: &[InstanceId], repeat: Repeat) -> NoInstance {
        let serving = || self.members.iter().filter(|member| member.instance.eligible());
        let untried = |member: &&Member| repeat == Repeat::IfNoOther || !tried.contains(&member.instance.id);
        if serving().next().is_none() {
            NoInstance::NoneEligible
        } else if serving().any(|member| untried(&member)) {
            NoInstance::AtLimit
        } else {
            NoInstance::AllTried
        }
    }
}

/// What a strategy has to know of a member; `None`: it may not get this request.
#[inline]
fn candidate(member: &Member, tried: &[InstanceId], repeat: Repeat) -> Option<Candidate> {
    let instance = &member.instance;
    if !instance.eligible() {
        return None;
    }
    let in_flight = instance.in_flight();
    if member.in_flight_max.is_some_and(|max| in_flight >= max) {
        return None;
    }
    let was_tried = tried.contains(&instance.id);
    if was_tried && repeat == Repeat::Never {
        return None;
    }
    Some(Candidate { rank: Rank::new(was_tried, instance.suspect()), in_flight, weight: member.weight })
}

#[cfg(test)]
pub(crate) mod tests;
