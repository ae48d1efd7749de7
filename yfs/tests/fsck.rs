//! `yfs fsck` on a real cluster and on a real directory: what is damaged is found, repaired, and readable afterwards.
#![allow(clippy::unwrap_used)] // a test

mod fuse_support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use extent_server::store::Store;
use extent_server::{EmbeddedStore, ExtentClient, ExtentOptions, NO_SESSION, Op, StoreOptions};
use fuse_support::{TestCluster, run, succeed, yfs};
use yfs::cluster::file::Cluster;
use yfs::core::format;
use yfs::core::{FileKind, Ino, ROOT};

/// Exit status and what it says.
fn fsck(args: &[&str]) -> (i32, String) {
    let output = yfs().arg("fsck").args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// What `--json` says.
fn json(args: &[&str]) -> (i32, serde_json::Value) {
    let output = yfs().arg("fsck").args(args).arg("--json").output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn problems(report: &serde_json::Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|f| f["problem"].as_str().unwrap()).collect()
}

/// Removes a name and an inode behind everybody's back, and writes a wrong link count.
fn damage(unnamed: &str, gone: Ino, wrong: Ino) -> Vec<Op> {
    let entry = format::encode_entry(1 << 40, FileKind::Regular);
    vec![
        Op::Delete { key: format::entry_key(ROOT, unnamed.as_bytes()) },
        Op::DeletePrefix { prefix: format::inode_prefix(gone) },
        Op::Put { key: format::entry_key(ROOT, b"nothing"), value: entry },
        Op::Put { key: format::orphan_key(wrong), value: format::mark() },
    ]
}

fn plant(cluster: &Cluster, ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ExtentClient::connect(&cluster.extents, ExtentOptions::default()).await.unwrap();
        client.commit(NO_SESSION, ops, Vec::new()).await.unwrap();
    });
}

fn fill(root: &Path) -> (Ino, Ino) {
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::write(root.join("dir/sub/deep"), b"deep").unwrap();
    fs::write(root.join("gone"), b"gone").unwrap();
    fs::write(root.join("big"), vec![5; 300_000]).unwrap();
    fs::File::open(root).unwrap().sync_all().unwrap();
    let ino = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    (ino("gone"), ino("big"))
}

fn object_file(dir: &Path) -> PathBuf {
    let mut todo = vec![dir.join("objects")];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if fs::metadata(&path).unwrap().len() > 0 {
                return path;
            }
        }
    }
    panic!("no bulk data in {}", dir.display());
}

#[test]
fn damage_is_found_and_repaired() {
    let cluster = TestCluster::up(1);
    let (data, a) = (cluster.text("data"), cluster.path("a"));
    let (gone, big) = fill(&a);
    // A mount lives and has changes that are not flushed: that is nothing to a snapshot.
    fs::write(a.join("unflushed"), b"x").unwrap();
    let (status, said) = fsck(&["--data", &data]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("clean"), "{said}");

    let file = Cluster::load(Path::new(&data)).unwrap();
    let ops = damage("dir", gone, big);
    // The mount has the root cached and would write it again.
    succeed(["umount", &cluster.text("a")]);
    plant(&file, ops);
    succeed(["mount", &cluster.text("a"), "--data", &data]);
    let (status, report) = json(&["--data", &data]);
    assert_eq!(status, 4, "{report}");
    let found = problems(&report);
    for problem in ["entry_without_inode", "without_entry", "wrong_links"] {
        assert!(found.contains(&problem), "{problem}: {report}");
    }
    let (status, said) = fsck(&["--data", &data, "--repair"]);
    assert_eq!(status, 8, "{said}");
    assert!(said.contains("yfs mount") && said.contains("unmount"), "{said}");

    succeed(["umount", &cluster.text("a")]);
    let (status, report) = json(&["--data", &data, "--repair"]);
    assert_eq!(status, 1, "{report}");
    assert_eq!(report["lost_and_found"].as_array().unwrap().len(), 1, "{report}");
    let (status, said) = fsck(&["--data", &data]);
    assert_eq!(status, 0, "{said}");

    succeed(["mount", &cluster.text("a"), "--data", &data]);
    let dir = a.join("lost+found").join(report["lost_and_found"][0]["name"].as_str().unwrap());
    assert_eq!(fs::read(dir.join("sub/deep")).unwrap(), b"deep");
    assert_eq!(fs::read(a.join("big")).unwrap(), vec![5; 300_000]);
    assert!(!a.join("gone").exists() && !a.join("nothing").exists());
    fs::rename(&dir, a.join("dir")).unwrap();
    fs::write(a.join("dir/new"), b"new").unwrap();
    succeed(["umount", &cluster.text("a")]);
    let (status, said) = fsck(&["--data", &data]);
    assert_eq!(status, 0, "{said}");

    without_servers(&cluster, &data);
}

