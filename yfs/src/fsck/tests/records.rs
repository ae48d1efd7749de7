//! Damage to records and data, and what is left of sessions.

use std::collections::BTreeSet;

use super::fixture::{Fixture, problems};
use crate::core::format::{self, BLOCK, Layout};
use crate::core::{FILE_SIZE_MAX, FileKind, Ino, Locks, OpenFlags, ROOT};
use crate::fsck::{Known, Problem};
use bytes::Bytes;

#[test]
fn keys_of_no_version() {
    for key in [&b"short"[..], &[0, 0, 0, 0, 0, 0, 0, 9, 0x99], &[0; 9]] {
        let fixture = Fixture::new();
        fixture.put(Bytes::copy_from_slice(key), format::mark());
        let found = problems(&fixture.check());
        assert!(matches!(&found[..], [(_, Problem::UnknownKey { .. })]), "{found:?}");
    }
}

#[test]
fn values_that_make_no_sense() {
    let fixture = Fixture::new();
    let damaged = [
        (format::inline_key(fixture.file), fixture.file, "data"),
        (format::attr_key(fixture.deep), fixture.deep, "attributes"),
        (format::entry_key(ROOT, b"pipe"), ROOT, "a directory entry"),
    ];
    for (key, ..) in &damaged {
        fixture.server().damage(key);
    }
    let found = problems(&fixture.check());
    for (key, ino, what) in damaged {
        let want = (ino, Problem::Undecodable { key: key.escape_ascii().to_string(), what });
        assert!(found.contains(&want), "{what}: {found:?}");
    }
    // The pipe has lost its only name; all else is as it was.
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.contains(&(fixture.pipe, Problem::WithoutEntry { kind: FileKind::Fifo })));
}

#[test]
fn attributes_that_are_missing() {
    let fixture = Fixture::new();
    for ino in [fixture.big, fixture.file, fixture.link, fixture.dir] {
        fixture.remove(format::attr_key(ino));
    }
    let mut want: Vec<_> =
        [fixture.big, fixture.file, fixture.link, fixture.dir].map(|ino| (ino, Problem::NoAttributes)).into();
    want.sort_by_key(|(ino, _)| *ino);
    assert_eq!(problems(&fixture.check()), want);
}

#[test]
fn sizes_that_cannot_be() {
    let fixture = Fixture::new();
    let (deep, big) = (fixture.deep, fixture.big);
    fixture.edit(deep, |r| r.attr.size = BLOCK + 1);
    fixture.edit(big, |r| r.attr.size = FILE_SIZE_MAX + 1);
    fixture.edit(fixture.pipe, |r| r.attr.size = 1);
    let found = problems(&fixture.check());
    let wrong = |ino: Ino, size, max| (ino, Problem::ImpossibleSize { size, max });
    let mut want = vec![
        wrong(deep, BLOCK + 1, BLOCK),
        wrong(big, FILE_SIZE_MAX + 1, FILE_SIZE_MAX),
        wrong(fixture.pipe, 1, 0),
    ];
    want.sort_by_key(|(ino, _)| *ino);
    assert_eq!(found, want);
}

#[test]
fn data_that_does_not_fit() {
    let fixture = Fixture::new();
    fixture.edit(fixture.file, |r| r.attr.size = 3);
    assert_eq!(problems(&fixture.check()), [(fixture.file, Problem::InlineBeyondSize { size: 3, len: 5 })]);
    let fixture = Fixture::new();
    fixture.put(format::inline_key(fixture.big), format::encode_bytes(b"more"));
    assert_eq!(problems(&fixture.check()), [(fixture.big, Problem::InlineBesideBulk { len: 4 })]);
}

#[test]
fn data_of_what_has_none() {
    let fixture = Fixture::new();
    fixture.put(format::inline_key(fixture.pipe), format::encode_bytes(b"x"));
    fixture.put(format::symlink_key(fixture.pipe), format::encode_bytes(b"x"));
    fixture.server().plant_block(fixture.pipe, 0, vec![1]);
    let kind = FileKind::Fifo;
    let want = ["inline data", "bulk data", "a symbolic link's target"];
    let want = want.map(|what| (fixture.pipe, Problem::ForeignData { kind, what }));
    assert_eq!(problems(&fixture.check()), want);
}

#[test]
fn symbolic_links() {
    let fixture = Fixture::new();
    fixture.edit(fixture.link, |r| r.attr.size = 3);
    let want = Problem::WrongTargetLength { size: 3, len: 8 };
    assert_eq!(problems(&fixture.check()), [(fixture.link, want)]);
    fixture.remove(format::symlink_key(fixture.link));
    assert_eq!(problems(&fixture.check()), [(fixture.link, Problem::NoTarget)]);
}

