//! Looking at the whole: a tree as a mount shows it, and whether the store's records agree with each other.

use std::collections::BTreeSet;

use super::model::{Action, SLOTS, Seen, Tree, pattern};
use super::store::Server;
use super::world::TestFs;
use crate::core::{Cred, FileKind, FsError, Ino, OpenFlags, ROOT, SetAttr};
use crate::fsck::{Known, Report};

/// The user of the tests.
pub const USER: Cred = Cred { uid: 0, gid: 0 };

/// The open files of a test; which mount opened each is up to the test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slots(pub [Option<Ino>; SLOTS]);

async fn walk(fs: &TestFs, path: &[&'static str]) -> Result<Ino, FsError> {
    let mut at = ROOT;
    for name in path {
        at = match fs.lookup(at, name.as_bytes()).await?.value {
            Some(attr) => attr.ino,
            None => return Err(FsError::NotFound),
        };
    }
    Ok(at)
}

async fn place<'a>(fs: &TestFs, path: &'a [&'static str]) -> Result<(Ino, &'a [u8]), FsError> {
    let (name, above) = path.split_last().ok_or(FsError::Invalid("the root has no name"))?;
    Ok((walk(fs, above).await?, name.as_bytes()))
}

/// Does on a mount what [`super::model::Model::apply`] does on the model.
pub async fn perform(fs: &TestFs, action: &Action, slots: &mut Slots) -> Result<(), FsError> {
    match action {
        Action::Create { path, exclusive, truncate } => {
            let (dir, name) = place(fs, path).await?;
            let flags = OpenFlags { exclusive: *exclusive, truncate: *truncate };
            let ino = fs.create(dir, name, 0o644, USER, flags).await?.value.ino;
            fs.release(ino).await?;
        }
        Action::Mkdir { path } => {
            let (dir, name) = place(fs, path).await?;
            fs.mkdir(dir, name, 0o755, USER).await?;
        }
        Action::Symlink { path, target } => {
            let (dir, name) = place(fs, path).await?;
            fs.symlink(dir, name, target.as_bytes(), USER).await?;
        }
        Action::Link { from, to } => {
            let ino = walk(fs, from).await?;
            let (dir, name) = place(fs, to).await?;
            fs.link(ino, dir, name).await?;
        }
        Action::Unlink { path } => {
            let (dir, name) = place(fs, path).await?;
            fs.unlink(dir, name).await?;
        }
        Action::Rmdir { path } => {
            let (dir, name) = place(fs, path).await?;
            fs.rmdir(dir, name).await?;
        }
        Action::Rename { from, to, flags } => {
            let (dir, name) = place(fs, from).await?;
            let (new_dir, new_name) = place(fs, to).await?;
            fs.rename(dir, name, new_dir, new_name, *flags).await?;
        }
        _ => return perform_on_file(fs, action, slots).await,
    }
    Ok(())
}

async fn perform_on_file(fs: &TestFs, action: &Action, slots: &mut Slots) -> Result<(), FsError> {
    match action {
        Action::Write { path, offset, len, fill } => {
            let ino = walk(fs, path).await?;
            fs.write(ino, *offset, pattern(*fill, *offset, *len).into(), false, USER).await?;
        }
        Action::Append { path, len, fill } => {
            let ino = walk(fs, path).await?;
            let end = fs.getattr(ino).await?.size;
            fs.write(ino, 0, pattern(*fill, end, *len).into(), true, USER).await?;
        }
        Action::Truncate { path, size } => {
            let ino = walk(fs, path).await?;
            fs.setattr(ino, SetAttr { size: Some(*size), ..SetAttr::default() }, USER).await?;
        }
        Action::Chmod { path, mode } => {
            let ino = walk(fs, path).await?;
            fs.setattr(ino, SetAttr { mode: Some(u32::from(*mode)), ..SetAttr::default() }, USER).await?;
        }
        Action::Open { slot, path } if slots.0[*slot].is_none() => {
            let ino = walk(fs, path).await?;
            match fs.getattr(ino).await?.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(FsError::IsDir),
                _ => return Err(FsError::Invalid("")),
            }
            fs.open(ino, OpenFlags::default()).await?;
            slots.0[*slot] = Some(ino);
        }
        Action::WriteOpen { slot, offset, len, fill } => {
            if let Some(ino) = slots.0[*slot] {
                fs.write(ino, *offset, pattern(*fill, *offset, *len).into(), false, USER).await?;
            }
        }
        Action::Close { slot } => {
            if let Some(ino) = slots.0[*slot].take() {
                fs.release(ino).await?;
            }
        }
        Action::Fsync { path } => fs.fsync(walk(fs, path).await?).await?,
        Action::FlushAll => fs.flush_all().await?,
        Action::GiveBack => fs.locks().give_back_all().await?,
        _ => {}
    }
    Ok(())
}

