//! The steps. Each returns how many lines its main command printed, so that the next pass can interrupt it half-way.

use super::archive::Archive;
use super::command::{self, Printed};
use super::compare::{compare, compare_with_times};
use super::{Plan, WorkError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a step has to work with.
pub struct Work<'a> {
    pub name: &'static str,
    /// The pass's directory, as each mount shows it.
    pub mounts: &'a [PathBuf; 2],
    pub archive: &'a Archive,
    pub plan: &'a Plan,
    pub on_line: &'a mut dyn FnMut(usize),
}

/// One step.
pub type Step = fn(&mut Work) -> Result<usize, WorkError>;

/// All of them, in order; git uses what was unpacked.
pub const ALL: [(&str, Step); 4] = [("unpack", unpack), ("git", git), ("sqlite", sqlite), ("build", build)];

impl Work<'_> {
    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, WorkError> {
        Err(WorkError::Wrong { step: self.name, what: what.into() })
    }

    /// Runs the step's main command, the one that is interrupted.
    fn main(&mut self, command: Command, input: &str) -> Result<Printed, WorkError> {
        command::run(self.name, command, input, self.on_line)
    }

    /// Runs a command that only has to succeed.
    fn also(&self, command: Command) -> Result<Printed, WorkError> {
        command::run(self.name, command, "", &mut |_| ())
    }

    fn io<T>(&self, path: &Path, result: io::Result<T>) -> Result<T, WorkError> {
        result.or_else(|e| self.wrong(format!("{}: {e}", path.display())))
    }
}

fn unpack(work: &mut Work) -> Result<usize, WorkError> {
    let tree = work.mounts[0].join("source");
    work.io(&tree, fs::create_dir(&tree))?;
    let mut tar = Command::new("tar");
    tar.arg("xvf").arg(&work.archive.tar).arg("-C").arg(&tree);
    let lines = work.main(tar, "")?.lines;
    for mount in work.mounts {
        compare_with_times(&work.archive.reference, &mount.join("source"))
            .or_else(|what| work.wrong(what))?;
    }
    Ok(lines)
}

fn git_in(tree: &Path, args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.current_dir(tree)
        .args(["-c", "user.name=yfs", "-c", "user.email=yfs@localhost", "-c", "gc.auto=0"])
        .args(args);
    // Nobody's own settings.
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    git
}

fn git(work: &mut Work) -> Result<usize, WorkError> {
    let trees = work.mounts.each_ref().map(|mount| mount.join("source"));
    work.also(git_in(&trees[0], &["init", "-q"]))?;
    let lines = work.main(git_in(&trees[0], &["add", "-v", "."]), "")?.lines;
    work.also(git_in(&trees[0], &["commit", "-q", "-m", "sources"]))?;
    for tree in &trees {
        work.also(git_in(tree, &["fsck", "--strict", "--full"]))?;
        let status = work.also(git_in(tree, &["status", "--porcelain"]))?;
        if status.lines > 0 {
            return work.wrong(format!("git status in {} is not clean: {:?}", tree.display(), status.last));
        }
    }
    work.also(git_in(&trees[1], &["repack", "-q", "-a", "-d"]))?;
    // What git can give back is what was unpacked.
    let clone = work.mounts[1].join("clone");
    let (from, to) = (trees[0].to_string_lossy(), clone.to_string_lossy());
    work.also(git_in(&work.mounts[0], &["clone", "-q", "--no-local", &from, &to]))?;
    let files = compare_contents(&work.archive.reference, &work.mounts[0].join("clone"));
    match files {
        Ok(files) if files == work.archive.files => Ok(lines),
        Ok(files) => work.wrong(format!("the clone holds {files} of {} files", work.archive.files)),
        Err(what) => work.wrong(what),
    }
}

