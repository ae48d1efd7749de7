//! The lines of README that run `examples/kv.rs` are run as they stand there: three processes, one of them killed, the master.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../README.md");
const PROGRAM: &str = "target/debug/examples/kv";
const PORTS: [&str; 3] = ["7001", "7002", "7003"];

/// The commands of the section, without comments.
fn commands() -> Vec<&'static str> {
    let section = README.split("\n## Use the library\n").nth(1).expect("README has the section");
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| line.split('#').next().unwrap().trim()).collect()
}

/// The example, built as README says, unless this build made it along with the tests.
fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let built = here.parent().and_then(Path::parent).unwrap().join("examples/kv");
    if !built.is_file() {
        let cargo = Command::new(env!("CARGO")).args(["build", "-p", "lock_rsm", "--example", "kv"]).status();
        assert!(cargo.unwrap().success());
    }
    assert!(built.is_file(), "{} is not there", built.display());
    built
}

/// What was started in the background, ended whatever happens.
#[derive(Default)]
struct Jobs(Vec<Child>);

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in &mut self.0 {
            job.kill().ok();
            job.wait().ok();
        }
    }
}

#[test]
fn the_lines_of_readme_work() {
    let program = program();
    let dir = tempfile::tempdir().unwrap();
    let listeners: Vec<TcpListener> =
        PORTS.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let free: Vec<String> = listeners.iter().map(|l| l.local_addr().unwrap().port().to_string()).collect();
    drop(listeners);
    // All but the ports, which others may use, and the place of the program.
    let here = |word: &str| -> String {
        PORTS.iter().zip(&free).fold(word.to_owned(), |word, (theirs, ours)| word.replace(theirs, ours))
    };
    let start = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words.iter().map(|word| here(word))).current_dir(dir.path()).stdin(Stdio::null());
        command
    };
    let mut jobs = Jobs::default();
    let mut said = Vec::new();
    for line in commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["cargo", "build", "-p", "lock_rsm", "--example", "kv"] => {}
            [PROGRAM, rest @ .., "&"] => {
                jobs.0.push(start(rest).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            }
            [PROGRAM, rest @ ..] => {
                let output = start(rest).output().unwrap();
                assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
                said.push(String::from_utf8(output.stdout).unwrap().trim().to_owned());
            }
            ["kill", job] => {
                let number: usize = job.strip_prefix('%').unwrap().parse().unwrap();
                let job = &mut jobs.0[number - 1];
                // SAFETY: the child is ours and not waited for, so the id is its own.
                assert_eq!(unsafe { libc::kill(job.id().cast_signed(), libc::SIGTERM) }, 0);
                job.wait().unwrap();
            }
            other => panic!("a line of README this test does not know: {other:?}"),
        }
    }
    assert_eq!(jobs.0.len(), 3);
    assert_eq!(said, ["was not set", "blue", "was blue", "green"]);
}
