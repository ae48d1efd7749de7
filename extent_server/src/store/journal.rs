//! A look at the LSM store's log before that store recovers from it.
//!
//! The log's own recovery (fjall 3) checks the checksum of each whole batch, but takes whatever it cannot *parse* for a
//! tail torn by a crash, and cuts the log there. That is right for a batch that was never acknowledged, and silent loss
//! for a damaged byte in the middle. So this module parses the structure of the log first (not its checksums), and
//!
//! * refuses when a log that was closed is cut short, or when no log is there;
//! * keeps a copy of a log whose end would be cut, unless it is known that all acknowledged groups lie before the cut;
//! * cuts the one torn tail that the recovery would refuse: a batch whose outline is whole, and whose contents have holes
//!   of zeros where the disk never wrote them.
//!
//! Layout of a log file: batches, then zeros (it is allocated ahead). A batch is `1, items: u32, version: u64`, then each
//! item `2, type: u8, compression: u8, tree: u64, key length: u16, value length: u32, stored length: u32, key, value`,
//! then `3, checksum: u64, "FJL", 3`. All little endian.

use super::steps::{SEQUENCE, space};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = b"FJL\x03";
const UNCOMPRESSED: u8 = 0;

/// A copy of a log whose end the recovery will cut.
pub(crate) struct Evidence {
    copy: Option<PathBuf>,
}

impl Evidence {
    /// Where it is, as the end of an error message.
    pub(crate) fn describe(&self) -> String {
        match &self.copy {
            Some(copy) => format!("; the log as it was found is kept in {}", copy.display()),
            None => String::new(),
        }
    }

    /// It turned out that nothing was lost.
    pub(crate) fn discard(self) {
        if let Some(copy) = self.copy
            && let Err(e) = fs::remove_file(&copy)
        {
            tracing::warn!("cannot remove {}: {e}", copy.display());
        }
    }
}

/// What a log file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// One past the last batch with a whole outline.
    pub(super) end: u64,
    /// Whether anything but zeros follows.
    pub(super) torn: bool,
    /// The last group's number among the sound batches.
    sequence: Option<u64>,
    /// Where the last batch starts, if records in it are not what was sealed.
    pub(super) unsound: Option<u64>,
}

/// Looks at the logs in `dir`; `known` is the last group that was acknowledged, as far as that is known.
pub(crate) fn examine(dir: &Path, known: Option<u64>) -> Result<Evidence, String> {
    check_trees(dir)?;
    let mut logs = logs(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let Some(active) = logs.pop() else {
        return Err(format!("no log (*.jnl) is left in {}", dir.display()));
    };
    for log in logs {
        let outline = outline(&log)?;
        if outline.torn {
            return Err(format!("{} is damaged at byte {}", log.display(), outline.end));
        }
    }
    let outline = outline(&active)?;
    // Without a watermark nothing can be proven, and a torn tail is what a crash leaves.
    let all_there = known.is_none_or(|known| outline.sequence.is_some_and(|found| found >= known));
    if let Some(start) = outline.unsound
        && !outline.torn
        && all_there
    {
        tracing::warn!("{}: the last write was cut short by a crash; cutting it off", active.display());
        cut(&active, start).map_err(|e| format!("{}: {e}", active.display()))?;
    }
    if !outline.torn || all_there {
        return Ok(Evidence { copy: None });
    }
    let copy = active.with_extension("jnl.damaged");
    fs::copy(&active, &copy).map_err(|e| format!("{}: {e}", copy.display()))?;
    Ok(Evidence { copy: Some(copy) })
}

/// The recovery removes a tree whose list of tables is missing, as the rest of a creation cut short. Ours exist.
fn check_trees(dir: &Path) -> Result<(), String> {
    let trees = dir.join("keyspaces");
    let found = fs::read_dir(&trees).map_err(|e| format!("{}: {e}", trees.display()))?;
    for tree in found {
        let path = tree.map_err(|e| format!("{}: {e}", trees.display()))?.path();
        if path.is_dir() && !path.join("current").is_file() {
            return Err(format!("{} is missing", path.join("current").display()));
        }
    }
    Ok(())
}

/// The log files, oldest first.
fn logs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("jnl")) = (number, path.extension().and_then(|e| e.to_str())) {
            logs.push((number, path));
        }
    }
    logs.sort_unstable();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

