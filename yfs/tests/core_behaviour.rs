//! What the core promises, one promise a test.
#![allow(clippy::unwrap_used)] // a test

use bytes::Bytes;
use std::sync::atomic::Ordering;
use yfs::core::testing::check::{check_store, contents, tree};
use yfs::core::testing::executor::{Task, at_once};
use yfs::core::testing::{Client, World, run_all};
use yfs::core::{
    Cred, FileKind, FsError, Ino, Limits, Mode, OpenFlags, ROOT, RenameFlags, SetAttr, SetTime, Time,
};

const ME: Cred = Cred { uid: 1000, gid: 100 };
const EXCL: OpenFlags = OpenFlags { truncate: false, exclusive: true };

fn world() -> (World, Client) {
    let mut world = World::new(7);
    let client = world.mount(Limits::default());
    (world, client)
}

fn file(client: &Client, dir: Ino, name: &str) -> Ino {
    let ino = client.run(client.fs.create(dir, name.as_bytes(), 0o644, ME, EXCL)).unwrap().value.ino;
    client.run(client.fs.release(ino)).unwrap();
    ino
}

fn dir(client: &Client, parent: Ino, name: &str) -> Ino {
    client.run(client.fs.mkdir(parent, name.as_bytes(), 0o755, ME)).unwrap().value.ino
}

fn write(client: &Client, ino: Ino, offset: u64, data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    client.run(client.fs.write(ino, offset, data, false, ME)).unwrap();
}

fn read(client: &Client, ino: Ino) -> Vec<u8> {
    client.run(contents(&client.fs, ino)).unwrap()
}

fn find(client: &Client, dir: Ino, name: &str) -> Option<Ino> {
    client.run(client.fs.lookup(dir, name.as_bytes())).unwrap().value.map(|a| a.ino)
}

fn consistent(world: &World) {
    assert_eq!(check_store(&world.server.lock()), Ok(()));
}

#[test]
fn warm_operations_are_ready_at_the_first_poll() {
    let (_world, client) = world();
    let d = dir(&client, ROOT, "d");
    let fs = &client.fs;
    for i in 0..100 {
        let name = format!("f{i}");
        let name = name.as_bytes();
        let ino = at_once(fs.create(d, name, 0o644, ME, EXCL)).expect("create").unwrap().value.ino;
        let data = Bytes::from_static(b"some bytes");
        assert_eq!(at_once(fs.write(ino, 0, data, false, ME)).expect("write"), Ok(10));
        assert_eq!(at_once(fs.read(ino, 5, 100)).expect("read").unwrap(), &b"bytes"[..]);
        at_once(fs.release(ino)).expect("release").unwrap();
        assert_eq!(at_once(fs.getattr(ino)).expect("getattr").unwrap().size, 10);
        assert_eq!(at_once(fs.lookup(d, name)).expect("lookup").unwrap().value.unwrap().ino, ino);
        assert!(at_once(fs.lookup(d, b"absent")).expect("negative lookup").unwrap().value.is_none());
        let set = SetAttr { mode: Some(0o600), size: Some(3), ..SetAttr::default() };
        at_once(fs.setattr(ino, set, ME)).expect("setattr").unwrap();
        at_once(fs.link(ino, d, b"other")).expect("link").unwrap();
        at_once(fs.rename(d, b"other", d, b"another", RenameFlags::default())).expect("rename").unwrap();
        at_once(fs.unlink(d, b"another")).expect("unlink").unwrap();
        if i % 2 == 0 {
            at_once(fs.unlink(d, name)).expect("unlink").unwrap();
        }
    }
    assert_eq!(at_once(fs.readdir(d, 0, 1000, true)).expect("readdir").unwrap().len(), 50);
    at_once(fs.mkdir(d, b"sub", 0o755, ME)).expect("mkdir").unwrap();
    at_once(fs.rmdir(d, b"sub")).expect("rmdir").unwrap();
}

#[test]
fn a_created_file_costs_no_lock_request() {
    let (world, client) = world();
    let d = dir(&client, ROOT, "d");
    let before = world.service.requests();
    for i in 0..1000 {
        file(&client, d, &format!("f{i}"));
    }
    assert_eq!(world.service.requests(), before);
}

