//! Two mounts of one file system: what one has done, the other sees at once. Needs root and /dev/fuse.

mod fuse_support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use fuse_support::{TestCluster, errno, eventually, names};

#[test]
fn names_come_and_go_on_both_at_once() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    for (here, there) in [(&a, &b), (&b, &a)] {
        fs::write(here.join("file"), "one").unwrap();
        assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "one");
        fs::rename(there.join("file"), there.join("moved")).unwrap();
        assert_eq!(errno(fs::metadata(here.join("file"))), libc::ENOENT);
        assert_eq!(fs::read_to_string(here.join("moved")).unwrap(), "one");
        fs::create_dir(here.join("dir")).unwrap();
        fs::rename(there.join("moved"), there.join("dir/deep")).unwrap();
        assert_eq!(names(here), ["dir"]);
        assert_eq!(names(&here.join("dir")), ["deep"]);
        assert_eq!(errno(fs::remove_dir(here.join("dir"))), libc::ENOTEMPTY);
        fs::remove_file(here.join("dir/deep")).unwrap();
        assert_eq!(errno(File::open(there.join("dir/deep"))), libc::ENOENT);
        fs::remove_dir(there.join("dir")).unwrap();
        assert_eq!(names(here), [] as [&str; 0]);
    }
}

#[test]
fn a_name_that_was_not_there_appears_at_once() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    for i in 0..100 {
        let name = format!("f{i}");
        assert_eq!(errno(fs::metadata(b.join(&name))), libc::ENOENT); // a negative answer to be cached, if it were
        fs::write(a.join(&name), "x").unwrap();
        assert_eq!(fs::metadata(b.join(&name)).unwrap().len(), 1);
        assert_eq!(errno(OpenOptions::new().create_new(true).write(true).open(b.join(&name))), libc::EEXIST);
    }
}

#[test]
fn size_and_times_are_never_stale() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let writer = File::create(a.join("f")).unwrap();
    let reader = File::open(b.join("f")).unwrap();
    let mut last: Option<SystemTime> = None;
    for i in 1..=200_u64 {
        writer.write_all_at(b"x", i - 1).unwrap();
        let (by_handle, by_name) = (reader.metadata().unwrap(), fs::metadata(b.join("f")).unwrap());
        assert_eq!((by_handle.len(), by_name.len()), (i, i));
        let mtime = by_handle.modified().unwrap();
        assert!(last.is_none_or(|last| mtime > last), "the modification time must grow with every change");
        last = Some(mtime);
    }
    fs::set_permissions(b.join("f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(writer.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    writer.set_len(3).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), 3);
}

/// Readers hammer `stat` on one mount, so that answers are on their way whenever the lock is taken away; what the other
/// mount has written must be seen by every `stat` that begins afterwards.
#[test]
fn no_answer_survives_the_loss_of_its_lock() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let writer = File::create(a.join("f")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let file = File::open(b.join("f")).unwrap();
                while !done.load(Ordering::Relaxed) {
                    file.metadata().unwrap();
                    fs::metadata(b.join("f")).unwrap();
                }
            });
        }
        let reader = File::open(b.join("f")).unwrap();
        for i in 1..=300_u64 {
            writer.write_all_at(b"x", i - 1).unwrap();
            let seen = reader.metadata().unwrap().len();
            if seen != i {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(seen, i, "a stale size");
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// As above, for inodes the kernel learns of by the very answer that is outdated.
#[test]
fn no_first_answer_survives_the_loss_of_its_lock() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    for i in 0..100_u64 {
        let name = format!("f{i}");
        fs::write(a.join(&name), "1").unwrap();
        std::thread::scope(|scope| {
            let lookers: Vec<_> =
                (0..2).map(|_| scope.spawn(|| fs::metadata(b.join(&name)).unwrap().len())).collect();
            let writer = OpenOptions::new().write(true).open(a.join(&name)).unwrap();
            writer.write_all_at(b"22", 0).unwrap();
            for looker in lookers {
                assert!(matches!(looker.join().unwrap(), 1 | 2));
            }
        });
        assert_eq!(fs::metadata(b.join(&name)).unwrap().len(), 2);
        fs::remove_file(b.join(&name)).unwrap();
    }
}

#[test]
fn cached_pages_are_never_stale() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("f"), vec![0_u8; 100_000]).unwrap();
    let reader = File::open(b.join("f")).unwrap();
    let writer = OpenOptions::new().write(true).open(a.join("f")).unwrap();
    let mut buffer = vec![0; 100_000];
    for i in 1..=50_u8 {
        reader.read_exact_at(&mut buffer, 0).unwrap(); // now in the page cache of this mount
        writer.write_all_at(&vec![i; 100_000], 0).unwrap(); // the same size
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(buffer.iter().all(|byte| *byte == i), "stale data in round {i}");
    }
}

