//! What the lab checks do to a directory, behind a small trait: the real thing is [`Disk`]; the tests of the checks
//! put a deliberately broken one in its place, because a check that cannot fail proves nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// For reading; it must exist.
    Read,
    /// For writing; created when missing, contents kept.
    Write,
    /// For writing; it must not exist (`O_EXCL`).
    New,
    /// For writing; created when missing, emptied otherwise.
    Truncate,
    /// For writing at the end; it must exist.
    Append,
}

/// What `stat` says, as far as the labs look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// A regular file.
    pub is_file: bool,
    /// A directory.
    pub is_dir: bool,
    /// Bytes.
    pub size: u64,
    /// Seconds and nanoseconds of the last change of contents.
    pub mtime: (i64, i64),
    /// Seconds and nanoseconds of the last change of the inode.
    pub ctime: (i64, i64),
}

/// An open file.
pub trait Handle {
    /// Everything from the start.
    fn read_all(&mut self) -> io::Result<Vec<u8>>;
    /// Writes all of `data` at the handle's place (which is the end for [`How::Append`]).
    fn write(&mut self, data: &[u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    /// `fsync`.
    fn sync(&mut self) -> io::Result<()>;
    /// Closes, and says what `close` said: a file system may report a loss there.
    fn close(self: Box<Self>) -> io::Result<()>;
}

/// The calls on paths.
pub trait Files: Send + Sync {
    /// Opens `path`.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Handle>>;
    /// The names in `dir` as `readdir` gives them, repetitions included, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// `stat` (without following a link).
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Makes a directory.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Removes a name of a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn Handle>> {
        let mut options = OpenOptions::new();
        match how {
            How::Read => options.read(true),
            How::Write => options.write(true).create(true).truncate(false),
            How::New => options.write(true).create_new(true),
            How::Truncate => options.write(true).create(true).truncate(true),
            How::Append => options.append(true),
        };
        Ok(Box::new(OpenFile(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let found = fs::symlink_metadata(path)?;
        Ok(Stat {
            is_file: found.is_file(),
            is_dir: found.is_dir(),
            size: found.len(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
        })
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

struct OpenFile(File);

impl Handle for OpenFile {
    fn read_all(&mut self) -> io::Result<Vec<u8>> {
        self.0.seek(SeekFrom::Start(0))?;
        let mut all = Vec::new();
        self.0.read_to_end(&mut all)?;
        Ok(all)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.0.write_all(data)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        let descriptor = self.0.into_raw_fd();
        // SAFETY: `into_raw_fd` made us the only owner of the descriptor, and it is closed nowhere else.
        match unsafe { libc::close(descriptor) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