#[test]
fn what_comes_and_goes_between_flushes_costs_nothing() {
    let (world, client) = world();
    client.run(client.fs.flush_all()).unwrap();
    let before = world.server.lock().calls();
    for i in 0..50 {
        let ino = file(&client, ROOT, "temp");
        write(&client, ino, 0, &vec![i; 200_000]);
        client.run(client.fs.unlink(ROOT, b"temp")).unwrap();
    }
    assert_eq!(world.server.lock().calls(), before);
    client.run(client.fs.flush_all()).unwrap();
    assert_eq!(world.server.lock().calls(), before + 1, "one commit, of the root's times");
    assert!(world.server.lock().objects().is_empty());
    consistent(&world);
}

#[test]
fn an_unlinked_file_lives_until_its_last_close_on_another_mount() {
    let (mut world, a) = world();
    let b = world.mount(Limits::default());
    let ino = file(&a, ROOT, "f");
    write(&a, ino, 0, b"still here");
    a.run(a.fs.open(ino, OpenFlags::default())).unwrap();
    b.run(b.fs.unlink(ROOT, b"f")).unwrap();
    assert_eq!(find(&a, ROOT, "f"), None);
    assert_eq!(read(&a, ino), b"still here");
    assert_eq!(a.run(a.fs.getattr(ino)).unwrap().nlink, 0);
    assert_eq!(b.run(b.fs.reclaim_orphans()), Ok(0), "the opener lives");
    write(&a, ino, 6, b"there");
    assert_eq!(read(&a, ino), b"still there");
    a.run(a.fs.release(ino)).unwrap();
    assert_eq!(a.run(a.fs.getattr(ino)).err(), Some(FsError::Stale(ino)));
    a.run(a.fs.flush_all()).unwrap();
    b.run(b.fs.flush_all()).unwrap();
    consistent(&world);
    assert_eq!(b.run(b.fs.getattr(ino)).err(), Some(FsError::Stale(ino)));
}

#[test]
fn the_orphans_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let (mut world, a) = world();
    let b = world.mount(Limits::default());
    let c = world.mount(Limits::default());
    let (by_a, by_c) = (file(&a, ROOT, "open in a"), file(&a, ROOT, "open in c"));
    a.run(a.fs.open(by_a, OpenFlags::default())).unwrap();
    c.run(c.fs.open(by_c, OpenFlags::default())).unwrap();
    b.run(b.fs.unlink(ROOT, b"open in a")).unwrap();
    b.run(b.fs.unlink(ROOT, b"open in c")).unwrap();
    b.run(b.fs.flush_all()).unwrap();
    a.crash(&world);
    assert_eq!(b.run(b.fs.reclaim_orphans()), Ok(1));
    b.run(b.fs.flush_all()).unwrap();
    assert_eq!(b.run(b.fs.getattr(by_a)).err(), Some(FsError::Stale(by_a)));
    assert_eq!(c.run(c.fs.getattr(by_c)).unwrap().nlink, 0);
    // Again: the living session has moved its anchor, and is found alive once more.
    assert_eq!(b.run(b.fs.reclaim_orphans()), Ok(0));
    c.run(c.fs.release(by_c)).unwrap();
    c.run(c.fs.flush_all()).unwrap();
    consistent(&world);
}

#[test]
fn a_mount_that_ends_leaves_nothing_of_its_session() {
    let (mut world, a) = world();
    let b = world.mount(Limits::default());
    let ino = file(&a, ROOT, "f");
    a.run(a.fs.open(ino, OpenFlags::default())).unwrap();
    write(&b, ino, 0, b"takes the lock from the other mount");
    let key = yfs::core::format::session_key(yfs::core::Locks::session(&a.locks));
    assert!(world.server.lock().pairs().any(|(k, _)| *k == key));
    a.run(a.fs.release(ino)).unwrap();
    a.run(a.fs.shutdown()).unwrap();
    assert!(!world.server.lock().pairs().any(|(k, _)| *k == key));
}

#[test]
fn a_file_unlinked_while_open_here_goes_with_the_last_close() {
    let (world, client) = world();
    let ino = file(&client, ROOT, "f");
    write(&client, ino, 0, &[7; 100_000]);
    client.run(client.fs.open(ino, OpenFlags::default())).unwrap();
    client.run(client.fs.open(ino, OpenFlags::default())).unwrap();
    client.run(client.fs.unlink(ROOT, b"f")).unwrap();
    client.run(client.fs.flush_all()).unwrap();
    consistent(&world);
    client.run(client.fs.release(ino)).unwrap();
    assert_eq!(read(&client, ino).len(), 100_000);
    client.run(client.fs.release(ino)).unwrap();
    client.run(client.fs.flush_all()).unwrap();
    assert!(world.server.lock().objects().is_empty());
    consistent(&world);
}

