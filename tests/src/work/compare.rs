//! Whether two directory trees are the same.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Compares the trees below `want` and `got`: names, kinds, modes, owners, sizes,
/// contents and link targets. Top-level names in `except` are left out. Returns the number of files compared.
pub fn compare(want: &Path, got: &Path, except: &[&str]) -> Result<usize, String> {
    let tell = |dir: &Path, e: io::Error| format!("cannot walk {}: {e}", dir.display());
    let (wanted, found) = (walk(want).map_err(|e| tell(want, e))?, walk(got).map_err(|e| tell(got, e))?);
    let left_out = |path: &Path| except.iter().any(|name| path.starts_with(name));
    if let Some(extra) = found.keys().find(|path| !wanted.contains_key(*path) && !left_out(path)) {
        return Err(format!("{} should not be there", got.join(extra).display()));
    }
    let mut files = 0;
    for (path, meta) in wanted.iter().filter(|(path, _)| !left_out(path)) {
        let place = got.join(path);
        let Some(other) = found.get(path) else { return Err(format!("{} is missing", place.display())) };
        one(&want.join(path), meta, &place, other).map_err(|what| format!("{}: {what}", place.display()))?;
        files += usize::from(meta.is_file());
    }
    Ok(files)
}

fn walk(root: &Path) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                todo.push(path.clone());
            }
            found.insert(path.strip_prefix(root).expect("it is below").to_owned(), meta);
        }
    }
    Ok(found)
}

fn one(want: &Path, wanted: &Metadata, got: &Path, found: &Metadata) -> Result<(), String> {
    if wanted.mode() != found.mode() {
        return Err(format!("mode {:o} instead of {:o}", found.mode(), wanted.mode()));
    }
    if (wanted.uid(), wanted.gid()) != (found.uid(), found.gid()) {
        return Err(format!(
            "owner {}:{} instead of {}:{}",
            found.uid(),
            found.gid(),
            wanted.uid(),
            wanted.gid()
        ));
    }
    let read = |path: &Path, e: io::Error| format!("reading {}: {e}", path.display());
    if wanted.is_symlink() {
        let targets =
            (fs::read_link(want).map_err(|e| read(want, e))?, fs::read_link(got).map_err(|e| read(got, e))?);
        return if targets.0 == targets.1 {
            Ok(())
        } else {
            Err(format!("points to {}", targets.1.display()))
        };
    }
    if !wanted.is_file() {
        return Ok(());
    }
    if wanted.len() != found.len() {
        return Err(format!("{} bytes instead of {}", found.len(), wanted.len()));
    }
    let contents = (fs::read(want).map_err(|e| read(want, e))?, fs::read(got).map_err(|e| read(got, e))?);
    match contents.0.iter().zip(&contents.1).position(|(a, b)| a != b) {
        Some(place) => Err(format!("wrong byte at offset {place}")),
        None if contents.0.len() != contents.1.len() => {
            Err(format!("{} bytes could be read", contents.1.len()))
        }
        None => Ok(()),
    }
}

/// Like [`compare`], and the files' times (in seconds) too, as `tar` restores them.
pub fn compare_with_times(want: &Path, got: &Path) -> Result<usize, String> {
    let files = compare(want, got, &[])?;
    let wanted = walk(want).map_err(|e| e.to_string())?;
    for (path, meta) in wanted.iter().filter(|(_, meta)| meta.is_file()) {
        let place = got.join(path);
        let found = fs::symlink_metadata(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        if found.mtime() != meta.mtime() {
            return Err(format!("{}: mtime {} instead of {}", place.display(), found.mtime(), meta.mtime()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "content").unwrap();
        symlink("d/f", dir.path().join("l")).unwrap();
        dir
    }

    #[test]
    fn equal_trees_are_equal_and_every_difference_is_found() {
        let (a, b) = (tree(), tree());
        assert_eq!(compare(a.path(), b.path(), &[]), Ok(1));
        let differs = |change: &dyn Fn(&Path), says: &str| {
            let other = tree();
            change(other.path());
            let error = compare(a.path(), other.path(), &["x"]).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        differs(&|d| fs::write(d.join("d/f"), "c0ntent").unwrap(), "wrong byte at offset 1");
        differs(&|d| fs::write(d.join("d/f"), "conten").unwrap(), "6 bytes instead of 7");
        differs(&|d| fs::remove_file(d.join("d/f")).unwrap(), "missing");
        differs(&|d| fs::write(d.join("d/g"), "").unwrap(), "should not be there");
        differs(&|d| fs::set_permissions(d.join("d/f"), PermissionsExt::from_mode(0o600)).unwrap(), "mode");
        differs(
            &|d| {
                fs::remove_file(d.join("l")).unwrap();
                symlink("d", d.join("l")).unwrap();
            },
            "points to",
        );
        fs::write(b.path().join("x"), "").unwrap();
        assert_eq!(compare(a.path(), b.path(), &["x"]), Ok(1));
    }

    #[test]
    fn times_are_compared_when_asked() {
        let (a, b) = (tree(), tree());
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        fs::File::open(b.path().join("d/f")).unwrap().set_modified(old).unwrap();
        assert_eq!(compare(a.path(), b.path(), &[]), Ok(1));
        assert!(compare_with_times(a.path(), b.path()).unwrap_err().contains("mtime 1000000"));
    }
}
