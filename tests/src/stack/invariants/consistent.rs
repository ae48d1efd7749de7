//! The store is consistent at every moment: it holds whole generations, in order.

use crate::stack::record::Broken;
use crate::stack::store::Disk;
use std::collections::BTreeMap;
use yfs::fsck::{Known, Object};

/// Its name.
pub const NAME: &str = "the store is consistent";

/// Has `yfs fsck` look at what would survive a crash now.
pub fn verify(disk: Disk) -> Result<(), Broken> {
    let mut objects: BTreeMap<u64, Object> = BTreeMap::new();
    for (ino, index) in disk.blocks.into_keys() {
        let object = objects.entry(ino).or_insert(Object { ino, blocks: 0, end: 0 });
        object.blocks += 1;
        object.end = index + 1;
    }
    let report = yfs::fsck::check(disk.pairs, objects.into_values(), &Known::default());
    report.into_result().map_err(|what| Broken { invariant: NAME, what })
}