#[test]
fn a_flush_that_fails_keeps_everything_and_says_so() {
    let (world, client) = world();
    let ino = file(&client, ROOT, "f");
    write(&client, ino, 0, b"precious");
    client.store.faults().unreachable = true;
    assert!(matches!(client.run(client.fs.fsync(ino)), Err(FsError::TimedOut(_))));
    assert!(client.run(client.fs.revoke(ino, None)).is_err(), "the lock may not be given back");
    assert_eq!(read(&client, ino), b"precious");
    client.store.faults().unreachable = false;
    client.run(client.fs.fsync(ino)).unwrap();
    client.crash(&world);
    let mut world = world;
    let heir = world.mount(Limits::default());
    assert_eq!(read(&heir, find(&heir, ROOT, "f").unwrap()), b"precious");
}

#[test]
fn a_full_store_is_reported_and_a_removal_makes_room() {
    let (world, client) = world();
    let small = file(&client, ROOT, "small");
    client.run(client.fs.flush_all()).unwrap();
    world.server.lock().bytes_max = Some(1 << 20);
    let big = file(&client, ROOT, "big");
    write(&client, big, 0, &vec![1; 2 << 20]);
    assert_eq!(client.run(client.fs.fsync(big)), Err(FsError::NoSpace));
    assert_eq!(client.run(client.fs.flush(big)), Err(FsError::NoSpace));
    assert_eq!(
        client.run(client.fs.write(small, 0, Bytes::from_static(b"x"), false, ME)),
        Err(FsError::NoSpace)
    );
    assert_eq!(read(&client, big).len(), 2 << 20, "nothing is lost meanwhile");
    client.run(client.fs.unlink(ROOT, b"big")).unwrap();
    client.run(client.fs.flush_all()).unwrap();
    write(&client, small, 0, b"fits again");
    client.run(client.fs.fsync(small)).unwrap();
    consistent(&world);
}

#[test]
fn space_that_comes_back_is_used() {
    let (world, client) = world();
    let big = file(&client, ROOT, "big");
    world.server.lock().bytes_max = Some(1000);
    write(&client, big, 0, &[1; 70_000]);
    assert_eq!(client.run(client.fs.fsync(big)), Err(FsError::NoSpace));
    world.server.lock().bytes_max = None;
    world.clock.advance(10_000_000_000);
    client.run(client.fs.flush_due(yfs::core::Clock::now(&world.clock))).unwrap();
    assert_eq!(client.run(client.fs.flush(big)), Ok(()));
    client.run(client.fs.fsync(big)).unwrap();
}

#[test]
fn a_lost_session_is_told_once_to_each_file() {
    let (world, client) = world();
    let (kept, lost) = (file(&client, ROOT, "kept"), file(&client, ROOT, "lost"));
    write(&client, kept, 0, b"old");
    write(&client, lost, 0, b"old");
    client.run(client.fs.flush_all()).unwrap();
    write(&client, lost, 0, b"new");
    let gone = file(&client, ROOT, "gone");
    client.expire(&world);
    assert_eq!(client.told.everything.load(Ordering::Relaxed), 1);
    assert_eq!(client.run(client.fs.fsync(kept)), Ok(()));
    assert_eq!(client.run(client.fs.fsync(lost)), Err(FsError::Lost));
    assert_eq!(client.run(client.fs.fsync(lost)), Ok(()));
    assert_eq!(client.run(client.fs.flush(gone)), Err(FsError::Lost));
    assert_eq!(read(&client, lost), b"old");
    assert_eq!(client.run(client.fs.getattr(gone)).err(), Some(FsError::Stale(gone)));
    write(&client, lost, 0, b"again");
    client.run(client.fs.fsync(lost)).unwrap();
    consistent(&world);
}

/// A lock must not be given up unflushed because the flush that was under way belonged to the session before.
#[test]
fn a_flush_of_a_lost_session_is_none_of_the_next_one() {
    let (mut world, client) = world();
    let other = world.mount(Limits::default());
    let ino = file(&client, ROOT, "f");
    client.run(client.fs.flush_all()).unwrap();
    write(&client, ino, 0, b"lost");
    client.store.faults().yield_chance = 90;
    assert_eq!(at_once(client.fs.fsync(ino)), None, "the commit is on its way");
    client.store.faults().yield_chance = 0;
    client.expire(&world);
    assert_eq!(client.run(client.fs.fsync(ino)), Err(FsError::Lost));
    write(&client, ino, 0, b"kept");
    assert_eq!(read(&other, ino), b"kept");
    assert_eq!(client.run(client.fs.fsync(ino)), Ok(()));
    consistent(&world);
}

