//! Disks that fail.

use super::harness::{BLOCK, Rig, put};
use crate::error::StoreError;
use crate::store::Store;
use std::io::ErrorKind;

fn is_failed(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Failed { .. }))
}

/// After a failed sync nobody knows what is on the disk, so nothing more is taken; opening anew tells.
#[test]
fn a_failed_sync_stops_the_store_for_good() {
    // Points of the commit: before and after the data's sync, before and after the log's.
    for at in 0..4 {
        let mut rig = Rig::new();
        rig.commit(1, vec![put("k", "old")], &[]).unwrap();
        rig.write(1, 5, 0, &vec![1; BLOCK]).unwrap();
        let boot = rig.store().boot();
        rig.camera.fail_after(at, ErrorKind::Other);
        assert!(is_failed(rig.commit(1, vec![put("k", "new")], &[5])), "point {at}");
        rig.camera.heal();
        assert!(is_failed(rig.commit(1, vec![put("k", "newer")], &[])));
        assert!(is_failed(rig.write(1, 5, 0, b"x")));
        assert!(is_failed(rig.fence(2)), "a fence that may not be durable must not be acknowledged");
        let reason = rig.runtime.block_on(rig.store().failed());
        assert_eq!(rig.store().status().failed, Some(reason));
        rig.reopen();
        let (value, data) = (rig.get("k").unwrap(), rig.read(5, 0, 1).unwrap()[0]);
        assert!(
            (value == "old" && data == 0) || (value == "new" && data == 1),
            "all or nothing at point {at}"
        );
        assert_eq!(rig.commit_to(1, vec![], vec![(5, boot)]), Err(StoreError::Restarted));
        rig.commit(1, vec![put("k", "on we go")], &[]).unwrap();
    }
}

#[test]
fn a_full_disk_under_bulk_data_harms_only_that_write() {
    let rig = Rig::new();
    rig.write(1, 5, 0, &vec![1; 2 * BLOCK]).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.camera.fail_after(2, ErrorKind::StorageFull);
    assert_eq!(rig.write(1, 5, 0, &vec![2; BLOCK]), Err(StoreError::NoSpace));
    rig.camera.heal();
    assert_eq!(rig.read(5, 0, 2 * BLOCK as u32).unwrap(), vec![1; 2 * BLOCK]);
    rig.write(1, 5, 0, &vec![3; BLOCK]).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    assert_eq!(rig.read(5, 0, 2 * BLOCK as u32).unwrap(), [vec![3; BLOCK], vec![1; BLOCK]].concat());
}
