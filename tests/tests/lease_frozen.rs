//! A client that is frozen past its lease, with real processes and mounts: others go on, nothing it had not flushed lands
//! afterwards, its programs are told, and its kernel serves nothing stale. Needs root and /dev/fuse.
#![allow(clippy::unwrap_used)] // how a test fails

mod lease_support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

use lease_support::{Frozen, LEASE_S, Scene, close, errno, eventually, join, open, read, synced};

/// Larger than what is stored with the attributes, so that its data goes another way to the store.
const LARGE: usize = 300_000;

/// Freezes the first mount while changes of it are not flushed, which its background flush might spoil on a slow machine:
/// then again. `change` gets the name of a file that is synced on both sides. Returns the scene when the changes are lost
/// for sure, that is, the other mount has the lock and does not see them.
fn frozen_with_changes(scene: &mut Scene, change: impl Fn(&Scene, &str)) -> (String, Frozen) {
    for round in 0..20 {
        let name = format!("round{round}");
        synced(&scene.on(0, &name), b"old");
        change(scene, &name);
        let began = Instant::now();
        let frozen = scene.freeze(0);
        let theirs = open(&scene.on(1, &name));
        let seen = read(&theirs, 3);
        println!("{name}: another mount gets on after {:?} (the lease is {LEASE_S} s)", began.elapsed());
        if seen == b"old" {
            return (name, frozen);
        }
    }
    panic!("the changes were always flushed before the process could be frozen");
}

#[test]
fn what_was_not_flushed_never_lands_and_every_open_is_told_once() {
    let mut scene = Scene::with_lease(LEASE_S);
    let opened = std::sync::Mutex::new(None);
    let (name, frozen) = frozen_with_changes(&mut scene, |scene, name| {
        let (small, large) = (scene.on(0, name), scene.on(0, &format!("{name}.large")));
        synced(&large, &[1; LARGE]);
        let files = [
            open(&small),
            open(&small),
            open(&small),
            open(&large),
            open(&scene.on(0, &format!("{name}.ghost"))),
        ];
        for file in [&files[0], &files[4]] {
            file.write_all_at(b"mine", 0).unwrap();
        }
        files[3].write_all_at(&[2; LARGE], 0).unwrap();
        // So that the kernel has it all, and its attributes.
        read(&files[0], 4);
        read(&files[3], LARGE);
        files[0].metadata().unwrap();
        *opened.lock().unwrap() = Some(files);
    });
    let [first, second, third, large, ghost] = opened.into_inner().unwrap().unwrap();

    // The next holder changes everything, while the kernel of the frozen one has it all in its caches.
    synced(&scene.on(1, &name), b"theirs");
    synced(&scene.on(1, &format!("{name}.large")), &[3; LARGE]);
    assert!(!scene.on(1, &format!("{name}.ghost")).exists(), "it never came to be");
    let reader = (first.try_clone().unwrap(), large.try_clone().unwrap());
    let reading = std::thread::spawn(move || {
        let size = reader.0.metadata().unwrap().size();
        (size, read(&reader.0, 6), read(&reader.1, LARGE))
    });
    eventually("the reader waits, or has been served by the kernel", || {
        reading.is_finished() || lease_support::any_thread_waits_for_fuse()
    });
    drop(frozen);
    let (size, small_seen, large_seen) = join(reading);
    assert_eq!((size, &small_seen[..]), (6, &b"theirs"[..]), "the kernel served what was no longer true");
    assert!(large_seen.iter().all(|byte| *byte == 3), "the kernel served pages that were no longer true");

    // Each open of then is told once, whichever way it asks; later ones hear nothing.
    assert_eq!(errno(first.sync_all()), libc::EIO);
    first.sync_all().unwrap();
    assert_eq!(errno(second.write_all_at(b"x", 0)), libc::EIO);
    assert_eq!(read(&second, 6), b"theirs", "nothing was written with the error");
    let later = open(&scene.on(0, &name));
    later.sync_all().unwrap();
    assert_eq!(errno(close(third)), libc::EIO);
    close(later).unwrap();
    assert_eq!(errno(large.sync_all()), libc::EIO);
    assert_eq!(errno(ghost.sync_all()), libc::EIO);
    assert_eq!(errno(ghost.read_at(&mut [0; 4], 0)), libc::ESTALE, "the file is gone");

    // What is open goes on working under the new session, both ways.
    second.write_all_at(b"again!", 0).unwrap();
    second.sync_all().unwrap();
    assert_eq!(fs::read(scene.on(1, &name)).unwrap(), b"again!");
    large.write_all_at(&[4; 10], 0).unwrap();
    large.sync_all().unwrap();
    let theirs = fs::read(scene.on(1, &format!("{name}.large"))).unwrap();
    assert!(theirs.len() == LARGE && theirs[..10] == [4; 10] && theirs[10..].iter().all(|byte| *byte == 3));

    let log = scene.log(0);
    let line =
        log.lines().find(|line| line.contains("unflushed changes of")).expect("the log says what was lost");
    for lost in [format!("/{name}"), format!("/{name}.large"), format!("/{name}.ghost")] {
        assert!(line.contains(&lost), "{lost} is not in: {line}");
    }
    drop((first, second, large, ghost));
    scene.cluster.stop().unwrap();
}