#[test]
fn a_file_that_is_gone_after_a_lost_session_is_noted_as_open_by_nobody() {
    let (mut world, a) = world();
    let b = world.mount(Limits::default());
    let ino = file(&a, ROOT, "f");
    a.run(a.fs.open(ino, OpenFlags::default())).unwrap().into_value();
    a.run(a.fs.flush_all()).unwrap();
    a.expire(&world);
    b.run(b.fs.unlink(ROOT, b"f")).unwrap();
    b.run(b.fs.flush_all()).unwrap();
    assert!(matches!(a.run(a.fs.getattr(ino)), Err(FsError::Stale(_))));
    a.run(a.locks.give_back_all()).unwrap();
    a.run(a.fs.flush_all()).unwrap();
    consistent(&world);
    a.run(a.fs.release(ino)).unwrap();
    a.run(a.fs.flush_all()).unwrap();
    consistent(&world);
}

#[test]
fn a_fenced_session_never_overwrites_its_successor() {
    let (mut world, frozen) = world();
    let next = world.mount(Limits::default());
    let ino = file(&frozen, ROOT, "f");
    frozen.run(frozen.fs.flush_all()).unwrap();
    write(&frozen, ino, 0, b"of the frozen one");
    // The service gives up on it; it does not know yet.
    world.server.lock().fence(yfs::core::Locks::session(&frozen.locks));
    frozen.locks.crash();
    write(&next, ino, 0, b"of the next one");
    next.run(next.fs.fsync(ino)).unwrap();
    assert_eq!(frozen.run(frozen.fs.fsync(ino)), Err(FsError::Lost));
    next.run(next.fs.revoke(ino, None)).unwrap();
    assert_eq!(read(&next, ino), b"of the next one");
}

#[test]
fn a_large_directory_is_listed_once_while_it_changes() {
    let (mut world, a) = world();
    let limits = Limits { entries_max: 500, scan_page: 100, ..Limits::default() };
    let b = world.mount(limits);
    let d = dir(&a, ROOT, "d");
    for i in 0..3000 {
        file(&a, d, &format!("stays{i}"));
    }
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = b.run(b.fs.readdir(d, after, 70, false)).unwrap().value;
        let Some(last) = page.last() else { break };
        after = last.cookie;
        seen.extend(page.into_iter().map(|e| e.name).filter(|n| n.starts_with(b"stays")));
        let n = seen.len();
        file(&a, d, &format!("comes{n}"));
        file(&b, d, &format!("also{n}"));
        a.run(a.fs.unlink(d, format!("also{n}").as_bytes())).unwrap();
    }
    assert_eq!(seen.len(), 3000);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3000);
}

#[test]
fn time_stamps_rise_though_the_clock_goes_back() {
    let (mut world, a) = world();
    world.clock.advance(1_000_000_000_000);
    let ino = file(&a, ROOT, "f");
    let mut last = a.run(a.fs.getattr(ino)).unwrap().value;
    a.run(a.fs.flush_all()).unwrap();
    world.clock = Default::default();
    let b = world.mount(Limits::default()); // a machine whose clock is behind
    for _ in 0..5 {
        write(&b, ino, 0, b"x");
        let now = b.run(b.fs.getattr(ino)).unwrap().value;
        assert!(now.mtime > last.mtime && now.ctime > last.ctime);
        last = now;
    }
    let future = Time { secs: 5_000_000_000, nanos: 1 };
    let set = SetAttr { mtime: Some(SetTime::At(future)), ..SetAttr::default() };
    assert_eq!(b.run(b.fs.setattr(ino, set, ME)).unwrap().mtime, future);
    write(&b, ino, 0, b"y");
    let now = b.run(b.fs.getattr(ino)).unwrap().value;
    assert!(now.mtime < future && now.mtime != last.mtime);
}

