//! Real `lock_server` processes on file systems that are full, read-only, or refuse to grow a file: they end with an error
//! that says why, the others go on, and nothing acknowledged is lost.

#![allow(clippy::unwrap_used, reason = "test code")]

mod durable_support;

use durable_support::{Group, Holder, PATIENCE, check_ids, survives_file_limits};
use lock_rsm::locks::protocol::{ACQUIRE, Acquire, Mode, Standings};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const NO_SNAPSHOTS: u64 = 1_000_000;

fn path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn check(result: i32) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Gives the process mounts of its own, which end with it. Needs root, or user namespaces.
fn mounts_of_its_own(command: &mut Command, mount: impl Fn() -> std::io::Result<()> + Send + Sync + 'static) {
    // SAFETY: only system calls between fork and exec, on strings made before.
    unsafe {
        command.pre_exec(move || {
            let user = if libc::geteuid() == 0 { 0 } else { libc::CLONE_NEWUSER };
            check(libc::unshare(libc::CLONE_NEWNS | user))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            check(libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
            mount()
        });
    }
}

/// A small file system in memory in the place of `data`.
fn small_disk(command: &mut Command, data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    let data = path(data);
    mounts_of_its_own(command, move || {
        let (kind, size) = (c"tmpfs", c"size=4m");
        // SAFETY: all strings live as long as the call.
        check(unsafe { libc::mount(kind.as_ptr(), data.as_ptr(), kind.as_ptr(), 0, size.as_ptr().cast()) })
    });
}

/// `data` as it is, read-only.
fn read_only(command: &mut Command, data: &Path) {
    let data = path(data);
    mounts_of_its_own(command, move || {
        let (none, bind) = (std::ptr::null(), libc::MS_BIND);
        // SAFETY: all strings live as long as the calls.
        unsafe {
            check(libc::mount(data.as_ptr(), data.as_ptr(), none, bind, std::ptr::null()))?;
            let again = bind | libc::MS_REMOUNT | libc::MS_RDONLY;
            check(libc::mount(data.as_ptr(), data.as_ptr(), none, again, std::ptr::null()))
        }
    });
}

/// What the others do while, and after, one of them is lost.
async fn go_on(group: &Group, holder: &mut Holder, without: usize) {
    for _ in 0..20 {
        holder.step().await;
    }
    check_ids(&[&holder.ledger]);
    holder.check().await;
    let others: Vec<usize> = (0..3).filter(|i| *i != without).collect();
    group.agree(&others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_ends_the_replica() {
    let mut group = Group::new(NO_SNAPSHOTS);
    let mut command = group.command(0);
    small_disk(&mut command, &group.places[0].data);
    group.spawn(0, command);
    group.start(1);
    group.start(2);
    let mut holder = Holder::new(&group.addresses(), 1).await;
    let deadline = Instant::now() + PATIENCE;
    while group.places[0].child.as_mut().unwrap().try_wait().unwrap().is_none() {
        holder.step().await;
        // Large commands fill it soon.
        let locks = (0..8000).map(|i| (1 << 19 | i, Mode::Shared)).collect();
        let acquire = Acquire { session: holder.session, locks };
        let _: Standings = holder.client.invoke(ACQUIRE, &acquire, PATIENCE).await.unwrap();
        assert!(Instant::now() < deadline, "the disk does not get full");
    }
    assert!(!group.wait_for_end(0).success());
    let said = group.last_words(0, "lock_server: ");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains(&*group.places[0].data.to_string_lossy()), "{said}");
    assert!(said.contains("the replica stops"), "{said}");
    go_on(&group, &mut holder, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_ends_the_replica_and_it_returns_with_everything() {
    let mut group = Group::new(NO_SNAPSHOTS);
    let mut command = group.command(0);
    survives_file_limits(&mut command);
    group.spawn(0, command);
    group.start(1);
    group.start(2);
    let mut holder = Holder::new(&group.addresses(), 1).await;
    for _ in 0..20 {
        holder.step().await;
    }
    let pid = group.places[0].child.as_ref().unwrap().id().cast_signed();
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the child is ours and not waited for; the limit lives as long as the call.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &none, std::ptr::null_mut()) }, 0);
    holder.step().await;
    assert!(!group.wait_for_end(0).success());
    let said = group.last_words(0, "lock_server: ");
    assert!(said.contains("File too large") && said.contains("the replica stops"), "{said}");
    go_on(&group, &mut holder, 0).await;
    // Without the limit its disk is as good as before: it has kept what it acknowledged and gets the rest.
    group.start(0);
    holder.step().await;
    group.agree(&[0, 1, 2]).await;
    holder.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_file_system_is_refused() {
    let mut group = Group::new(NO_SNAPSHOTS);
    group.start_all();
    let mut holder = Holder::new(&group.addresses(), 1).await;
    holder.step().await;
    group.kill_all();
    group.start(1);
    group.start(2);
    let mut command = group.command(0);
    read_only(&mut command, &group.places[0].data);
    group.spawn(0, command);
    assert!(!group.wait_for_end(0).success());
    let said = group.last_words(0, "lock_server: ");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains(&*group.places[0].data.to_string_lossy()), "{said}");
    go_on(&group, &mut holder, 0).await;
}