/// The same in the directory of a server that does not run.
fn without_servers(cluster: &TestCluster, data: &str) {
    succeed(["down", "--data", data]);
    let dir = cluster.path("data").join("extents");
    let text = dir.to_str().unwrap();
    let (status, said) = fsck(&["--store", text]);
    assert_eq!(status, 0, "{said}");
    let (status, said) = fsck(&["--data", data, "--no-data"]);
    assert_eq!(status, 8, "{said}");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(&dir, &StoreOptions::default()).unwrap();
        let ops = vec![Op::Delete { key: format::entry_key(ROOT, b"dir") }];
        store.commit(NO_SESSION, ops, Vec::new()).await.unwrap();
    });
    drop(runtime);
    let (status, said) = fsck(&["--store", text, "--repair"]);
    assert_eq!(status, 8, "{said}");
    assert!(said.contains("--unmounted"), "{said}");
    let (status, said) = fsck(&["--store", text, "--repair", "--unmounted"]);
    assert_eq!(status, 1, "{said}");
    assert_eq!(fsck(&["--store", text]).0, 0);

    // A block on the disk turns bad.
    let object = object_file(&dir);
    let bulk = fs::OpenOptions::new().read(true).write(true).open(object).unwrap();
    bulk.write_all_at(b"bad", 100_000).unwrap();
    assert_eq!(fsck(&["--store", text, "--no-data"]).0, 0);
    let (status, report) = json(&["--store", text]);
    assert_eq!((status, problems(&report)), (4, vec!["unreadable"]), "{report}");
    assert_eq!(report["findings"][0]["path"], "/big", "{report}");
    let (status, said) = fsck(&["--store", text, "--repair", "--unmounted"]);
    assert_eq!(status, 4, "{said}");
}

/// Makes, moves and removes until told to stop, and counts.
fn bustle(one: &Path, two: &Path, stop: &AtomicBool, rounds: &AtomicUsize) {
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (here, there) = if round % 2 == 0 { (one, two) } else { (two, one) };
        let name = format!("d{}", round % 7);
        fs::create_dir(here.join(&name)).unwrap();
        fs::write(here.join(&name).join("small"), b"small").unwrap();
        fs::write(here.join(&name).join("large"), vec![round as u8; 200_000]).unwrap();
        fs::rename(there.join(&name), there.join("moved")).unwrap();
        fs::hard_link(here.join("moved/large"), here.join("moved/again")).unwrap();
        fs::File::open(there.join("moved/large")).unwrap().sync_all().unwrap();
        fs::remove_dir_all(here.join("moved")).unwrap();
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_check_needs_no_quiet() {
    let (cluster, a, b) = TestCluster::with_two_mounts();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let data = cluster.text("data");
    let checked = std::thread::scope(|scope| {
        let busy = scope.spawn(|| bustle(&a, &b, &stop, &rounds));
        let mut checked = Vec::new();
        while !busy.is_finished() && (checked.len() < 5 || rounds.load(Ordering::Relaxed) < 5) {
            checked.push(fsck(&["--data", &data]));
        }
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        checked
    });
    for (status, said) in checked {
        assert_eq!(status, 0, "{said}");
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let (status, said) = fsck(&["--store", dir.path().to_str().unwrap()]);
    assert_eq!(status, 8, "{said}");
    assert!(said.contains("no data directory of an extent server"), "{said}");
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "it makes nothing");
    assert_eq!(fsck(&["--data", dir.path().to_str().unwrap()]).0, 8);
    let (status, said) = fsck(&[]);
    assert_eq!(status, 8, "{said}");
    let help = run(["fsck", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["--repair", "--no-data", "--json", "--store", "--unmounted", "Exit status"] {
        assert!(help.contains(word), "{word} is not in: {help}");
    }
}
