//! Bad input of every kind: one clear line, an exit status that is not 0, and nothing damaged.
#![allow(clippy::unwrap_used)] // how a test fails

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options, is_mounted};
use yfs_tests::ports;
use yfs_tests::process::until;

/// Whatever is wrong, the program says so within this time: longer than any time-out it may have for a dead server.
const PATIENCE: Duration = Duration::from_secs(45);

fn run(program: &str, args: &[&str], dir: &Path) -> Output {
    let path = Binaries::of_this_build().path(program).unwrap_or_else(|e| panic!("{e}"));
    let mut command = Command::new(path);
    command.args(args).current_dir(dir).env("YFS_LOG", "error").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = until(PATIENCE, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "{program} {args:?} is not over after {PATIENCE:?}: {output:?}");
    output
}

/// The program must refuse with one line that contains all of `says`.
fn refuses(program: &str, args: &[&str], dir: &Path, says: &[&str]) {
    let output = run(program, args, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let what = format!("{program} {}", args.join(" "));
    assert!(!output.status.success(), "{what} ends with success; it says {stderr:?}");
    assert!(output.status.code().is_some(), "{what} was ended by a signal: {:?}", output.status);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{what} says:\n{stderr}");
    assert!(!stderr.contains("panicked"), "{what} says {stderr}");
    for word in says {
        assert!(stderr.contains(word), "{what} does not name {word:?}; it says {stderr}");
    }
}

/// The command line itself is wrong: the usual message, whose first line names what, and help on stderr.
fn misused(program: &str, args: &[&str], dir: &Path, says: &str) {
    let output = run(program, args, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let what = format!("{program} {}", args.join(" "));
    assert!(!output.status.success(), "{what} ends with success");
    assert!(
        stderr.contains(says) && !stderr.contains("panicked"),
        "{what} does not name {says:?}; it says {stderr}"
    );
    assert!(output.stdout.is_empty(), "{what} prints an error to stdout");
}

/// What is wrong is the answer to what was asked, and so on stdout; the exit status says it too.
fn fails_saying(program: &str, args: &[&str], dir: &Path, says: &str) {
    let output = run(program, args, dir);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let what = format!("{program} {}", args.join(" "));
    assert!(!output.status.success(), "{what} ends with success");
    assert!(stdout.contains(says), "{what} does not say {says:?}, but {output:?}");
}

#[test]
fn command_lines() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let closed = format!("127.0.0.1:{}", ports::free(1)[0]);
    misused("lock_server", &[], here, "MASTER");
    misused("lock_server", &["1"], here, "ME");
    misused("lock_server", &["1", "2", "--nonsense"], here, "--nonsense");
    misused("extent_server", &[], here, "LISTEN");
    misused("lock_demo", &[], here, "ADDR");
    misused("lock_tester", &[], here, "ADDR");
    misused("yfs", &["nonsense"], here, "nonsense");
    misused("yfs", &["mount"], here, "MOUNTPOINT");
    misused("yfs", &["up", "mnt", "--replicas", "many"], here, "many");
    misused("yfs_labs", &["lab9"], here, "lab9");

    refuses("lock_server", &["nonsense", "2"], here, &["nonsense"]);
    refuses("lock_server", &["10001", "127.0.0.1:99999"], here, &["127.0.0.1:99999"]);
    refuses("lock_server", &["10001", "10001", "--config", "missing"], here, &["missing"]);
    refuses("extent_server", &["host:port:more", "--data", "x"], here, &["host:port:more"]);
    refuses("lock_demo", &["no/address"], here, &["no/address"]);
    refuses("lock_demo", &[&closed], here, &[&closed]);
    refuses("lock_tester", &[&closed], here, &[&closed]);
    fails_saying("lock_tester", &[&closed, "99"], here, "Test number must be between 1 and");
    refuses("rsm_tester", &["99"], here, &["99"]);
    refuses("yfs_labs", &["lab2", "missing"], here, &["missing"]);
    assert!(
        fs::read_dir(here).unwrap().next().is_none(),
        "something was left behind by commands that failed"
    );
}

#[test]
fn config_files() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let port = ports::free(1)[0].to_string();
    for (content, says) in
        [("nonsense here\n", "nonsense"), ("", "config"), ("10001\n10001\n", "10001"), ("10002\n", &port)]
    {
        fs::write(here.join("config"), content).unwrap();
        refuses("lock_server", &[&port, &port], here, &[says]);
    }
}

#[test]
fn addresses_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses("lock_server", &[&address, &address, "--data", "l"], here, &[&address, "in use"]);
    refuses("extent_server", &[&address, "--data", "e"], here, &[&address, "in use"]);
    // An address of another machine.
    refuses("extent_server", &["192.0.2.1:7000", "--data", "e2"], here, &["192.0.2.1:7000"]);
    refuses("lock_server", &["192.0.2.1:7000", "192.0.2.1:7000", "--data", "l2"], here, &["192.0.2.1:7000"]);
}

