//! What is left to chance, by seed.

use std::time::{Duration, SystemTime};

/// A sequence of numbers (splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A time up to `limit`.
    pub fn within(&mut self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_millis()).expect("a limit in this century").max(1);
        Duration::from_millis(self.next() % limit)
    }
}

/// A seed that differs from run to run.
pub fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = now.map_or(0, |now| u64::from(now.subsec_nanos()));
    Random::new(u64::from(std::process::id()) << 32 ^ nanos).next()
}