fn cut(log: &Path, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(log)?;
    file.set_len(end)?;
    file.sync_all()
}

pub(super) fn outline(log: &Path) -> Result<Outline, String> {
    let read = || -> io::Result<Outline> {
        let file = File::open(log)?;
        let size = file.metadata()?.len();
        let mut reader = Reader { inner: BufReader::with_capacity(1 << 20, file), at: 0, size };
        let mut outline = Outline::default();
        while let Some(batch) = reader.batch()? {
            outline.unsound = (!batch.sound).then_some(outline.end);
            outline.end = reader.at;
            if batch.sound {
                outline.sequence = batch.sequence.or(outline.sequence);
            }
        }
        reader.seek(outline.end)?;
        outline.torn = !reader.rest_is_zero()?;
        Ok(outline)
    };
    read().map_err(|e| format!("{}: {e}", log.display()))
}

struct Batch {
    sound: bool,
    sequence: Option<u64>,
}

struct Reader {
    inner: BufReader<File>,
    at: u64,
    size: u64,
}

impl Reader {
    /// The next batch, `None` where no whole outline of one follows.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let mut batch = Batch { sound: true, sequence: None };
        let Some([START, header @ ..]) = self.array::<13>()? else { return Ok(None) };
        let items = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        for _ in 0..items {
            match self.array::<1>()? {
                Some([ITEM]) => {
                    let Some(item) = self.item()? else { return Ok(None) };
                    batch.sound &= item.sound;
                    batch.sequence = item.sequence.or(batch.sequence);
                }
                Some([CLEAR]) if self.array::<8>()?.is_some() => {}
                _ => return Ok(None),
            }
        }
        let Some([END, end @ ..]) = self.array::<13>()? else { return Ok(None) };
        Ok((&end[8..] == TRAILER).then_some(batch))
    }

    fn item(&mut self) -> io::Result<Option<Batch>> {
        let Some(header) = self.array::<20>()? else { return Ok(None) };
        let [_type, compression, ..] = header;
        let key = u64::from(u16::from_le_bytes(header[10..12].try_into().expect("two bytes")));
        let value = u64::from(u32::from_le_bytes(header[16..20].try_into().expect("four bytes")));
        if key + value > self.size.saturating_sub(self.at) {
            return Ok(None);
        }
        let (Some(key), Some(value)) = (self.bytes(key)?, self.bytes(value)?) else { return Ok(None) };
        Ok(Some(judge(&key, &value, compression)))
    }

    fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        if self.size.saturating_sub(self.at) < N as u64 {
            return Ok(None);
        }
        self.inner.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    fn bytes(&mut self, len: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; len as usize];
        self.inner.read_exact(&mut bytes)?;
        self.at += len;
        Ok(Some(bytes))
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        use std::io::Seek;
        self.inner.seek(io::SeekFrom::Start(to))?;
        self.at = to;
        Ok(())
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        // The log is allocated ahead as one hole; nothing is in there.
        let Some(data) = next_data(self.inner.get_ref(), self.at)? else { return Ok(true) };
        self.seek(data)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.inner.read(&mut buffer)? {
                0 => return Ok(true),
                n if buffer[..n].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}

/// Where, from `from` on, the file has anything but holes; `None` if nowhere.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from as i64, libc::SEEK_DATA) };
    match u64::try_from(at) {
        Ok(at) => Ok(Some(at)),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            e if e.raw_os_error() == Some(libc::EINVAL) => Ok(Some(from)),
            e => Err(e),
        },
    }
}

/// Whether a record is as it was sealed: its key of a kind of ours, its value intact (or empty, a removal).
fn judge(key: &[u8], value: &[u8], compression: u8) -> Batch {
    let kinds = [space::USER, space::CRCS, space::MARKS, space::FENCES, space::SYSTEM];
    let ours = key.first().is_some_and(|kind| kinds.contains(kind));
    let opened = rpc::record::open(value);
    let intact = compression != UNCOMPRESSED || value.is_empty() || opened.is_ok();
    let sequence = match opened {
        Ok((_, body)) if key == SEQUENCE => body.try_into().ok().map(u64::from_le_bytes),
        _ => None,
    };
    Batch { sound: ours && intact, sequence }
}
