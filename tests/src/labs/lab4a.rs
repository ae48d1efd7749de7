//! Lab 4a: a directory of its own; create, write, remove; and the time stamps that must move.

use super::files::{How, Stat};
use super::{Lab, Result, at, violated};
use std::path::{Path, PathBuf};

const FIRST: usize = 10;
const ROUNDS: usize = 50;

/// The files there are, with their contents, and the names of those that were.
struct State {
    dir: PathBuf,
    live: Vec<(String, Vec<u8>)>,
    dead: Vec<String>,
    named: usize,
}

pub(super) fn run(lab: &mut Lab, dir: &Path) -> Result<()> {
    let dir = dir.join(format!("d{}", lab.tag));
    lab.mkdir(&dir)?;
    let mut state = State { dir, live: Vec::new(), dead: Vec::new(), named: 0 };
    create(lab, &mut state)?;
    delete(lab, &mut state)?;
    create(lab, &mut state)?;
    checkmtime(lab, &mut state)?;
    checkdirmtime(lab, &mut state)?;
    for _ in 0..FIRST {
        create(lab, &mut state)?;
    }
    for _ in 0..ROUNDS {
        round(lab, &mut state)?;
    }
    livecheck(lab, &state)?;
    deadcheck(lab, &state)?;
    dircheck(lab, &state)?;
    while !state.live.is_empty() {
        delete(lab, &mut state)?;
    }
    dircheck(lab, &state)?;
    lab.say("Passed all tests!")
}

fn round(lab: &mut Lab, state: &mut State) -> Result<()> {
    if lab.rng.chance(20) {
        deadcheck(lab, state)?;
    }
    if lab.rng.chance(20) {
        livecheck(lab, state)?;
    }
    if lab.rng.chance(2) {
        dircheck(lab, state)?;
    }
    if lab.rng.chance(10) {
        checkdirmtime(lab, state)?;
    }
    if lab.rng.chance(10) {
        checkmtime(lab, state)?;
    }
    if lab.rng.chance(50) {
        create(lab, state)?;
    }
    if lab.rng.chance(50) {
        delete(lab, state)?;
    }
    Ok(())
}

/// Mostly small contents, some larger than a file system would keep beside its metadata.
fn content(lab: &mut Lab) -> Vec<u8> {
    let most = if lab.rng.chance(5) { 150_000 } else { 4_000 };
    let size = lab.rng.below(most);
    lab.rng.bytes(size)
}

fn create(lab: &mut Lab, state: &mut State) -> Result<()> {
    state.named += 1;
    let name = format!("file-{}-{}-{}", lab.rng.letters(20), lab.tag, state.named);
    let content = content(lab);
    lab.write(&state.dir.join(&name), How::Truncate, &content)?;
    state.live.push((name, content));
    Ok(())
}

fn delete(lab: &mut Lab, state: &mut State) -> Result<()> {
    if state.live.is_empty() {
        return Ok(());
    }
    let (name, _) = state.live.swap_remove(lab.rng.below(state.live.len()));
    lab.unlink(&state.dir.join(&name))?;
    state.dead.push(name);
    Ok(())
}

/// A removed file can be neither read nor removed again.
fn deadcheck(lab: &mut Lab, state: &State) -> Result<()> {
    let Some(name) = lab.rng.pick(&state.dead) else { return Ok(()) };
    let path = state.dir.join(name);
    lab.expect_absent(&path)?;
    match lab.files.unlink(&path) {
        Ok(()) => violated(format!("{}: a removed file could be removed again", path.display())),
        Err(e) => lab.expect_not_found("unlink", &path, e),
    }
}

fn livecheck(lab: &mut Lab, state: &State) -> Result<()> {
    match lab.rng.pick(&state.live) {
        Some((name, content)) => lab.expect_content(&state.dir.join(name), content),
        None => Ok(()),
    }
}

fn dircheck(lab: &mut Lab, state: &State) -> Result<()> {
    lab.expect_list(&state.dir, state.live.iter().map(|(name, _)| name.clone()))
}

fn stat(lab: &Lab, path: &Path) -> Result<Stat> {
    lab.files.stat(path).map_err(at("stat", path))
}

/// A create or a removal must move the directory's mtime and ctime.
fn checkdirmtime(lab: &mut Lab, state: &mut State) -> Result<()> {
    let here = state.dir.join(".");
    let before = stat(lab, &here)?;
    std::thread::sleep(lab.settle);
    let creates = lab.rng.chance(50) || state.live.is_empty();
    if creates {
        create(lab, state)?;
    } else {
        delete(lab, state)?;
    }
    let after = stat(lab, &here)?;
    let (what, dir) = (if creates { "CREATE" } else { "UNLINK" }, state.dir.display());
    if after.mtime <= before.mtime {
        return violated(format!("{dir}: {what} did not change the directory's mtime"));
    }
    if after.ctime <= before.ctime {
        return violated(format!("{dir}: {what} did not change the directory's ctime"));
    }
    Ok(())
}

/// Opening with truncation, and writing, must move a file's mtime.
fn checkmtime(lab: &mut Lab, state: &mut State) -> Result<()> {
    if state.live.is_empty() {
        return Ok(());
    }
    let which = lab.rng.below(state.live.len());
    let path = state.dir.join(&state.live[which].0);
    // Truncating an empty file changes nothing, so it must hold something.
    lab.write(&path, How::Truncate, b"before")?;
    let first = stat(lab, &path)?;
    std::thread::sleep(lab.settle);
    let mut file = lab.files.open(&path, How::Truncate).map_err(at("open", &path))?;
    let second = stat(lab, &path)?;
    if second.mtime <= first.mtime {
        return violated(format!("{}: CREATE did not change mtime", path.display()));
    }
    std::thread::sleep(lab.settle);
    let content = content(lab);
    // At least a byte, for the same reason.
    let content = if content.is_empty() { vec![b'x'] } else { content };
    file.write(&content).map_err(at("write", &path))?;
    file.close().map_err(at("close", &path))?;
    let third = stat(lab, &path)?;
    if third.mtime <= second.mtime {
        return violated(format!("{}: WRITE did not change mtime", path.display()));
    }
    state.live[which].1 = content;
    Ok(())
}
