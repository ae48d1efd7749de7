//! The watermark: a lower bound of what is on disk, kept beside the store.
//!
//! A store that finds its log torn cuts the torn end, which is right after a crash and wrong after damage in the middle:
//! everything behind it would silently be gone, promises included. The watermark tells the two apart. It is written
//! after every change of the promises and otherwise at most once a second, so it costs nothing in normal work.
//!
//! What it does not cover yet, [`super::progress`] covers as long as the system did not lose its power. What remains is a
//! log damaged within the last second before a power failure: that cannot be told from a torn end.

use super::StoreError;
use super::files::replace_file;
use crate::consensus::{HardState, Viewstamp};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const VERSION: u8 = 1;
pub(super) const FILE: &str = "WATERMARK";
const EVERY: Duration = Duration::from_secs(1);

/// What was certainly on disk when it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) hard_state: HardState,
    pub(super) last: Viewstamp,
    /// The number of the last frame. It only grows, so it tells also what the others cannot: that the frame is gone with
    /// which the log went back.
    pub(super) frame: u64,
}

impl Mark {
    /// The file's content.
    pub(super) fn sealed(&self) -> Vec<u8> {
        rpc::record::seal(VERSION, &rpc::codec::encode(self))
    }

    /// What of this mark is missing in a store that has `found`, in words.
    pub(super) fn missing_in(&self, found: &Mark) -> Option<String> {
        let (promised, has) = (self.hard_state, found.hard_state);
        let vote_lost =
            promised.view == has.view && promised.voted_for.is_some() && promised.voted_for != has.voted_for;
        if promised.view > has.view || vote_lost {
            return Some(format!(
                "its promises of view {} are gone (it has view {})",
                promised.view, has.view
            ));
        }
        if self.last > found.last {
            return Some(format!("its log ends at {} but reached {} before", found.last, self.last));
        }
        if self.frame > found.frame {
            return Some(format!(
                "its last record is number {} but there was a number {}",
                found.frame, self.frame
            ));
        }
        None
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    written: Mark,
    written_at: Instant,
}

impl Watermark {
    /// Makes the file of a new directory.
    pub(super) fn create(dir: &Path) -> Result<Watermark, StoreError> {
        let mut watermark =
            Watermark { path: dir.join(FILE), written: Mark::default(), written_at: Instant::now() };
        watermark.write(Mark::default())?;
        Ok(watermark)
    }

    /// Reads the file and refuses a store that has less than it says.
    pub(super) fn check(dir: &Path, found: &Mark) -> Result<Watermark, StoreError> {
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::damaged(dir, "its WATERMARK file is gone"));
            }
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let mark =
            read(&bytes).ok_or_else(|| StoreError::damaged(dir, "its WATERMARK file is unreadable"))?;
        if let Some(missing) = mark.missing_in(found) {
            return Err(StoreError::damaged(dir, format!("log/ is not what its WATERMARK says: {missing}")));
        }
        Ok(Watermark { path, written: mark, written_at: Instant::now() })
    }

    /// Says that `mark` is on disk now.
    pub(super) fn raise(&mut self, mark: Mark) -> Result<(), StoreError> {
        if mark.hard_state != self.written.hard_state || self.written_at.elapsed() >= EVERY {
            self.write(mark)?;
        }
        Ok(())
    }

    /// Says that the log is about to end at `last`, which may be before what the file says.
    pub(super) fn lower(&mut self, last: Viewstamp) -> Result<(), StoreError> {
        if last < self.written.last {
            self.write(Mark { last, ..self.written })?;
        }
        Ok(())
    }

    /// Writes `mark` now, unless it stands there.
    pub(super) fn write_now(&mut self, mark: Mark) -> Result<(), StoreError> {
        if mark != self.written { self.write(mark) } else { Ok(()) }
    }

    fn write(&mut self, mark: Mark) -> Result<(), StoreError> {
        replace_file(&self.path, &mark.sealed())?;
        self.written = mark;
        self.written_at = Instant::now();
        Ok(())
    }
}

pub(super) fn read(bytes: &[u8]) -> Option<Mark> {
    match rpc::record::open(bytes) {
        Ok((VERSION, body)) => rpc::codec::decode(body).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(view: u64, voted_for: Option<u64>, last: (u64, u64)) -> Mark {
        Mark { hard_state: HardState { view, voted_for }, last: Viewstamp::new(last.0, last.1), frame: 9 }
    }

    #[test]
    fn a_store_must_have_what_the_mark_promises() {
        let written = mark(4, Some(7), (4, 100));
        assert_eq!(written.missing_in(&written), None);
        assert_eq!(written.missing_in(&mark(5, None, (5, 90))), None, "a later view may have cut the log");
        assert!(written.missing_in(&mark(3, Some(7), (4, 100))).is_some());
        assert!(written.missing_in(&mark(4, None, (4, 100))).is_some(), "a lost vote could be cast twice");
        assert!(written.missing_in(&mark(4, Some(7), (4, 99))).is_some());
        assert!(written.missing_in(&Mark { frame: 8, ..mark(5, None, (5, 200)) }).is_some());
    }

    #[test]
    fn promises_are_written_at_once_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::create(dir.path()).unwrap();
        watermark.raise(mark(1, Some(1), (1, 5))).unwrap();
        watermark.raise(mark(1, Some(1), (1, 6))).unwrap();
        assert!(Watermark::check(dir.path(), &mark(1, Some(1), (1, 5))).is_ok(), "the log is marked lazily");
        assert!(Watermark::check(dir.path(), &mark(1, Some(1), (1, 4))).is_err());
        watermark.write_now(mark(1, Some(1), (1, 6))).unwrap();
        assert!(Watermark::check(dir.path(), &mark(1, Some(1), (1, 5))).is_err());
        watermark.lower(Viewstamp::new(1, 2)).unwrap();
        assert!(Watermark::check(dir.path(), &mark(1, Some(1), (1, 2))).is_ok());

        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(Watermark::check(dir.path(), &mark(9, None, (9, 9))).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Watermark::check(dir.path(), &mark(9, None, (9, 9))).is_err());
    }
}
