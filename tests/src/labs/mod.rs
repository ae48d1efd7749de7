//! The file-system tests of the YFS labs, checking what the originals checked (and what their known weaknesses let
//! through), against any directory, or any two mounts of the same one.
//!
//! Two mounts may be the same directory twice. Nothing here waits for a change to become visible on the other mount:
//! it must be there at once. The only sleeps are the labs' own, before a time stamp must have moved.

pub mod files;
mod lab2;
mod lab3;
mod lab4a;
mod lab4b;
mod lab4c;
pub mod workers;

#[cfg(test)]
mod broken;
#[cfg(test)]
mod tests;

use crate::rng::Rng;
use files::{Files, How};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use workers::Workers;

/// Why a lab test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The file system did something it must not.
    #[error("{0}")]
    Violated(String),
    /// The file system refused something it must do.
    #[error("{doing} {path}: {source}")]
    Refused {
        /// The call.
        doing: &'static str,
        /// Its path.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The test itself could not go on.
    #[error("{0}")]
    Worker(String),
    /// The test's own output could not be written.
    #[error("cannot write the test's output: {0}")]
    Output(#[from] io::Error),
}

/// What a lab check returns.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Turns an I/O error of `doing` at `path` into a [`LabError`].
fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LabError + 'a {
    move |source| LabError::Refused { doing, path: path.to_owned(), source }
}

/// A violation, in words.
fn violated<T>(what: impl Into<String>) -> Result<T> {
    Err(LabError::Violated(what.into()))
}

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Create, look up, list.
    Lab2,
    /// Read and write, on two mounts.
    Lab3,
    /// Directories, removal, time stamps.
    Lab4a,
    /// Two mounts at the same time.
    Lab4b,
    /// Two mounts, each in its own directory.
    Lab4c,
}

impl Name {
    /// All of them, in the order of the labs.
    pub const ALL: [Name; 5] = [Name::Lab2, Name::Lab3, Name::Lab4a, Name::Lab4b, Name::Lab4c];

    /// As written on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Lab2 => "lab2",
            Name::Lab3 => "lab3",
            Name::Lab4a => "lab4a",
            Name::Lab4b => "lab4b",
            Name::Lab4c => "lab4c",
        }
    }

    /// How many directories it wants: 1, or 2 mounts.
    pub fn mounts(self) -> usize {
        match self {
            Name::Lab2 | Name::Lab4a => 1,
            Name::Lab3 | Name::Lab4b | Name::Lab4c => 2,
        }
    }
}

/// One run of lab tests.
pub struct Lab<'a> {
    /// The directory's calls.
    pub files: &'a dyn Files,
    /// Makes the choices.
    pub rng: Rng,
    /// Where the labs' lines go.
    pub out: &'a mut dyn Write,
    /// In every name this run makes, so that runs do not meet (the labs use their process id alone).
    pub tag: String,
    /// The labs' sleep before a time stamp must have changed.
    pub settle: Duration,
    /// How two things happen at once.
    pub workers: Workers,
}

