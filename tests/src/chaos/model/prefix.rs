//! What is left of one worker's own directory: what a prefix of its operations made, no shorter than its last sync.
//!
//! A log has the operations of one thread on a directory that nobody else touches, in order. Whatever ends the client,
//! the directory holds what some first part of them made (P3), with everything that was synced (P2); and without a loss,
//! everything. All directories that can be are followed at once, operation by operation: there are few, since a sync
//! that succeeded leaves only those that held since the last change of what it was for.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An operation on a file or directory directly below the worker's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeOp {
    /// `open` with O_CREAT and O_EXCL.
    Create(String),
    /// `write` at the end: so many bytes, all of this value.
    Append(String, u32, u8),
    /// `rename`, over what is there.
    Rename(String, String),
    /// `unlink`.
    Unlink(String),
    /// `mkdir`.
    Mkdir(String),
    /// `rmdir`.
    Rmdir(String),
    /// `fsync` of a file, or of the directory itself (an empty name).
    Sync(String),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// With success.
    Done,
    /// With an error that says that nothing was done (the errno).
    Refused(i32),
    /// Nobody knows.
    Unknown,
}

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it began, on the clock of [`crate::linear::Clock`].
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// What it was.
    pub op: TreeOp,
    /// How it ended.
    pub outcome: Outcome,
}

/// A time in which a client lost what it had not flushed, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Not before.
    pub from: u64,
    /// Not after.
    pub to: u64,
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Entry {
    /// A file: runs of equal bytes, neighbours different, and each longer than 0.
    File(Vec<(u64, u8)>),
    /// An empty directory.
    Directory,
}

/// A directory.
pub type Tree = BTreeMap<String, Entry>;

/// Something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// An operation was answered as no possible directory would.
    #[error(
        "operation {at} ({op:?} -> {outcome:?}) cannot be explained: before it the directory held {held}"
    )]
    Answer {
        /// Its place in the log.
        at: usize,
        /// The operation.
        op: TreeOp,
        /// Its outcome.
        outcome: Outcome,
        /// One of the possible directories before it.
        held: String,
    },
    /// What is left is none of the directories that could be.
    #[error(
        "what is left, {found}, is none of the {possible} directories that could be; the latest is {latest}"
    )]
    Left {
        /// What was found.
        found: String,
        /// How many are possible.
        possible: usize,
        /// The one if nothing was lost.
        latest: String,
    },
}

/// One way in which things may have gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    /// The directories since the last sync; the last one is the current one.
    trees: Vec<Rc<Tree>>,
    /// Which losses have happened.
    lost: BTreeSet<usize>,
}

/// Checks that `found` can be what is left. `losses`: those of the worker's client; `gone`: whether in the end the client
/// was killed.
pub fn check(log: &[Step], losses: &[Loss], gone: bool, found: &Tree) -> Result<(), Wrong> {
    let first = Way { trees: vec![Rc::new(Tree::new())], lost: BTreeSet::new() };
    let mut ways = BTreeSet::from([first]);
    for (at, step) in log.iter().enumerate() {
        let before = if at == 0 { 0 } else { log[at - 1].began };
        lose(&mut ways, losses, before, step.ended);
        let after: BTreeSet<Way> = ways.iter().flat_map(|way| way.step(step)).collect();
        if after.is_empty() {
            let held = ways.iter().next_back().map(|way| show(way.last())).unwrap_or_default();
            return Err(Wrong::Answer { at, op: step.op.clone(), outcome: step.outcome, held });
        }
        ways = after;
    }
    let began = log.last().map_or(0, |step| step.began);
    lose(&mut ways, losses, began, u64::MAX);
    let possible: BTreeSet<&Rc<Tree>> = match gone {
        true => ways.iter().flat_map(|way| way.trees.iter()).collect(),
        false => ways.iter().map(Way::last).collect(),
    };
    if possible.iter().any(|tree| ***tree == *found) {
        return Ok(());
    }
    let latest = ways.iter().next().map(|way| show(way.last())).unwrap_or_default();
    Err(Wrong::Left { found: show(found), possible: possible.len(), latest })
}

/// Adds the ways in which something is lost between these two moments.
fn lose(ways: &mut BTreeSet<Way>, losses: &[Loss], from: u64, to: u64) {
    for (i, loss) in losses.iter().enumerate() {
        if loss.from > to || loss.to < from {
            continue;
        }
        let mut more = Vec::new();
        for way in ways.iter().filter(|way| !way.lost.contains(&i)) {
            for tree in &way.trees {
                let mut lost = way.lost.clone();
                lost.insert(i);
                more.push(Way { trees: vec![Rc::clone(tree)], lost });
            }
        }
        ways.extend(more);
    }
}

