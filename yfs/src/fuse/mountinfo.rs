//! What is mounted where, read from `/proc/self/mountinfo`, so that a dead or frozen mount is never touched to find out.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Minor number of the device; for a FUSE mount also the number of its connection.
    pub minor: u32,
    /// The user who mounted it, of a FUSE mount; else 0.
    pub owner: u32,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The file system's type, `fuse.yfs` for ours.
    pub kind: String,
    /// What is mounted, as the file system names it.
    pub source: String,
}

impl MountEntry {
    /// Whether it is a mount of this program.
    pub fn is_yfs(&self) -> bool {
        self.kind == "fuse.yfs" || (self.kind == "fuse" && self.source == "yfs")
    }
}

/// Everything mounted, in order; a later entry at the same place covers an earlier one.
///
/// # Errors
/// When `/proc` is not readable.
pub fn all() -> io::Result<Vec<MountEntry>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
}

/// What is mounted at exactly this path (absolute, without symbolic links), the topmost if several.
///
/// # Errors
/// When `/proc` is not readable.
pub fn at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(all()?.into_iter().rev().find(|entry| entry.mountpoint == path))
}

/// The path without symbolic links in it, found without touching its last component: that may be a mount whose server
/// is dead, and then every call on it fails or waits.
///
/// # Errors
/// When the parent directory does not exist.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            let direct = parent.canonicalize()?.join(name);
            if at(&direct)?.is_some() {
                return Ok(direct);
            }
            // Not a mountpoint under this name; perhaps a symbolic link to one.
            Ok(std::fs::read_link(&direct)
                .ok()
                .map(|target| direct.parent().unwrap_or(Path::new("/")).join(target))
                .filter(|target| target != &direct)
                .map_or(Ok(direct.clone()), |target| resolve_link(&target))?)
        }
        _ => absolute.canonicalize(), // the root, or a path ending in `..`
    }
}

/// One more level of [`resolve`] for the target of a symbolic link; longer chains are left to the kernel.
fn resolve_link(target: &Path) -> io::Result<PathBuf> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => {
            let direct = parent.canonicalize()?.join(name);
            if at(&direct)?.is_some() { Ok(direct) } else { target.canonicalize() }
        }
        _ => target.canonicalize(),
    }
}

/// `36 35 0:42 / /mnt rw,relatime shared:1 - fuse.yfs yfs rw,user_id=0`
pub(crate) fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let text = String::from_utf8_lossy(line);
    let mut fields = text.split(' ');
    let device = fields.nth(2)?;
    let (_, minor) = device.split_once(':')?;
    let raw_mountpoint = line.split(|b| *b == b' ').nth(4)?;
    let mut rest = text.split(" - ").nth(1)?.split(' ');
    let (kind, source) = (rest.next()?, rest.next()?);
    let owner = rest.next().and_then(|options| options.split(',').find_map(|o| o.strip_prefix("user_id=")));
    Some(MountEntry {
        minor: minor.parse().ok()?,
        owner: owner.and_then(|uid| uid.parse().ok()).unwrap_or(0),
        mountpoint: PathBuf::from(OsString::from_vec(unescape(raw_mountpoint))),
        kind: kind.to_owned(),
        source: source.to_owned(),
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits after a backslash.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yfs_line() {
        let line = br"82 27 0:46 / /mnt/with\040blank\134 rw,nosuid,nodev,relatime shared:7 master:1 - fuse.yfs yfs rw,user_id=1000,group_id=0";
        let entry = parse_line(line).unwrap();
        assert_eq!((entry.minor, entry.owner), (46, 1000));
        assert_eq!(entry.mountpoint, Path::new(r"/mnt/with blank\"));
        assert!(entry.is_yfs());
    }

    #[test]
    fn other_lines() {
        let entry = parse_line(b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard").unwrap();
        assert_eq!((entry.minor, entry.kind.as_str(), entry.is_yfs()), (0, "ext4", false));
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"27 1 254:0 / /"), None);
    }

    #[test]
    fn the_root_is_mounted_and_a_plain_directory_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(at(Path::new("/")).unwrap().is_some());
        assert_eq!(at(dir.path()).unwrap(), None);
    }

    #[test]
    fn symbolic_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("real", &link).unwrap();
        assert_eq!(resolve(&link).unwrap(), real);
        assert_eq!(resolve(&real).unwrap(), real);
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
        assert!(resolve(&dir.path().join("missing/deeper")).is_err());
    }
}
