//! The extent server is away for a while: what it had not acknowledged is sent again, in order, and what hangs on a fence
//! waits. Needs root and /dev/fuse.
#![allow(clippy::unwrap_used)] // how a test fails

mod lease_support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;

use lease_support::{LEASE_S, Scene, eventually, join, open, synced};

/// Files written before, while and after the server is away.
const FILES: u64 = 24;

fn name(n: u64) -> String {
    format!("f{n:02}")
}

/// Some small, some large, so that both ways to the store are used.
fn content(n: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(3) { 200_000 + n as usize } else { 100 + n as usize };
    (0..len).map(|i| (i as u64 * 31 + n * 7) as u8).collect()
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_order() {
    let mut scene = Scene::with_lease(LEASE_S);
    let mut last = None;
    for n in 0..FILES {
        match n {
            6 | 14 => scene.cluster.kill_extents(),
            10 | 18 => scene.cluster.start_extents().unwrap(),
            _ => {}
        }
        let file = open(&scene.on(0, &name(n)));
        file.write_all_at(&content(n), 0).unwrap();
        last = Some(file);
    }
    last.unwrap().sync_all().unwrap();
    // The client gets no chance to flush anything later: all that came before the file that was synced is there.
    scene.cluster.mount_process(0).kill();
    for n in 0..FILES {
        assert!(
            fs::read(scene.on(1, &name(n))).unwrap() == content(n),
            "{} is not as it was written",
            name(n)
        );
    }
}

#[test]
fn without_the_extent_server_nobody_gets_the_locks_of_a_frozen_holder() {
    let mut scene = Scene::with_lease(LEASE_S);
    let name = "f";
    synced(&scene.on(0, name), b"old");
    scene.cluster.kill_extents();
    let frozen = scene.freeze(0);
    let path = scene.on(1, name);
    let next =
        std::thread::spawn(move || fs::OpenOptions::new().append(true).open(path)?.write_all(b"+next"));
    eventually("the service has tried to fence", || {
        fs::read_to_string(scene.cluster.log("lock-1")).unwrap().contains("cannot fence the session")
    });
    assert!(!next.is_finished(), "the holder could still write");
    scene.cluster.start_extents().unwrap();
    join(next).unwrap();
    drop(frozen);
    assert_eq!(fs::read(scene.on(0, name)).unwrap(), b"old+next");
    scene.cluster.stop().unwrap();
}