#[test]
fn privileges_and_groups() {
    let (_world, client) = world();
    let fs = &client.fs;
    let d = dir(&client, ROOT, "d");
    let set = |mode: u32| SetAttr { mode: Some(mode), ..SetAttr::default() };
    client.run(fs.setattr(d, SetAttr { gid: Some(55), ..set(0o2775) }, ME)).unwrap();
    let sub = client.run(fs.mkdir(d, b"sub", 0o755, ME)).unwrap().value;
    assert_eq!((sub.gid, sub.perm), (55, 0o2755));
    let ino = file(&client, d, "f");
    assert_eq!(client.run(fs.getattr(ino)).unwrap().gid, 55);
    client.run(fs.setattr(ino, set(0o6755), ME)).unwrap();
    client.run(fs.write(ino, 0, Bytes::from_static(b"x"), false, Cred::default())).unwrap();
    assert_eq!(client.run(fs.getattr(ino)).unwrap().perm, 0o6755, "root may");
    write(&client, ino, 0, b"x");
    assert_eq!(client.run(fs.getattr(ino)).unwrap().perm, 0o755);
    client.run(fs.setattr(ino, set(0o6745), ME)).unwrap();
    let chown = SetAttr { uid: Some(3), ..SetAttr::default() };
    assert_eq!(client.run(fs.setattr(ino, chown, ME)).unwrap().perm, 0o2745, "no group execution");
}

#[test]
fn what_a_dead_client_wrote_behind_the_end_is_never_shown() {
    let (mut world, dying) = world();
    let ino = file(&dying, ROOT, "f");
    write(&dying, ino, 0, &[1; 70_000]);
    dying.run(dying.fs.flush_all()).unwrap();
    write(&dying, ino, 0, &vec![9; 1 << 20]);
    world.server.lock().keeps_dead_writes = true;
    dying.store.faults().dies_after = Some(1); // after the data, before the commit
    assert!(yfs::core::testing::run(dying.fs.flush_all()).is_err());
    dying.crash(&world);
    let next = world.mount(Limits::default());
    let grow = SetAttr { size: Some(1 << 20), ..SetAttr::default() };
    next.run(next.fs.setattr(ino, grow, ME)).unwrap();
    assert!(read(&next, ino)[70_000..].iter().all(|b| *b == 0));
    next.run(next.fs.flush_all()).unwrap();
    next.run(next.fs.revoke(ino, None)).unwrap();
    assert!(read(&next, ino)[70_000..].iter().all(|b| *b == 0), "nor from the store");
}

#[test]
fn two_directories_cannot_be_moved_into_each_other() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let (a, b) = (world.mount(Limits::default()), world.mount(Limits::default()));
        let (x, y) = (dir(&a, ROOT, "x"), dir(&a, ROOT, "y"));
        let flags = RenameFlags::default();
        for client in [&a, &b] {
            client.store.faults().yield_chance = 50;
        }
        let first = async { drop(a.fs.rename(ROOT, b"x", y, b"x", flags).await) };
        let second = async { drop(b.fs.rename(ROOT, b"y", x, b"y", flags).await) };
        let tasks: Vec<Task<'_>> = vec![Box::pin(first), Box::pin(second)];
        run_all(tasks, Vec::new(), seed).unwrap();
        for client in [&a, &b] {
            client.store.faults().yield_chance = 0;
        }
        assert_eq!(a.run(tree(&a.fs, 10)).unwrap().len(), 3, "both are still there");
        a.run(a.fs.flush_all()).unwrap();
        b.run(b.fs.flush_all()).unwrap();
        consistent(&world);
    }
}

#[test]
fn appends_from_two_mounts_never_overlap() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let clients = [world.mount(Limits::default()), world.mount(Limits::default())];
        let ino = file(&clients[0], ROOT, "log");
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (i, client) in clients.iter().cycle().take(4).enumerate() {
            client.store.faults().yield_chance = 30;
            tasks.push(Box::pin(async move {
                for _ in 0..10 {
                    let line = Bytes::from(vec![i as u8; 3000]);
                    client.fs.write(ino, 0, line, true, ME).await.unwrap();
                }
            }));
        }
        run_all(tasks, Vec::new(), seed).unwrap();
        let data = read(&clients[1], ino);
        assert_eq!(data.len(), 4 * 10 * 3000);
        assert!(data.chunks(3000).all(|line| line.iter().all(|b| *b == line[0])));
    }
}

#[test]
fn the_kernel_is_told_what_it_may_no_longer_cache() {
    let (mut world, a) = world();
    let b = world.mount(Limits::default());
    let ino = file(&a, ROOT, "f");
    a.told.attributes.lock().clear();
    a.told.entries.lock().clear();
    b.run(b.fs.getattr(ino)).unwrap();
    assert!(a.told.attributes.lock().is_empty(), "both may cache what nobody changes");
    write(&b, ino, 0, b"x");
    assert_eq!(*a.told.attributes.lock(), [ino]);
    file(&b, ROOT, "g");
    assert!(a.told.entries.lock().contains(&ROOT));
}

