//! The mark on a data directory: what it is, which version, whose it is; and the lock that keeps a second process out.
//!
//! `DATA/FORMAT` is four lines of text, `DATA/LOCK` an empty file held with `flock`. The format file is replaced
//! atomically. It says `creating` until all the rest exists, so that a creation cut short can be told from a store that
//! lost its files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What this crate's data directories are.
pub const KIND: &str = "yfs-extents";
/// The layout this version of the crate reads and writes.
pub const VERSION: u32 = 1;

const FORMAT: &str = "FORMAT";
const LOCK: &str = "LOCK";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Another process has it.
    #[error("data directory {} is in use by another process; stop that one first", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds something that is no store at all.
    #[error(
        "{} is not empty and not an extent store (no {FORMAT} file); give an empty or a new directory with --data",
        dir.display()
    )]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// It is a data directory of another program.
    #[error("{} holds \"{kind}\" data, not \"{KIND}\"; give the extent server's own directory with --data", dir.display())]
    OtherKind {
        /// The directory.
        dir: PathBuf,
        /// What it says it is.
        kind: String,
    },
    /// It was written by another version.
    #[error("{} has format version {version}, this program reads version {VERSION}; use the matching release", dir.display())]
    OtherVersion {
        /// The directory.
        dir: PathBuf,
        /// The version it says.
        version: String,
    },
    /// The format file is unreadable.
    #[error("{} is damaged ({what}); restore the data directory from a backup", dir.join(FORMAT).display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    id: String,
    _lock: File,
}

/// A data directory as found.
#[derive(Debug)]
pub enum Found {
    /// A store.
    Ready(DataDir),
    /// Nothing yet, or a creation that was cut short: create everything anew, then call [`DataDir::ready`].
    New(DataDir),
}

impl DataDir {
    /// Creates the directory if need be, takes its lock and reads its mark; `new_id` becomes the identity of a new store.
    pub fn open(dir: &Path, new_id: &str) -> Result<Found, FormatError> {
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        refuse_foreign(dir)?;
        let lock = lock(dir)?;
        let at = |id: String| DataDir { path: dir.to_path_buf(), id, _lock: lock };
        match read_mark(dir)? {
            Some(mark) if mark.ready => Ok(Found::Ready(at(mark.id))),
            Some(mark) => Ok(Found::New(at(mark.id))),
            None => {
                write_mark(dir, new_id, false)?;
                Ok(Found::New(at(new_id.to_string())))
            }
        }
    }

    /// Declares a new store complete.
    pub fn ready(&self) -> Result<(), FormatError> {
        write_mark(&self.path, &self.id, true)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity given to the store when it was created.
    pub fn id(&self) -> &str {
        &self.id
    }
}

pub(crate) struct Mark {
    id: String,
    ready: bool,
}

impl Mark {
    /// The file's content.
    pub(crate) fn text(&self) -> String {
        let state = if self.ready { "ready" } else { "creating" };
        format!("{KIND}\nversion {VERSION}\nid {}\nstate {state}\n", self.id)
    }
}

/// A directory with files but without a mark is somebody else's, and must not even get our lock file.
fn refuse_foreign(dir: &Path) -> Result<(), FormatError> {
    if dir.join(FORMAT).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name();
        if name != LOCK && name != "FORMAT.new" {
            return Err(FormatError::NotAStore { dir: dir.to_path_buf() });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, FormatError> {
    let path = dir.join(LOCK);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FormatError::InUse { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(FormatError::Io { path, source }),
    }
}

fn read_mark(dir: &Path) -> Result<Option<Mark>, FormatError> {
    let path = dir.join(FORMAT);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(&path)(e)),
    };
    parse_mark(dir, &text).map(Some)
}

pub(crate) fn parse_mark(dir: &Path, text: &str) -> Result<Mark, FormatError> {
    let damaged = |what: &str| FormatError::Damaged { dir: dir.to_path_buf(), what: what.to_string() };
    let mut lines = text.lines();
    let kind = lines.next().ok_or_else(|| damaged("it is empty"))?;
    if kind != KIND {
        let kind = kind.chars().take(40).collect();
        return Err(FormatError::OtherKind { dir: dir.to_path_buf(), kind });
    }
    let version =
        lines.next().and_then(|l| l.strip_prefix("version ")).ok_or_else(|| damaged("no version"))?;
    if version != VERSION.to_string() {
        let version = version.chars().take(40).collect();
        return Err(FormatError::OtherVersion { dir: dir.to_path_buf(), version });
    }
    let id = lines.next().and_then(|l| l.strip_prefix("id ")).ok_or_else(|| damaged("no id"))?;
    let state = lines.next().and_then(|l| l.strip_prefix("state ")).ok_or_else(|| damaged("no state"))?;
    let ready = match state {
        "ready" => true,
        "creating" => false,
        _ => return Err(damaged("an unknown state")),
    };
    Ok(Mark { id: id.to_string(), ready })
}

fn write_mark(dir: &Path, id: &str, ready: bool) -> Result<(), FormatError> {
    let text = Mark { id: id.to_string(), ready }.text();
    let new = dir.join("FORMAT.new");
    let path = dir.join(FORMAT);
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error(&path))
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> FormatError {
    move |source| FormatError::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(dir: &Path) {
        let Found::New(d) = DataDir::open(dir, "abc").unwrap() else { panic!("not new") };
        d.ready().unwrap();
    }

    #[test]
    fn a_new_directory_is_new_until_it_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open(dir.path(), "one").unwrap(), Found::New(_)));
        let Found::New(d) = DataDir::open(dir.path(), "two").unwrap() else { panic!("not new") };
        assert_eq!(d.id(), "one", "the identity is decided once");
        d.ready().unwrap();
        drop(d);
        assert!(matches!(DataDir::open(dir.path(), "three").unwrap(), Found::Ready(d) if d.id() == "one"));
    }

    #[test]
    fn a_second_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), "x").unwrap();
        assert!(matches!(DataDir::open(dir.path(), "x"), Err(FormatError::InUse { .. })));
        drop(first);
        DataDir::open(dir.path(), "x").unwrap();
    }

    #[test]
    fn foreign_directories_are_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(DataDir::open(dir.path(), "x"), Err(FormatError::NotAStore { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_kinds_versions_and_damage_are_named() {
        let dir = tempfile::tempdir().unwrap();
        ready(dir.path());
        let set = |text: &str| fs::write(dir.path().join(FORMAT), text).unwrap();
        set("yfs-locks\nversion 1\nid a\nstate ready\n");
        assert!(matches!(DataDir::open(dir.path(), "x"), Err(FormatError::OtherKind { .. })));
        set("yfs-extents\nversion 7\nid a\nstate ready\n");
        assert!(matches!(DataDir::open(dir.path(), "x"), Err(FormatError::OtherVersion { .. })));
        for damage in ["", "yfs-extents\n", "yfs-extents\nversion 1\nid a\nstate mad\n"] {
            set(damage);
            assert!(matches!(DataDir::open(dir.path(), "x"), Err(FormatError::Damaged { .. })), "{damage:?}");
        }
    }
}
