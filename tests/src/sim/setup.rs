//! What a run is like. Everything is drawn from the seed, so the seed alone repeats a run.

use super::network::Weather;
use crate::rng::Rng;

/// How a simulated group is made, and what befalls it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where all randomness of the run comes from.
    pub seed: u64,
    /// Replicas of the founding group, 3 or 5, with identities 1, 2, …
    pub founders: u64,
    /// Replicas that wait to be taken in, numbered on.
    pub spares: u64,
    /// Clients that ask, each for several things at a time.
    pub clients: usize,
    /// Requests one client has on their way at most.
    pub client_window: usize,
    /// For how long there are faults, in virtual ms.
    pub faults_ms: u64,
    /// Shortest silence of a master before an election.
    pub election_timeout_ms: u64,
    /// How often a master says that it is there.
    pub heartbeat_ms: u64,
    /// How often a replica looks at its clock.
    pub tick_ms: u64,
    /// Clocks start up to ten seconds apart and run up to so many thousandths too fast or too slow.
    pub clock_skew: u64,
    /// The network at the start.
    pub weather: Weather,
    /// A write takes up to this long to be on disk.
    pub disk_ms_max: u64,
    /// A task takes the program's thread up to this long.
    pub program_ms_max: u64,
    /// Entries applied before a snapshot is taken.
    pub snapshot_after: u64,
    /// Largest piece of a snapshot.
    pub chunk_bytes: usize,
    /// Entries of one message.
    pub append_entries_max: usize,
    /// Bytes of the log kept in memory although a snapshot has them.
    pub tail_bytes: usize,
    /// Which faults, and how often.
    pub faults: FaultMix,
    /// A member silent for so long is removed by the master; `None`: never.
    pub remove_after_ms: Option<u64>,
    /// So many replicas lose their disk for good at most, one after the other, and come back at the same address as new
    /// ones. Then nobody changes the membership but the replicas themselves: a change by hand could leave the lost one
    /// needed for a majority.
    pub lost_disks_max: u64,
}

/// How often each fault happens, as weights out of 1000 for every moment at which one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultMix {
    /// A moment comes every 1 to so many ms.
    pub every_ms_max: u64,
    /// A replica is killed.
    pub crash: u64,
    /// A killed replica starts again.
    pub restart: u64,
    /// A replica stands still for a while.
    pub pause: u64,
    /// The network falls into two parts.
    pub partition: u64,
    /// One direction between two replicas is lost.
    pub one_way: u64,
    /// All directions work again.
    pub heal: u64,
    /// The network gets better or worse.
    pub weather: u64,
    /// A disk gets faster or slower.
    pub disk_speed: u64,
    /// A disk fails the next write.
    pub disk_failure: u64,
    /// A replica is shut down cleanly, which hands mastership over first.
    pub shutdown: u64,
    /// A member is added, given the vote, deprived of it or removed.
    pub membership: u64,
    /// A master is struck as soon as it appears, in so many of 1000 cases.
    pub hunt: u64,
}

impl Setup {
    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Setup {
        // Not the generator of the run itself: the two must not follow each other.
        let mut rng = Rng::new(seed ^ 0x5e70_5e70_5e70_5e70);
        let mut among = |from: &[u64]| *rng.pick(from).expect("there is a choice");
        let election_timeout_ms = among(&[100, 150, 300]);
        Setup {
            seed,
            founders: among(&[3, 3, 5]),
            spares: among(&[0, 1, 2]),
            clients: small(among(&[1, 2, 4])),
            client_window: small(among(&[1, 2, 4])),
            faults_ms: among(&[4_000, 6_000, 9_000]),
            election_timeout_ms,
            heartbeat_ms: election_timeout_ms / among(&[3, 5]),
            tick_ms: among(&[5, 10]),
            clock_skew: among(&[0, 20, 200]),
            weather: [Weather::FAIR, Weather::ROUGH][small(among(&[0, 1]))].clone(),
            disk_ms_max: among(&[2, 10, 30]),
            program_ms_max: among(&[0, 2, 20]),
            snapshot_after: among(&[8, 20, 60]),
            chunk_bytes: small(among(&[40, 200])),
            append_entries_max: small(among(&[1, 3, 16])),
            tail_bytes: small(among(&[0, 300])),
            faults: FaultMix {
                every_ms_max: among(&[15, 30, 60]),
                crash: among(&[5, 15, 40]),
                restart: among(&[60, 120]),
                pause: among(&[0, 15, 30]),
                partition: among(&[0, 15, 40]),
                one_way: among(&[0, 8, 20]),
                heal: among(&[8, 25, 100]),
                weather: among(&[0, 20]),
                disk_speed: among(&[0, 20]),
                disk_failure: among(&[0, 5, 15]),
                shutdown: among(&[0, 10]),
                membership: among(&[0, 30, 100]),
                hunt: among(&[0, 200, 700]),
            },
            remove_after_ms: Some(among(&[0, 600, 2_000])).filter(|ms| *ms > 0),
            lost_disks_max: among(&[0, 0, 2]),
        }
    }
}

/// For numbers drawn from the lists above.
fn small(number: u64) -> usize {
    usize::try_from(number).expect("small")
}