#[test]
fn a_sequential_reader_asks_for_much_at_once() {
    let (mut world, a) = world();
    let ino = file(&a, ROOT, "f");
    for i in 0..16 {
        write(&a, ino, i << 20, &vec![i as u8; 1 << 20]);
    }
    a.run(a.fs.flush_all()).unwrap();
    let b = world.mount(Limits::default());
    let before = world.server.lock().calls();
    let mut daemons: Vec<Task<'_>> = vec![Box::pin(b.fs.background())];
    let reader = async {
        for i in 0..128u64 {
            let data = b.fs.read(ino, i << 17, 1 << 17).await.unwrap();
            assert!(data.iter().all(|byte| u64::from(*byte) == i / 8));
        }
    };
    run_all(vec![Box::pin(reader)], std::mem::take(&mut daemons), 3).unwrap();
    let calls = world.server.lock().calls() - before;
    assert!(calls < 24, "{calls} calls for 16 MiB");
}

#[test]
fn names_and_arguments_that_cannot_be() {
    let (_world, client) = world();
    let fs = &client.fs;
    let ino = file(&client, ROOT, "f");
    let long = [b'x'; 256];
    assert_eq!(client.run(fs.mkdir(ROOT, &long, 0o755, ME)).err(), Some(FsError::NameTooLong));
    assert!(client.run(fs.mkdir(ROOT, &long[..255], 0o755, ME)).is_ok());
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert!(matches!(client.run(fs.mkdir(ROOT, name, 0o755, ME)).err(), Some(FsError::Invalid(_))));
    }
    assert_eq!(client.run(fs.lookup(ino, b"x")).err(), Some(FsError::NotDir));
    assert_eq!(client.run(fs.getattr(1 << 40)).err(), Some(FsError::Stale(1 << 40)));
    assert_eq!(
        client.run(fs.write(ino, (1 << 62) - 1, Bytes::from_static(b"x"), false, ME)),
        Err(FsError::FileTooBig)
    );
    assert_eq!(client.run(fs.read(ROOT, 0, 10)), Err(FsError::IsDir));
    assert_eq!(client.run(fs.link(ROOT, ROOT, b"x")).err(), Some(FsError::NotPermitted));
    let node = client.run(fs.mknod(ROOT, b"null", FileKind::CharDevice, 0o666, 0x103, ME)).unwrap().value;
    assert_eq!((node.kind, node.rdev), (FileKind::CharDevice, 0x103));
}

#[test]
fn a_very_sparse_file_costs_its_blocks_only() {
    let (world, client) = world();
    let ino = file(&client, ROOT, "f");
    write(&client, ino, 1 << 50, b"end");
    client.run(client.fs.fsync(ino)).unwrap();
    client.run(client.fs.revoke(ino, None)).unwrap();
    assert_eq!(client.run(client.fs.read(ino, (1 << 50) - 2, 10)).unwrap(), &b"\0\0end"[..]);
    assert_eq!(client.run(client.fs.read(ino, 123_456_789, 10)).unwrap(), &[0; 10][..]);
    consistent(&world);
}

#[test]
fn a_damaged_record_is_reported_and_not_served() {
    let (world, client) = world();
    let ino = file(&client, ROOT, "f");
    client.run(client.fs.flush_all()).unwrap();
    client.run(client.fs.revoke(ino, None)).unwrap();
    let key = yfs::core::format::attr_key(ino);
    world.server.lock().damage(&key);
    assert!(matches!(client.run(client.fs.getattr(ino)).err(), Some(FsError::Io(_))));
    assert!(matches!(client.run(client.fs.lookup(ROOT, b"f")).err(), Some(FsError::Io(_))));
    assert!(find(&client, ROOT, "other").is_none());
}

#[test]
fn a_downgrade_keeps_what_is_cached() {
    let (_world, client) = world();
    let ino = file(&client, ROOT, "f");
    write(&client, ino, 0, b"data");
    client.run(client.fs.revoke(ino, Some(Mode::Shared))).unwrap();
    assert!(client.told.attributes.lock().is_empty());
    assert_eq!(at_once(client.fs.read(ino, 0, 4)).expect("cached").unwrap(), &b"data"[..]);
}
