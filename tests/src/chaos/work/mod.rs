//! What the mounts are used for while things go wrong.

mod calls;
mod names;
mod registers;
mod tree;

pub use tree::{Epoch, read_tree};

use super::model::names::{NAMES, Names};
use super::model::register::Register;
use super::model::{Event, Input, Object, Volatile};
use super::seat::{Place, Seat};
use crate::linear::{Clock, Recorder};
use crate::rng::Rng;
use calls::{Meaning, meaning};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Files that everybody overwrites; no more than [`super::seat::Apart`] has places.
pub const REGISTERS: u64 = 12;
/// Directories in which everybody makes, renames and removes names.
pub const DIRECTORIES: u64 = 6;

/// A file's history.
pub type Registers = Recorder<Volatile<Register>>;
/// A directory's history.
pub type Directories = Recorder<Volatile<Names>>;

/// What all workers saw.
#[derive(Clone, Default)]
pub struct Seen {
    /// Of the files.
    pub registers: Registers,
    /// Of the directories.
    pub directories: Directories,
    /// Of the workers' own directories.
    pub epochs: Arc<Mutex<Vec<Epoch>>>,
    /// What cannot be, whatever happened to whom.
    pub wrong: Arc<Mutex<Vec<String>>>,
    /// Errors that the mount answered, by client.
    pub errors: Arc<Mutex<Vec<Trouble>>>,
    /// Calls that were answered.
    pub answered: Arc<AtomicUsize>,
}

/// A system call failed.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Trouble {
    /// On which mount.
    pub client: u64,
    /// When, on the clock of [`Clock`].
    pub at: u64,
    /// Which call, and how.
    pub what: String,
    /// The errno.
    pub errno: i32,
}

/// Threads that use the mounts until they are told to stop.
pub struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a worker is made of.
#[derive(Clone)]
struct Worker {
    number: u64,
    seat: Arc<Seat>,
    seen: Seen,
    rng: Rng,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Puts workers on every seat.
    pub fn start(seats: &[Arc<Seat>], seed: u64, seen: &Seen) -> Workers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let kinds: [fn(Worker); 4] = [registers::run, registers::run, names::run, tree::run];
        for seat in seats {
            for kind in kinds {
                let number = threads.len() as u64 + 1;
                let rng = Rng::new(seed.wrapping_mul(1000).wrapping_add(number));
                let (seat, seen, stop) = (Arc::clone(seat), seen.clone(), Arc::clone(&stop));
                let worker = Worker { number, seat, seen, rng, stop };
                threads.push(std::thread::spawn(move || kind(worker)));
            }
        }
        Workers { stop, threads }
    }

    /// Lets them finish what they are at; how many have not after `patience`.
    pub fn finish(self, patience: Duration) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + patience;
        let mut late = 0;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10)); // between two questions
            }
            match thread.is_finished() {
                true => thread.join().expect("workers note what is wrong and go on"),
                false => late += 1,
            }
        }
        late
    }
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Waits a moment; histories need not be longer than they are interesting.
    fn breathe(&mut self, ms_max: usize) {
        std::thread::sleep(Duration::from_micros(self.rng.below(ms_max * 1000) as u64));
    }

    /// Notes an error of a call, and says what it means.
    fn failed(&self, place: &Place, what: &str, error: &io::Error) -> Meaning {
        let meaning = meaning(error);
        if meaning == Meaning::Never {
            std::thread::sleep(Duration::from_millis(20)); // until the next process serves the mount
        } else {
            let errno = error.raw_os_error().unwrap_or(0);
            let trouble = Trouble { client: place.client, at: Clock.now(), what: what.to_owned(), errno };
            self.seen.errors.lock().push(trouble);
        }
        meaning
    }

    fn wrong(&self, what: String) {
        self.seen.wrong.lock().push(format!("worker {}: {what}", self.number));
    }

    fn answered(&self) {
        self.seen.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records what a sync, or the closing of a changed file, came to; `began` is when it did.
fn note_sync<O: Object>(
    recorder: &Recorder<Volatile<O>>,
    worker: u64,
    (object, client): (u64, u64),
    began: u64,
    result: Result<(), Meaning>,
) {
    let record = |event| recorder.invoke_at(worker, began, Input { object, client, event });
    match result {
        Ok(()) => record(Event::Synced).answer(None),
        Err(Meaning::Never | Meaning::Full) => {}
        Err(_) => {
            record(Event::Flushed).unknown(); // some of it may have got through
            record(Event::Told).answer(None);
        }
    }
}

/// Makes the files and directories that are used, all with fixed names, and waits until they are durable.
pub fn prepare(root: &Path) -> io::Result<()> {
    for i in 0..REGISTERS {
        let file = std::fs::File::create(root.join(format!("register-{i}")))?;
        std::os::unix::fs::FileExt::write_all_at(&file, &registers::contents(0), 0)?;
        file.sync_all()?;
    }
    for i in 0..DIRECTORIES {
        std::fs::create_dir(root.join(format!("names-{i}")))?;
        std::fs::File::open(root.join(format!("names-{i}")))?.sync_all()?;
    }
    std::fs::File::open(root)?.sync_all()
}

/// Reads everything once more, as `client`, into the histories.
pub fn read_all(root: &Path, client: u64, seen: &Seen) {
    let place = Place { root: root.to_owned(), client };
    let seat = Arc::new(Seat::default());
    let worker = Worker {
        number: client,
        seat,
        seen: seen.clone(),
        rng: Rng::new(client),
        stop: Arc::new(AtomicBool::new(true)),
    };
    (0..REGISTERS).for_each(|i| registers::read(&worker, &place, i));
    for i in 0..DIRECTORIES {
        (0..NAMES).for_each(|name| names::look(&worker, &place, i, name));
        names::list(&worker, &place, i);
    }
}
