//! `RPC_LOSSY=p`: a network that loses, delays, duplicates and cuts, for tests.
//!
//! Of the frames sent, p percent are dropped, p percent come 1 to 100 ms late (and so out of order), p percent come
//! twice, and p/5 percent cut the connection instead. It acts where frames are sent, so each side's setting hurts its
//! own frames. Handshakes are spared: a lost one is only a slower cut.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

/// The longest a frame is delayed.
pub const DELAY_MAX: Duration = Duration::from_millis(100);

/// Where the loss of a client or server comes from.
#[derive(Debug, Clone, Default)]
pub enum Loss {
    /// `RPC_LOSSY` (percent) and `RPC_LOSSY_SEED`, read once per process; the seed is logged.
    #[default]
    FromEnv,
    /// None.
    Off,
    /// This.
    With(Arc<Lossy>),
}

impl Loss {
    /// A loss of `percent`, reproducible by `seed`.
    pub fn percent(percent: u32, seed: u64) -> Loss {
        Loss::With(Arc::new(Lossy::new(percent, seed)))
    }

    pub(crate) fn resolve(&self) -> Option<Arc<Lossy>> {
        match self {
            Loss::FromEnv => crate::transport::ambient_loss().or_else(from_env),
            Loss::Off => None,
            Loss::With(lossy) => Some(lossy.clone()),
        }
    }
}

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent as it should be.
    Send,
    /// Lost.
    Drop,
    /// Sent twice.
    Twice,
    /// Sent this much later.
    Late(Duration),
    /// Lost, and the connection with it.
    Cut,
}

/// Dice for the fate of frames.
#[derive(Debug)]
pub struct Lossy {
    percent: u32,
    state: Mutex<u64>,
}

impl Lossy {
    /// A loss of `percent` (at most 100), reproducible by `seed`.
    pub fn new(percent: u32, seed: u64) -> Lossy {
        Lossy { percent: percent.min(100), state: Mutex::new(seed) }
    }

    /// Throws the dice for the next frame.
    pub fn fate(&self) -> Fate {
        let mut state = self.state.lock();
        let mut below = |permille: u32| next(&mut state) % 1000 < u64::from(permille);
        if below(self.percent * 2) {
            Fate::Cut
        } else if below(self.percent * 10) {
            Fate::Drop
        } else if below(self.percent * 10) {
            Fate::Twice
        } else if below(self.percent * 10) {
            Fate::Late(Duration::from_millis(1 + next(&mut state) % DELAY_MAX.as_millis() as u64))
        } else {
            Fate::Send
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 15).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn from_env() -> Option<Arc<Lossy>> {
    static LOSSY: OnceLock<Option<Arc<Lossy>>> = OnceLock::new();
    LOSSY.get_or_init(read_env).clone()
}

fn read_env() -> Option<Arc<Lossy>> {
    let text = std::env::var("RPC_LOSSY").ok()?;
    let Some(percent) = text.trim().parse().ok().filter(|&p| p <= 100) else {
        tracing::warn!("RPC_LOSSY is \"{text}\", which is no percentage: nothing is lost");
        return None;
    };
    if percent == 0 {
        return None;
    }
    let seed =
        std::env::var("RPC_LOSSY_SEED").ok().and_then(|s| s.trim().parse().ok()).unwrap_or_else(random_u64);
    tracing::info!("RPC_LOSSY={percent}: losing frames; again with RPC_LOSSY_SEED={seed}");
    Some(Arc::new(Lossy::new(percent, seed)))
}

/// A number from the operating system, never zero.
pub(crate) fn random_u64() -> u64 {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        let number = u64::from_le_bytes(bytes);
        if number != 0 {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_come_in_their_proportions_and_by_seed() {
        let throw = |seed| {
            let lossy = Lossy::new(10, seed);
            (0..10_000).map(|_| lossy.fate()).collect::<Vec<_>>()
        };
        let fates = throw(1);
        let share = |wanted: fn(&Fate) -> bool| fates.iter().filter(|f| wanted(f)).count();
        assert!((100..300).contains(&share(|f| *f == Fate::Cut)), "2 %");
        assert!((800..1200).contains(&share(|f| *f == Fate::Drop)), "10 %");
        assert!((600..1000).contains(&share(|f| *f == Fate::Twice)), "10 % of the rest");
        assert!(
            (550..950).contains(&share(|f| matches!(f, Fate::Late(d) if *d <= DELAY_MAX))),
            "10 % of the rest"
        );
        assert_eq!(fates, throw(1));
        assert_ne!(fates, throw(2));
    }

    #[test]
    fn no_loss_is_no_loss() {
        let lossy = Lossy::new(0, 5);
        assert!((0..1000).all(|_| lossy.fate() == Fate::Send));
    }
}
