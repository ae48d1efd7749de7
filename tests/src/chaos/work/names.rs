//! Directories in which every mount makes, renames, removes and looks at the same few names.

use super::calls::{Meaning, close, list_at_once};
use super::{DIRECTORIES, Worker, note_sync};
use crate::chaos::model::names::{NAMES, NamesAnswer, NamesOp};
use crate::chaos::model::{Event, Input};
use crate::chaos::seat::Place;
use crate::linear::Clock;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// A worker's numbers are its own times this, and a count.
const NUMBERS_MAX: u64 = 1 << 32;

pub(super) fn run(mut worker: Worker) {
    let mut number = worker.number * NUMBERS_MAX;
    while worker.goes_on() {
        let seat = worker.seat.clone();
        if let Some(place) = seat.sit() {
            let object = worker.rng.below(DIRECTORIES as usize) as u64;
            let name = worker.rng.below(NAMES);
            match worker.rng.below(100) {
                0..25 => look(&worker, &place, object, name),
                25..40 => list(&worker, &place, object),
                40..65 => {
                    number += 1;
                    call(&worker, &place, object, NamesOp::Make { name, number });
                }
                65..78 => call(&worker, &place, object, NamesOp::Remove { name }),
                78..92 => {
                    let to = (name + 1 + worker.rng.below(NAMES - 1)) % NAMES;
                    call(&worker, &place, object, NamesOp::Rename { from: name, to });
                }
                _ => sync(&worker, &place, object),
            }
        }
        worker.breathe(12);
    }
}

fn directory(place: &Place, object: u64) -> PathBuf {
    place.root.join(format!("names-{object}"))
}

pub(super) fn look(worker: &Worker, place: &Place, object: u64, name: usize) {
    call(worker, place, object, NamesOp::Look { name });
}

pub(super) fn list(worker: &Worker, place: &Place, object: u64) {
    call(worker, place, object, NamesOp::List);
}

fn call(worker: &Worker, place: &Place, object: u64, op: NamesOp) {
    let input = Input { object, client: place.client, event: Event::Do(op) };
    let pending = worker.seen.directories.invoke(worker.number, input);
    let answer = match execute(place, object, &op) {
        Ok(answer) => answer,
        Err(error) => match worker.failed(place, "using a name", &error) {
            Meaning::Answer(libc::ENOENT) => NamesAnswer::Missing,
            Meaning::Answer(libc::EEXIST) => NamesAnswer::Exists,
            Meaning::Answer(_) => {
                pending.unknown();
                return worker.wrong(format!("{op:?} in directory {object}: {error}"));
            }
            Meaning::Never | Meaning::Full => return pending.never(),
            Meaning::Unknown => return pending.unknown(),
        },
    };
    pending.answer(Some(answer));
    worker.answered();
}

fn execute(place: &Place, object: u64, op: &NamesOp) -> io::Result<NamesAnswer> {
    let dir = directory(place, object);
    let at = |name: usize| dir.join(format!("n{name}"));
    Ok(match *op {
        NamesOp::Make { name, number } => {
            std::os::unix::fs::symlink(number.to_string(), at(name))?;
            NamesAnswer::Done
        }
        NamesOp::Remove { name } => {
            std::fs::remove_file(at(name))?;
            NamesAnswer::Done
        }
        NamesOp::Rename { from, to } => {
            std::fs::rename(at(from), at(to))?;
            NamesAnswer::Done
        }
        NamesOp::Look { name } => {
            let target = std::fs::read_link(at(name))?;
            let number = target.to_str().and_then(|text| text.parse().ok());
            NamesAnswer::Leads(number.ok_or_else(|| io::Error::other(format!("leads to {target:?}")))?)
        }
        NamesOp::List => {
            let names = list_at_once(&File::open(&dir)?)?;
            NamesAnswer::Listed(std::array::from_fn(|i| names.contains(&format!("n{i}"))))
        }
    })
}

fn sync(worker: &Worker, place: &Place, object: u64) {
    let Ok(dir) = File::open(directory(place, object)) else { return };
    let began = Clock.now();
    let result = dir.sync_all().map_err(|error| worker.failed(place, "fsync of a directory", &error));
    note_sync(&worker.seen.directories, worker.number, (object, place.client), began, result);
    let began = Clock.now();
    if let Err(error) = close(dir) {
        let meaning = worker.failed(place, "closing a directory", &error);
        note_sync(&worker.seen.directories, worker.number, (object, place.client), began, Err(meaning));
    }
}
