//! A reference file system in memory: what POSIX says, as simply as it can be said.

use std::collections::BTreeMap;

use crate::core::{FileKind, FsError, RenameFlags};

/// A path: names from the root; empty = the root.
pub type Path = Vec<&'static str>;

/// An operation of the tests.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Action {
    Create { path: Path, exclusive: bool, truncate: bool },
    Mkdir { path: Path },
    Symlink { path: Path, target: &'static str },
    Link { from: Path, to: Path },
    Unlink { path: Path },
    Rmdir { path: Path },
    Rename { from: Path, to: Path, flags: RenameFlags },
    Write { path: Path, offset: u64, len: usize, fill: u8 },
    Append { path: Path, len: usize, fill: u8 },
    Truncate { path: Path, size: u64 },
    Chmod { path: Path, mode: u16 },
    Open { slot: usize, path: Path },
    WriteOpen { slot: usize, offset: u64, len: usize, fill: u8 },
    Close { slot: usize },
    Fsync { path: Path },
    FlushAll,
    GiveBack,
}

/// Slots for open files.
pub const SLOTS: usize = 3;

/// What is written: the fill byte, varied by position so that misplaced data shows.
pub fn pattern(fill: u8, offset: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| fill.wrapping_add(((offset + i) / 251) as u8) | 1).collect()
}

/// An inode of the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A file's contents.
    File(Vec<u8>),
    /// A directory's entries.
    Dir(BTreeMap<&'static str, usize>),
    /// A link's target.
    Symlink(&'static str),
}

/// What the tests compare of an inode.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Identity in the model; not compared.
    pub id: usize,
    /// Kind.
    pub kind: FileKind,
    /// Permission bits.
    pub perm: u16,
    /// Links.
    pub nlink: u32,
    /// File contents or link target.
    pub data: Vec<u8>,
}

/// A whole tree by path.
pub type Tree = BTreeMap<String, Seen>;

/// The reference file system.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<usize, (Node, u16)>,
    next: usize,
    slots: [Option<usize>; SLOTS],
}

type Result<T> = std::result::Result<T, FsError>;
const ROOT: usize = 0;

impl Default for Model {
    fn default() -> Model {
        let root = (Node::Dir(BTreeMap::new()), 0o755);
        Model { nodes: BTreeMap::from([(ROOT, root)]), next: 1, slots: [None; SLOTS] }
    }
}

