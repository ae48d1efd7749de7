//! Whether what stands in the store agrees with itself.
//!
//! Every commit takes the store from one consistent state to the next, so a picture of it at any one moment (a snapshot)
//! must be without error, whatever clients are doing: what they have not flushed is not in it. What is normal but not
//! for ever, such as unlinked files that somebody has open, is reported as information.
//!
//! * [`check`]: the picture in, a [`Report`] out; pure. [`Object`] is what the extent server knows of a file's bulk data.
//! * [`Image`]: the same in steps, and the [`Plan`] of a repair.
//! * [`program`]: `yfs fsck`, at a running cluster or in a directory.
//! * [`finding`]: everything that can be wrong, with what `--repair` does about it.

mod check;
pub mod finding;
pub mod outcome;
pub mod program;
mod read;
pub mod repair;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::core::{Ino, Time};

pub use finding::{Finding, Problem, Severity};
pub use repair::Plan;
pub use report::{Report, Totals};

/// Bulk data of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// The inode, which is the object's id.
    pub ino: Ino,
    /// How many blocks of 64 KiB exist; the others are holes.
    pub blocks: u64,
    /// One past the last block that exists.
    pub end: u64,
}

/// What is known besides the store. What is not known is not checked.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The sessions that live.
    pub alive: Option<BTreeSet<u64>>,
    /// No inode number from here on was given out when the picture was taken.
    pub allocated_below: Option<Ino>,
}

/// Checks a picture of the store: all its keys and values, ascending by key, and its bulk objects. Memory goes with the
/// number of inodes and names.
pub fn check(
    pairs: impl IntoIterator<Item = (Bytes, Bytes)>,
    objects: impl IntoIterator<Item = Object>,
    known: &Known,
) -> Report {
    let mut reader = Reader::default();
    pairs.into_iter().for_each(|(key, value)| reader.pair(&key, &value));
    objects.into_iter().for_each(|object| reader.object(object));
    reader.finish().check(known)
}

/// Takes in a picture of the store piece by piece: keys in ascending order, objects in any.
#[derive(Default)]
pub struct Reader(read::Store);

impl Reader {
    /// A key and its value; an empty value for one that is damaged.
    pub fn pair(&mut self, key: &Bytes, value: &Bytes) {
        self.0.take(key, value);
    }

    /// A bulk object.
    pub fn object(&mut self, object: Object) {
        self.0.take_object(object);
    }

    /// That was all.
    pub fn finish(mut self) -> Image {
        self.0.finish();
        let shape = tree::Shape::of(&self.0);
        Image { store: self.0, shape }
    }
}

/// A picture of the store, ready to be judged.
pub struct Image {
    store: read::Store,
    shape: tree::Shape,
}

impl Image {
    /// What is wrong with it.
    pub fn check(&self, known: &Known) -> Report {
        check::run(&self.store, &self.shape, known)
    }

    /// A path of an inode, if it is below the root.
    fn path_of(&self, ino: Ino) -> Option<String> {
        self.shape.path_of(&self.store, ino)
    }

    /// What has to change so that [`Image::check`] finds no error, but for those that say that no repair helps.
    pub fn plan(&self, now: Time) -> Plan {
        repair::plan(&self.store, &self.shape, now)
    }
}
