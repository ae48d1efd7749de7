//! The shape of the tree: by which entry each directory is reached, and what is not reached from the root at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::read::{Fault, Store};
use crate::core::types::{FileKind, Ino, ROOT};

/// Every directory is reached in it exactly once, from the root or from a top that should hang somewhere.
#[derive(Default)]
pub(super) struct Shape {
    /// The entry by which a directory is reached; none for the root and for tops.
    pub by: BTreeMap<Ino, usize>,
    /// Entries that give a directory another name.
    pub extra: Vec<usize>,
    /// Directories other than the root that are below nothing.
    pub tops: Vec<(Ino, Top)>,
    reached: BTreeSet<Ino>,
}

/// Why a directory is below nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Top {
    /// It has no name.
    Unnamed,
    /// It is below itself; these are the directories of the circle.
    Loop(Vec<Ino>),
}

impl Shape {
    pub fn of(store: &Store) -> Shape {
        let mut shape = Shape::default();
        if store.is_dir(ROOT) {
            shape.walk(store, ROOT);
        }
        let dirs: Vec<Ino> = store.inodes.keys().copied().filter(|ino| store.is_dir(*ino)).collect();
        for dir in &dirs {
            if !shape.reached.contains(dir) && store.names(&store.inodes[dir]).next().is_none() {
                shape.tops.push((*dir, Top::Unnamed));
                shape.walk(store, *dir);
            }
        }
        for dir in &dirs {
            if !shape.reached.contains(dir) {
                let circle = circle_above(store, *dir);
                let top = circle.iter().copied().min().unwrap_or(*dir);
                shape.tops.push((top, Top::Loop(circle)));
                shape.walk(store, top);
            }
        }
        shape
    }

    /// Reaches what is below `top`. A directory with several names is taken where it says that its parent is, if it is
    /// reached there without the others.
    fn walk(&mut self, store: &Store, top: Ino) {
        self.reached.insert(top);
        let mut queue = VecDeque::from([top]);
        let mut deferred = VecDeque::new();
        loop {
            while let Some(dir) = queue.pop_front() {
                for place in &store.inodes[&dir].children {
                    let Some(child) = subdirectory(store, *place) else { continue };
                    let only = store.names(&store.inodes[&child]).nth(1).is_none();
                    let own = store.record(child).is_some_and(|record| record.parent == dir);
                    if self.reached.contains(&child) {
                        self.extra.push(*place);
                    } else if only || own {
                        self.reach(child, *place, &mut queue);
                    } else {
                        deferred.push_back((child, *place));
                    }
                }
            }
            let Some((child, place)) = deferred.pop_front() else { return };
            if self.reached.contains(&child) {
                self.extra.push(place);
            } else {
                self.reach(child, place, &mut queue);
            }
        }
    }

    fn reach(&mut self, child: Ino, place: usize, queue: &mut VecDeque<Ino>) {
        self.reached.insert(child);
        self.by.insert(child, place);
        queue.push_back(child);
    }

    /// The path of a directory; `None` if it is not below the root.
    pub fn path(&self, store: &Store, dir: Ino) -> Option<String> {
        let (mut at, mut names) = (dir, Vec::new());
        while at != ROOT {
            let entry = &store.entries[*self.by.get(&at)?];
            names.push(shown(&entry.name));
            at = entry.dir;
        }
        names.reverse();
        Some(format!("/{}", names.join("/")))
    }

    /// A path of any inode, by its first name.
    pub fn path_of(&self, store: &Store, ino: Ino) -> Option<String> {
        if ino == ROOT || self.by.contains_key(&ino) {
            return self.path(store, ino);
        }
        let place = store.names(store.inodes.get(&ino)?).next()?;
        let entry = &store.entries[place];
        if store.is_dir(ino) { None } else { Some(join(&self.path(store, entry.dir)?, &shown(&entry.name))) }
    }
}

/// `dir/name`.
pub(super) fn join(dir: &str, name: &str) -> String {
    format!("{}/{name}", dir.trim_end_matches('/'))
}

/// A name as text on one line.
pub(super) fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}

fn subdirectory(store: &Store, place: usize) -> Option<Ino> {
    let entry = &store.entries[place];
    let is = Fault::counts(entry.fault) && store.kind(entry.child) == Some(FileKind::Directory);
    is.then_some(entry.child)
}

/// The circle that is met on the way up from a directory which neither the root nor an unnamed one is above.
fn circle_above(store: &Store, dir: Ino) -> Vec<Ino> {
    let mut way = vec![dir];
    loop {
        let at = way[way.len() - 1];
        let Some(place) = store.names(&store.inodes[&at]).next() else { return way };
        let above = store.entries[place].dir;
        if let Some(start) = way.iter().position(|ino| *ino == above) {
            return way.split_off(start);
        }
        way.push(above);
    }
}
