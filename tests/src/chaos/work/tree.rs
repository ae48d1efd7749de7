//! Directories of one worker each: everything it did is written down, and what is left must be what that made.

use super::Worker;
use super::calls::{Meaning, close};
use crate::chaos::model::prefix::{Entry, Outcome, Step, Tree, TreeOp, append};
use crate::chaos::seat::Place;
use crate::linear::Clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Files and directories a worker has at most.
const FILES: usize = 6;
const SUBDIRECTORIES: usize = 2;
/// So many operations go to one directory.
const STEPS_MAX: usize = 400;

/// One directory and everything that was done in it by one worker through one client.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Its name, below the root.
    pub name: String,
    /// Whose.
    pub client: u64,
    /// What was done, in order.
    pub log: Vec<Step>,
}

pub(super) fn run(mut worker: Worker) {
    let mut count = 0;
    let mut epoch: Option<Epoch> = None;
    while worker.goes_on() {
        let seat = worker.seat.clone();
        if let Some(place) = seat.sit() {
            if epoch
                .as_ref()
                .is_some_and(|epoch| epoch.client != place.client || epoch.log.len() >= STEPS_MAX)
            {
                worker.seen.epochs.lock().extend(epoch.take());
            }
            match &mut epoch {
                None => {
                    count += 1;
                    epoch = begin(&worker, &place, count);
                }
                Some(epoch) => step(&mut worker, &place, epoch),
            }
        }
        worker.breathe(20);
    }
    worker.seen.epochs.lock().extend(epoch);
}

/// A directory of its own, which is durable before it is used.
fn begin(worker: &Worker, place: &Place, count: usize) -> Option<Epoch> {
    let name = format!("worker-{}-{count}", worker.number);
    let made = std::fs::create_dir(place.root.join(&name)).and_then(|()| File::open(&place.root)?.sync_all());
    match made {
        Ok(()) => Some(Epoch { name, client: place.client, log: Vec::new() }),
        Err(error) => {
            if let Meaning::Answer(_) = worker.failed(place, "mkdir", &error) {
                worker.wrong(format!("making {name}: {error}"));
            }
            None
        }
    }
}

fn step(worker: &mut Worker, place: &Place, epoch: &mut Epoch) {
    let op = choose(worker, epoch);
    let began = Clock.now();
    let result = execute(&place.root.join(&epoch.name), &op);
    let ended = Clock.now();
    let outcome = match result {
        Ok(()) => Outcome::Done,
        Err(error) => match worker.failed(place, "working in an own directory", &error) {
            Meaning::Never => return,
            Meaning::Full => Outcome::Refused(libc::ENOSPC),
            // The file was opened, and lost before the call that followed.
            Meaning::Unknown | Meaning::Answer(libc::ESTALE) => Outcome::Unknown,
            Meaning::Answer(errno) => Outcome::Refused(errno),
        },
    };
    worker.answered();
    epoch.log.push(Step { began, ended, op, outcome });
}

fn choose(worker: &mut Worker, epoch: &Epoch) -> TreeOp {
    let rng = &mut worker.rng;
    let file = format!("f{}", rng.below(FILES));
    match rng.below(100) {
        0..20 => TreeOp::Create(file),
        20..55 => {
            let count = if rng.chance(5) { 40_000 + rng.below(60_000) } else { 1 + rng.below(3000) };
            TreeOp::Append(file, count as u32, epoch.log.len() as u8)
        }
        55..65 => TreeOp::Rename(file, format!("f{}", rng.below(FILES))),
        65..72 => TreeOp::Unlink(file),
        72..76 => TreeOp::Mkdir(format!("d{}", rng.below(SUBDIRECTORIES))),
        76..80 => TreeOp::Rmdir(format!("d{}", rng.below(SUBDIRECTORIES))),
        80..92 => TreeOp::Sync(file),
        _ => TreeOp::Sync(String::new()),
    }
}

fn execute(dir: &Path, op: &TreeOp) -> io::Result<()> {
    match op {
        TreeOp::Create(name) => close(OpenOptions::new().write(true).create_new(true).open(dir.join(name))?),
        TreeOp::Append(name, count, byte) => {
            let mut file = OpenOptions::new().append(true).open(dir.join(name))?;
            let bytes = vec![*byte; *count as usize];
            let written = file.write(&bytes)?;
            if written != bytes.len() {
                return Err(io::Error::other(format!("only {written} bytes were written")));
            }
            close(file).ok();
            Ok(())
        }
        TreeOp::Rename(from, to) => std::fs::rename(dir.join(from), dir.join(to)),
        TreeOp::Unlink(name) => std::fs::remove_file(dir.join(name)),
        TreeOp::Mkdir(name) => std::fs::create_dir(dir.join(name)),
        TreeOp::Rmdir(name) => std::fs::remove_dir(dir.join(name)),
        TreeOp::Sync(name) => {
            let file = File::open(dir.join(name))?;
            file.sync_all()
        }
    }
}

/// What is in a directory now.
///
/// # Errors
/// Those of the system calls, or something that no worker makes.
pub fn read_tree(dir: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let read = match entry.file_type()?.is_dir() {
            true => Entry::Directory,
            false => Entry::File(runs(&std::fs::read(entry.path())?)),
        };
        tree.insert(name, read);
    }
    Ok(tree)
}

fn runs(bytes: &[u8]) -> Vec<(u64, u8)> {
    let mut runs = Vec::new();
    bytes.iter().for_each(|byte| append(&mut runs, 1, *byte));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::model::prefix::check;

    /// The model says what a real file system does.
    #[test]
    fn a_plain_directory_is_as_the_model_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = Worker {
            number: 1,
            seat: Default::default(),
            seen: Default::default(),
            rng: crate::rng::Rng::new(5),
            stop: Default::default(),
        };
        let mut epoch = Epoch { name: ".".into(), client: 1, log: Vec::new() };
        let place = Place { root: dir.path().to_owned(), client: 1 };
        for _ in 0..STEPS_MAX {
            step(&mut worker, &place, &mut epoch);
        }
        check(&epoch.log, &[], false, &read_tree(dir.path()).unwrap()).unwrap();
    }
}
