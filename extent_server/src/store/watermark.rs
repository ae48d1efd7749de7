//! The number of the last group of commits known to be on disk, kept outside the log it speaks of.
//!
//! The log's own recovery cuts a torn tail, and cannot tell a tail that was never acknowledged from one that was and is
//! now damaged. This file can: a store that comes up with a lower number has lost acknowledged commits, and is refused.
//!
//! Two sealed slots are written in turn, without a sync of their own (they are synced about once a second): after the
//! death of the process they are exact, after a power cut they may name a somewhat older group, which only makes the
//! check weaker.

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const VERSION: u8 = 1;
const SLOT: u64 = 4096;

/// The file.
pub(crate) struct Watermark {
    file: File,
    unsynced: Mutex<bool>,
}

impl Watermark {
    /// Opens or creates the file; also returns what it says, `None` where no slot is intact.
    pub(crate) fn open(path: &Path) -> io::Result<(Watermark, Option<u64>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let known = [0, SLOT].into_iter().filter_map(|at| read_slot(&file, at)).max();
        Ok((Watermark { file, unsynced: Mutex::new(false) }, known))
    }

    /// Notes that group `seq` is on disk.
    pub(crate) fn record(&self, seq: u64) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        self.file.write_all_at(&slot(seq), seq % 2 * SLOT)?;
        *unsynced = true;
        Ok(())
    }

    /// Brings the file to the disk if it changed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if !std::mem::take(&mut *self.unsynced.lock()) {
            return Ok(());
        }
        self.file.sync_data()
    }
}

/// What a slot holds.
pub(super) fn slot(seq: u64) -> Vec<u8> {
    rpc::record::seal(VERSION, &seq.to_le_bytes())
}

fn read_slot(file: &File, at: u64) -> Option<u64> {
    let mut slot = [0; 13];
    file.read_exact_at(&mut slot, at).ok()?;
    parse_slot(&slot)
}

pub(super) fn parse_slot(slot: &[u8]) -> Option<u64> {
    match rpc::record::open(slot) {
        Ok((VERSION, body)) => Some(u64::from_le_bytes(body.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_intact_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("W");
        let (mark, none) = Watermark::open(&path).unwrap();
        assert_eq!(none, None);
        for seq in 1..=6 {
            mark.record(seq).unwrap();
            assert_eq!(Watermark::open(&path).unwrap().1, Some(seq));
        }
        mark.sync().unwrap();
        mark.file.write_all_at(b"?", 3).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().1, Some(5), "slot of 6 is damaged");
        mark.file.write_all_at(b"?", SLOT + 3).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().1, None);
    }
}
