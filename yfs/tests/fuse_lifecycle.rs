//! Mounts and clusters coming and going, in good order and otherwise. Needs root and /dev/fuse.

mod fuse_support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fuse_support::{PATIENCE, TestCluster, errno, eventually, fail, is_mounted, names, run, succeed, yfs};

#[test]
fn up_down_and_up_again_with_the_same_data() {
    let cluster = TestCluster::up(3);
    let (a, data) = (cluster.path("a"), cluster.text("data"));
    fs::write(a.join("f"), "kept").unwrap();
    let first = cluster.file();
    assert_eq!(first.locks.len(), 3);

    let status: serde_json::Value =
        serde_json::from_str(&succeed(["status", "--json", "--data", &data])).unwrap();
    assert_eq!(status["replicas"].as_array().unwrap().len(), 3);
    assert!(status["view"]["number"].is_u64());
    let master = status["view"]["master"].as_str().unwrap();
    assert!(first.locks.iter().any(|address| address == master));
    assert_eq!(status["extent_server"]["address"], first.extents.as_str());
    assert_eq!(u64::from(first.pids["extents"].pid), status["extent_server"]["pid"].as_u64().unwrap());
    assert_eq!(status["mounts"][0]["mounted"], true);
    assert!(succeed(["status", "--data", &data]).contains("master"));

    let said = succeed(["down", "--data", &data]);
    assert!(said.contains("unmounted") && said.contains("stopped lock-3"), "{said}");
    assert!(!is_mounted(&a));
    assert!(first.pids.values().all(|process| !process.is_alive()));
    assert!(succeed(["down", "--data", &data]).contains("nothing"));

    succeed(["up", &cluster.text("a"), "--data", &data]);
    let second = cluster.file();
    assert_eq!(
        (&second.locks, &second.extents, &second.cluster),
        (&first.locks, &first.extents, &first.cluster)
    );
    assert_eq!(fs::read_to_string(a.join("f")).unwrap(), "kept");
    succeed(["down", "--data", &data]);
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let cluster = TestCluster::up(1);
    let data = cluster.text("data");
    let (locks, extents) = (cluster.file().locks.join(","), cluster.file().extents);

    let error = fail(["mount", &cluster.text("a"), "--data", &data]);
    assert!(error.contains("mounted there already"), "{error}");
    let error = fail(["mount", &cluster.text("missing"), "--data", &data]);
    assert!(error.contains("does not exist"), "{error}");
    fs::write(cluster.path("file"), "x").unwrap();
    assert!(fail(["mount", &cluster.text("file"), "--data", &data]).contains("not a directory"));
    fs::create_dir_all(cluster.path("full/x")).unwrap();
    assert!(fail(["mount", &cluster.text("full"), "--data", &data]).contains("not empty"));

    fs::create_dir(cluster.path("b")).unwrap();
    let b = cluster.text("b");
    // The wrong way round: each server answers, but not as what it is taken for.
    let error = fail(["mount", &b, "--locks", &locks, "--extents", &locks]);
    assert!(error.contains("extent server") && error.contains(&locks), "{error}");
    let error = fail(["mount", &b, "--locks", &extents, "--extents", &extents]);
    assert!(error.contains("lock") && error.contains(&extents), "{error}");
    let nobody = format!("127.0.0.1:{}", yfs::cluster::ports::pick_pairs(1).unwrap()[0]);
    let error = fail(["mount", &b, "--locks", &locks, "--extents", &nobody]);
    assert!(error.contains(&nobody), "{error}");
    assert!(!is_mounted(&cluster.path("b")));
    let error = fail(["up", &b, "--data", &data, "--replicas", "3"]);
    assert!(error.contains("has 1 lock replicas"), "{error}");
}

