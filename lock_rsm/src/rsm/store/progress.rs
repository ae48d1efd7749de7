//! The progress: what is on disk, noted after every write of the log, without a sync of its own.
//!
//! The [`super::watermark`] is synced and therefore lags; this file is overwritten in place and costs next to nothing. It
//! survives the death of the process, which is when the log's end is most likely to be looked at again; after a power
//! failure it may be old, and what it says is a lower bound all the same: it was true when it was written.
//!
//! Layout: a sealed record ([`rpc::record`], version 1) of view (u64), vote (u64, 0 for none), the view (u64) and seq (u64)
//! of the log's last entry, and the number of its last frame (u64), all little-endian: always 45 bytes, within one sector. A file that does not open is
//! passed over: a power failure may have torn it.

use super::StoreError;
use super::files::sync_dir;
use super::watermark::Mark;
use crate::consensus::{HardState, Viewstamp};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const VERSION: u8 = 1;
const FILE: &str = "PROGRESS";

/// The file.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    file: File,
    written: Mark,
}

impl Progress {
    /// What the file of `dir` says, if it says anything.
    pub(super) fn read(dir: &Path) -> Result<Option<Mark>, StoreError> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(decode(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    /// Opens the file for writing, with `mark` in it, which is on disk now.
    pub(super) fn open(dir: &Path, mark: Mark) -> Result<Progress, StoreError> {
        let path = dir.join(FILE);
        let open = || -> std::io::Result<File> {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.write_all_at(&encode(mark), 0)?;
            file.sync_all()?;
            sync_dir(dir)?;
            Ok(file)
        };
        let file = open().map_err(|source| StoreError::io(&path, source))?;
        Ok(Progress { path, file, written: mark })
    }

    /// Says that `mark` is on disk now.
    pub(super) fn note(&mut self, mark: Mark) -> Result<(), StoreError> {
        self.file.write_all_at(&encode(mark), 0).map_err(|source| StoreError::io(&self.path, source))?;
        self.written = mark;
        Ok(())
    }

    /// Says, durably, that the log is about to end at `last`, which may be before what the file says.
    pub(super) fn lower(&mut self, last: Viewstamp) -> Result<(), StoreError> {
        if last >= self.written.last {
            return Ok(());
        }
        self.note(Mark { last, ..self.written })?;
        self.file.sync_data().map_err(|source| StoreError::io(&self.path, source))
    }
}

pub(super) fn encode(mark: Mark) -> Vec<u8> {
    let Mark { hard_state, last, frame } = mark;
    let numbers = [hard_state.view, hard_state.voted_for.unwrap_or(0), last.view, last.seq, frame];
    rpc::record::seal(VERSION, &numbers.map(u64::to_le_bytes).concat())
}

pub(super) fn decode(bytes: &[u8]) -> Option<Mark> {
    let Ok((VERSION, body)) = rpc::record::open(bytes) else { return None };
    let (numbers, []) = body.as_chunks::<8>() else { return None };
    let [view, vote, last_view, last_seq, frame] = *numbers else { return None };
    Some(Mark {
        hard_state: HardState {
            view: u64::from_le_bytes(view),
            voted_for: Some(u64::from_le_bytes(vote)).filter(|id| *id != 0),
        },
        last: Viewstamp::new(u64::from_le_bytes(last_view), u64::from_le_bytes(last_seq)),
        frame: u64::from_le_bytes(frame),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_these_bytes() {
        let mark = Mark {
            hard_state: HardState { view: 4, voted_for: Some(7) },
            last: Viewstamp::new(3, 258),
            frame: 5,
        };
        let golden = [
            1, 0x86, 0x18, 0x2b, 0xc0, // version, CRC-32
            4, 0, 0, 0, 0, 0, 0, 0, // view
            7, 0, 0, 0, 0, 0, 0, 0, // vote
            3, 0, 0, 0, 0, 0, 0, 0, // last entry: view
            2, 1, 0, 0, 0, 0, 0, 0, // last entry: seq
            5, 0, 0, 0, 0, 0, 0, 0, // last frame
        ];
        assert_eq!(encode(mark), golden);
        assert_eq!(decode(&golden), Some(mark));
        let voteless = Mark { hard_state: HardState { view: 4, voted_for: None }, ..mark };
        assert_eq!(decode(&encode(voteless)), Some(voteless));
    }

    #[test]
    fn what_is_torn_says_nothing() {
        let mut bytes = encode(Mark::default());
        bytes[9] ^= 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(&bytes[..20]), None);
        assert_eq!(decode(&rpc::record::seal(VERSION, &[0; 39])), None);
        assert_eq!(decode(&rpc::record::seal(2, &[0; 40])), None);
    }

    #[test]
    fn it_goes_up_and_down_in_place() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), None);
        let at = |view, seq| Mark { last: Viewstamp::new(view, seq), ..Mark::default() };
        let mut progress = Progress::open(dir.path(), at(1, 1)).unwrap();
        progress.note(at(1, 9)).unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), Some(at(1, 9)));
        progress.lower(Viewstamp::new(2, 3)).unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), Some(at(1, 9)), "2.3 is later than 1.9");
        progress.lower(Viewstamp::new(1, 3)).unwrap();
        assert_eq!(Progress::read(dir.path()).unwrap(), Some(at(1, 3)));
    }
}
