//! A directory that is broken on purpose, in one way at a time, to see the checks fail.

use super::files::{Disk, Files, Handle, How, Stat};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is wrong with it. "The second mount" is any path below a directory named `two`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// `readdir` gives the first name twice.
    ListsTwice,
    /// `readdir` leaves one name out when there are more than three.
    ListsTooFew,
    /// `readdir` still gives a removed name.
    ListsRemoved,
    /// Names that do not exist can be opened.
    OpensAnything,
    /// Creating a file below a regular file works.
    FilesAreDirectories,
    /// A missing file is reported with another error.
    WrongError,
    /// The second mount keeps showing contents as they were when first read there.
    StaleContent,
    /// The second mount keeps listing what it listed first.
    StaleList,
    /// The second mount keeps showing files removed through the first.
    StaleNames,
    /// Appending starts at the beginning.
    AppendsAtStart,
    /// Opening for truncation does not truncate.
    KeepsOldTail,
    /// A gap is filled with something else than zeros.
    DirtyGap,
    /// Time stamps of files never move.
    FrozenFileTimes,
    /// Time stamps of directories never move.
    FrozenDirTimes,
    /// A removed file can be removed again.
    RemovesTwice,
    /// Every tenth byte-sized write at an offset is lost, though synced.
    LosesWrites,
    /// `O_EXCL` is ignored.
    IgnoresExclusive,
    /// `fsync` fails.
    SyncFails,
    /// `close` fails.
    CloseFails,
    /// Every fortieth create through the second mount is forgotten.
    ForgetsCreates,
    /// `stat` says a wrong size.
    WrongSize,
}

#[derive(Default)]
struct Memory {
    contents: BTreeMap<PathBuf, Vec<u8>>,
    lists: BTreeMap<PathBuf, Vec<String>>,
    times: BTreeMap<PathBuf, Stat>,
    removed: BTreeMap<PathBuf, ()>,
    count: u64,
}

/// The directory.
#[derive(Clone)]
pub struct Broken {
    fault: Fault,
    memory: Arc<Mutex<Memory>>,
}

impl Broken {
    pub fn new(fault: Fault) -> Broken {
        Broken { fault, memory: Arc::default() }
    }

    /// Whether this call of a kind that fails now and then fails.
    fn every(&self, n: u64) -> bool {
        let mut memory = self.memory.lock();
        memory.count += 1;
        memory.count.is_multiple_of(n)
    }
}

fn on_second_mount(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "two")
}

impl Files for Broken {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Handle>> {
        let (mut path, mut how) = (path.to_owned(), how);
        match self.fault {
            Fault::OpensAnything if how == How::Read && !path.exists() => path = "/dev/null".into(),
            Fault::FilesAreDirectories if path.ends_with("xx") => path = "/dev/null".into(),
            Fault::WrongError if how == How::Read && !path.exists() => {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            Fault::AppendsAtStart if how == How::Append => how = How::Write,
            Fault::KeepsOldTail if how == How::Truncate => how = How::Write,
            Fault::IgnoresExclusive if how == How::New => how = How::Truncate,
            Fault::StaleNames if on_second_mount(&path) && how == How::Read && !path.exists() => {
                path = "/dev/null".into();
            }
            Fault::ForgetsCreates if on_second_mount(&path) && how != How::Read && self.every(40) => {
                path = "/dev/null".into();
                how = How::Write;
            }
            _ => {}
        }
        let file = Disk.open(&path, how)?;
        Ok(Box::new(BrokenFile { disk: self.clone(), path, file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Disk.list(dir)?;
        let mut memory = self.memory.lock();
        match self.fault {
            Fault::ListsTwice => names.extend(names.first().cloned()),
            Fault::ListsTooFew if names.len() > 3 => drop(names.pop()),
            Fault::ListsRemoved => {
                let gone = memory.removed.keys().find(|path| path.parent() == Some(dir));
                names.extend(gone.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())));
            }
            Fault::StaleList if on_second_mount(dir) => {
                return Ok(memory.lists.entry(dir.to_owned()).or_insert(names).clone());
            }
            _ => {}
        }
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let mut stat = Disk.stat(path)?;
        let frozen = match self.fault {
            Fault::FrozenFileTimes => stat.is_file,
            Fault::FrozenDirTimes => stat.is_dir,
            _ => false,
        };
        if frozen {
            return Ok(self.memory.lock().times.entry(path.to_owned()).or_insert(stat).clone());
        }
        if self.fault == Fault::WrongSize && stat.size > 0 {
            stat.size -= 1;
        }
        Ok(stat)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        Disk.mkdir(path)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        if self.fault == Fault::RemovesTwice && !path.exists() {
            return Ok(());
        }
        self.memory.lock().removed.insert(path.to_owned(), ());
        Disk.unlink(path)
    }
}

struct BrokenFile {
    disk: Broken,
    path: PathBuf,
    file: Box<dyn Handle>,
}

impl Handle for BrokenFile {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let content = self.file.read_all()?;
        if self.disk.fault == Fault::StaleContent && on_second_mount(&self.path) {
            return Ok(self.disk.memory.lock().contents.entry(self.path.clone()).or_insert(content).clone());
        }
        Ok(content)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write(data)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.disk.fault == Fault::DirtyGap && offset == 65536 {
            self.file.write_at(b"?", 40_000)?;
        }
        if self.disk.fault == Fault::LosesWrites && data.len() == 1 && self.disk.every(10) {
            return Ok(());
        }
        self.file.write_at(data, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.disk.fault {
            Fault::SyncFails => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => self.file.sync(),
        }
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        self.file.close()?;
        match self.disk.fault {
            Fault::CloseFails => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }
}
