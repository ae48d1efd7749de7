//! Damaged data directories: a server whose files were cut or changed says so and does not start, or what it serves is
//! right all the same. It never serves something else.
#![allow(clippy::unwrap_used)] // how a test fails

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options};
use yfs_tests::process::{Process, until};
use yfs_tests::rng::Rng;

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    CutToHalf,
    CutTheEnd,
    Emptied,
    Removed,
    TurnedBit,
}

const ALL: [Damage; 5] =
    [Damage::CutToHalf, Damage::CutTheEnd, Damage::Emptied, Damage::Removed, Damage::TurnedBit];

impl Damage {
    fn apply(self, path: &Path) {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let size = file.metadata().unwrap().len();
        match self {
            Damage::CutToHalf => file.set_len(size / 2).unwrap(),
            Damage::CutTheEnd => file.set_len(size.saturating_sub(7)).unwrap(),
            Damage::Emptied => file.set_len(0).unwrap(),
            Damage::Removed => fs::remove_file(path).unwrap(),
            Damage::TurnedBit => {
                let (mut byte, place) = ([0], used_length(path) / 2);
                file.read_exact_at(&mut byte, place).unwrap();
                file.write_all_at(&[byte[0] ^ 0x10], place).unwrap();
            }
        }
    }
}

/// The length without the zeros at the end: stores make their files large before they use them.
fn used_length(path: &Path) -> u64 {
    let content = fs::read(path).unwrap();
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Files worth damaging below `dir`, relative to it: all that hold something, but for the lock file.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false if entry.file_name() == "LOCK" || used_length(&entry.path()) == 0 => {}
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found.into_iter().map(|path| path.strip_prefix(dir).unwrap().to_owned()).collect()
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// What the process says when it refuses: one line that names the directory.
fn refusal(process: &Process, log_from: usize, dir: &Path, what: &str) -> String {
    let log = fs::read_to_string(process.log()).unwrap();
    let said = log[log_from..].trim_end().to_owned();
    let last = said.lines().last().unwrap_or_default();
    assert!(!said.contains("panicked"), "{what}: a panic is no clear message:\n{said}");
    assert!(
        last.contains(&*dir.to_string_lossy()),
        "{what}: the refusal does not name {}:\n{said}",
        dir.display()
    );
    last.to_owned()
}

fn log_length(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |log| log.len())
}

fn fill(mount: &Path, rng: &mut Rng) -> BTreeMap<String, Vec<u8>> {
    let mut manifest = BTreeMap::new();
    for i in 0..120 {
        let size = if i % 10 == 0 { 200_000 } else { 500 + rng.below(8000) };
        let (name, content) = (format!("file-{i}"), rng.bytes(size));
        fs::write(mount.join(&name), &content).unwrap();
        fs::File::open(mount.join(&name)).unwrap().sync_all().unwrap();
        manifest.insert(name, content);
    }
    manifest
}

