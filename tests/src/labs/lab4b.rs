//! Lab 4b: two mounts used in turn and at the same time.

use super::files::How;
use super::workers::{Done, Rival, Task, names};
use super::{Lab, Result, violated};
use std::path::{Path, PathBuf};

const FEW: usize = 10;
const MANY: usize = 20;
const BYTES: usize = 64;
const APART: u64 = 65536;

/// The test's directory as each mount shows it.
struct Pair {
    one: PathBuf,
    two: PathBuf,
}

pub(super) fn run(lab: &mut Lab, dir1: &Path, dir2: &Path) -> Result<()> {
    let name = format!("d{}", lab.tag);
    let pair = Pair { one: dir1.join(&name), two: dir2.join(&name) };
    lab.mkdir(&pair.one)?;
    if !lab.files.stat(&pair.two).map_err(super::at("stat", &pair.two))?.is_dir {
        return violated(format!(
            "{}: made through the first mount, is not a directory here",
            pair.two.display()
        ));
    }
    in_turn(lab, &pair)?;
    at_once(lab, &pair)?;
    lab.say("test-lab-4-b: Passed all tests.")
}

impl Pair {
    /// Both views of `name`.
    fn paths(&self, name: &str) -> [PathBuf; 2] {
        [self.one.join(name), self.two.join(name)]
    }

    fn content(&self, lab: &Lab, name: &str, want: &[u8]) -> Result<()> {
        self.paths(name).iter().try_for_each(|path| lab.expect_content(path, want))
    }

    fn absent(&self, lab: &Lab, name: &str) -> Result<()> {
        self.paths(name).iter().try_for_each(|path| lab.expect_absent(path))
    }

    fn list(&self, lab: &Lab, want: &[String]) -> Result<()> {
        [&self.one, &self.two].into_iter().try_for_each(|dir| lab.expect_list(dir, want.iter().cloned()))
    }

    /// Removes the files of `wanted` through `dir`; both mounts must then list nothing.
    fn clear(&self, lab: &Lab, dir: &Path, wanted: &[String]) -> Result<()> {
        wanted.iter().try_for_each(|name| lab.unlink(&dir.join(name)))?;
        self.list(lab, &[])
    }

    /// Both mounts list exactly `wanted`, and each file holds its own name.
    fn named(&self, lab: &Lab, wanted: &[String]) -> Result<()> {
        self.list(lab, wanted)?;
        wanted.iter().try_for_each(|name| self.content(lab, name, name.as_bytes()))
    }
}

fn create(dir: &Path, prefix: &str, count: usize, rival: Rival) -> Task {
    Task::Create { dir: dir.to_owned(), prefix: prefix.to_owned(), count, rival }
}

fn list_of(prefixes: &[&str], count: usize) -> Vec<String> {
    prefixes.iter().flat_map(|prefix| names(prefix, count)).collect()
}

fn in_turn(lab: &mut Lab, pair: &Pair) -> Result<()> {
    let (one, two) = (pair.one.clone(), pair.two.clone());
    lab.step("Create then read:", |lab| {
        for (dir, name, content) in [(&one, "f1", "aaa"), (&two, "f2", "bbb"), (&one, "f3", "ccc")] {
            lab.write(&dir.join(name), How::New, content.as_bytes())?;
            pair.content(lab, name, content.as_bytes())?;
        }
        pair.content(lab, "f1", b"aaa")
    })?;
    lab.step("Unlink:", |lab| {
        for (dir, name) in [(&two, "f1"), (&one, "f2"), (&two, "f3")] {
            lab.unlink(&dir.join(name))?;
            pair.absent(lab, name)?;
        }
        // The same name again, with other contents: nothing of the old file may come back.
        lab.write(&two.join("f1"), How::New, b"again")?;
        pair.content(lab, "f1", b"again")?;
        lab.unlink(&one.join("f1"))?;
        pair.absent(lab, "f1")
    })?;
    lab.step("Append:", |lab| {
        lab.write(&two.join("f1"), How::New, b"aaa")?;
        lab.write(&one.join("f1"), How::Append, b"bbb")?;
        lab.write(&two.join("f1"), How::Append, b"ccc")?;
        pair.content(lab, "f1", b"aaabbbccc")
    })?;
    lab.step("Readdir:", |lab| {
        pair.list(lab, &["f1".into()])?;
        lab.unlink(&one.join("f1"))?;
        pair.list(lab, &[])?;
        lab.write(&two.join("f2"), How::New, b"f2")?;
        pair.list(lab, &["f2".into()])?;
        lab.write(&one.join("f3"), How::New, b"f3")?;
        pair.list(lab, &["f2".into(), "f3".into()])?;
        pair.clear(lab, &two, &["f2".into(), "f3".into()])
    })?;
    lab.step("Many sequential creates:", |lab| {
        for (dir, prefix) in [(&one, "aa"), (&two, "bb")] {
            for name in names(prefix, FEW) {
                lab.write(&dir.join(&name), How::New, name.as_bytes())?;
            }
        }
        let all = list_of(&["aa", "bb"], FEW);
        pair.named(lab, &all)?;
        pair.clear(lab, &two, &all)
    })?;
    lab.step("Write 20000 bytes:", |lab| {
        let content = lab.rng.bytes(20_000);
        lab.write(&one.join("bf"), How::New, &content)?;
        pair.content(lab, "bf", &content)?;
        pair.clear(lab, &one, &["bf".into()])
    })
}