#[test]
fn a_failed_start_leaves_nothing_running() {
    let cluster = TestCluster::up(1);
    succeed(["down", "--data", &cluster.text("data")]);
    // Somebody else sits on the extent server's port now.
    let extents = cluster.file().extents;
    let squatter = std::net::TcpListener::bind(&extents).unwrap();
    let error = fail(["up", &cluster.text("a"), "--data", &cluster.text("data")]);
    assert!(error.contains("extents did not start") && error.contains(&extents), "{error}");
    assert!(!is_mounted(&cluster.path("a")));
    assert!(cluster.file().pids.values().all(|process| !process.is_alive()));
    drop(squatter);
    succeed(["up", &cluster.text("a"), "--data", &cluster.text("data")]);
    succeed(["down", "--data", &cluster.text("data")]);
}

#[test]
fn the_store_of_another_cluster_is_refused() {
    let (one, other) = (TestCluster::up(1), TestCluster::up(1));
    for cluster in [&one, &other] {
        succeed(["down", "--data", &cluster.text("data")]);
    }
    fs::rename(one.path("data/extents"), one.path("data/extents.mine")).unwrap();
    fs::rename(other.path("data/extents"), one.path("data/extents")).unwrap();
    let error = fail(["up", &one.text("a"), "--data", &one.text("data")]);
    assert!(error.contains("not this cluster's store"), "{error}");
    assert!(one.file().pids.values().all(|process| !process.is_alive()));
    fs::rename(one.path("data/extents"), other.path("data/extents")).unwrap();
    fs::rename(one.path("data/extents.mine"), one.path("data/extents")).unwrap();
    succeed(["up", &one.text("a"), "--data", &one.text("data")]);
    succeed(["down", "--data", &one.text("data")]);
}

