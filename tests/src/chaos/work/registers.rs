//! Small files that every mount reads and overwrites.

use super::calls::{Meaning, close};
use super::{REGISTERS, Worker, note_sync};
use crate::chaos::model::register::RegisterOp;
use crate::chaos::model::{Event, Input};
use crate::chaos::seat::Place;
use crate::linear::Clock;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// One page: a read of it is one request, if the kernel does not have it.
const SIZE: usize = 4096;
/// A worker's values are its number times this, and a count.
const VALUES_MAX: u64 = 1 << 32;

pub(super) fn run(mut worker: Worker) {
    let mut value = worker.number * VALUES_MAX;
    while worker.goes_on() {
        let seat = worker.seat.clone();
        if let Some(place) = seat.sit() {
            let object = worker.rng.below(REGISTERS as usize) as u64;
            match worker.rng.below(100) {
                0..55 => {
                    let _others = seat.apart[object as usize].read();
                    read(&worker, &place, object);
                }
                roll => {
                    let _nobody = seat.apart[object as usize].write();
                    value += 1;
                    write(&worker, &place, object, value, roll >= 80);
                }
            }
        }
        worker.breathe(12);
    }
}

fn path(place: &Place, object: u64) -> PathBuf {
    place.root.join(format!("register-{object}"))
}

/// The bytes of a file that holds `value`.
pub(super) fn contents(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(SIZE / 8)
}

pub(super) fn read(worker: &Worker, place: &Place, object: u64) {
    let input = Input { object, client: place.client, event: Event::Do(RegisterOp::Read) };
    let pending = worker.seen.registers.invoke(worker.number, input);
    match try_read(worker, place, object) {
        Ok(bytes) => {
            let value = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
            if bytes == contents(value) {
                pending.answer(Some(value));
                worker.answered();
            } else {
                pending.never();
                worker.wrong(format!("register {object} is torn: {}", shown(&bytes)));
            }
        }
        Err(error) => {
            pending.never(); // a read changes nothing
            if let Meaning::Answer(_) = worker.failed(place, "reading a register", &error) {
                worker.wrong(format!("reading register {object}: {error}"));
            }
        }
    }
}

fn try_read(worker: &Worker, place: &Place, object: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path(place, object))?;
    let mut bytes = vec![0; SIZE + 1];
    let got = file.read_at(&mut bytes, 0);
    close_and_tell(worker, place, object, file);
    bytes.truncate(got?);
    Ok(bytes)
}

/// Whoever closes the file first, be it a reader, hears of a loss.
fn close_and_tell(worker: &Worker, place: &Place, object: u64, file: File) {
    let began = Clock.now();
    if let Err(error) = close(file) {
        let meaning = worker.failed(place, "closing a register", &error);
        told(worker, place, object, began, Err(meaning));
    }
}

fn shown(bytes: &[u8]) -> String {
    let mut values: Vec<u64> =
        bytes.as_chunks().0.iter().map(|chunk: &[u8; 8]| u64::from_le_bytes(*chunk)).collect();
    values.dedup();
    format!("{} bytes, values {:?}", bytes.len(), &values[..values.len().min(8)])
}

fn write(worker: &Worker, place: &Place, object: u64, value: u64, sync: bool) {
    let file = match OpenOptions::new().write(true).open(path(place, object)) {
        Ok(file) => file,
        Err(error) => {
            if let Meaning::Answer(_) = worker.failed(place, "opening a register", &error) {
                worker.wrong(format!("opening register {object}: {error}"));
            }
            return;
        }
    };
    let input = Input { object, client: place.client, event: Event::Do(RegisterOp::Write(value)) };
    let began = Clock.now();
    let pending = worker.seen.registers.invoke_at(worker.number, began, input);
    match file.write_at(&contents(value), 0) {
        Ok(SIZE) => {
            pending.answer(Some(value));
            worker.answered();
        }
        Ok(some) => worker.wrong(format!("only {some} bytes of register {object} were written")),
        Err(error) => match worker.failed(place, "writing a register", &error) {
            Meaning::Never | Meaning::Full => pending.never(),
            Meaning::Answer(_) => worker.wrong(format!("writing register {object}: {error}")),
            Meaning::Unknown => told(worker, place, object, began, Err(Meaning::Unknown)),
        },
    }
    if sync {
        let began = Clock.now();
        let result = file.sync_all().map_err(|error| worker.failed(place, "fsync of a register", &error));
        told(worker, place, object, began, result);
    }
    close_and_tell(worker, place, object, file);
}

fn told(worker: &Worker, place: &Place, object: u64, began: u64, result: Result<(), Meaning>) {
    note_sync(&worker.seen.registers, worker.number, (object, place.client), began, result);
}
