//! How many requests of each kind the kernel sent, and how many of them had to wait.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! kinds {
    ($($kind:ident $name:literal),* $(,)?) => {
        /// The requests of the kernel that this file system answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // named as in linux/fuse.h
        pub enum Kind { $($kind),* }

        impl Kind {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// The name in logs.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }
    };
}

kinds! {
    Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr", Readlink "readlink", Mknod "mknod",
    Mkdir "mkdir", Unlink "unlink", Rmdir "rmdir", Symlink "symlink", Rename "rename", Link "link", Open "open",
    Read "read", Write "write", Flush "flush", Release "release", Fsync "fsync", Opendir "opendir",
    Readdir "readdir", Readdirplus "readdirplus", Releasedir "releasedir", Fsyncdir "fsyncdir", Statfs "statfs",
    Create "create",
}

/// The counters of one mount.
#[derive(Debug)]
pub struct Counters {
    requests: Vec<AtomicU64>,
    waited: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            requests: Kind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            waited: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// A request arrived.
    pub fn count(&self, kind: Kind) {
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request could not be answered at once.
    pub fn count_waited(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests of one kind so far.
    pub fn requests(&self, kind: Kind) -> u64 {
        self.requests[kind as usize].load(Ordering::Relaxed)
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            match self.requests(*kind) {
                0 => {}
                n => write!(f, "{} {n}, ", kind.name())?,
            }
        }
        write!(f, "of which {} waited", self.waited.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_by_kind() {
        let counters = Counters::default();
        counters.count(Kind::Lookup);
        counters.count(Kind::Create);
        counters.count(Kind::Create);
        counters.count_waited();
        assert_eq!(counters.to_string(), "lookup 1, create 2, of which 1 waited");
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| *kind as usize == i));
    }
}