#[test]
fn a_killed_client_leaves_a_mount_that_can_be_taken_away() {
    let cluster = TestCluster::up(1);
    for (name, force) in [("b", true), ("c", false)] {
        let path = cluster.mount(name);
        let mut file = File::create(path.join(name)).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        let process = cluster.mount_process(name);
        assert!(process.signal(libc::SIGKILL));
        assert!(process.wait_gone(PATIENCE));
        // A request that the kernel had taken up before the last descriptor went is answered with the other of the two.
        let error = errno(fs::metadata(&path));
        assert!(matches!(error, libc::ENOTCONN | libc::ECONNABORTED), "{error}");
        assert!(is_mounted(&path));
        let started = Instant::now();
        let said = match force {
            true => succeed(["umount", "--force", &cluster.text(name)]),
            false => succeed(["umount", &cluster.text(name)]),
        };
        assert!(said.contains("unmounted"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(!is_mounted(&path));
    }
    // What was synced is there, once the dead clients' leases have run out.
    assert_eq!(fs::read_to_string(cluster.path("a/b")).unwrap(), "x");
    assert_eq!(fs::read_to_string(cluster.path("a/c")).unwrap(), "x");
}

#[test]
fn force_works_on_a_frozen_client_too() {
    let cluster = TestCluster::up(1);
    let b = cluster.mount("b");
    let process = cluster.mount_process("b");
    assert!(process.signal(libc::SIGSTOP));
    let path = b.join("anything");
    let stuck = std::thread::spawn(move || fs::metadata(path));
    let started = Instant::now();
    succeed(["umount", "--force", &cluster.text("b")]);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(!is_mounted(&b));
    assert!(stuck.join().unwrap().is_err(), "who waited for the frozen client gets an error");
    process.signal(libc::SIGKILL);
}

#[test]
fn a_busy_mount_goes_lazily_and_loses_nothing() {
    let cluster = TestCluster::up(1);
    let b = cluster.mount("b");
    let process = cluster.mount_process("b");
    let mut file = File::create(b.join("f")).unwrap();
    file.write_all(b"before").unwrap();
    let said = succeed(["umount", &cluster.text("b")]);
    assert!(said.contains("lazily"), "{said}");
    assert!(!is_mounted(&b));
    file.write_all(b" and after").unwrap();
    drop(file);
    eventually("the client ends with its last user", || !process.is_alive());
    assert_eq!(fs::read_to_string(cluster.path("a/f")).unwrap(), "before and after");
}

#[test]
fn a_signal_flushes_and_ends_with_success() {
    let cluster = TestCluster::up(1);
    let (b, data) = (cluster.path("b"), cluster.text("data"));
    for signal in [libc::SIGTERM, libc::SIGINT] {
        fs::create_dir_all(&b).unwrap();
        let mut child = yfs()
            .args(["mount", &cluster.text("b"), "--data", &data, "--foreground"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the foreground mount is there", || is_mounted(&b));
        let name = format!("f{signal}");
        fs::write(b.join(&name), "flushed").unwrap();
        // SAFETY: our own child, not waited for yet.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        assert!(child.wait().unwrap().success());
        assert!(!is_mounted(&b));
        assert_eq!(fs::read_to_string(cluster.path("a").join(&name)).unwrap(), "flushed");
    }
}

#[test]
fn umount_by_other_means_is_noticed() {
    let cluster = TestCluster::up(1);
    let b = cluster.mount("b");
    let process = cluster.mount_process("b");
    fs::write(b.join("f"), "flushed all the same").unwrap();
    assert!(std::process::Command::new("umount").arg(&b).status().unwrap().success());
    eventually("the client ends", || !process.is_alive());
    assert_eq!(fs::read_to_string(cluster.path("a/f")).unwrap(), "flushed all the same");
    assert!(fail(["umount", &cluster.text("b")]).contains("not mounted"));
    // The dead entry in cluster.json is in nobody's way.
    cluster.mount("b");
    succeed(["umount", &cluster.text("b")]);
    succeed(["down", "--data", &cluster.text("data")]);
}

#[test]
fn names_and_paths_of_every_kind() {
    let cluster = TestCluster::up(1);
    let odd = cluster.path("a b\\c");
    fs::create_dir(&odd).unwrap();
    let text = odd.to_str().unwrap();
    succeed(["mount", text, "--data", &cluster.text("data")]);
    assert!(is_mounted(&odd));
    let names_of_files = ["with blank", "tab\there", "new\nline", "ünïcode", "-rf", "..."];
    for name in names_of_files {
        fs::write(odd.join(name), name).unwrap();
    }
    let mut expected = names_of_files.map(str::to_owned);
    expected.sort();
    assert_eq!(names(&cluster.path("a")), expected);
    let long = "x".repeat(255);
    fs::write(odd.join(&long), "").unwrap();
    assert_eq!(errno(fs::write(odd.join("x".repeat(256)), "")), libc::ENAMETOOLONG);
    succeed(["umount", text]);
    assert!(!is_mounted(&odd));
}

#[test]
fn nothing_waits_for_ever_without_servers() {
    let cluster = TestCluster::up(1);
    let (b, log) = (cluster.path("b"), cluster.text("b.log"));
    fs::create_dir(&b).unwrap();
    succeed(["mount", &cluster.text("b"), "--data", &cluster.text("data"), "--timeout", "2", "--log", &log]);
    fs::write(b.join("f"), "x").unwrap();
    let file = OpenOptions::new().write(true).open(b.join("f")).unwrap();
    file.sync_all().unwrap();
    for (_, server) in cluster.file().pids.iter().filter(|(part, _)| !part.starts_with("mount")) {
        server.signal(libc::SIGKILL);
        server.wait_gone(PATIENCE);
    }
    let _ = file.write_all_at(b"y", 0); // cached locks may still allow this
    let started = Instant::now();
    assert_eq!(errno(file.sync_all()), libc::EIO);
    assert!(started.elapsed() < Duration::from_secs(30), "an operation must end within its timeout");
    drop(file);
    let output = run(["umount", "--force", &cluster.text("b")]);
    assert!(output.status.success());
    assert!(!is_mounted(&b));
}
