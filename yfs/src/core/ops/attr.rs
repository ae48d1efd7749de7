//! Changing attributes, the size among them.

use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::{BLOCK, Record};
use crate::core::fs::Fs;
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::tx::last_needed;
use crate::core::types::{Attr, Cred, FILE_SIZE_MAX, FileKind, Held, Ino, Mode, SetAttr, SetTime, Time};

const S_ISUID: u16 = 0o4000;
const S_ISGID: u16 = 0o2000;
const S_IXGRP: u16 = 0o0010;

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Changes attributes; a size cuts or grows.
    pub async fn setattr(&self, ino: Ino, set: SetAttr, cred: Cred) -> Result<Held<Attr, L::Guard>, FsError> {
        self.make_room(set.size.is_some_and(|size| size > 0)).await?;
        attempt!(self.setattr_once(ino, set, cred))
    }

    async fn setattr_once(&self, ino: Ino, set: SetAttr, cred: Cred) -> Result<Held<Attr, L::Guard>, Step> {
        let held = self.lock(&[(ino, Mode::Exclusive)]).await?;
        let mut record = self.record(&held, ino).await?;
        let mut last = None;
        if let Some(size) = set.size {
            check_size(&record, size)?;
            if let Some(index) = last_needed(&record, size) {
                last = self.blocks(&held, &record, [index], 0).await?.remove(&index);
            }
        }
        let attr = {
            let mut tx = self.begin(&held)?;
            if let Some(size) = set.size {
                if size.div_ceil(BLOCK) > record.attr.size.div_ceil(BLOCK) {
                    tx.clear_tail(&record, size);
                }
                tx.resize(&mut record, size, last);
            }
            apply(&mut record, &set, cred, tx.now);
            tx.put(record);
            record.shown()
        };
        Ok(held.with(attr))
    }
}

fn check_size(record: &Record, size: u64) -> Result<(), FsError> {
    match record.attr.kind {
        FileKind::Regular if size <= FILE_SIZE_MAX => Ok(()),
        FileKind::Regular => Err(FsError::FileTooBig),
        FileKind::Directory => Err(FsError::IsDir),
        _ => Err(FsError::Invalid("only regular files have a size to set")),
    }
}

fn apply(record: &mut Record, set: &SetAttr, cred: Cred, now: Time) {
    if set.size.is_some() {
        record.modified(now);
        clear_privileges(record, cred);
    } else {
        record.changed(now);
    }
    let a = &mut record.attr;
    a.uid = set.uid.unwrap_or(a.uid);
    a.gid = set.gid.unwrap_or(a.gid);
    if (set.uid.is_some() || set.gid.is_some()) && a.kind != FileKind::Directory {
        a.perm = unprivileged(a.perm);
    }
    if let Some(mode) = set.mode {
        a.perm = (mode & 0o7777) as u16;
    }
    let stamp = a.ctime;
    let time = |set: Option<SetTime>, old: Time| match set {
        None => old,
        Some(SetTime::Now) => stamp,
        Some(SetTime::At(time)) => time,
    };
    a.atime = time(set.atime, a.atime);
    a.mtime = time(set.mtime, a.mtime);
}

/// Whoever changes a file's contents, unless root, takes set-uid and (where it means that) set-gid from it.
pub(super) fn clear_privileges(record: &mut Record, cred: Cred) {
    if cred.uid != 0 && record.attr.kind == FileKind::Regular {
        record.attr.perm = unprivileged(record.attr.perm);
    }
}

/// Without group execution, set-gid is the mark of mandatory locking and stays.
fn unprivileged(perm: u16) -> u16 {
    let gid = if perm & S_IXGRP != 0 { S_ISGID } else { 0 };
    perm & !(S_ISUID | gid)
}
