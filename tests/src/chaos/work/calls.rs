//! System calls, and what their errors mean.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};

/// What an error says about the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// There was no mount to ask: nothing was done.
    Never,
    /// It may have been done, or be done later.
    Unknown,
    /// There was no room: nothing was done, and nothing more is durable than before.
    Full,
    /// An answer of the file system: nothing was done, because of this errno.
    Answer(i32),
}

/// What an error means.
pub fn meaning(error: &io::Error) -> Meaning {
    match error.raw_os_error() {
        Some(libc::ENOTCONN) => Meaning::Never,
        Some(libc::ENOSPC) => Meaning::Full,
        Some(libc::EIO | libc::ECONNABORTED) | None => Meaning::Unknown,
        Some(errno) => Meaning::Answer(errno),
    }
}

/// `close`, with its error, which a dropped file hides.
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor is the file's own, which is given up here.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The names in a directory, by a single `getdents` call.
pub fn list_at_once(dir: &File) -> io::Result<Vec<String>> {
    let mut buffer = vec![0u64; 4096]; // aligned as the entries are
    let size = buffer.len() * 8;
    // SAFETY: the kernel writes at most `size` bytes into the buffer, which is so long.
    let got = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), size) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(got).collect();
    let mut names = Vec::new();
    let mut rest = &bytes[..];
    // linux_dirent64: inode and offset (8 bytes each), length (2), type (1), name up to a NUL.
    while rest.len() > 19 {
        let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let name = rest[19..len].split(|byte| *byte == 0).next().unwrap_or_default();
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = &rest[len..];
    }
    Ok(names.into_iter().filter(|name| name != "." && name != "..").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "bb", "a-much-longer-name.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let mut names = list_at_once(&File::open(dir.path()).unwrap()).unwrap();
        names.sort();
        assert_eq!(names, ["a", "a-much-longer-name.txt", "bb"]);
    }
}
