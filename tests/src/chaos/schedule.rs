//! What goes wrong when: all of it follows from a seed.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::network::Way;
use crate::rng::Rng;
use std::fmt;
use std::time::Duration;

/// What the cluster consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Lock replicas, three to five.
    pub replicas: usize,
    /// Mounts, three at least.
    pub mounts: usize,
    /// How long a session lives without a sign of its client.
    pub lease: Duration,
}

/// Whom a fault hits. Who is the master is found out when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The master of the lock replicas.
    Master,
    /// The n-th replica after the master.
    Slave(usize),
    /// So many replicas, the master among them, that no majority is left.
    Majority,
    /// All replicas.
    Replicas,
    /// The extent server.
    Extents,
    /// A mount.
    Mount(usize),
}

/// Whom a victim cannot talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Anybody.
    All,
    /// The lock replicas (the others, if it is one).
    Replicas,
    /// The extent server.
    Extents,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; started again afterwards.
    Kill(Whom),
    /// `SIGSTOP`, and `SIGCONT` afterwards.
    Pause(Whom),
    /// Packets are dropped at the victim.
    Cut(Whom, From, Way),
    /// A replica is killed and its disk is lost; it is started again with an empty one.
    Wipe(Whom),
    /// The disk of the extent server fills up.
    FullDisk,
    /// A replica or a mount is killed and comes back with all clocks but the calendar's this much further (seconds), or
    /// less far.
    Clock(Whom, i64),
}

/// A fault, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// So long after everything was well again.
    pub quiet: Duration,
    /// What.
    pub fault: Fault,
    /// For so long.
    pub lasts: Duration,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {:.1} s", self.fault, self.lasts.as_secs_f64())
    }
}

/// The schedule of `seed`: at first one fault of every kind in some order, then any, until `total` is filled.
pub fn schedule(seed: u64, shape: &Shape, total: Duration) -> Vec<Strike> {
    let mut rng = Rng::new(seed ^ 0x6368_616f);
    let mut first = one_of_each(shape, &mut rng);
    let mut strikes = Vec::new();
    let mut left = total;
    loop {
        let fault = match first.is_empty() {
            false => first.swap_remove(rng.below(first.len())),
            true => any(shape, &mut rng),
        };
        let strike =
            Strike { quiet: ms(300 + rng.below(2200)), fault, lasts: lasts(&fault, shape, &mut rng) };
        let Some(rest) = left.checked_sub(strike.quiet + strike.lasts) else { return strikes };
        left = rest;
        strikes.push(strike);
    }
}

fn one_of_each(shape: &Shape, rng: &mut Rng) -> Vec<Fault> {
    let mount = |rng: &mut Rng| Whom::Mount(rng.below(shape.mounts));
    let way = if rng.chance(50) { Way::In } else { Way::Out };
    vec![
        Fault::Kill(Whom::Master),
        Fault::Kill(Whom::Extents),
        Fault::Kill(mount(rng)),
        Fault::Pause(mount(rng)),
        Fault::Pause(Whom::Master),
        Fault::Cut(mount(rng), From::All, Way::Both),
        Fault::Cut(Whom::Master, From::All, way),
        Fault::Wipe(Whom::Slave(rng.below(shape.replicas))),
        Fault::FullDisk,
        Fault::Clock(Whom::Slave(rng.below(shape.replicas)), skew(rng)),
    ]
}

fn any(shape: &Shape, rng: &mut Rng) -> Fault {
    let whom = whom(shape, rng);
    match rng.below(100) {
        0..30 => Fault::Kill(whom),
        30..55 => Fault::Pause(whom),
        55..80 => cut(whom, rng),
        80..86 => {
            Fault::Wipe(if rng.chance(50) { Whom::Master } else { Whom::Slave(rng.below(shape.replicas)) })
        }
        86..92 => Fault::FullDisk,
        _ => match whom {
            Whom::Extents | Whom::Majority | Whom::Replicas => Fault::Clock(Whom::Master, skew(rng)),
            whom => Fault::Clock(whom, skew(rng)),
        },
    }
}

fn whom(shape: &Shape, rng: &mut Rng) -> Whom {
    match rng.below(100) {
        0..25 => Whom::Master,
        25..40 => Whom::Slave(rng.below(shape.replicas)),
        40..46 => Whom::Majority,
        46..52 => Whom::Replicas,
        52..67 => Whom::Extents,
        _ => Whom::Mount(rng.below(shape.mounts)),
    }
}

fn cut(whom: Whom, rng: &mut Rng) -> Fault {
    let way = [Way::In, Way::Out, Way::Both][rng.below(3)];
    let from = [From::All, From::Replicas, From::Extents][rng.below(3)];
    match whom {
        // The extent server cut off from itself would be no fault.
        Whom::Extents if from == From::Extents => Fault::Cut(whom, From::All, way),
        _ => Fault::Cut(whom, from, way),
    }
}

/// How long: half of what hits a mount lasts longer than its lease.
fn lasts(fault: &Fault, shape: &Shape, rng: &mut Rng) -> Duration {
    let lease = shape.lease.as_millis() as usize;
    match fault {
        Fault::Pause(Whom::Mount(_)) | Fault::Cut(Whom::Mount(_), ..) if rng.chance(50) => {
            ms(lease * 5 / 4 + rng.below(lease))
        }
        Fault::Kill(_) | Fault::Clock(..) => ms(50 + rng.below(1500)),
        // Longer than it takes until a silent replica is removed from the group.
        Fault::Wipe(_) => ms(2500 + rng.below(1500)),
        Fault::FullDisk => ms(1500 + rng.below(2500)),
        _ => ms(200 + rng.below(lease)),
    }
}

fn skew(rng: &mut Rng) -> i64 {
    let seconds = 1 + rng.below(100_000) as i64;
    if rng.chance(80) { seconds } else { -(seconds % 60) }
}

fn ms(ms: usize) -> Duration {
    Duration::from_millis(ms as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { replicas: 3, mounts: 3, lease: Duration::from_secs(3) };

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let hour = Duration::from_secs(3600);
        let first = schedule(1, &SHAPE, hour);
        assert_eq!(first, schedule(1, &SHAPE, hour));
        assert_ne!(first, schedule(2, &SHAPE, hour));
        // A longer schedule begins like a shorter one.
        let short = schedule(1, &SHAPE, hour / 10);
        assert_eq!(short[..], first[..short.len()]);
    }

    #[test]
    fn every_kind_of_fault_comes_and_the_time_is_kept() {
        for seed in 0..20 {
            let minute = Duration::from_secs(80);
            let strikes = schedule(seed, &SHAPE, minute);
            let has = |wanted: fn(&Fault) -> bool| strikes.iter().any(|strike| wanted(&strike.fault));
            assert!(has(|f| matches!(f, Fault::Kill(Whom::Mount(_)))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Kill(Whom::Extents))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Kill(Whom::Master))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Pause(Whom::Mount(_)))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Cut(_, _, Way::In | Way::Out))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Wipe(_))), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::FullDisk)), "{strikes:?}");
            assert!(has(|f| matches!(f, Fault::Clock(..))), "{strikes:?}");
            let total: Duration = strikes.iter().map(|strike| strike.quiet + strike.lasts).sum();
            assert!(total <= minute);
        }
    }
}