#[test]
fn blocks_behind_the_end_are_no_error() {
    let fixture = Fixture::new();
    fixture.server().plant_block(fixture.big, 9, vec![1]);
    fixture.server().plant_block(fixture.deep, 1, vec![1]);
    let report = fixture.check();
    let mut want = vec![
        (fixture.big, Problem::BlocksBeyondSize { size: 200_000, blocks: 5 }),
        (fixture.deep, Problem::BlocksBeyondSize { size: 0, blocks: 1 }),
    ];
    want.sort_by_key(|(ino, _)| *ino);
    assert_eq!(problems(&report), want);
    assert!(report.is_clean());
    fixture.edit(fixture.deep, |r| (r.layout, r.attr.size) = (Layout::Bulk, 3 * BLOCK));
    assert_eq!(problems(&fixture.check()).len(), 1, "a file may have holes");
}

#[test]
fn unlinked_and_open() {
    let mut fixture = Fixture::new();
    let other = fixture.mount();
    let fs = &fixture.client.fs;
    fixture.client.run(fs.open(fixture.deep, OpenFlags::default())).unwrap().into_value();
    other.run(other.fs.unlink(fixture.sub, b"deep")).unwrap();
    other.run(other.fs.flush_all()).unwrap();
    let session = fixture.client.locks.session();
    let report = fixture.check();
    assert_eq!(problems(&report), [(fixture.deep, Problem::Orphan { openers: vec![session] })]);
    assert!(report.is_clean());
    // Its session is gone.
    let known = Known { alive: Some(BTreeSet::new()), ..Known::default() };
    let found = problems(&fixture.check_with(&known));
    let want = [(fixture.deep, Problem::Orphan { openers: vec![] }), (0, Problem::DeadSession { session })];
    assert_eq!(found, want);
    // And what the rest must not be.
    fixture.remove(format::orphan_key(fixture.deep));
    assert_eq!(problems(&fixture.check()), [(fixture.deep, Problem::UnlinkedWithoutRecord)]);
    fixture.remove(format::opened_key(fixture.deep));
    let want = Problem::OpenerWithoutMark { sessions: vec![session] };
    assert!(problems(&fixture.check()).contains(&(fixture.deep, want)));
}

#[test]
fn records_of_orphans_that_are_none() {
    let fixture = Fixture::new();
    fixture.put(format::orphan_key(fixture.big), format::mark());
    fixture.put(format::orphan_key(1 << 40), format::mark());
    let want = [(fixture.big, Problem::OrphanRecordOfNamed), (1 << 40, Problem::OrphanRecordWithoutInode)];
    assert_eq!(problems(&fixture.check()), want);
}

#[test]
fn openers_of_nothing_and_of_the_past() {
    let fixture = Fixture::new();
    fixture.put(format::opened_key(1 << 40), format::mark());
    fixture.put(format::opener_key(1 << 40, 5), format::mark());
    fixture.put(format::opened_key(fixture.big), format::mark());
    fixture.put(format::opener_key(fixture.big, 6), format::mark());
    let want = [
        (fixture.big, Problem::StaleOpeners { sessions: vec![6] }),
        (1 << 40, Problem::StrayOpener { sessions: vec![5] }),
    ];
    assert_eq!(problems(&fixture.check()), want);
}

#[test]
fn numbers_that_were_not_given_out() {
    let fixture = Fixture::new();
    let last =
        [fixture.dir, fixture.sub, fixture.file, fixture.big, fixture.link, fixture.pipe, fixture.deep];
    let last = last.into_iter().max().unwrap();
    let below = |ino| Known { allocated_below: Some(ino), ..Known::default() };
    assert_eq!(problems(&fixture.check_with(&below(last + 1))), []);
    assert_eq!(problems(&fixture.check_with(&below(last))), [(last, Problem::NotAllocated { below: last })]);
    fixture.client.run(fixture.client.fs.unlink(ROOT, b"pipe")).unwrap();
    fixture.client.run(fixture.client.fs.flush_all()).unwrap();
    let server = fixture.server();
    let root: Vec<_> = server.pairs().map(|(key, value)| (key.clone(), value.clone())).collect();
    let attr = root.iter().find(|(key, _)| *key == format::attr_key(fixture.deep)).unwrap().1.clone();
    let mut low = root.clone();
    low.push((format::attr_key(500), attr));
    low.push((format::entry_key(ROOT, b"low"), format::encode_entry(500, FileKind::Regular)));
    low.sort();
    let found = problems(&crate::fsck::check(low, server.objects(), &Known::default()));
    assert!(found.contains(&(500, Problem::NotAllocated { below: 1 << 20 })), "{found:?}");
}

#[test]
fn every_problem_says_what_helps() {
    let fixture = Fixture::new();
    fixture.remove(format::attr_key(fixture.pipe));
    fixture.edit(fixture.file, |r| r.attr.nlink = 7);
    for finding in fixture.check().findings {
        let text = finding.to_string();
        assert!(!text.contains('\n') && text.contains(finding.problem.remedy()), "{text}");
        assert!(finding.problem.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    }
}
