//! Small files beside the log store: the directory's lock, its FORMAT, and whole-file atomic replacement.

use super::StoreError;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const KIND: &str = "yfs-lock-replica";
const VERSION: u32 = 2;
const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";

/// Holds the directory against a second process for as long as it lives.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the directory, or says who has it: nobody waits for a directory.
    pub(super) fn take(dir: &Path) -> Result<DirLock, StoreError> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| StoreError::io(&path, source))?;
        // SAFETY: flock takes no pointers and the descriptor is open for the whole call.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(DirLock { _file: file });
        }
        let error = std::io::Error::last_os_error();
        if error.kind() == ErrorKind::WouldBlock {
            return Err(StoreError::InUse { dir: dir.to_owned() });
        }
        Err(StoreError::io(&path, error))
    }
}

/// What FORMAT says about a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// The group, once formed.
    pub(super) cluster: Option<u64>,
    /// False while the directory is being made: nothing in it was ever acted upon.
    pub(super) ready: bool,
}

impl Format {
    /// Reads FORMAT; `None` for a directory that is empty so far.
    pub(super) fn read(dir: &Path) -> Result<Option<Format>, StoreError> {
        let path = dir.join(FORMAT);
        match fs::read_to_string(&path) {
            Ok(text) => parse(dir, &text).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                refuse_filled(dir)?;
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(StoreError::damaged(dir, "its FORMAT file is not text"))
            }
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    /// Writes FORMAT, durably and whole.
    pub(super) fn write(self, dir: &Path) -> Result<(), StoreError> {
        replace_file(&dir.join(FORMAT), self.text().as_bytes())
    }

    /// The file's content.
    pub(super) fn text(self) -> String {
        let cluster = self.cluster.map_or("none".to_owned(), |id| format!("{id:016x}"));
        let state = if self.ready { "ready" } else { "creating" };
        format!("{KIND}\nversion {VERSION}\ncluster {cluster}\nstate {state}\n")
    }
}

pub(super) fn parse(dir: &Path, text: &str) -> Result<Format, StoreError> {
    let mut lines = text.lines();
    if lines.next() != Some(KIND) {
        return Err(if is_ours(dir) {
            StoreError::damaged(dir, "its FORMAT file is not one of a lock replica")
        } else {
            StoreError::Foreign { dir: dir.to_owned() }
        });
    }
    let mut field = |name: &str| {
        let line =
            lines.next().and_then(|line| line.strip_prefix(name)).and_then(|line| line.strip_prefix(' '));
        line.ok_or_else(|| StoreError::damaged(dir, format!("its FORMAT file has no {name}")))
    };
    let version = field("version")?;
    if version != VERSION.to_string() {
        return Err(StoreError::Version { dir: dir.to_owned(), found: version.to_owned() });
    }
    let cluster = match field("cluster")? {
        "none" => None,
        text => Some(
            u64::from_str_radix(text, 16)
                .map_err(|_| StoreError::damaged(dir, "its FORMAT file has a bad cluster"))?,
        ),
    };
    let ready = match field("state")? {
        "ready" => true,
        "creating" => false,
        _ => return Err(StoreError::damaged(dir, "its FORMAT file has a bad state")),
    };
    Ok(Format { cluster, ready })
}

/// A directory without FORMAT must be empty but for what taking its lock and an interrupted first write leave.
fn refuse_filled(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(|source| StoreError::io(dir, source))? {
        let name = entry.map_err(|source| StoreError::io(dir, source))?.file_name();
        if name != LOCK && name != "FORMAT.new" {
            return Err(if is_ours(dir) {
                StoreError::damaged(dir, "its FORMAT file is gone")
            } else {
                StoreError::Foreign { dir: dir.to_owned() }
            });
        }
    }
    Ok(())
}

/// Whether a directory whose FORMAT says nothing was one of ours.
fn is_ours(dir: &Path) -> bool {
    dir.join(super::watermark::FILE).is_file()
}

/// Replaces `path` as a whole: after a crash it has the old or the new content.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_dir(path.parent().expect("files lie in a directory"))
    };
    write().map_err(|source| StoreError::io(path, source))
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Format::read(dir.path()).unwrap(), None);
        for format in [
            Format { cluster: None, ready: false },
            Format { cluster: Some(0xfeed_0000_0000_0001), ready: true },
        ] {
            format.write(dir.path()).unwrap();
            assert_eq!(Format::read(dir.path()).unwrap(), Some(format));
        }
    }

    #[test]
    fn other_peoples_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
        assert!(matches!(Format::read(dir.path()), Err(StoreError::Foreign { .. })));
        fs::write(dir.path().join("FORMAT"), "extents\nversion 1\n").unwrap();
        assert!(matches!(Format::read(dir.path()), Err(StoreError::Foreign { .. })));
        fs::write(dir.path().join("FORMAT"), [0xff, 0xfe]).unwrap();
        assert!(matches!(Format::read(dir.path()), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn versions_and_torn_formats_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "yfs-lock-replica\nversion 1\n").unwrap();
        assert!(matches!(Format::read(dir.path()), Err(StoreError::Version { .. })));
        fs::write(dir.path().join("FORMAT"), "yfs-lock-replica\nversion 2\nclus").unwrap();
        assert!(matches!(Format::read(dir.path()), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(StoreError::InUse { .. })));
        drop(held);
        DirLock::take(dir.path()).unwrap();
    }
}