#[test]
fn a_lock_replica_refuses_or_agrees() {
    let scratch = tempfile::tempdir().unwrap();
    let mut cluster =
        Cluster::start(&Binaries::of_this_build(), scratch.path(), &Options::default()).unwrap();
    let manifest = fill(cluster.mountpoint(0), &mut Rng::new(7));
    // Read on the other mount, so that there was traffic of locks between them.
    for (name, content) in &manifest {
        assert_eq!(&fs::read(cluster.mountpoint(1).join(name)).unwrap(), content);
    }
    cluster.wait_for_agreement().unwrap_or_else(|e| panic!("{e}"));
    let victim = (cluster.wait_for_master().unwrap_or_else(|e| panic!("{e}")) + 1) % 3; // a slave
    let part = Cluster::replica_part(victim);
    let (dir, backup) = (cluster.dir().join(&part), scratch.path().join("backup"));
    cluster.kill_replica(victim);
    copy(&dir, &backup);
    let (mut refused, mut recovered) = (0, 0);
    for file in chosen(&backup) {
        for damage in ALL {
            if !dir.join(&file).exists() {
                continue; // a recovered replica has tidied it away
            }
            damage.apply(&dir.join(&file));
            let log_from = log_length(&cluster.log(&part));
            cluster.start_replica(victim).unwrap();
            let ended = until(Duration::from_secs(20), || {
                let status = cluster.status().ok();
                match cluster.replica(victim).unwrap().ended() {
                    Some(status) => Some(Some(status)),
                    None => status?.agreement(3).map(|agreed| {
                        assert!(agreed.states_equal, "{damage:?} of {}: states differ", file.display());
                        None
                    }),
                }
            });
            let what = format!("{damage:?} of {}", file.display());
            match ended.unwrap_or_else(|| panic!("{what}: neither refuses nor takes part")) {
                Some(status) => {
                    assert!(!status.success(), "{what}");
                    refusal(cluster.replica(victim).unwrap(), log_from, &dir, &what);
                    refused += 1;
                    copy(&backup, &dir);
                }
                None => {
                    recovered += 1;
                    cluster.kill_replica(victim);
                    copy(&dir, &backup); // what it promised meanwhile must not be forgotten
                }
            }
        }
    }
    assert!(refused > 0, "no damage at all was noticed ({recovered} starts)");
    cluster.start_replica(victim).unwrap();
    cluster.wait_for_agreement().unwrap_or_else(|e| panic!("{e}"));
    for (name, content) in &manifest {
        assert_eq!(&fs::read(cluster.mountpoint(0).join(name)).unwrap(), content);
    }
    cluster.stop().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn an_extent_server_refuses_or_serves_what_was_stored() {
    let scratch = tempfile::tempdir().unwrap();
    let options = Options { mounts: 1, ..Options::default() };
    let mut cluster = Cluster::start(&Binaries::of_this_build(), scratch.path(), &options).unwrap();
    let manifest = fill(cluster.mountpoint(0), &mut Rng::new(8));
    cluster.unmount_all().unwrap_or_else(|e| panic!("{e}"));
    cluster.kill_extents();
    let (dir, backup) = (cluster.dir().join("extents"), scratch.path().join("backup"));
    copy(&dir, &backup);
    let (mut refused, mut served, mut errors) = (0, 0, 0);
    for file in chosen(&backup) {
        for damage in ALL {
            damage.apply(&dir.join(&file));
            let what = format!("{damage:?} of {}", file.display());
            let log_from = log_length(&cluster.log("extent_server"));
            cluster.start_extents().unwrap();
            let address = cluster.extents_address().to_owned();
            let up = until(Duration::from_secs(20), || match cluster.extents().unwrap().ended() {
                Some(status) => Some(Err(status)),
                None => std::net::TcpStream::connect(&address).ok().map(Ok),
            });
            match up.unwrap_or_else(|| panic!("{what}: neither refuses nor serves")) {
                Err(status) => {
                    assert!(!status.success(), "{what}");
                    refusal(cluster.extents().unwrap(), log_from, &dir, &what);
                    refused += 1;
                }
                Ok(_) => {
                    served += 1;
                    errors += compare(&mut cluster, &manifest, &what);
                }
            }
            cluster.kill_extents();
            copy(&backup, &dir);
        }
    }
    assert!(refused + errors > 0, "no damage at all was noticed ({served} starts)");
    cluster.start_extents().unwrap();
    cluster.add_mount(0).unwrap_or_else(|e| panic!("{e}"));
    for (name, content) in &manifest {
        assert_eq!(&fs::read(cluster.mountpoint(0).join(name)).unwrap(), content);
    }
    cluster.stop().unwrap_or_else(|e| panic!("{e}"));
}

/// All files, but of the many objects only the first few.
fn chosen(dir: &Path) -> Vec<PathBuf> {
    let mut per_folder: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut keep = |path: &PathBuf| {
        let n = per_folder.entry(path.parent().unwrap().to_owned()).or_default();
        *n += 1;
        *n <= 3
    };
    files(dir).into_iter().filter(|path| keep(path)).collect()
}

/// Every file reads as written, or with an error; returns how many errors. A mount that does not come up is one.
fn compare(cluster: &mut Cluster, manifest: &BTreeMap<String, Vec<u8>>, what: &str) -> usize {
    if cluster.add_mount(0).is_err() {
        return 1;
    }
    let mut errors = 0;
    for (name, content) in manifest {
        match fs::read(cluster.mountpoint(0).join(name)) {
            Ok(got) => assert!(got == *content, "{what}: {name} was served with other contents"),
            Err(e) => {
                assert_ne!(e.kind(), std::io::ErrorKind::NotFound, "{what}: {name} is gone without a word");
                errors += 1;
            }
        }
    }
    cluster.unmount_all().unwrap_or_else(|e| panic!("{what}: {e}"));
    errors
}