/// A change of the attributes tells the kernel a modification time, and must not make it believe that it has the pages
/// that belong to it.
#[test]
fn changing_attributes_does_not_hide_a_change_of_the_data() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("f"), [0_u8; 5000]).unwrap();
    let reader = File::open(b.join("f")).unwrap();
    let writer = OpenOptions::new().write(true).open(a.join("f")).unwrap();
    let mut buffer = [0; 5000];
    for i in 1..=20_u8 {
        reader.read_exact_at(&mut buffer, 0).unwrap();
        writer.write_all_at(&[i; 5000], 0).unwrap();
        reader.set_permissions(fs::Permissions::from_mode(0o600 + u32::from(i % 8))).unwrap();
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(buffer.iter().all(|byte| *byte == i), "stale data in round {i}");
        reader.read_exact_at(&mut buffer, 0).unwrap();
        writer.write_all_at(&[i + 100; 5000], 0).unwrap();
        fs::hard_link(b.join("f"), b.join(format!("link{i}"))).unwrap();
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(buffer.iter().all(|byte| *byte == i + 100), "stale data after link in round {i}");
    }
}

/// The kernel takes a file for unchanged while its size and modification time are. Who rewrites it and sets the time
/// back, as archivers do, must not leave the others with the old contents.
#[test]
fn setting_the_time_back_does_not_hide_a_change_of_the_data() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("f"), [0_u8; 5000]).unwrap();
    let reader = File::open(b.join("f")).unwrap();
    let writer = OpenOptions::new().write(true).open(a.join("f")).unwrap();
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let mut buffer = [0; 5000];
    for i in 1..=20_u8 {
        writer.write_all_at(&[i; 5000], 0).unwrap();
        writer.set_modified(time).unwrap();
        assert_eq!(reader.metadata().unwrap().modified().unwrap(), time);
        if i % 2 == 0 {
            assert_eq!(fs::metadata(b.join("f")).unwrap().modified().unwrap(), time);
        }
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert!(buffer.iter().all(|byte| *byte == i), "stale data in round {i}");
    }
}

#[test]
fn appending_from_both_loses_nothing() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let open =
        |dir: &std::path::Path| OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let (mut on_a, mut on_b) = (open(&a), open(&b));
    for i in 0..100 {
        writeln!(on_a, "a{i:03}").unwrap();
        writeln!(on_b, "b{i:03}").unwrap();
    }
    let expected: String = (0..100).map(|i| format!("a{i:03}\nb{i:03}\n")).collect();
    assert_eq!(fs::read_to_string(a.join("log")).unwrap(), expected);
    assert_eq!(fs::read_to_string(b.join("log")).unwrap(), expected);

    // At the same time, the order is open, but no line is lost or torn.
    std::thread::scope(|scope| {
        for (tag, file) in [('A', &mut on_a), ('B', &mut on_b)] {
            scope.spawn(move || {
                // Each line with one write, which is what makes it whole.
                (0..100).for_each(|i| file.write_all(format!("{tag}{i:03}\n").as_bytes()).unwrap());
            });
        }
    });
    let text = fs::read_to_string(a.join("log")).unwrap();
    let mut lines: Vec<&str> = text.lines().skip(200).collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..100).flat_map(|i| [format!("A{i:03}"), format!("B{i:03}")]).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn an_unlinked_file_stays_with_who_has_it_open() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("f"), "still here").unwrap();
    let mut open = OpenOptions::new().read(true).write(true).open(a.join("f")).unwrap();
    fs::remove_file(b.join("f")).unwrap();
    assert_eq!(names(&a), [] as [&str; 0]);
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    open.write_all(b", and growing").unwrap();
    open.seek(SeekFrom::Start(0)).unwrap();
    text.clear();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here, and growing");
    fs::write(b.join("f"), "another").unwrap(); // the name is free
    assert_eq!(fs::read_to_string(a.join("f")).unwrap(), "another");
}

