//! The network: loses, repeats, delays and reorders messages, and falls apart.

use crate::consensus::ReplicaId;
use crate::consensus::rng::Rng;
use std::collections::BTreeSet;

/// How bad it is. Chances are in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    /// A message takes 1 to this many ms.
    pub(crate) delay_ms_max: u64,
    /// Some take up to half a second.
    pub(crate) straggle: u64,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather { loss: 0, repeat: 0, delay_ms_max: 2, straggle: 0 };
    pub(crate) const ROUGH: Weather = Weather { loss: 50, repeat: 50, delay_ms_max: 20, straggle: 10 };
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// (from, to) pairs through which nothing goes.
    pub(crate) blocked: BTreeSet<(ReplicaId, ReplicaId)>,
}

impl Network {
    pub(crate) fn new(weather: Weather) -> Network {
        Network { weather, blocked: BTreeSet::new() }
    }

    /// After how many ms each copy of a message arrives.
    pub(crate) fn delays(&self, rng: &mut Rng, from: ReplicaId, to: ReplicaId) -> Vec<u64> {
        let Weather { loss, repeat, delay_ms_max, straggle } = self.weather;
        if self.blocked.contains(&(from, to)) || rng.below(1000) < loss {
            return Vec::new();
        }
        let copies = if rng.below(1000) < repeat { 2 } else { 1 };
        let mut delay =
            || 1 + if rng.below(1000) < straggle { rng.below(500) } else { rng.below(delay_ms_max) };
        (0..copies).map(|_| delay()).collect()
    }

    /// Nothing goes between `these` and the rest.
    pub(crate) fn cut_off(&mut self, these: &BTreeSet<ReplicaId>, all: &[ReplicaId]) {
        for &inside in these {
            for &outside in all.iter().filter(|id| !these.contains(id)) {
                self.blocked.insert((inside, outside));
                self.blocked.insert((outside, inside));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }
}
