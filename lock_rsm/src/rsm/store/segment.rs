//! A file of the log: `log/NUMBER` (16 hexadecimal digits). A heading, then frames, then zeros.
//!
//! The zeros are written ahead, [`ROOM_BYTES`] at a time: a sync of bytes that lie where the file has had bytes before
//! need not change what the file system knows about the file, and takes less than half as long (`scripts/bench rsm`).
//!
//! The heading is a sealed record (version 1) of the file's number and its salt, both u64.

use super::files::sync_dir;
use super::frame::{self, Frame};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The directory of the log's files.
pub(super) const DIR: &str = "log";
/// A file that has so many bytes is followed by a new one.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;
/// Zeros written ahead.
const ROOM_BYTES: u64 = 1 << 20;
/// Bytes of the heading.
pub(super) const HEADING_BYTES: usize = 5 + 16;
/// What a file is called until it is complete.
const UNFINISHED: &str = "new";

/// The file that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    salt: u64,
    /// Where the next frame goes.
    end: u64,
    /// How far the file has zeros.
    room: u64,
}

impl Segment {
    /// Makes file `number` in `dir` (the data directory), which begins with `frames`, the first of them number
    /// `first_frame`. It is there as a whole, and durably, or not at all.
    pub(super) fn create(
        dir: &Path,
        number: u64,
        first_frame: u64,
        frames: &[Frame],
    ) -> std::io::Result<Segment> {
        let path = path(dir, number);
        let new = path.with_extension(UNFINISHED);
        let made = Segment::fill(&new, number, first_frame, frames).and_then(|segment| {
            fs::rename(&new, &path)?;
            sync_dir(&dir.join(DIR))?;
            Ok(Segment { path, ..segment })
        });
        if made.is_err() {
            // On a full disk half a file would be in the way of whoever makes room.
            let _ = fs::remove_file(&new);
        }
        made
    }

    fn fill(path: &Path, number: u64, first_frame: u64, frames: &[Frame]) -> std::io::Result<Segment> {
        let salt = random()?;
        let mut file = File::create(path)?;
        let mut end = 0;
        let mut put = |bytes: &[u8]| {
            end += bytes.len() as u64;
            file.write_all(bytes)
        };
        put(&heading(number, salt))?;
        for (number, frame) in (first_frame..).zip(frames) {
            put(&frame.sealed(number, salt))?;
        }
        file.write_all(&zeros(ROOM_BYTES))?;
        file.sync_all()?;
        Ok(Segment { path: path.to_owned(), file, salt, end, room: end + ROOM_BYTES })
    }

    /// Writes a frame; it is on disk when this returns.
    pub(super) fn append(&mut self, number: u64, frame: &Frame) -> std::io::Result<()> {
        let mut bytes = frame.sealed(number, self.salt);
        let end = self.end + bytes.len() as u64;
        // Behind the last frame there is always a zero, so that what is there cannot be taken for the next one's length.
        if end + 4 > self.room {
            bytes.append(&mut zeros(ROOM_BYTES));
            self.room = end + ROOM_BYTES;
        }
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }

    /// Whether the next frame belongs into a new file.
    pub(super) fn is_full(&self) -> bool {
        self.end >= SEGMENT_BYTES
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(DIR).join(format!("{number:016x}"))
}

/// The numbers of the files there are, ascending, and the files that were never finished.
pub(super) fn list(dir: &Path) -> std::io::Result<(Vec<u64>, Vec<PathBuf>)> {
    let (mut numbers, mut unfinished) = (Vec::new(), Vec::new());
    for item in fs::read_dir(dir.join(DIR))? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match u64::from_str_radix(name, 16) {
            Ok(number) if name.len() == 16 => numbers.push(number),
            _ if path.extension().is_some_and(|extension| extension == UNFINISHED) => unfinished.push(path),
            _ => {
                let what = format!("{} is no file of a log", path.display());
                return Err(std::io::Error::new(ErrorKind::InvalidData, what));
            }
        }
    }
    numbers.sort_unstable();
    Ok((numbers, unfinished))
}

/// What is in the file, if its heading is right.
pub(super) fn salt_of(bytes: &[u8], number: u64) -> Result<u64, String> {
    let heading = bytes.get(..HEADING_BYTES).ok_or("it ends within its heading")?;
    let (version, body) = rpc::record::open(heading).map_err(|error| format!("in its heading, {error}"))?;
    let (numbers, []) = body.as_chunks::<8>() else { return Err("its heading is none".into()) };
    match *numbers {
        [own, salt] if version == frame::VERSION && u64::from_le_bytes(own) == number => {
            Ok(u64::from_le_bytes(salt))
        }
        _ => Err("its heading is that of another file".into()),
    }
}

/// What a file begins with.
pub(super) fn heading(number: u64, salt: u64) -> Vec<u8> {
    rpc::record::seal(frame::VERSION, &[number, salt].map(u64::to_le_bytes).concat())
}

fn zeros(count: u64) -> Vec<u8> {
    vec![0; usize::try_from(count).expect("room is small")]
}

/// A random number nobody else knows.
pub(super) fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(format!("no randomness: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}
