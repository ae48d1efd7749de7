//! Chaos on real processes and real mounts: three to five lock replicas, the extent server and three mounts, each with a
//! network of its own, are killed, stopped, cut off, robbed of their disks and given other clocks by a seed, while
//! programs use the mounts. Then everything is healed, and the promises are checked:
//!
//! * every mount works again within 30 s, and clients whose sessions were kept saw no error but a full disk;
//! * what was read and written is **linearizable**, where a client that was killed, or whose session ended, may lose what
//!   it had not synced and nobody else had seen, and is told so by the next sync ([`model::volatile`]);
//! * each worker's own directory holds what a prefix of its operations made, with everything that was synced
//!   ([`model::prefix`]), as a fresh mount finds it;
//! * the replicas are equal at equal viewstamps, the store is consistent, and its data matches its checksums;
//! * nothing is left behind ([`warden`]).
//!
//! A run that fails keeps its logs, the schedule, and a record of everything that was seen, which can be checked again.

mod clocks;
mod command;
mod disk;
mod faults;
mod losses;
pub mod model;
mod network;
mod record;
mod schedule;
mod seat;
pub mod warden;
mod work;
mod world;

pub use record::{Record, Verdict};
pub use schedule::{Shape, Strike, schedule};

use crate::binaries::Binaries;
use crate::cluster::ClusterError;
use crate::linear::Clock;
use seat::Seat;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use work::{Seen, Workers};
use world::World;

/// After everything is healed, each mount works again by then.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Fewer answered calls than this in a second make a run worthless.
const ANSWERED_MIN: usize = 5;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Makes all choices.
    pub seed: u64,
    /// The cluster.
    pub shape: Shape,
    /// How long things go wrong.
    pub time: Duration,
    /// The mounts' `--timeout`.
    pub timeout: Duration,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// A part of the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A file, or a program that cannot be run.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program failed.
    #[error("{command}: {why}")]
    Command {
        /// How it was called.
        command: String,
        /// What it said.
        why: String,
    },
    /// Something does not end.
    #[error("{0} hangs")]
    Hangs(String),
    /// A promise was not kept.
    #[error("{0}")]
    Wrong(String),
}

impl ChaosError {
    pub(crate) fn io<W: Display>(doing: &'static str, what: W) -> impl FnOnce(io::Error) -> ChaosError {
        move |source| ChaosError::Io { what: format!("{doing} {what}"), source }
    }
}

/// Says what happens, on standard output and in a file.
struct Diary {
    began: Instant,
    file: std::fs::File,
}

impl Diary {
    fn say(&mut self, what: impl Display) {
        let line = format!("  [{:7.2} s] {what}", self.began.elapsed().as_secs_f64());
        println!("{line}");
        writeln!(self.file, "{line}").ok(); // it is on standard output too
    }
}

/// Runs the plan in `dir`, in a process that [`warden::enter`]ed. The main thread must call it: servers end with it.
pub fn run(binaries: &Binaries, dir: &Path, plan: &Plan) -> Result<Verdict, ChaosError> {
    let path = dir.join("diary");
    let file = std::fs::File::create(&path).map_err(ChaosError::io("making", path.display()))?;
    let mut diary = Diary { began: Instant::now(), file };
    let mut world = World::start(binaries, dir, plan.shape, plan.timeout)?;
    warden::declare(dir)?;
    {
        let place = world.seats()[0].sit().expect("just mounted").clone();
        work::prepare(&place.root).map_err(ChaosError::io("preparing", place.root.display()))?;
    }
    diary.say("everything is up");
    let seen = Seen::default();
    let workers = Workers::start(world.seats(), plan.seed, &seen);
    let result = rage(&mut world, plan, &mut diary);
    let healed = result.and_then(|()| wait_for_mounts(&world, &mut diary));
    let late = workers.finish(plan.timeout + HEALED_WITHIN);
    let looked = healed.and_then(|()| match late {
        0 => look(&mut world, &seen, &mut diary),
        _ => Err(ChaosError::Hangs(format!("{late} calls on the mounts"))),
    });
    // Whatever went wrong, what was seen until then is kept.
    let record =
        Record::of(&seen, &world.clients, &world.strikes, looked.as_ref().ok().cloned().unwrap_or_default());
    let written = record.write(&dir.join("record.json"));
    let answered = seen.answered.load(Ordering::Relaxed);
    looked?;
    written?;
    let verdict = record.check()?;
    let wanted = ANSWERED_MIN * plan.time.as_secs() as usize;
    if answered < wanted {
        return Err(ChaosError::Wrong(format!("only {answered} calls were answered, {wanted} wanted")));
    }
    world.stop()?;
    let [verified, checked] = world.check_store()?;
    diary.say(format!("extent_server --verify: {verified}"));
    diary.say(format!("yfs fsck: {checked}"));
    Ok(verdict)
}