impl Model {
    fn dir(&self, id: usize) -> Result<&BTreeMap<&'static str, usize>> {
        match &self.nodes[&id].0 {
            Node::Dir(entries) => Ok(entries),
            _ => Err(FsError::NotDir),
        }
    }

    fn dir_mut(&mut self, id: usize) -> &mut BTreeMap<&'static str, usize> {
        match &mut self.nodes.get_mut(&id).expect("it was found").0 {
            Node::Dir(entries) => entries,
            _ => unreachable!("it was found to be a directory"),
        }
    }

    fn walk(&self, path: &[&'static str]) -> Result<usize> {
        path.iter().try_fold(ROOT, |at, name| self.dir(at)?.get(name).copied().ok_or(FsError::NotFound))
    }

    fn parent(&self, path: &Path) -> Result<(usize, &'static str)> {
        let (name, above) = path.split_last().ok_or(FsError::Invalid("the root has no name"))?;
        let dir = self.walk(above)?;
        self.dir(dir)?;
        Ok((dir, name))
    }

    fn is_dir(&self, id: usize) -> bool {
        matches!(self.nodes[&id].0, Node::Dir(_))
    }

    fn file(&mut self, id: usize) -> Result<&mut Vec<u8>> {
        match &mut self.nodes.get_mut(&id).expect("it was found").0 {
            Node::File(data) => Ok(data),
            Node::Dir(_) => Err(FsError::IsDir),
            Node::Symlink(_) => Err(FsError::Invalid("")),
        }
    }

    fn make(&mut self, path: &Path, node: Node, perm: u16) -> Result<usize> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.contains_key(name) {
            return Err(FsError::Exists);
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, (node, perm));
        self.dir_mut(dir).insert(name, id);
        Ok(id)
    }

    fn nlink(&self, id: usize) -> u32 {
        let dirs = self.nodes.values().filter_map(|n| if let Node::Dir(d) = &n.0 { Some(d) } else { None });
        let names = dirs.flat_map(|d| d.values()).filter(|child| **child == id).count() as u32;
        match &self.nodes[&id].0 {
            Node::Dir(entries) => 2 + entries.values().filter(|child| self.is_dir(**child)).count() as u32,
            _ => names,
        }
    }

    fn collect(&mut self, id: usize) {
        if id != ROOT && !self.is_dir(id) && self.nlink(id) == 0 && !self.slots.contains(&Some(id)) {
            self.nodes.remove(&id);
        }
    }

    fn write(&mut self, id: usize, offset: u64, data: &[u8]) -> Result<()> {
        let file = self.file(id)?;
        if data.is_empty() {
            return Ok(());
        }
        let end = offset as usize + data.len();
        file.resize(file.len().max(end), 0);
        file[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    /// Does what the operation says.
    pub fn apply(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Create { path, exclusive, truncate } => self.create(path, *exclusive, *truncate),
            Action::Mkdir { path } => self.make(path, Node::Dir(BTreeMap::new()), 0o755).map(drop),
            Action::Symlink { path, target } => self.make(path, Node::Symlink(target), 0o777).map(drop),
            Action::Link { from, to } => self.link(from, to),
            Action::Unlink { path } => self.unlink(path),
            Action::Rmdir { path } => self.rmdir(path),
            Action::Rename { from, to, flags } => self.rename(from, to, *flags),
            Action::Write { path, offset, len, fill } => {
                let id = self.walk(path)?;
                self.write(id, *offset, &pattern(*fill, *offset, *len))
            }
            Action::Append { path, len, fill } => {
                let id = self.walk(path)?;
                let end = self.file(id)?.len() as u64;
                self.write(id, end, &pattern(*fill, end, *len))
            }
            Action::Truncate { path, size } => {
                let id = self.walk(path)?;
                self.file(id)?.resize(*size as usize, 0);
                Ok(())
            }
            Action::Chmod { path, mode } => {
                let id = self.walk(path)?;
                self.nodes.get_mut(&id).expect("it was found").1 = *mode;
                Ok(())
            }
            Action::Open { slot, path } => self.open(*slot, path),
            Action::WriteOpen { slot, offset, len, fill } => match self.slots[*slot] {
                Some(id) => self.write(id, *offset, &pattern(*fill, *offset, *len)),
                None => Ok(()),
            },
            Action::Close { slot } => {
                if let Some(id) = self.slots[*slot].take() {
                    self.collect(id);
                }
                Ok(())
            }
            Action::Fsync { path } => self.walk(path).map(drop),
            Action::FlushAll | Action::GiveBack => Ok(()),
        }
    }

    fn create(&mut self, path: &Path, exclusive: bool, truncate: bool) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        match self.dir(dir)?.get(name).copied() {
            None => self.make(path, Node::File(Vec::new()), 0o644).map(drop),
            Some(_) if exclusive => Err(FsError::Exists),
            Some(id) if self.is_dir(id) => Err(FsError::IsDir),
            Some(id) => {
                if let (true, Ok(data)) = (truncate, self.file(id)) {
                    data.clear();
                }
                Ok(())
            }
        }
    }

    fn open(&mut self, slot: usize, path: &Path) -> Result<()> {
        if self.slots[slot].is_some() {
            return Ok(());
        }
        let id = self.walk(path)?;
        self.file(id)?;
        self.slots[slot] = Some(id);
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> Result<()> {
        let id = self.walk(from)?;
        let (dir, name) = self.parent(to)?;
        if self.is_dir(id) {
            return Err(FsError::NotPermitted);
        }
        if self.dir(dir)?.contains_key(name) {
            return Err(FsError::Exists);
        }
        self.dir_mut(dir).insert(name, id);
        Ok(())
    }

    fn unlink(&mut self, path: &Path) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let id = *self.dir(dir)?.get(name).ok_or(FsError::NotFound)?;
        if self.is_dir(id) {
            return Err(FsError::IsDir);
        }
        self.dir_mut(dir).remove(name);
        self.collect(id);
        Ok(())
    }

    fn rmdir(&mut self, path: &Path) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let id = *self.dir(dir)?.get(name).ok_or(FsError::NotFound)?;
        if !self.dir(id)?.is_empty() {
            return Err(FsError::NotEmpty);
        }
        self.dir_mut(dir).remove(name);
        self.nodes.remove(&id);
        Ok(())
    }

    fn below(&self, id: usize, root: usize) -> bool {
        id == root || self.dir(root).is_ok_and(|d| d.values().any(|child| self.below(id, *child)))
    }

    fn rename(&mut self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        let (dir, name) = self.parent(from)?;
        let (new_dir, new_name) = self.parent(to)?;
        let id = *self.dir(dir)?.get(name).ok_or(FsError::NotFound)?;
        let target = self.dir(new_dir)?.get(new_name).copied();
        if self.is_dir(id) && dir != new_dir && self.below(new_dir, id) {
            return Err(FsError::Invalid(""));
        }
        match target {
            Some(_) if flags.no_replace => return Err(FsError::Exists),
            None if flags.exchange => return Err(FsError::NotFound),
            Some(target) if target == id => return Ok(()),
            Some(target) if flags.exchange => {
                if self.is_dir(target) && dir != new_dir && self.below(dir, target) {
                    return Err(FsError::Invalid(""));
                }
                self.dir_mut(dir).insert(name, target);
                self.dir_mut(new_dir).insert(new_name, id);
                return Ok(());
            }
            Some(target) => match (self.is_dir(id), self.is_dir(target)) {
                (true, false) => return Err(FsError::NotDir),
                (false, true) => return Err(FsError::IsDir),
                (true, true) if !self.dir(target)?.is_empty() => return Err(FsError::NotEmpty),
                _ => {}
            },
            None => {}
        }
        self.dir_mut(dir).remove(name);
        self.dir_mut(new_dir).insert(new_name, id);
        match target {
            Some(target) if self.is_dir(target) => drop(self.nodes.remove(&target)),
            Some(target) => self.collect(target),
            None => {}
        }
        Ok(())
    }

    /// The contents of an open slot.
    pub fn slot(&self, slot: usize) -> Option<&[u8]> {
        match &self.nodes[&self.slots[slot]?].0 {
            Node::File(data) => Some(data),
            _ => None,
        }
    }

    /// Everything with a name.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        self.show(ROOT, "", &mut tree);
        tree
    }

    fn show(&self, id: usize, path: &str, tree: &mut Tree) {
        let (node, perm) = &self.nodes[&id];
        let (kind, data) = match node {
            Node::File(data) => (FileKind::Regular, data.clone()),
            Node::Symlink(target) => (FileKind::Symlink, target.as_bytes().to_vec()),
            Node::Dir(entries) => {
                for (name, child) in entries {
                    self.show(*child, &format!("{path}/{name}"), tree);
                }
                (FileKind::Directory, Vec::new())
            }
        };
        tree.insert(path.to_owned(), Seen { id, kind, perm: *perm, nlink: self.nlink(id), data });
    }
}