#[test]
fn data_directories() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let options = Options { mounts: 0, ..Options::default() };
    let cluster = Cluster::start(&Binaries::of_this_build(), &here.join("cluster"), &options)
        .unwrap_or_else(|e| panic!("{e}"));
    let free: Vec<String> = ports::free(2).iter().map(u16::to_string).collect();
    let (a, b) = (free[0].as_str(), free[1].as_str());
    let path = |name: &str| here.join(name).to_string_lossy().into_owned();

    fs::write(here.join("file"), "precious").unwrap();
    fs::create_dir(here.join("full")).unwrap();
    fs::write(here.join("full/thesis.txt"), "precious").unwrap();
    for data in ["file", "full"] {
        refuses("lock_server", &[a, a, "--data", &path(data)], here, &[data]);
        refuses("extent_server", &[a, "--data", &path(data)], here, &[data]);
    }
    // In use by the running cluster.
    let (lock_data, extent_data) = (path("cluster/lock-1"), path("cluster/extents"));
    refuses("lock_server", &[a, a, "--data", &lock_data], here, &["lock-1", "use"]);
    refuses("extent_server", &[b, "--data", &extent_data], here, &["extents", "use"]);
    cluster.stop().unwrap_or_else(|e| panic!("{e}"));
    // Of another kind.
    refuses("extent_server", &[b, "--data", &lock_data], here, &["lock-1"]);
    refuses("lock_server", &[a, a, "--data", &extent_data], here, &["extents"]);
    // Of another version.
    for (program, args, data) in [
        ("lock_server", vec![a, a, "--data", &lock_data], &lock_data),
        ("extent_server", vec![b, "--data", &extent_data], &extent_data),
    ] {
        let format = Path::new(data).join("FORMAT");
        let good = fs::read_to_string(&format).unwrap();
        let newer: String = good.chars().map(|c| if c == '1' { '9' } else { c }).collect();
        assert_ne!(good, newer, "the format file names version 1 somewhere");
        fs::write(&format, newer).unwrap();
        refuses(program, &args, here, &[data.as_str()]);
        fs::write(&format, "").unwrap();
        refuses(program, &args, here, &[data.as_str()]);
        fs::write(&format, good).unwrap();
    }
    assert_eq!(fs::read(here.join("file")).unwrap(), b"precious");
    assert_eq!(fs::read(here.join("full/thesis.txt")).unwrap(), b"precious");
}

#[test]
fn mountpoints_and_addresses_of_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let options = Options { mounts: 1, ..Options::default() };
    let mut cluster = Cluster::start(&Binaries::of_this_build(), &here.join("cluster"), &options)
        .unwrap_or_else(|e| panic!("{e}"));
    let mounted = cluster.mountpoint(0).to_owned();
    fs::write(mounted.join("kept"), "kept").unwrap();
    let (locks, extents) = (cluster.locks().join(","), cluster.extents_address().to_owned());
    let closed = format!("127.0.0.1:{}", ports::free(1)[0]);
    let path = |name: &str| here.join(name).to_string_lossy().into_owned();
    let mount = |at: &str, locks: &str, extents: &str, says: &[&str]| {
        refuses("yfs", &["mount", at, "--locks", locks, "--extents", extents], here, says);
        assert!(
            !is_mounted(Path::new(at)) || at == mounted.to_string_lossy(),
            "{at} was mounted all the same"
        );
    };

    fs::write(here.join("file"), "precious").unwrap();
    fs::create_dir(here.join("full")).unwrap();
    fs::write(here.join("full/thesis.txt"), "precious").unwrap();
    fs::create_dir(here.join("empty")).unwrap();
    mount(&path("missing"), &locks, &extents, &["missing"]);
    mount(&path("file"), &locks, &extents, &["file"]);
    mount(&path("full"), &locks, &extents, &["full", "empty"]);
    mount(&mounted.to_string_lossy(), &locks, &extents, &["mnt1", "mounted"]);
    mount(&path("empty"), "nonsense", &extents, &["nonsense"]);
    mount(&path("empty"), &locks, "nonsense", &["nonsense"]);
    mount(&path("empty"), &closed, &extents, &[&closed]);
    mount(&path("empty"), &locks, &closed, &[&closed]);
    mount(&path("empty"), &extents, &extents, &[&extents]); // an extent server is no lock server
    mount(&path("empty"), &locks, &cluster.locks()[0], &[&cluster.locks()[0]]); // nor the other way round
    refuses("yfs", &["umount", &path("empty")], here, &["empty", "not"]);
    refuses("yfs", &["umount", "/proc"], here, &["/proc"]);
    fails_saying("yfs", &["status", "--locks", &closed, "--extents", &closed], here, "unreachable");

    assert_eq!(fs::read(here.join("full/thesis.txt")).unwrap(), b"precious");
    assert_eq!(fs::read(mounted.join("kept")).unwrap(), b"kept");
    cluster.check_running().unwrap_or_else(|e| panic!("{e}"));
    cluster.stop().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn clusters_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    fs::create_dir(here.join("mnt")).unwrap();
    fs::create_dir(here.join("full")).unwrap();
    fs::write(here.join("full/thesis.txt"), "precious").unwrap();
    refuses("yfs", &["status", "--data", "missing"], here, &["missing"]);
    refuses("yfs", &["down", "--data", "missing"], here, &["missing"]);
    refuses("yfs", &["up", "mnt", "--data", "full"], here, &["full"]);
    refuses("yfs", &["up", "full", "--data", "new"], here, &["full", "empty"]);
    refuses("yfs", &["up", "absent", "--data", "new"], here, &["absent"]);
    refuses("yfs", &["mount", "mnt", "--data", "missing"], here, &["missing"]);
    for (content, says) in [("nonsense", "cluster.json"), ("{\"version\": 99}", "99"), ("{}", "version")] {
        fs::create_dir_all(here.join("odd")).unwrap();
        fs::write(here.join("odd/cluster.json"), content).unwrap();
        for command in
            [&["status", "--data", "odd"][..], &["down", "--data", "odd"], &["up", "mnt", "--data", "odd"]]
        {
            refuses("yfs", command, here, &[says]);
        }
        assert_eq!(fs::read_to_string(here.join("odd/cluster.json")).unwrap(), content);
    }
    assert_eq!(fs::read(here.join("full/thesis.txt")).unwrap(), b"precious");
    assert!(!is_mounted(&here.join("mnt")));
}