impl<'a> Lab<'a> {
    /// A run on the operating system's files as the labs do it: `program` is run again for the second process.
    pub fn new(files: &'a dyn Files, seed: u64, out: &'a mut dyn Write, program: PathBuf) -> Lab<'a> {
        // Not seeded: a run repeated with its seed, or under a process id used before, finds its old files there.
        let tag = format!("{}{}", std::process::id(), Rng::new(Rng::fresh_seed()).letters(4));
        let settle = Duration::from_secs(2);
        Lab { files, rng: Rng::new(seed), out, tag, settle, workers: Workers::Processes(program) }
    }

    /// Runs the test `name`; one-mount tests use `dir1`.
    pub fn run(&mut self, name: Name, dir1: &Path, dir2: &Path) -> Result<()> {
        match name {
            Name::Lab2 => lab2::run(self, dir1),
            Name::Lab3 => lab3::run(self, dir1, dir2),
            Name::Lab4a => lab4a::run(self, dir1),
            Name::Lab4b => lab4b::run(self, dir1, dir2),
            Name::Lab4c => lab4c::run(self, dir1, dir2),
        }
    }

    /// Prints `line`, does `check`, prints `OK`.
    fn step<T>(&mut self, line: &str, check: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        write!(self.out, "{line} ")?;
        self.out.flush()?;
        let found = check(self)?;
        writeln!(self.out, "OK")?;
        Ok(found)
    }

    /// Prints a line of its own.
    fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    fn mkdir(&self, path: &Path) -> Result<()> {
        self.files.mkdir(path).map_err(at("mkdir", path))
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.files.unlink(path).map_err(at("unlink", path))
    }

    /// Opens, writes `content` in one go, closes.
    fn write(&self, path: &Path, how: How, content: &[u8]) -> Result<()> {
        let mut file = self.files.open(path, how).map_err(at("open", path))?;
        file.write(content).map_err(at("write", path))?;
        file.close().map_err(at("close", path))
    }

    /// Opens, writes `content` at `offset`, closes.
    fn write_at(&self, path: &Path, content: &[u8], offset: u64) -> Result<()> {
        let mut file = self.files.open(path, How::Write).map_err(at("open", path))?;
        file.write_at(content, offset).map_err(at("write", path))?;
        file.close().map_err(at("close", path))
    }

    /// The file must be a regular file and hold exactly `want`, and `stat` must agree about its size.
    fn expect_content(&self, path: &Path, want: &[u8]) -> Result<()> {
        let mut file = self.files.open(path, How::Read).map_err(at("open", path))?;
        let got = file.read_all().map_err(at("read", path))?;
        file.close().map_err(at("close", path))?;
        if got != want {
            return violated(format!("{}: {}", path.display(), difference(&got, want)));
        }
        let stat = self.files.stat(path).map_err(at("stat", path))?;
        if !stat.is_file {
            return violated(format!("{}: not a regular file", path.display()));
        }
        if stat.size != want.len() as u64 {
            let (size, len) = (stat.size, want.len());
            return violated(format!("{}: stat says {size} bytes, but {len} were read", path.display()));
        }
        Ok(())
    }

    /// The name must not exist: not for `open`, not for `stat`.
    fn expect_absent(&self, path: &Path) -> Result<()> {
        match self.files.open(path, How::Read) {
            Ok(_) => violated(format!("{}: could be opened, but does not exist", path.display())),
            Err(e) => self.expect_not_found("open", path, e),
        }?;
        match self.files.stat(path) {
            Ok(_) => violated(format!("{}: stat found it, but it does not exist", path.display())),
            Err(e) => self.expect_not_found("stat", path, e),
        }
    }

    /// `error` must be "no such file": any other would hide a failure.
    fn expect_not_found(&self, doing: &'static str, path: &Path, error: io::Error) -> Result<()> {
        if error.kind() == io::ErrorKind::NotFound {
            return Ok(());
        }
        violated(format!("{doing} {}: failed with \"{error}\" instead of \"no such file\"", path.display()))
    }

    /// Lists `dir`; no name may be there twice.
    fn list(&self, dir: &Path) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for name in self.files.list(dir).map_err(at("list", dir))? {
            if !found.insert(name.clone()) {
                return violated(format!("{}: lists {name} twice", dir.display()));
            }
        }
        Ok(found)
    }

    /// `dir` must list every name of `want` once and nothing else.
    fn expect_list(&self, dir: &Path, want: impl IntoIterator<Item = String>) -> Result<()> {
        let want: BTreeSet<String> = want.into_iter().collect();
        let found = self.list(dir)?;
        if let Some(missing) = want.difference(&found).next() {
            return violated(format!("{}: {missing} is not listed", dir.display()));
        }
        match found.difference(&want).next() {
            Some(extra) => violated(format!("{}: lists {extra}, which does not exist", dir.display())),
            None => Ok(()),
        }
    }
}

/// Where two contents differ, in a line.
fn difference(got: &[u8], want: &[u8]) -> String {
    let place = got.iter().zip(want).position(|(a, b)| a != b);
    match place {
        Some(i) => format!(
            "wrong byte {:#04x} instead of {:#04x} at offset {i} (has {} bytes, should have {})",
            got[i],
            want[i],
            got.len(),
            want.len()
        ),
        None => format!("has {} bytes, should have {}", got.len(), want.len()),
    }
}