#[test]
fn a_directory_of_five_thousand() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let expected: Vec<String> = (0..5000).map(|i| format!("a rather long name, number {i:05}")).collect();
    fs::create_dir(a.join("d")).unwrap();
    for name in &expected {
        File::create(a.join("d").join(name)).unwrap();
    }
    assert_eq!(names(&b.join("d")), expected);
    let mut inodes: Vec<u64> =
        fs::read_dir(b.join("d")).unwrap().map(|e| e.unwrap().metadata().unwrap().ino()).collect();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), 5000);
    for name in expected.iter().step_by(2) {
        fs::remove_file(b.join("d").join(name)).unwrap();
    }
    let rest: Vec<&String> = expected.iter().skip(1).step_by(2).collect();
    assert_eq!(names(&a.join("d")).iter().collect::<Vec<_>>(), rest);
}

#[test]
fn a_big_file_arrives_whole() {
    const MIB: usize = 1 << 20;
    const SIZE: usize = 64 * MIB;
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let block =
        |i: usize| -> Vec<u8> { (0..MIB).map(|j| ((i * 31 + j * 7 + j / 4096) % 251) as u8).collect() };
    let mut file = File::create(a.join("big")).unwrap();
    for i in 0..SIZE / MIB {
        file.write_all(&block(i)).unwrap();
    }
    let mut reader = File::open(b.join("big")).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), SIZE as u64);
    let mut buffer = vec![0; MIB];
    for i in 0..SIZE / MIB {
        reader.read_exact(&mut buffer).unwrap();
        assert!(buffer == block(i), "MiB {i} differs");
    }
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    // Holes, across both.
    file.set_len(100).unwrap();
    file.write_all_at(b"end", 3 * MIB as u64).unwrap();
    let text = fs::read(b.join("big")).unwrap();
    assert_eq!(text.len(), 3 * MIB + 3);
    assert_eq!(text[..100], block(0)[..100]);
    assert!(text[100..3 * MIB].iter().all(|byte| *byte == 0));
}

#[test]
fn links_are_counted_and_followed() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("f"), "x").unwrap();
    fs::hard_link(a.join("f"), a.join("g")).unwrap();
    let (f, g) = (fs::metadata(b.join("f")).unwrap(), fs::metadata(b.join("g")).unwrap());
    assert_eq!((f.ino(), f.nlink()), (g.ino(), 2));
    fs::remove_file(b.join("f")).unwrap();
    assert_eq!(fs::metadata(a.join("g")).unwrap().nlink(), 1);

    symlink("g", a.join("s")).unwrap();
    assert_eq!(fs::read_link(b.join("s")).unwrap().to_str(), Some("g"));
    assert_eq!(fs::read_to_string(b.join("s")).unwrap(), "x");
    assert_eq!(fs::symlink_metadata(b.join("s")).unwrap().len(), 1);
    fs::remove_file(b.join("s")).unwrap();
    symlink("nowhere", b.join("s")).unwrap();
    assert_eq!(fs::read_link(a.join("s")).unwrap().to_str(), Some("nowhere"));
    assert_eq!(errno(fs::metadata(a.join("s"))), libc::ENOENT);

    let links = |dir: &std::path::Path| fs::metadata(dir).unwrap().nlink();
    let before = links(&a);
    fs::create_dir(b.join("d")).unwrap();
    assert_eq!((links(&a), links(&a.join("d"))), (before + 1, 2));
    fs::remove_dir(a.join("d")).unwrap();
    assert_eq!(links(&b), before);
}

