//! The checks pass on a plain directory, and every fault is found by the test that is there to find it.

use super::broken::{Broken, Fault};
use super::files::{Disk, Files};
use super::workers::Workers;
use super::{Lab, Name};
use crate::rng::Rng;
use std::path::PathBuf;
use std::time::Duration;

/// A directory and a second path to it, as two mounts would be.
fn mounts() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    std::fs::create_dir(&one).unwrap();
    std::os::unix::fs::symlink(&one, &two).unwrap();
    (scratch, one, two)
}

/// Runs `name` on `files`; returns what it printed and what it found.
fn run(name: Name, files: &dyn Files, seed: u64) -> (String, Result<(), String>) {
    let (_scratch, one, two) = mounts();
    let mut out = Vec::new();
    let settle = Duration::from_millis(20); // the file systems below count time stamps in milliseconds at least
    let mut lab = Lab {
        files,
        rng: Rng::new(seed),
        out: &mut out,
        tag: "77".into(),
        settle,
        workers: Workers::Threads,
    };
    let result = lab.run(name, &one, &two).map_err(|e| e.to_string());
    (String::from_utf8(out).unwrap(), result)
}

#[test]
fn a_plain_directory_passes_everything() {
    for (name, last) in [
        (Name::Lab2, "Passed all tests!"),
        (Name::Lab3, "Passed all tests"),
        (Name::Lab4a, "Passed all tests!"),
        (Name::Lab4b, "test-lab-4-b: Passed all tests."),
        (Name::Lab4c, "Create/delete in separate directories: tests completed OK"),
    ] {
        for seed in 0..3 {
            let (out, result) = run(name, &Disk, seed);
            assert_eq!(result, Ok(()), "{name:?} seed {seed}: {out}");
            assert_eq!(out.lines().last(), Some(last));
            let (_, with_wrapper) = run(name, &Broken::new(Fault::None), seed);
            assert_eq!(with_wrapper, Ok(()));
        }
    }
}

#[test]
fn the_lines_are_the_labs() {
    let (out, _) = run(Name::Lab3, &Disk, 1);
    assert!(out.contains("Write beyond the end of an existing file: OK\n"), "{out}");
    assert!(out.contains("Check that one cannot open non-existant file: OK\n"), "{out}");
    let (out, _) = run(Name::Lab4b, &Disk, 1);
    assert_eq!(out.matches(": OK\n").count(), 11, "{out}");
    assert!(out.contains("Concurrent writes to different parts of same file: OK\n"), "{out}");
}

/// The fault must be found by this test, and the message must say this.
fn caught(name: Name, fault: Fault, says: &str) {
    for seed in 0..3 {
        let (out, result) = run(name, &Broken::new(fault), seed);
        let error = result.expect_err(&format!("{name:?} did not notice {fault:?}: {out}"));
        assert!(error.contains(says), "{name:?} with {fault:?} said: {error}");
        assert!(!out.contains("assed all") && !out.contains("completed OK"), "{fault:?}: {out}");
    }
}

#[test]
fn lab2_notices() {
    caught(Name::Lab2, Fault::ListsTwice, "twice");
    caught(Name::Lab2, Fault::ListsTooFew, "is not listed");
    caught(Name::Lab2, Fault::OpensAnything, "could be opened");
    caught(Name::Lab2, Fault::FilesAreDirectories, "below a regular file");
    caught(Name::Lab2, Fault::WrongError, "instead of \"no such file\"");
    caught(Name::Lab2, Fault::CloseFails, "close");
}

#[test]
fn lab3_notices() {
    caught(Name::Lab3, Fault::AppendsAtStart, "f1-77");
    caught(Name::Lab3, Fault::KeepsOldTail, "has 600 bytes, should have 275");
    caught(Name::Lab3, Fault::DirtyGap, "instead of 0x00 at offset 40000");
    caught(Name::Lab3, Fault::OpensAnything, "could be opened");
    caught(Name::Lab3, Fault::WrongSize, "stat says");
}

#[test]
fn lab4a_notices() {
    caught(Name::Lab4a, Fault::FrozenFileTimes, "CREATE did not change mtime");
    caught(Name::Lab4a, Fault::FrozenDirTimes, "did not change the directory's mtime");
    caught(Name::Lab4a, Fault::RemovesTwice, "removed again");
    caught(Name::Lab4a, Fault::ListsRemoved, "which does not exist");
    caught(Name::Lab4a, Fault::ListsTwice, "twice");
}

#[test]
fn lab4b_notices() {
    caught(Name::Lab4b, Fault::StaleContent, "two/d77/f1");
    caught(Name::Lab4b, Fault::StaleList, "two/d77");
    caught(Name::Lab4b, Fault::StaleNames, "could be opened");
    caught(Name::Lab4b, Fault::LosesWrites, "parts-");
    caught(Name::Lab4b, Fault::IgnoresExclusive, "both O_EXCL creates succeeded");
    caught(Name::Lab4b, Fault::SyncFails, "fsync");
    caught(Name::Lab4b, Fault::ListsTwice, "twice");
    caught(Name::Lab4b, Fault::ForgetsCreates, "");
}

#[test]
fn lab4c_notices() {
    caught(Name::Lab4c, Fault::ForgetsCreates, "");
    caught(Name::Lab4c, Fault::ListsRemoved, "which does not exist");
    caught(Name::Lab4c, Fault::WrongSize, "stat says");
}