impl Way {
    fn last(&self) -> &Rc<Tree> {
        self.trees.last().expect("there is always a directory")
    }

    /// How things can go on.
    fn step(&self, step: &Step) -> Vec<Way> {
        let (answer, after) = apply(self.last(), &step.op);
        let mut done = self.clone();
        match (&step.op, step.outcome) {
            (TreeOp::Sync(name), Outcome::Done) => drop(done.trees.drain(..self.changed(name))),
            _ => done.push(after),
        }
        match (step.outcome, answer) {
            (Outcome::Done, Ok(())) => vec![done],
            // A full store refuses anything.
            (Outcome::Refused(libc::ENOSPC), _) => vec![self.clone()],
            (Outcome::Refused(errno), Err(expected)) if errno == expected => vec![self.clone()],
            (Outcome::Unknown, Ok(())) => vec![done, self.clone()],
            (Outcome::Unknown, Err(_)) => vec![self.clone()],
            _ => Vec::new(),
        }
    }

    /// The place of the directory in which a name, or the set of names, was changed last. That is what a sync of the file,
    /// or of the directory, makes durable, with all before it; what was done to others afterwards may still be lost.
    fn changed(&self, name: &str) -> usize {
        let same = |pair: &[Rc<Tree>]| match name {
            "" => pair[0].keys().eq(pair[1].keys()),
            _ => pair[0].get(name) == pair[1].get(name),
        };
        self.trees.windows(2).rposition(|pair| !same(pair)).map_or(0, |before| before + 1)
    }

    fn push(&mut self, tree: Tree) {
        if **self.last() != tree {
            self.trees.push(Rc::new(tree));
        }
    }
}

/// What an operation answers (0 or an errno), and the directory afterwards.
fn apply(tree: &Tree, op: &TreeOp) -> (Result<(), i32>, Tree) {
    let mut after = tree.clone();
    let answer = match op {
        TreeOp::Create(name) => {
            fresh(tree, name).map(|()| drop(after.insert(name.clone(), Entry::File(vec![]))))
        }
        TreeOp::Mkdir(name) => fresh(tree, name).map(|()| drop(after.insert(name.clone(), Entry::Directory))),
        TreeOp::Append(name, count, byte) => match after.get_mut(name) {
            Some(Entry::File(runs)) => {
                append(runs, u64::from(*count), *byte);
                Ok(())
            }
            Some(Entry::Directory) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        },
        TreeOp::Unlink(name) => match tree.get(name) {
            Some(Entry::File(_)) => {
                after.remove(name);
                Ok(())
            }
            Some(Entry::Directory) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        },
        TreeOp::Rmdir(name) => match tree.get(name) {
            Some(Entry::Directory) => {
                after.remove(name);
                Ok(())
            }
            Some(Entry::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        },
        TreeOp::Rename(from, to) => match (tree.get(from), tree.get(to)) {
            (None, _) => Err(libc::ENOENT),
            (Some(Entry::File(_)), Some(Entry::Directory)) => Err(libc::EISDIR),
            (Some(Entry::Directory), Some(Entry::File(_))) => Err(libc::ENOTDIR),
            (Some(entry), _) => {
                after.remove(from);
                after.insert(to.clone(), entry.clone());
                Ok(())
            }
        },
        TreeOp::Sync(name) if name.is_empty() || tree.contains_key(name) => Ok(()),
        TreeOp::Sync(_) => Err(libc::ENOENT),
    };
    (answer, after)
}

fn fresh(tree: &Tree, name: &str) -> Result<(), i32> {
    if tree.contains_key(name) { Err(libc::EEXIST) } else { Ok(()) }
}

/// Adds bytes to a file's runs.
pub fn append(runs: &mut Vec<(u64, u8)>, count: u64, byte: u8) {
    match runs.last_mut() {
        Some((n, last)) if *last == byte => *n += count,
        _ if count > 0 => runs.push((count, byte)),
        _ => {}
    }
}

fn show(tree: &Tree) -> String {
    let entry = |(name, entry): (&String, &Entry)| match entry {
        Entry::Directory => format!("{name}/"),
        Entry::File(runs) => {
            let bytes: u64 = runs.iter().map(|run| run.0).sum();
            let last: Vec<String> =
                runs.iter().rev().take(3).rev().map(|(n, b)| format!("{n}x{b}")).collect();
            format!("{name} ({bytes} bytes, ending {})", last.join("+"))
        }
    };
    format!("[{}]", tree.iter().map(entry).collect::<Vec<_>>().join(", "))
}
