//! The network: loses, repeats, delays and reorders messages, and falls apart.

use crate::rng::Rng;
use lock_rsm::consensus::ReplicaId;
use std::collections::BTreeSet;

/// How bad it is. Chances are in thousandths.
#[derive(Clone, Debug)]
pub struct Weather {
    /// A message is lost.
    pub loss: usize,
    /// A message arrives twice.
    pub repeat: usize,
    /// A message takes 1 to this many ms, so messages overtake each other.
    pub delay_ms_max: usize,
    /// A message takes up to half a second.
    pub straggle: usize,
}

impl Weather {
    /// Nothing is lost, and everything is soon there.
    pub const FAIR: Weather = Weather { loss: 0, repeat: 0, delay_ms_max: 2, straggle: 0 };
    /// As bad as a network gets before it is a partition.
    pub const ROUGH: Weather = Weather { loss: 60, repeat: 60, delay_ms_max: 20, straggle: 15 };
}

/// The network between the replicas, and between them and the clients.
#[derive(Debug)]
pub struct Network {
    /// How it is now.
    pub weather: Weather,
    blocked: BTreeSet<(ReplicaId, ReplicaId)>,
}

impl Network {
    /// All directions work.
    pub fn new(weather: Weather) -> Network {
        Network { weather, blocked: BTreeSet::new() }
    }

    /// After how many ms each copy of a message between replicas arrives.
    pub fn between(&self, rng: &mut Rng, from: ReplicaId, to: ReplicaId) -> Vec<u64> {
        if self.blocked.contains(&(from, to)) { Vec::new() } else { self.copies(rng) }
    }

    /// After how many ms each copy of a message to or from a client arrives.
    pub fn copies(&self, rng: &mut Rng) -> Vec<u64> {
        let Weather { loss, repeat, delay_ms_max, straggle } = self.weather;
        if rng.below(1000) < loss {
            return Vec::new();
        }
        let copies = if rng.below(1000) < repeat { 2 } else { 1 };
        let mut delay = || {
            let most = if rng.below(1000) < straggle { 500 } else { delay_ms_max };
            1 + rng.below(most) as u64
        };
        (0..copies).map(|_| delay()).collect()
    }

    /// Nothing goes from `from` to `to`.
    pub fn block(&mut self, from: ReplicaId, to: ReplicaId) {
        self.blocked.insert((from, to));
    }

    /// Nothing goes between `these` and the rest of `all`.
    pub fn cut_off(&mut self, these: &BTreeSet<ReplicaId>, all: &[ReplicaId]) {
        for &inside in these {
            for &outside in all.iter().filter(|id| !these.contains(id)) {
                self.block(inside, outside);
                self.block(outside, inside);
            }
        }
    }

    /// All directions work again.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }
}
