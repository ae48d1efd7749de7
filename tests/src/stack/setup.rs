//! What a run is like: everything that its seed decides before it begins.

use super::network::Weather;
use crate::rng::Rng;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// Mounts at work.
    pub clients: u32,
    /// For how long there are faults, in virtual ms.
    pub faults_ms: u64,
    /// The length of leases.
    pub lease_ms: u64,
    /// Shortest silence of a master before an election.
    pub election_timeout_ms: u64,
    /// Entries applied before a replica takes a snapshot.
    pub snapshot_after: u64,
    /// A write takes up to so long to be on a disk.
    pub disk_ms_max: u64,
    /// Changes are flushed when they are so old.
    pub flush_after_ms: u64,
    /// The longest pause of a client between two operations.
    pub pause_ms_max: u64,
    /// A living client that keeps a lock from others for so long is ended.
    pub stuck_after_ms: Option<u64>,
    /// The network while there are faults.
    pub weather: Weather,
    /// Percent of frames that are lost, late or sent twice on purpose.
    pub lossy: u32,
    /// Which faults, and how often.
    pub faults: FaultMix,
}

/// How often each fault happens, as weights out of 1000 for every moment at which one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// A moment comes every 1 to so many ms.
    pub every_ms_max: u64,
    /// A lock replica crashes.
    pub crash_replica: u64,
    /// A client crashes.
    pub crash_client: u64,
    /// The extent server crashes.
    pub crash_extents: u64,
    /// A machine that is off is switched on.
    pub restart: u64,
    /// A replica or the extent server stands still for a while.
    pub pause_server: u64,
    /// A client stands still, often past its lease.
    pub freeze_client: u64,
    /// One direction between two machines is cut.
    pub one_way: u64,
    /// A machine is cut off from all others.
    pub cut_off: u64,
    /// All directions work again.
    pub heal: u64,
    /// The connections of a machine break.
    pub break_off: u64,
}

impl FaultMix {
    /// None at all.
    pub const NONE: FaultMix = FaultMix {
        every_ms_max: 1_000,
        crash_replica: 0,
        crash_client: 0,
        crash_extents: 0,
        restart: 0,
        pause_server: 0,
        freeze_client: 0,
        one_way: 0,
        cut_off: 0,
        heal: 0,
        break_off: 0,
    };
}

impl Setup {
    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Setup {
        // Not the generators of the run itself: they must not follow each other.
        let mut rng = Rng::new(seed ^ 0x57ac_57ac_57ac_57ac);
        let mut among = |from: &[u64]| *rng.pick(from).expect("there is a choice");
        let weather = if among(&[0, 0, 1]) == 0 { Weather::FAIR } else { Weather::ROUGH };
        Setup {
            seed,
            clients: among(&[2, 3, 3, 4]) as u32,
            faults_ms: among(&[10_000, 15_000, 20_000]),
            lease_ms: among(&[1_500, 2_000, 3_000]),
            election_timeout_ms: among(&[150, 300]),
            snapshot_after: among(&[50, 100_000]),
            disk_ms_max: among(&[1, 4, 15]),
            flush_after_ms: among(&[300, 1_000, 2_000]),
            pause_ms_max: among(&[20, 60, 120]),
            stuck_after_ms: Some(among(&[0, 0, 6_000])).filter(|ms| *ms > 0),
            weather,
            lossy: among(&[0, 0, 0, 3]) as u32,
            faults: FaultMix {
                every_ms_max: among(&[200, 400]),
                crash_replica: among(&[0, 10, 30]),
                crash_client: among(&[0, 10, 25]),
                crash_extents: among(&[0, 10, 30]),
                restart: among(&[150, 300]),
                pause_server: among(&[0, 15, 30]),
                freeze_client: among(&[0, 20, 50]),
                one_way: among(&[0, 15, 40]),
                cut_off: among(&[0, 10, 30]),
                heal: among(&[60, 120]),
                break_off: among(&[0, 20, 40]),
            },
        }
    }

    /// A run of a seed without any fault.
    pub fn calm(seed: u64) -> Setup {
        let setup = Setup::of_seed(seed);
        Setup { weather: Weather::FAIR, lossy: 0, faults: FaultMix::NONE, faults_ms: 5_000, ..setup }
    }
}
