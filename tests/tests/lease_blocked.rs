//! Programs on a mount that waits, for a frozen client or for servers that are dead, can be killed, and the mount can be
//! taken away by force, with real processes and mounts. Needs root and /dev/fuse.
#![allow(clippy::unwrap_used)] // how a test fails

mod lease_support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lease_support::{PATIENCE, Scene, eventually, join, open, synced, waits_for_fuse};
use yfs_tests::cluster::is_mounted;
use yfs_tests::process::until;

/// Longer than any test: what waits for a lease or a timeout waits for ever.
const LONG: u64 = 3600;

/// A program that will wait for the mount.
fn spawn(command: &mut Command, stdin: Stdio, stdout: Stdio) -> Child {
    command.stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

/// `kill -9`, whereupon it must go.
fn kill(mut child: Child, what: &str) {
    child.kill().unwrap();
    assert!(until(PATIENCE, || child.try_wait().unwrap()).is_some(), "{what} is killed and stays");
}

#[test]
fn who_waits_for_a_frozen_holder_can_be_killed() {
    let mut scene = Scene::start(LONG as f64, LONG);
    fs::create_dir(scene.on(0, "theirs")).unwrap();
    synced(&scene.on(0, "theirs/read"), b"old");
    synced(&scene.on(0, "theirs/written"), b"old");
    fs::create_dir(scene.on(1, "own")).unwrap();
    let input = File::open(scene.on(1, "theirs/read")).unwrap();
    let output = open(&scene.on(1, "theirs/written"));
    // From here on the first mount alone holds all three, and the other one only has the files open.
    synced(&scene.on(0, "theirs/read"), b"new");
    synced(&scene.on(0, "theirs/written"), b"new");
    synced(&scene.on(0, "theirs/another"), b"new");
    let frozen = scene.freeze(0);

    let children = [
        ("a reader", spawn(&mut Command::new("cat"), input.into(), Stdio::null())),
        ("a writer", spawn(Command::new("echo").arg("text"), Stdio::null(), output.into())),
        ("ls", spawn(Command::new("ls").arg("-l").arg(scene.on(1, "theirs")), Stdio::null(), Stdio::null())),
        ("rm", spawn(Command::new("rm").arg(scene.on(1, "theirs/another")), Stdio::null(), Stdio::null())),
    ];
    for (what, child) in &children {
        eventually(what, || waits_for_fuse(child.id()));
    }
    for (what, child) in children {
        kill(child, what);
    }
    // The mount serves what it has the locks of.
    synced(&scene.on(1, "own/f"), b"as ever");

    // Nor does the frozen client's own mount hold on to those whose requests it had not taken up yet.
    let child = spawn(Command::new("cat").arg(scene.on(0, "theirs/read")), Stdio::null(), Stdio::null());
    eventually("it waits", || waits_for_fuse(child.id()));
    kill(child, "a program on the mount of the frozen client");
    drop(frozen);
}

fn umount_by_force(scene: &Scene, mount: usize) {
    let yfs = scene.cluster.binaries().path("yfs").unwrap();
    let path = scene.cluster.mountpoint(mount).to_owned();
    let mut child =
        Command::new(yfs).args(["umount", "--force"]).arg(&path).stdin(Stdio::null()).spawn().unwrap();
    let status = until(PATIENCE, || child.try_wait().unwrap()).expect("it must come to an end");
    assert!(status.success());
    assert!(!is_mounted(&path));
}

/// A program that has a directory of the mount as working directory and a file of it open.
fn user(path: &Path) -> Child {
    let file = open(&path.join("open"));
    spawn(Command::new("sleep").arg("3600").current_dir(path), file.into(), Stdio::null())
}

#[test]
fn force_takes_a_busy_mount_away_from_a_frozen_client() {
    let mut scene = Scene::start(LONG as f64, LONG);
    let path = scene.cluster.mountpoint(0).to_owned();
    let user = user(&path);
    let frozen = scene.freeze(0);
    let waits_for = path.join("other");
    let waiting = std::thread::spawn(move || fs::metadata(waits_for));
    eventually("it waits", lease_support::any_thread_waits_for_fuse);
    umount_by_force(&scene, 0);
    join(waiting).unwrap_err();
    kill(user, "a user of the mount");
    drop(frozen);
}

#[test]
fn force_takes_a_busy_mount_away_when_all_servers_are_dead() {
    let mut scene = Scene::start(LONG as f64, LONG);
    synced(&scene.on(1, "theirs"), b"x");
    let path = scene.cluster.mountpoint(0).to_owned();
    let user = user(&path);
    scene.cluster.kill_replica(0);
    scene.cluster.kill_extents();
    let waits_for = path.join("theirs");
    let waiting = std::thread::spawn(move || fs::metadata(waits_for));
    eventually("it waits", lease_support::any_thread_waits_for_fuse);
    umount_by_force(&scene, 0);
    join(waiting).unwrap_err();
    kill(user, "a user of the mount");
}
