//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// A directory with the programs of this workspace.
#[derive(Debug, Clone)]
pub struct Binaries(PathBuf);

/// A program is missing.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there: build the programs first (cargo build --workspace)", path.display())]
pub struct NotBuilt {
    path: PathBuf,
}

impl Binaries {
    /// Those in `dir`.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Binaries {
        Binaries(dir.into())
    }

    /// Those built along with the running program: its own directory, or the one above when it is a test, which
    /// cargo puts into `deps`. This follows `CARGO_TARGET_DIR` and profiles by itself.
    pub fn of_this_build() -> Binaries {
        let exe = std::env::current_exe().expect("Linux knows where the running program is");
        let dir = exe.parent().expect("a program is in a directory");
        let dir = if dir.ends_with("deps") { dir.parent().expect("deps is in a directory") } else { dir };
        Binaries(dir.to_owned())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The path of `program`.
    pub fn path(&self, program: &str) -> Result<PathBuf, NotBuilt> {
        let path = self.0.join(program);
        if path.is_file() { Ok(path) } else { Err(NotBuilt { path }) }
    }
}
