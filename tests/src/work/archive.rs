//! A source archive made of what is on the machine: the sources of the crates this workspace is built from, and the
//! system's C headers.

use super::WorkError;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The archive, and the same unpacked on a plain directory to compare with.
#[derive(Debug)]
pub struct Archive {
    /// The tar file.
    pub tar: PathBuf,
    /// What it unpacks to.
    pub reference: PathBuf,
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Archive {
    /// Makes an archive of `wanted` files in `dir`.
    pub fn make(dir: &Path, wanted: usize) -> Result<Archive, WorkError> {
        let prepare = |what: String| WorkError::Prepare(format!("making a source archive: {what}"));
        let reference = dir.join("reference");
        fs::create_dir_all(&reference).map_err(|e| prepare(e.to_string()))?;
        let mut found = Vec::new();
        for root in roots() {
            collect(&root, wanted, &mut found);
        }
        if found.len() < wanted {
            return Err(prepare(format!(
                "only {} of {wanted} source files found below {:?}",
                found.len(),
                roots()
            )));
        }
        let tar = dir.join("source.tar");
        pack(&tar, &found).map_err(|e| prepare(e.to_string()))?;
        let status = Command::new("tar").arg("xf").arg(&tar).arg("-C").arg(&reference).status();
        if !status.map_err(|e| prepare(format!("tar: {e}")))?.success() {
            return Err(prepare("tar cannot unpack it".into()));
        }
        let bytes = found.iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
        Ok(Archive { tar, reference, files: found.len(), bytes })
    }
}

fn roots() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    home.map(|home| home.join("registry/src")).into_iter().chain([PathBuf::from("/usr/include")]).collect()
}

/// Regular files below `dir`, in order of their names, until there are `wanted`.
fn collect(dir: &Path, wanted: usize, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if found.len() >= wanted {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), wanted, found),
            // git would leave out what a crate's own .gitignore names, and then the trees would differ.
            Ok(kind) if kind.is_file() && entry.file_name() != ".gitignore" => found.push(entry.path()),
            _ => {}
        }
    }
}

fn pack(tar: &Path, files: &[PathBuf]) -> std::io::Result<()> {
    let mut command = Command::new("tar");
    // Names relative to the root directory; -P would keep the slash.
    command.arg("cf").arg(tar).args(["-C", "/", "--no-recursion", "--null", "-T", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    for file in files {
        let name = file.strip_prefix("/").unwrap_or(file);
        stdin.write_all(name.as_os_str().as_encoded_bytes())?;
        stdin.write_all(b"\0")?;
    }
    drop(stdin);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("tar: {status}"))) }
}