/// The whole contents of a file, read in odd pieces.
pub async fn contents(fs: &TestFs, ino: Ino) -> Result<Vec<u8>, FsError> {
    let mut data = Vec::new();
    loop {
        let piece = fs.read(ino, data.len() as u64, 50_001).await?;
        if piece.is_empty() {
            return Ok(data);
        }
        data.extend_from_slice(&piece);
    }
}

/// The tree as a mount shows it; `page` entries at a time.
pub async fn tree(fs: &TestFs, page: usize) -> Result<Tree, FsError> {
    let mut tree = Tree::new();
    let mut todo = vec![(String::new(), fs.getattr(ROOT).await?.value)];
    while let Some((path, attr)) = todo.pop() {
        let data = match attr.kind {
            FileKind::Regular => contents(fs, attr.ino).await?,
            FileKind::Symlink => fs.readlink(attr.ino).await?.to_vec(),
            _ => Vec::new(),
        };
        if attr.kind == FileKind::Directory {
            let children = list(fs, attr.ino, page).await?;
            assert_eq!(
                children.len() as u64,
                attr.size,
                "{path}: a directory's size is its number of entries"
            );
            for (name, child) in children {
                assert!(child.kind != FileKind::Directory || fs.parent(child.ino).await? == attr.ino);
                todo.push((format!("{path}/{name}"), child));
            }
        } else {
            assert_eq!(data.len() as u64, attr.size, "{path}: a file has as many bytes as its size says");
        }
        let seen = Seen { id: 0, kind: attr.kind, perm: attr.perm, nlink: attr.nlink, data };
        assert!(tree.insert(path.clone(), seen).is_none(), "{path} is listed twice");
    }
    Ok(tree)
}

async fn list(fs: &TestFs, dir: Ino, page: usize) -> Result<Vec<(String, crate::core::Attr)>, FsError> {
    let mut after = 0;
    let mut out = Vec::new();
    loop {
        let entries = fs.readdir(dir, after, page, true).await?.value;
        let Some(last) = entries.last() else { return Ok(out) };
        assert!(last.cookie > after, "cookies ascend");
        after = last.cookie;
        for entry in entries {
            let attr = entry.attr.ok_or(FsError::NotFound)?;
            assert_eq!((attr.ino, attr.kind), (entry.ino, entry.kind));
            out.push((String::from_utf8_lossy(&entry.name).into_owned(), attr));
        }
    }
}

/// The first difference of two trees, if any.
pub fn difference(got: &Tree, want: &Tree) -> Option<String> {
    let paths: BTreeSet<_> = got.keys().chain(want.keys()).collect();
    paths.into_iter().find_map(|path| match (got.get(path), want.get(path)) {
        (Some(g), Some(w)) => {
            let about =
                |s: &Seen| format!("{:?} {:o} links {} bytes {}", s.kind, s.perm, s.nlink, s.data.len());
            if about(g) != about(w) {
                return Some(format!("{path:?}: {} instead of {}", about(g), about(w)));
            }
            let at = g.data.iter().zip(&w.data).position(|(a, b)| a != b)?;
            Some(format!("{path:?}: byte {at} is {} instead of {}", g.data[at], w.data[at]))
        }
        (Some(_), None) => Some(format!("{path:?} should not be there")),
        (None, _) => Some(format!("{path:?} is missing")),
    })
}

/// What [`crate::fsck`] finds in the store.
pub fn fsck(server: &Server, known: &Known) -> Report {
    let pairs = server.pairs().map(|(key, value)| (key.clone(), value.clone()));
    crate::fsck::check(pairs, server.objects(), known)
}

/// Whether the store's records agree: entries with inodes, link counts and sizes with entries, parents, orphans, data.
pub fn check_store(server: &Server) -> Result<(), String> {
    fsck(server, &Known::default()).into_result()
}
