//! Damage to entries, counts and the tree.

use super::fixture::{Fixture, problems};
use crate::core::format::{encode_entry, entry_key, name_hash};
use crate::core::{FileKind, Ino, ROOT};
use crate::fsck::Problem;
use bytes::Bytes;

#[test]
fn a_store_made_by_the_core_is_clean() {
    let fixture = Fixture::new();
    let report = fixture.check();
    assert_eq!(problems(&report), []);
    let t = report.totals;
    assert_eq!((t.directories, t.files, t.others, t.entries, t.blocks), (3, 3, 2, 8, 4));
}

#[test]
fn an_empty_store_is_clean() {
    let report = crate::fsck::check([], [], &crate::fsck::Known::default());
    assert_eq!(problems(&report), []);
}

#[test]
fn an_entry_without_inode() {
    let fixture = Fixture::new();
    fixture.remove(crate::core::format::attr_key(fixture.pipe));
    let want = Problem::EntryWithoutInode { name: "pipe".into(), child: fixture.pipe };
    let report = fixture.check();
    assert_eq!(problems(&report), [(ROOT, want)]);
    let text = report.findings[0].to_string();
    assert!(text.contains("inode 1 (/)") && text.contains("pipe") && text.contains("repair"), "{text}");
}

#[test]
fn an_entry_of_a_kind_that_the_inode_is_not() {
    let fixture = Fixture::new();
    fixture.name(ROOT, b"pipe", fixture.pipe, FileKind::Socket);
    let want = Problem::WrongEntryKind {
        name: "pipe".into(),
        child: fixture.pipe,
        says: FileKind::Socket,
        is: FileKind::Fifo,
    };
    assert_eq!(problems(&fixture.check()), [(ROOT, want)]);
}

#[test]
fn an_entry_in_a_file() {
    let fixture = Fixture::new();
    fixture.name(fixture.deep, b"x", fixture.pipe, FileKind::Fifo);
    fixture.edit(fixture.pipe, |r| r.attr.nlink = 2);
    let want = Problem::EntryInFile { name: "x".into(), child: fixture.pipe };
    assert_eq!(problems(&fixture.check()), [(fixture.deep, want)]);
}

/// An entry's key under another hash than its name's.
pub fn misplaced(dir: Ino, name: &[u8]) -> Bytes {
    let mut key = entry_key(dir, name).to_vec();
    key[9..17].copy_from_slice(&(name_hash(name) ^ 1).to_be_bytes());
    key.into()
}

#[test]
fn an_entry_that_no_lookup_finds() {
    let fixture = Fixture::new();
    fixture.unname(ROOT, b"pipe");
    fixture.put(misplaced(ROOT, b"pipe"), encode_entry(fixture.pipe, FileKind::Fifo));
    let want = Problem::MisplacedEntry { name: "pipe".into(), child: fixture.pipe };
    assert_eq!(problems(&fixture.check()), [(ROOT, want)]);
}

#[test]
fn an_entry_that_is_there_twice() {
    let fixture = Fixture::new();
    fixture.put(misplaced(ROOT, b"pipe"), encode_entry(fixture.pipe, FileKind::Fifo));
    fixture.edit(ROOT, |r| r.attr.size += 1);
    fixture.edit(fixture.pipe, |r| r.attr.nlink = 2);
    let want = Problem::DuplicateEntry { name: "pipe".into(), child: fixture.pipe };
    assert_eq!(problems(&fixture.check()), [(ROOT, want)]);
}

#[test]
fn names_that_no_file_may_have() {
    let long = vec![b'n'; 256];
    for name in [&b".."[..], b".", b"a/b", b"a\0b", &long] {
        let fixture = Fixture::new();
        fixture.name(ROOT, name, fixture.pipe, FileKind::Fifo);
        fixture.edit(ROOT, |r| r.attr.size += 1);
        fixture.edit(fixture.pipe, |r| r.attr.nlink = 2);
        let found = problems(&fixture.check());
        assert!(matches!(&found[..], [(ROOT, Problem::BadName { child, .. })] if *child == fixture.pipe));
    }
}

#[test]
fn an_inode_without_entry() {
    let fixture = Fixture::new();
    fixture.unname(ROOT, b"pipe");
    fixture.edit(ROOT, |r| r.attr.size -= 1);
    assert_eq!(problems(&fixture.check()), [(fixture.pipe, Problem::WithoutEntry { kind: FileKind::Fifo })]);
}

