//! The wall clock.

use std::time::SystemTime;

use crate::core::{Clock, Time};
use crate::fuse::attr;

/// The system's clock. Only time stamps come from it; nothing that must be right depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Time {
        attr::time(SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_after_2024() {
        assert!(WallClock.now().secs > 1_704_067_200);
    }
}
