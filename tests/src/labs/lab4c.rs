//! Lab 4c: two mounts, each busy in a directory of its own. Under `RPC_COUNT` it shows what caching saves.

use super::workers::{Task, names};
use super::{Lab, Result};
use std::path::{Path, PathBuf};

const FILES: usize = 100;

pub(super) fn run(lab: &mut Lab, dir1: &Path, dir2: &Path) -> Result<()> {
    let (name1, name2) = (format!("da{}", lab.tag), format!("db{}", lab.tag));
    let (one, two) = (dir1.join(&name1), dir2.join(&name2));
    lab.mkdir(&one)?;
    lab.mkdir(&two)?;
    write!(lab.out, "Create/delete in separate directories: ")?;
    lab.out.flush()?;
    let task = |dir: &PathBuf, prefix: &str| Task::CreateUnlink {
        dir: dir.clone(),
        prefix: prefix.into(),
        count: FILES,
    };
    lab.workers.both(lab.files, task(&one, "yy"), task(&two, "xx"))?;
    // Each through both mounts.
    for (name, prefix) in [(&name1, "yy"), (&name2, "xx")] {
        let last = names(prefix, FILES).last().expect("there are files");
        for dir in [dir1.join(name), dir2.join(name)] {
            lab.expect_list(&dir, [last.clone()])?;
            lab.expect_content(&dir.join(&last), last.as_bytes())?;
        }
    }
    lab.say("tests completed OK")
}