#[test]
fn a_directory_without_entry_is_found_and_not_what_is_below_it() {
    let fixture = Fixture::new();
    fixture.unname(ROOT, b"dir");
    fixture.edit(ROOT, |r| (r.attr.size, r.attr.nlink) = (r.attr.size - 1, 2));
    let report = fixture.check();
    assert_eq!(problems(&report), [(fixture.dir, Problem::WithoutEntry { kind: FileKind::Directory })]);
    assert_eq!(report.findings[0].path, None);
}

#[test]
fn link_counts_and_sizes_of_directories() {
    let fixture = Fixture::new();
    fixture.edit(fixture.dir, |r| (r.attr.size, r.attr.nlink) = (9, 8));
    fixture.edit(fixture.file, |r| r.attr.nlink = 1);
    let mut want = vec![
        (fixture.dir, Problem::WrongLinks { says: 8, counted: 3 }),
        (fixture.dir, Problem::WrongEntryCount { says: 9, counted: 2 }),
        (fixture.file, Problem::WrongLinks { says: 1, counted: 2 }),
    ];
    want.sort_by_key(|(ino, _)| *ino);
    let report = fixture.check();
    assert_eq!(problems(&report), want);
    assert_eq!(report.findings[0].path.as_deref(), Some("/dir"));
}

#[test]
fn a_parent_that_is_another() {
    let fixture = Fixture::new();
    fixture.edit(fixture.sub, |r| r.parent = ROOT);
    let want = Problem::WrongParent { says: ROOT, is: fixture.dir };
    assert_eq!(problems(&fixture.check()), [(fixture.sub, want)]);
}

#[test]
fn a_directory_with_two_names_keeps_the_one_in_its_parent() {
    let fixture = Fixture::new();
    fixture.name(ROOT, b"a", fixture.sub, FileKind::Directory);
    fixture.edit(ROOT, |r| (r.attr.size, r.attr.nlink) = (r.attr.size + 1, r.attr.nlink + 1));
    let want = Problem::SecondName { name: "a".into(), child: fixture.sub };
    assert_eq!(problems(&fixture.check()), [(ROOT, want)]);
}

#[test]
fn a_directory_with_two_names_is_not_found_below_itself() {
    let fixture = Fixture::new();
    fixture.name(fixture.sub, b"up", fixture.dir, FileKind::Directory);
    fixture.edit(fixture.sub, |r| (r.attr.size, r.attr.nlink) = (r.attr.size + 1, r.attr.nlink + 1));
    fixture.edit(fixture.dir, |r| r.parent = fixture.sub);
    let found = problems(&fixture.check());
    let want = [
        (fixture.sub, Problem::SecondName { name: "up".into(), child: fixture.dir }),
        (fixture.dir, Problem::WrongParent { says: fixture.sub, is: ROOT }),
    ];
    assert_eq!(found, want);
}

#[test]
fn directories_below_themselves() {
    let fixture = Fixture::new();
    fixture.unname(ROOT, b"dir");
    fixture.edit(ROOT, |r| (r.attr.size, r.attr.nlink) = (r.attr.size - 1, 2));
    fixture.name(fixture.sub, b"up", fixture.dir, FileKind::Directory);
    fixture.edit(fixture.sub, |r| (r.attr.size, r.attr.nlink) = (r.attr.size + 1, r.attr.nlink + 1));
    fixture.edit(fixture.dir, |r| r.parent = fixture.sub);
    let found = problems(&fixture.check());
    let [(top, Problem::Loop { through })] = &found[..] else { panic!("{found:?}") };
    let mut through = through.clone();
    through.sort_unstable();
    let mut circle = vec![fixture.dir, fixture.sub];
    circle.sort_unstable();
    assert_eq!((*top, through), (circle[0], circle));
}

#[test]
fn a_root_that_is_gone_or_something_else() {
    let fixture = Fixture::new();
    fixture.edit(ROOT, |r| r.attr.kind = FileKind::Fifo);
    let want = Problem::RootIsNoDirectory { kind: FileKind::Fifo };
    assert_eq!(problems(&fixture.check()), [(ROOT, want)]);
    let fixture = Fixture::new();
    fixture.server().plant(crate::core::format::attr_key(ROOT), None);
    assert_eq!(problems(&fixture.check()), [(ROOT, Problem::NoAttributes)]);
    let mut keys: Vec<_> = fixture.server().pairs().map(|(key, _)| key.clone()).collect();
    keys.retain(|key| key.starts_with(&ROOT.to_be_bytes()));
    keys.into_iter().for_each(|key| fixture.remove(key));
    assert!(problems(&fixture.check()).contains(&(ROOT, Problem::NoRoot)));
}
