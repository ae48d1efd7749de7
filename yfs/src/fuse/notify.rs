//! Notifications to the kernel, written to the FUSE device by ourselves: `fuser` offers neither "expire only" nor does it
//! say whether the kernel knew the inode, and both matter here.
//!
//! Layouts are those of `linux/fuse.h`: `fuse_out_header` with `unique` 0 and the notification's code in `error`,
//! followed by the code's own structure.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

const HEADER_LEN: usize = 16;
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const EXPIRE_ONLY: u32 = 1;

/// What the kernel answered to an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had the thing cached, and holds it for invalid now.
    Done,
    /// It knows no such inode or entry (or not yet: a reply may still be on its way through the kernel).
    Absent,
}

/// Where notifications of one mount go.
#[derive(Debug)]
pub struct Notifier {
    device: File,
}

impl Notifier {
    /// Over a duplicate of the mount's FUSE device descriptor.
    pub fn new(device: OwnedFd) -> Notifier {
        Notifier { device: File::from(device) }
    }

    /// Makes the kernel fetch this inode's attributes before it uses them again. Never blocks: a negative offset leaves
    /// the pages alone, so no page lock is taken.
    ///
    /// # Errors
    /// When the mount is gone.
    pub fn expire_attributes(&self, ino: u64) -> io::Result<Outcome> {
        self.invalidate_inode(ino, -1)
    }

    /// Makes the kernel drop the inode's pages (and attributes). Waits for reads and writes of these pages that are under
    /// way, so it must not be called with a lock held that those may need, nor on a thread that serves them.
    ///
    /// # Errors
    /// When the mount is gone.
    pub fn drop_pages(&self, ino: u64) -> io::Result<Outcome> {
        self.invalidate_inode(ino, 0)
    }

    fn invalidate_inode(&self, ino: u64, offset: i64) -> io::Result<Outcome> {
        let mut message = header(INVAL_INODE, 24);
        message.extend_from_slice(&ino.to_ne_bytes());
        message.extend_from_slice(&offset.to_ne_bytes());
        message.extend_from_slice(&0_i64.to_ne_bytes()); // to the end
        self.send(&message)
    }

    /// Makes the kernel look this name up again before it uses it. The dentry stays, and so do mounts and open
    /// descriptors below it. Takes the directory's inode lock in the kernel, so it waits for an operation in flight there.
    ///
    /// # Errors
    /// When the mount is gone or the kernel does not know expiry-only invalidation (before Linux 6.2).
    pub fn expire_entry(&self, parent: u64, name: &[u8]) -> io::Result<Outcome> {
        let len = u32::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut message = header(INVAL_ENTRY, 16 + name.len() + 1);
        message.extend_from_slice(&parent.to_ne_bytes());
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&EXPIRE_ONLY.to_ne_bytes());
        message.extend_from_slice(name);
        message.push(0);
        self.send(&message)
    }

    fn send(&self, message: &[u8]) -> io::Result<Outcome> {
        match (&self.device).write(message) {
            Ok(_) => Ok(Outcome::Done), // the device takes a message whole or not at all
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Outcome::Absent),
            Err(e) => Err(e),
        }
    }
}

fn header(code: i32, body_len: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + body_len);
    let len = u32::try_from(HEADER_LEN + body_len).expect("names are at most 255 bytes");
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What a notifier writes, caught in a pipe instead of the device.
    fn caught(send: impl FnOnce(&Notifier)) -> Vec<u8> {
        let (mut read, write) = io::pipe().unwrap();
        let notifier = Notifier::new(OwnedFd::from(write));
        send(&notifier);
        drop(notifier);
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn attributes_only_has_a_negative_offset() {
        let bytes = caught(|n| assert_eq!(n.expire_attributes(0x42).unwrap(), Outcome::Done));
        let mut expected = vec![40, 0, 0, 0, 2, 0, 0, 0];
        expected.extend([0; 8]);
        expected.extend([0x42, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0xff; 8]);
        expected.extend([0; 8]);
        assert_eq!(bytes, expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn entries_are_only_expired() {
        let bytes = caught(|n| assert_eq!(n.expire_entry(1, b"abc").unwrap(), Outcome::Done));
        let mut expected = vec![36, 0, 0, 0, 3, 0, 0, 0];
        expected.extend([0; 8]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([3, 0, 0, 0, 1, 0, 0, 0]);
        expected.extend(b"abc\0");
        assert_eq!(bytes, expected);
    }
}