#[test]
fn renaming_over_something() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("new"), "new").unwrap();
    fs::write(a.join("old"), "old").unwrap();
    let held = File::open(b.join("old")).unwrap();
    fs::rename(a.join("new"), a.join("old")).unwrap();
    assert_eq!(names(&b), ["old"]);
    assert_eq!(fs::read_to_string(b.join("old")).unwrap(), "new");
    let mut text = [0; 3];
    held.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"old");

    fs::create_dir_all(a.join("d/e")).unwrap();
    assert_eq!(errno(fs::rename(b.join("old"), b.join("d"))), libc::EISDIR);
    assert_eq!(errno(fs::rename(b.join("d"), b.join("old"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(b.join("d"), b.join("d/e/f"))), libc::EINVAL);
    fs::create_dir(b.join("empty")).unwrap();
    assert_eq!(errno(fs::rename(b.join("empty"), b.join("d"))), libc::ENOTEMPTY);
    fs::rename(b.join("d"), b.join("empty")).unwrap();
    assert_eq!(names(&a.join("empty")), ["e"]);
}

#[test]
fn permissions_and_owners_are_kept_and_checked() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let file = OpenOptions::new().create_new(true).write(true).mode(0o604).open(a.join("f")).unwrap();
    std::os::unix::fs::fchown(&file, Some(1234), Some(5678)).unwrap();
    let seen = fs::metadata(b.join("f")).unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.uid(), seen.gid()), (0o604, 1234, 5678));
    let as_nobody = |dir: &std::path::Path| {
        let mut cat = std::process::Command::new("cat");
        cat.arg(dir.join("f")).current_dir("/").uid(65534).gid(65534);
        cat.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap()
    };
    // The temporary directory itself must let others through.
    fs::set_permissions(a.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(as_nobody(&b).success());
    fs::set_permissions(a.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!as_nobody(&b).success(), "the kernel of the other mount must see the new permissions");
}

#[test]
fn special_files_and_space() {
    let (_cluster, a, b) = TestCluster::with_two_mounts();
    let made = std::process::Command::new("mkfifo").arg(a.join("pipe")).status().unwrap();
    assert!(made.success());
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(b.join("pipe")).unwrap().file_type()));
    let df = std::process::Command::new("df").arg("--output=fstype,avail").arg(&b).output().unwrap();
    let text = String::from_utf8(df.stdout).unwrap();
    let fields: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(fields[0], "fuse.yfs");
    assert!(fields[1].parse::<u64>().unwrap() > 0);
}

#[test]
fn attributes_are_cached_while_nobody_else_writes() {
    let cluster = TestCluster::up(1);
    let b = cluster.path("b");
    fs::create_dir(&b).unwrap();
    let log = cluster.text("b.log");
    let mount = ["mount", &cluster.text("b"), "--data", &cluster.text("data"), "--log", &log];
    assert!(fuse_support::yfs().env("YFS_LOG", "debug").args(mount).status().unwrap().success());
    let file = File::create(b.join("f")).unwrap();
    for _ in 0..1000 {
        file.metadata().unwrap();
    }
    drop(file);
    fuse_support::succeed(["umount", &cluster.text("b")]);
    let text = fs::read_to_string(&log).unwrap();
    let served = text.lines().find(|line| line.contains("requests served")).expect("the counters are logged");
    let getattrs = served
        .split("getattr ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .map_or(0, |n| n.parse().unwrap());
    assert!(getattrs < 100, "{served}");
}

#[test]
fn data_is_there_after_both_mounts_are_gone() {
    let (cluster, a, b) = TestCluster::with_two_mounts();
    fs::write(a.join("from a"), "a").unwrap();
    fs::write(b.join("from b"), "b").unwrap();
    for name in ["a", "b"] {
        let process = cluster.mount_process(name);
        fuse_support::succeed(["umount", &cluster.text(name)]);
        eventually("the mount's process ends", || !process.is_alive());
    }
    let c = cluster.mount("c");
    assert_eq!(names(&c), ["from a", "from b"]);
    assert_eq!(fs::read_to_string(c.join("from b")).unwrap(), "b");
}
