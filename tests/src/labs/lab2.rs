//! Lab 2: create, look up, list; empty files only.

use super::files::How;
use super::{Lab, Result, at, violated};
use std::io;
use std::path::Path;

const FIRST: usize = 200;
const ROUNDS: usize = 100;

/// The files made so far, and the number of names ever made up.
struct State<'d> {
    dir: &'d Path,
    made: Vec<String>,
    named: usize,
}

pub(super) fn run(lab: &mut Lab, dir: &Path) -> Result<()> {
    let mut state = State { dir, made: Vec::new(), named: 0 };
    for _ in 0..FIRST {
        create(lab, &mut state)?;
    }
    for _ in 0..ROUNDS {
        if lab.rng.chance(10) {
            livecheck(lab, &state)?;
        }
        if lab.rng.chance(10) {
            let name = fresh_name(lab, &mut state);
            lab.expect_absent(&dir.join(name))?;
        }
        if lab.rng.chance(2) {
            dircheck(lab, &state)?;
        }
        if lab.rng.chance(50) {
            create(lab, &mut state)?;
        }
    }
    // The random rounds may have left one of these out.
    livecheck(lab, &state)?;
    let name = fresh_name(lab, &mut state);
    lab.expect_absent(&dir.join(name))?;
    dircheck(lab, &state)?;
    lab.say("Passed all tests!")
}

/// A name never used before.
fn fresh_name(lab: &mut Lab, state: &mut State) -> String {
    state.named += 1;
    format!("file-{}-{}-{}", lab.rng.letters(40), lab.tag, state.named)
}

fn create(lab: &mut Lab, state: &mut State) -> Result<()> {
    let name = fresh_name(lab, state);
    lab.write(&state.dir.join(&name), How::Truncate, b"")?;
    state.made.push(name);
    Ok(())
}

/// A file made before is there, empty, and not a directory.
fn livecheck(lab: &mut Lab, state: &State) -> Result<()> {
    let Some(name) = lab.rng.pick(&state.made) else { return Ok(()) };
    let path = state.dir.join(name);
    lab.expect_content(&path, b"")?;
    match lab.files.open(&path.join("xx"), How::Truncate) {
        Ok(_) => violated(format!("{}: a file was created below a regular file", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(()),
        Err(e) => Err(at("create below", &path)(e)),
    }
}

/// Every file is listed once, and no name of this run that was never created. Other runs' files may be there.
fn dircheck(lab: &mut Lab, state: &State) -> Result<()> {
    let found = lab.list(state.dir)?;
    if let Some(missing) = state.made.iter().find(|name| !found.contains(*name)) {
        return violated(format!("{}: {missing} is not listed", state.dir.display()));
    }
    let ours = format!("-{}-", lab.tag);
    let listed = found.iter().filter(|name| name.starts_with("file-") && name.contains(&ours)).count();
    if listed != state.made.len() {
        let (dir, made) = (state.dir.display(), state.made.len());
        return violated(format!("{dir}: lists {listed} files of this run, but {made} were created"));
    }
    Ok(())
}