/// git keeps no modes but the executable bit, so the clone's modes are set like the reference's before comparing.
fn compare_contents(want: &Path, got: &Path) -> Result<usize, String> {
    fn adopt(want: &Path, got: &Path) -> io::Result<()> {
        for entry in fs::read_dir(want)? {
            let (from, to) = (entry?.path(), got);
            let to = to.join(from.file_name().expect("an entry has a name"));
            let meta = fs::symlink_metadata(&from)?;
            if meta.is_dir() {
                adopt(&from, &to)?;
            }
            fs::set_permissions(&to, meta.permissions())?;
            std::os::unix::fs::chown(
                &to,
                Some(std::os::unix::fs::MetadataExt::uid(&meta)),
                Some(std::os::unix::fs::MetadataExt::gid(&meta)),
            )?;
        }
        Ok(())
    }
    adopt(want, got).map_err(|e| format!("giving {} the modes of {}: {e}", got.display(), want.display()))?;
    compare(want, got, &[".git"])
}

/// Transactions, and rows of each.
const TRANSACTIONS: u64 = 150;
const ROWS: u64 = 40;

fn sqlite(work: &mut Work) -> Result<usize, WorkError> {
    let mut script = String::from("create table t(id integer primary key, name text, n integer);\n");
    script += "create index by_name on t(name);\n";
    for t in 0..TRANSACTIONS {
        script += "begin;\n";
        for r in t * ROWS..(t + 1) * ROWS {
            script += &format!(
                "insert into t values({r}, 'row number {r} {:x}', {r});\n",
                r.wrapping_mul(0x9e37_79b9)
            );
        }
        // Some churn, so that pages are freed and used again.
        script += &format!(
            "update t set name = name || '!' where id % 7 = {};\ncommit;\nselect 'done', {t};\n",
            t % 7
        );
    }
    script += "delete from t where id % 10 = 3;\nvacuum;\npragma integrity_check;\n";
    let mut command = Command::new("sqlite3");
    command.arg("-bail").arg(work.mounts[0].join("work.db"));
    let printed = work.main(command, &script)?;
    if printed.last.last().is_none_or(|line| line != "ok") {
        return work.wrong(format!("the integrity check says {:?}", printed.last));
    }
    let total = TRANSACTIONS * ROWS;
    let kept = |i: &u64| i % 10 != 3;
    let want = format!("ok|{}|{}", (0..total).filter(kept).count(), (0..total).filter(kept).sum::<u64>());
    for mount in work.mounts {
        let mut command = Command::new("sqlite3");
        command.arg(mount.join("work.db"));
        command.arg("select (select integrity_check from pragma_integrity_check), count(*), sum(n) from t;");
        let printed = work.also(command)?;
        if printed.last != [want.clone()] {
            return work.wrong(format!("through {}: {:?} instead of {want}", mount.display(), printed.last));
        }
    }
    Ok(printed.lines)
}

fn build(work: &mut Work) -> Result<usize, WorkError> {
    let project = work.mounts[0].join("project");
    let copied = copy_sources(&work.plan.project, &project);
    work.io(&work.plan.project, copied)?;
    let lines = work.main(cargo_build(&project, &work.plan.package), "")?.lines;
    // Everything it made is up to date by its time stamps: a second build compiles nothing.
    let again = work.also(cargo_build(&project, &work.plan.package))?;
    if let Some(line) = again.last.iter().find(|line| line.trim_start().starts_with("Compiling")) {
        return work.wrong(format!("a build that was complete is not any more: {line}"));
    }
    // And the second mount runs it.
    for program in executables(&work.mounts[1].join("project/target/debug")) {
        let mut command = Command::new(program);
        command.arg("--help");
        work.also(command)?;
    }
    Ok(lines)
}

fn cargo_build(project: &Path, package: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(project).args(["build", "--offline", "--locked", "-p", package]);
    // The compiler's own work is not what is tried here.
    cargo.args(["--config", "profile.dev.package.'*'.opt-level=0", "--config", "profile.dev.debug=false"]);
    // Built on the mount, whatever the settings outside are.
    cargo
        .env("CARGO_TARGET_DIR", project.join("target"))
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("RUSTFLAGS");
    cargo
}

fn executables(dir: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(runs).collect()
}

/// Copies a project without what was built from it and its history.
fn copy_sources(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name == "target" || name == ".git" {
            continue;
        }
        if kind.is_dir() {
            copy_sources(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
