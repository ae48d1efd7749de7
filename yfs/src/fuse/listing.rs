//! Directory listings: READDIR and READDIRPLUS.
//!
//! Cookies 1 and 2 stand behind `.` and `..`, which the core does not list; its own are larger. An answer that holds
//! fewer entries than would fit is fine, only an empty one means the end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::adapter::{GENERATION, Shared};
use super::attr::{file_attr, file_type};
use super::known::Epoch;
use crate::core::{Attr, Clock, DirEntry, Extents, FIRST_COOKIE, FileKind, Fs, FsError, Held, Ino, Locks};

/// Entries asked of the core for one answer: about what fits into the 32 KiB with which libc reads directories.
const NAMES_MAX: usize = 800;
/// As [`NAMES_MAX`], with attributes.
const ENTRIES_MAX: usize = 190;

const AFTER_DOT: u64 = 1;
const AFTER_DOT_DOT: u64 = 2;

/// A piece of a listing: the two entries every directory has, as far as they belong to it, and those of the core.
pub(super) struct Listing {
    dots: Vec<DirEntry>,
    entries: Vec<DirEntry>,
}

type Answer<G> = Result<Held<Listing, G>, FsError>;

/// The names behind `offset`.
pub(super) async fn names<L: Locks, E: Extents, C: Clock>(
    fs: Fs<L, E, C>,
    dir: Ino,
    offset: u64,
) -> Answer<L::Guard> {
    let dots = dots(&fs, dir, offset, false).await?;
    let entries = fs.readdir(dir, core_cookie(offset), NAMES_MAX, false).await?;
    Ok(entries.map(|entries| Listing { dots, entries }))
}

/// The names and attributes behind `offset`.
pub(super) async fn with_attributes<L: Locks, E: Extents, C: Clock>(
    fs: Fs<L, E, C>,
    dir: Ino,
    offset: u64,
) -> Answer<L::Guard> {
    let dots = dots(&fs, dir, offset, true).await?;
    let mut after = core_cookie(offset);
    loop {
        let mut held = fs.readdir(dir, after, ENTRIES_MAX, true).await?;
        let last = held.last().map(|entry| entry.cookie);
        held = held.map(|mut entries| {
            entries.retain(|entry| entry.attr.is_some()); // the others vanished meanwhile
            entries
        });
        match last {
            // All of them vanished: an empty answer would be taken for the end.
            Some(cookie) if held.is_empty() && dots.is_empty() => after = cookie,
            _ => return Ok(held.map(|entries| Listing { dots, entries })),
        }
    }
}

/// Where the core goes on.
fn core_cookie(offset: u64) -> u64 {
    if offset < FIRST_COOKIE { 0 } else { offset }
}

/// `.` and `..`, when the listing has not passed them.
async fn dots<L: Locks, E: Extents, C: Clock>(
    fs: &Fs<L, E, C>,
    dir: Ino,
    offset: u64,
    attrs: bool,
) -> Result<Vec<DirEntry>, FsError> {
    let mut dots = Vec::new();
    if offset < AFTER_DOT {
        dots.push(dot(fs, dir, b".", AFTER_DOT, attrs).await?);
    }
    if offset < AFTER_DOT_DOT {
        let parent = fs.parent(dir).await?;
        dots.push(dot(fs, parent, b"..", AFTER_DOT_DOT, attrs).await?);
    }
    Ok(dots)
}

async fn dot<L: Locks, E: Extents, C: Clock>(
    fs: &Fs<L, E, C>,
    ino: Ino,
    name: &[u8],
    cookie: u64,
    attrs: bool,
) -> Result<DirEntry, FsError> {
    let attr = if attrs { Some(dot_attr(fs, ino).await?) } else { None };
    Ok(DirEntry { name: name.to_vec(), ino, kind: FileKind::Directory, cookie, attr })
}

/// The kernel only takes number and kind from these (it links no dentry for `.` and `..`), so any state will do.
async fn dot_attr<L: Locks, E: Extents, C: Clock>(fs: &Fs<L, E, C>, ino: Ino) -> Result<Attr, FsError> {
    Ok(fs.getattr(ino).await?.into_value())
}

/// Fills an answer with names.
pub(super) fn reply_names(listing: &Listing, mut reply: ReplyDirectory) {
    for entry in listing.dots.iter().chain(&listing.entries) {
        let name = OsStr::from_bytes(&entry.name);
        if reply.add(INodeNo(entry.ino), entry.cookie, file_type(entry.kind), name) {
            break; // full
        }
    }
    reply.ok();
}

/// Fills an answer with names and attributes. Each but `.` and `..` counts as a lookup.
pub(super) fn reply_with_attributes<L: Locks, E: Extents, C: Clock>(
    listing: &Listing,
    shared: &Shared<L, E, C>,
    since: Epoch,
    mut reply: ReplyDirectoryPlus,
) {
    // One timeout for the entry and the attributes, and entries get none.
    let ttl = Duration::ZERO;
    let mut add = |entry: &DirEntry| {
        let attr = entry.attr.as_ref().expect("entries without attributes were left out");
        let name = OsStr::from_bytes(&entry.name);
        reply.add(INodeNo(entry.ino), entry.cookie, name, &ttl, &file_attr(attr), GENERATION)
    };
    if listing.dots.iter().all(|entry| !add(entry)) {
        for entry in &listing.entries {
            if add(entry) {
                break; // full
            }
            shared.learn(entry.ino, since);
        }
    }
    reply.ok();
}