fn at_once(lab: &mut Lab, pair: &Pair) -> Result<()> {
    let (one, two) = (&pair.one, &pair.two);
    lab.step("Concurrent creates:", |lab| {
        let tasks = (create(one, "yy", MANY, Rival::Nobody), create(two, "xx", MANY, Rival::Nobody));
        lab.workers.both(lab.files, tasks.0, tasks.1)?;
        let all = list_of(&["xx", "yy"], MANY);
        pair.named(lab, &all)?;
        pair.clear(lab, one, &all)
    })?;
    lab.step("Concurrent creates of the same file:", |lab| same_names(lab, pair, one, two))?;
    lab.step("Concurrent create/delete:", |lab| {
        let tasks = (create(one, "x1", MANY, Rival::Nobody), create(two, "x2", MANY, Rival::Nobody));
        lab.workers.both(lab.files, tasks.0, tasks.1)?;
        // Each mount's names are removed through the other while that one creates more.
        let removal = Task::Unlink { dir: two.clone(), prefix: "x1".into(), count: MANY };
        lab.workers.both(lab.files, create(one, "x3", MANY, Rival::Nobody), removal)?;
        let left = list_of(&["x2", "x3"], MANY);
        pair.named(lab, &left)?;
        names("x1", MANY).try_for_each(|name| pair.absent(lab, &name))?;
        pair.clear(lab, one, &left)
    })?;
    lab.step("Concurrent creates, same file, same server:", |lab| same_names(lab, pair, one, one))?;
    lab.step("Concurrent writes to different parts of same file:", |lab| {
        parts_of_a_file(lab, pair, "parts-new", None)?;
        parts_of_a_file(lab, pair, "parts-old", Some(2 * APART))?;
        pair.clear(lab, two, &["parts-new".into(), "parts-old".into()])
    })
}

/// Both workers create the same names: each name must be there once; and of two `O_EXCL` creates exactly one wins.
fn same_names(lab: &Lab, pair: &Pair, first: &Path, second: &Path) -> Result<()> {
    let tasks = (create(first, "zz", MANY, Rival::Shares), create(second, "zz", MANY, Rival::Shares));
    lab.workers.both(lab.files, tasks.0, tasks.1)?;
    let all = list_of(&["zz"], MANY);
    pair.named(lab, &all)?;
    pair.clear(lab, first, &all)?;

    let tasks = (create(first, "ex", MANY, Rival::Excludes), create(second, "ex", MANY, Rival::Excludes));
    let (one, two) = lab.workers.both(lab.files, tasks.0, tasks.1)?;
    let all = list_of(&["ex"], MANY);
    for name in &all {
        one_winner(&one, &two, name)?;
    }
    pair.named(lab, &all)?;
    pair.clear(lab, second, &all)
}

fn one_winner(one: &Done, two: &Done, name: &String) -> Result<()> {
    match (one.contains(name), two.contains(name)) {
        (true, true) => violated(format!("{name}: both O_EXCL creates succeeded")),
        (false, false) => violated(format!("{name}: both O_EXCL creates failed with \"file exists\"")),
        _ => Ok(()),
    }
}

/// Single bytes with `fsync` from both mounts into far parts of one file: all must be there, and nothing else.
fn parts_of_a_file(lab: &Lab, pair: &Pair, name: &str, size: Option<u64>) -> Result<()> {
    let mut want = vec![0u8; APART as usize + BYTES];
    if let Some(size) = size {
        want.resize(size as usize, 0);
        lab.write(&pair.one.join(name), How::New, &want)?;
    }
    let task = |path: PathBuf, offset, byte| Task::WriteBytes { path, offset, count: BYTES, byte };
    let [one, two] = pair.paths(name);
    lab.workers.both(lab.files, task(one, 0, b'1'), task(two, APART, b'2'))?;
    want[..BYTES].fill(b'1');
    want[APART as usize..][..BYTES].fill(b'2');
    pair.content(lab, name, &want)
}
