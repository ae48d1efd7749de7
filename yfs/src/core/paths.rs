//! Paths of inodes for messages, as far as cached directories know them.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::State;
use super::types::{Ino, ROOT};

/// Directories one path is followed through.
const DEPTH_MAX: usize = 64;

/// A path of each of `inos` that cached entries lead to; one that is not complete begins with `…`. Looks at every cached
/// entry once.
pub fn paths(state: &State, inos: &BTreeSet<Ino>) -> BTreeMap<Ino, String> {
    let mut places: BTreeMap<Ino, (Ino, String)> = BTreeMap::new();
    for (&parent, inode) in &state.inodes {
        let Some(dir) = &inode.dir else { continue };
        for (name, (ino, kind)) in dir.entries() {
            if inos.contains(&ino) || kind == super::types::FileKind::Directory {
                places.insert(ino, (parent, name.escape_ascii().to_string()));
            }
        }
    }
    inos.iter().filter_map(|&ino| Some((ino, path(&places, ino)?))).collect()
}

fn path(places: &BTreeMap<Ino, (Ino, String)>, ino: Ino) -> Option<String> {
    if ino == ROOT {
        return Some("/".into());
    }
    let mut names = Vec::new();
    let mut at = ino;
    while at != ROOT && names.len() < DEPTH_MAX {
        let Some((parent, name)) = places.get(&at) else { break };
        names.push(name.as_str());
        at = *parent;
    }
    names.reverse();
    (!names.is_empty()).then(|| format!("{}/{}", if at == ROOT { "" } else { "…" }, names.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::FileKind;

    #[test]
    fn what_is_cached_names_what_is_below_it() {
        let mut state = State::new();
        let mut enter = |dir, name: &[u8], target, kind| {
            state.with_dir(dir, |d| {
                d.learn(name, Some((target, kind)));
            });
        };
        enter(ROOT, b"dir", 10, FileKind::Directory);
        enter(10, b"a file", 11, FileKind::Regular);
        enter(90, b"stray\n", 91, FileKind::Regular);
        let found = paths(&state, &BTreeSet::from([ROOT, 10, 11, 91, 99]));
        let found: Vec<(Ino, &str)> = found.iter().map(|(ino, path)| (*ino, path.as_str())).collect();
        assert_eq!(found, [(ROOT, "/"), (10, "/dir"), (11, "/dir/a file"), (91, "…/stray\\n")]);
    }

    #[test]
    fn a_circle_ends() {
        let mut state = State::new();
        for (dir, target) in [(10, 11), (11, 10)] {
            state.with_dir(dir, |d| {
                d.learn(b"x", Some((target, FileKind::Directory)));
            });
        }
        assert!(paths(&state, &BTreeSet::from([10]))[&10].starts_with('…'));
    }
}