/// Does what the schedule says.
fn rage(world: &mut World, plan: &Plan, diary: &mut Diary) -> Result<(), ChaosError> {
    for strike in schedule(plan.seed, &plan.shape, plan.time) {
        std::thread::sleep(strike.quiet);
        world.check_running()?;
        world.strikes.push(Clock.now());
        let struck = faults::strike(world, strike.fault)?;
        let nodes: Vec<String> = struck.nodes.iter().map(ToString::to_string).collect();
        diary.say(format!("{strike}: {}", nodes.join(" ")));
        std::thread::sleep(strike.lasts);
        faults::heal(world, &struck)?;
        diary.say("  healed");
    }
    Ok(())
}

/// Each mount must do something new soon.
fn wait_for_mounts(world: &World, diary: &mut Diary) -> Result<(), ChaosError> {
    let began = Instant::now();
    let (done, answers) = channel();
    for (i, seat) in world.seats().iter().enumerate() {
        let (seat, done) = (Arc::clone(seat), done.clone());
        // A thread of its own, since it may hang.
        std::thread::spawn(move || done.send((i, probe(&seat, i, began + HEALED_WITHIN))));
    }
    for _ in world.seats() {
        let left = HEALED_WITHIN.saturating_sub(began.elapsed());
        match answers.recv_timeout(left) {
            Ok((i, Ok(()))) => {
                let seconds = began.elapsed().as_secs_f64();
                diary.say(format!("mount {} works {seconds:.2} s after everything was healed", i + 1));
            }
            Ok((i, Err(why))) => {
                return Err(ChaosError::Wrong(format!("mount {} does not work again: {why}", i + 1)));
            }
            Err(_) => {
                let what = format!("a mount, {} s after everything was healed,", HEALED_WITHIN.as_secs());
                return Err(ChaosError::Hangs(what));
            }
        }
    }
    Ok(())
}

/// Makes, reads and removes a file, again and again until it works.
fn probe(seat: &Seat, i: usize, deadline: Instant) -> Result<(), String> {
    loop {
        let tried = match seat.sit() {
            Some(place) => try_probe(&place.root.join(format!("probe-{i}"))),
            None => Err(io::Error::other("not mounted")),
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn try_probe(path: &Path) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.write_all(b"it works")?;
    file.sync_all()?;
    let mut text = String::new();
    std::fs::File::open(path)?.read_to_string(&mut text)?;
    std::fs::remove_file(path)?;
    if text == "it works" { Ok(()) } else { Err(io::Error::other(format!("it reads {text:?}"))) }
}

/// Everything as it is in the end: replicas, and what a fresh mount finds of the workers' directories.
fn look(world: &mut World, seen: &Seen, diary: &mut Diary) -> Result<Vec<record::Found>, ChaosError> {
    world.check_running()?;
    world.unmount()?;
    diary.say("all unmounted");
    diary.say(format!("all replicas equal at {}", world.wait_for_agreement()?));
    let (mount, client) = world.mount(network::Node::Control)?;
    work::read_all(mount.path(), client, seen);
    let mut found = Vec::new();
    for epoch in seen.epochs.lock().iter() {
        let path: PathBuf = mount.path().join(&epoch.name);
        let tree = work::read_tree(&path).map_err(ChaosError::io("reading", path.display()))?;
        found.push(record::Found { name: epoch.name.clone(), tree });
    }
    mount.unmount()?;
    diary.say(format!("a fresh mount has read it all; replicas equal at {}", world.wait_for_agreement()?));
    Ok(found)
}
