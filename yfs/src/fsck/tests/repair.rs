//! Each planted damage is found, repaired with one commit, not found again, and the tree is readable afterwards.

use std::collections::BTreeMap;

use super::fixture::Fixture;
use super::names::misplaced;
use crate::core::format::{self, BLOCK};
use crate::core::testing::check::tree;
use crate::core::testing::model::Seen;
use crate::core::{Extents, FILE_SIZE_MAX, FileKind, Locks, Op, ROOT, Time};
use crate::fsck::{Known, Plan, Reader};
use bytes::Bytes;

type Tree = BTreeMap<String, Seen>;

/// The plan of a repair, committed; and what another mount shows then.
fn repaired(fixture: &mut Fixture) -> (Plan, Tree) {
    let mut reader = Reader::default();
    {
        let server = fixture.server();
        server.pairs().for_each(|(key, value)| reader.pair(key, value));
        server.objects().into_iter().for_each(|object| reader.object(object));
    }
    let image = reader.finish();
    assert!(!image.check(&Known::default()).is_clean());
    let plan = image.plan(Time { secs: 1_800_000_000, nanos: 0 });
    // The mount that made the store is gone: it has cached what was damaged.
    fixture.client.crash(&fixture.world);
    let mender = fixture.mount();
    let session = mender.locks.session();
    mender.run(async { Ok(mender.store.commit(session, plan.ops.clone(), vec![]).await?) }).unwrap();
    let report = fixture.check();
    assert!(report.is_clean(), "{report}\n{plan:?}");
    assert!(mender.run(mender.fs.flush_all()).is_ok());
    mender.crash(&fixture.world);
    let heir = fixture.mount();
    heir.run(heir.fs.reclaim_orphans()).unwrap();
    let shown = heir.run(tree(&heir.fs, 3)).unwrap();
    heir.run(heir.fs.flush_all()).unwrap();
    let report = fixture.check();
    assert!(report.is_clean(), "after use: {report}");
    (plan, shown)
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

const ALL: [&str; 9] =
    ["", "/big", "/dir", "/dir/file", "/dir/sub", "/dir/sub/deep", "/link", "/other", "/pipe"];

/// What is there afterwards besides what was there before, and what not any more.
fn check(damage: impl FnOnce(&Fixture), more: &[String], less: &[&str]) -> Tree {
    let mut fixture = Fixture::new();
    damage(&fixture);
    let (_, shown) = repaired(&mut fixture);
    let mut want: Vec<&str> = ALL.into_iter().filter(|path| !less.contains(path)).collect();
    want.extend(more.iter().map(String::as_str));
    want.sort_unstable();
    assert_eq!(paths(&shown), want);
    shown
}

/// In lost+found, and that.
fn lost(names: &[&str]) -> Vec<String> {
    let inside = names.iter().map(|name| format!("/lost+found/{name}"));
    std::iter::once("/lost+found".to_owned()).chain(inside).collect()
}

#[test]
fn entries_that_stand_for_nothing_go() {
    check(|f| f.remove(format::attr_key(f.pipe)), &[], &["/pipe"]);
    check(|f| f.name(f.deep, b"x", f.pipe, FileKind::Fifo), &[], &[]);
    check(|f| f.name(ROOT, b"a/b", f.pipe, FileKind::Fifo), &[], &[]);
    check(|f| f.name(f.dir, b"nothing", 1 << 40, FileKind::Fifo), &[], &[]);
}

#[test]
fn entries_are_put_in_their_place() {
    let value = |f: &Fixture| format::encode_entry(f.pipe, FileKind::Fifo);
    check(|f| f.put(misplaced(ROOT, b"pipe"), value(f)), &[], &[]);
    let shown = check(
        |f| {
            f.unname(ROOT, b"pipe");
            f.put(misplaced(ROOT, b"pipe"), value(f));
        },
        &[],
        &[],
    );
    assert_eq!(shown["/pipe"].kind, FileKind::Fifo);
    check(|f| f.name(ROOT, b"pipe", f.pipe, FileKind::Socket), &[], &[]);
    check(|f| f.name(ROOT, b"dir", f.dir, FileKind::Regular), &[], &[]);
}

#[test]
fn what_has_no_name_comes_to_lost_and_found() {
    let fixture = Fixture::new();
    let (deep, dir) = (format!("#{}", fixture.deep), format!("#{}", fixture.dir));
    check(|f| f.unname(f.sub, b"deep"), &lost(&[&deep]), &["/dir/sub/deep"]);
    let (sub, file) = (format!("{dir}/sub"), format!("{dir}/file"));
    let below = lost(&[&dir, &sub, &file, &format!("{sub}/deep")]);
    let gone = ["/dir", "/dir/sub", "/dir/file", "/dir/sub/deep"];
    let shown = check(|f| f.unname(ROOT, b"dir"), &below, &gone);
    assert_eq!(shown[&format!("/lost+found/{file}")].data, b"hello");
    let circle = |f: &Fixture| {
        f.unname(ROOT, b"dir");
        f.name(f.sub, b"up", f.dir, FileKind::Directory);
    };
    check(circle, &below, &gone);
}

#[test]
fn lost_and_found_is_used_again_and_never_in_anybodys_way() {
    let mut fixture = Fixture::new();
    fixture.unname(ROOT, b"pipe");
    let (plan, _) = repaired(&mut fixture);
    assert_eq!(plan.found, [(fixture.pipe, format!("#{}", fixture.pipe))]);
    fixture.unname(ROOT, b"link");
    // A name that is taken.
    let heir = fixture.mount();
    let place = heir.run(heir.fs.lookup(ROOT, b"lost+found")).unwrap().into_value().unwrap().ino;
    let name = format!("#{}", fixture.link);
    let cred = crate::core::Cred::default();
    heir.run(heir.fs.mkdir(place, name.as_bytes(), 0o755, cred)).unwrap().into_value();
    heir.run(heir.fs.flush_all()).unwrap();
    heir.crash(&fixture.world);
    let (plan, shown) = repaired(&mut fixture);
    assert_eq!(plan.found, [(fixture.link, format!("{name}.1"))]);
    assert!(shown.contains_key(&format!("/lost+found/{name}.1")));
    // lost+found is a file of somebody's.
    let mut fixture = Fixture::new();
    fixture.unname(ROOT, b"pipe");
    fixture.name(ROOT, b"lost+found", fixture.big, FileKind::Regular);
    let (_, shown) = repaired(&mut fixture);
    assert!(shown.contains_key(&format!("/lost+found.1/#{}", fixture.pipe)));
    assert_eq!(shown["/lost+found"].data.len(), 200_000);
}

#[test]
fn counts_and_parents_are_corrected() {
    check(|f| f.edit(f.dir, |r| (r.attr.size, r.attr.nlink) = (9, 8)), &[], &[]);
    check(|f| f.edit(f.file, |r| r.attr.nlink = 1), &[], &[]);
    check(|f| f.edit(f.sub, |r| r.parent = ROOT), &[], &[]);
    check(|f| f.edit(ROOT, |r| r.parent = 77), &[], &[]);
    check(|f| f.name(ROOT, b"a", f.sub, FileKind::Directory), &[], &[]);
    check(|f| f.name(f.sub, b"up", f.dir, FileKind::Directory), &[], &[]);
    check(|f| f.name(f.sub, b"root", ROOT, FileKind::Directory), &[], &[]);
    // Named, though it says that it is unlinked.
    check(|f| f.edit(f.file, |r| r.attr.nlink = 0), &[], &[]);
}

#[test]
fn the_root_is_made_anew() {
    check(|f| f.edit(ROOT, |r| r.attr.kind = FileKind::Fifo), &[], &[]);
    check(|f| f.remove(format::attr_key(ROOT)), &[], &[]);
    let mut fixture = Fixture::new();
    let keys: Vec<_> = fixture.server().pairs().map(|(key, _)| key.clone()).collect();
    keys.into_iter().filter(|key| key.starts_with(&ROOT.to_be_bytes())).for_each(|key| fixture.remove(key));
    let (plan, shown) = repaired(&mut fixture);
    assert_eq!(plan.found.len(), 4, "{plan:?}");
    assert_eq!(shown[&format!("/lost+found/#{}/file", fixture.dir)].data, b"hello");
}

#[test]
fn attributes_are_made_from_what_there_is() {
    let shown = check(
        |f| [f.big, f.file, f.link, f.dir].map(|ino| f.remove(format::attr_key(ino))).iter().for_each(drop),
        &[],
        &[],
    );
    assert_eq!(shown["/big"].data.len(), 4 * BLOCK as usize);
    assert_eq!((&shown["/dir/file"].data[..], shown["/other"].nlink), (&b"hello"[..], 2));
    assert_eq!(shown["/link"].data, b"dir/file");
    check(|f| f.server().damage(&format::attr_key(f.deep)), &[], &[]);
    check(|f| f.server().damage(&format::attr_key(f.sub)), &[], &[]);
    let fixture = Fixture::new();
    let pipe = lost(&[&format!("#{}", fixture.pipe)]);
    check(|f| f.server().damage(&format::entry_key(ROOT, b"pipe")), &pipe, &["/pipe"]);
    check(|f| f.put(Bytes::from_static(b"junk"), format::mark()), &[], &[]);
}

#[test]
fn sizes_follow_the_data() {
    let shown = check(
        |f| {
            f.edit(f.file, |r| r.attr.size = 3);
            f.edit(f.deep, |r| r.attr.size = BLOCK + 1);
            f.edit(f.big, |r| r.attr.size = FILE_SIZE_MAX + 1);
            f.edit(f.pipe, |r| r.attr.size = 1);
            f.edit(f.link, |r| r.attr.size = 3);
        },
        &[],
        &[],
    );
    let len = |path: &str| shown[path].data.len();
    assert_eq!((len("/dir/file"), len("/dir/sub/deep"), len("/link")), (5, 0, 8));
    assert_eq!(len("/big"), 4 * BLOCK as usize);
    let shown = check(|f| f.edit(f.big, |r| r.layout = format::Layout::Inline), &[], &[]);
    assert_eq!(shown["/big"].data, vec![7; 200_000]);
}

#[test]
fn data_that_belongs_nowhere_goes() {
    check(
        |f| {
            f.put(format::inline_key(f.big), format::encode_bytes(b"more"));
            f.put(format::inline_key(f.pipe), format::encode_bytes(b"x"));
            f.put(format::symlink_key(f.file), format::encode_bytes(b"x"));
            f.server().plant_block(f.dir, 0, vec![1]);
        },
        &[],
        &[],
    );
    check(|f| f.remove(format::symlink_key(f.link)), &[], &["/link"]);
    let fixture = Fixture::new();
    let (stray, name) = (fixture.deep + 1, format!("#{}", fixture.deep + 1));
    let shown = check(|f| f.server().plant_block(stray, 0, vec![5; BLOCK as usize]), &lost(&[&name]), &[]);
    assert_eq!(shown[&format!("/lost+found/{name}")].data, vec![5; BLOCK as usize]);
}

#[test]
fn what_is_left_of_openers_is_put_right() {
    check(|f| f.put(format::orphan_key(f.big), format::mark()), &[], &[]);
    check(|f| f.put(format::orphan_key(1 << 40), format::mark()), &[], &[]);
    check(|f| f.put(format::opener_key(1 << 40, 5), format::mark()), &[], &[]);
    check(|f| f.put(format::opener_key(f.big, 5), format::mark()), &[], &[]);
    // Unlinked, but not noted: the next mount removes it.
    let mut fixture = Fixture::new();
    fixture.unname(ROOT, b"pipe");
    fixture.edit(fixture.pipe, |r| r.attr.nlink = 0);
    let (plan, shown) = repaired(&mut fixture);
    assert!(
        plan.ops
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if *key == format::orphan_key(fixture.pipe)))
    );
    assert!(!shown.contains_key("/pipe"));
    assert!(!fixture.server().pairs().any(|(key, _)| *key == format::attr_key(fixture.pipe)));
}
