//! A store under test: its directory, a runtime for what waits, and a probe that can take pictures of the disk.

use crate::error::StoreError;
use crate::store::probe::{Point, Probe};
use crate::store::{EmbeddedStore, OpenError, Store, StoreOptions};
use crate::types::{BLOCK_SIZE, BootId, Key, ObjectId, Op};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A directory in memory where there is one: these tests open stores by the hundred, and the syncs of a real disk, which
/// the tests of client and server have, would take most of their time.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// The unit in which a disk loses or keeps what was not synced.
const PAGE: usize = 4096;

/// xorshift64*; tests must be repeatable.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

pub(super) fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(name: &str, value: &str) -> Op {
    Op::Put { key: key(name), value: key(value) }
}

pub(super) fn options() -> StoreOptions {
    StoreOptions { reserve: Some(0), ..StoreOptions::default() }
}

/// A store, and what is needed to use it.
pub(super) struct Rig {
    pub(super) dir: TempDir,
    pub(super) camera: Arc<Camera>,
    pub(super) runtime: Runtime,
    store: Option<EmbeddedStore>,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig::on(scratch())
    }

    /// Opens the store in `dir`, which must open.
    pub(super) fn on(dir: TempDir) -> Rig {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let camera = Arc::new(Camera::new(dir.path()));
        let store = Some(EmbeddedStore::open_probed(dir.path(), &options(), Some(camera.clone())).unwrap());
        Rig { dir, camera, runtime, store }
    }

    pub(super) fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().unwrap()
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Closes the store properly.
    pub(super) fn close(&mut self) {
        self.store = None;
    }

    /// Closes and opens it.
    pub(super) fn reopen(&mut self) {
        self.close();
        self.open().unwrap();
    }

    /// Opens it after [`Rig::close`].
    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        self.store =
            Some(EmbeddedStore::open_probed(self.dir.path(), &options(), Some(self.camera.clone()))?);
        Ok(())
    }

    pub(super) fn commit(&self, session: u64, ops: Vec<Op>, objects: &[ObjectId]) -> Result<(), StoreError> {
        let boot = self.store().boot();
        self.commit_to(session, ops, objects.iter().map(|object| (*object, boot)).collect())
    }

    pub(super) fn commit_to(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<(ObjectId, BootId)>,
    ) -> Result<(), StoreError> {
        self.runtime.block_on(async { self.store().commit(session, ops, objects).await })
    }

    pub(super) fn fence(&self, session: u64) -> Result<(), StoreError> {
        self.runtime.block_on(async { self.store().fence(session).await })
    }

    pub(super) fn write(
        &self,
        session: u64,
        object: ObjectId,
        offset: u64,
        data: &[u8],
    ) -> Result<(), StoreError> {
        let ranges = [(offset, data.len() as u32)];
        self.store().write(session, object, &ranges, &Bytes::copy_from_slice(data)).map(|_| ())
    }

    pub(super) fn read(&self, object: ObjectId, offset: u64, len: u32) -> Result<Bytes, StoreError> {
        self.store().read(object, &[(offset, len)])
    }

    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        self.store().get(&[key(name)], usize::MAX).unwrap().remove(0)
    }

    /// Every key and value.
    pub(super) fn all(&self) -> BTreeMap<Bytes, Bytes> {
        let (entries, more) =
            self.store().scan(&key(""), &vec![0xff; 8].into(), u32::MAX, usize::MAX).unwrap();
        assert!(!more);
        entries.into_iter().collect()
    }

    /// The file behind an object.
    pub(super) fn file(&self, object: ObjectId) -> PathBuf {
        object_file(self.dir.path(), object)
    }
}

pub(super) fn object_file(dir: &Path, object: ObjectId) -> PathBuf {
    assert!(object < 0x100, "tests use small numbers");
    dir.join(format!("objects/0/00/{object:016x}"))
}

/// Knows what of the backing files is surely on disk, and takes pictures of what a crash would leave.
pub(super) struct Camera {
    dir: PathBuf,
    state: Mutex<Film>,
}

#[derive(Default)]
struct Film {
    /// Contents of backing files when they were last synced.
    synced: BTreeMap<ObjectId, Vec<u8>>,
    /// Points to come before a picture is taken, and the seed of what the disk loses.
    shoot_after: Option<(u32, u64)>,
    picture: Option<TempDir>,
    /// Points to come before the disk fails, and how.
    fail_after: Option<(u32, io::ErrorKind)>,
    points: Vec<Point>,
    /// Where to say so and wait.
    pause: Option<(Point, Sender<()>, Receiver<()>)>,
}

/// A thread of the store stands still at a point, or will.
pub(super) struct Pause {
    arrived: Receiver<()>,
    go: Sender<()>,
}

impl Pause {
    pub(super) fn wait_until_there(&self) {
        self.arrived.recv().unwrap();
    }

    pub(super) fn go_on(self) {
        self.go.send(()).unwrap();
    }
}

impl Camera {
    fn new(dir: &Path) -> Camera {
        let synced = (0..0x100).filter_map(|id| Some((id, fs::read(object_file(dir, id)).ok()?))).collect();
        Camera { dir: dir.to_path_buf(), state: Mutex::new(Film { synced, ..Film::default() }) }
    }

    /// Takes a picture at the `n`th point from now on.
    pub(super) fn shoot_after(&self, n: u32, seed: u64) {
        self.state.lock().shoot_after = Some((n, seed));
    }

    /// The picture, if its point came; otherwise one of this moment.
    pub(super) fn develop(&self, seed: u64) -> TempDir {
        let mut film = self.state.lock();
        film.shoot_after = None;
        film.picture.take().unwrap_or_else(|| crash_image(&self.dir, &film.synced, &mut Rng::new(seed)))
    }

    /// Fails at the `n`th point from now on, and at all after it.
    pub(super) fn fail_after(&self, n: u32, kind: io::ErrorKind) {
        self.state.lock().fail_after = Some((n, kind));
    }

    pub(super) fn heal(&self) {
        self.state.lock().fail_after = None;
    }

    /// Has the next to come to `point` wait there.
    pub(super) fn pause_at(&self, point: Point) -> Pause {
        let ((there, arrived), (go, wait)) = (channel(), channel());
        self.state.lock().pause = Some((point, there, wait));
        Pause { arrived, go }
    }

    /// The points passed since this was last asked.
    pub(super) fn points(&self) -> Vec<Point> {
        std::mem::take(&mut self.state.lock().points)
    }
}

impl Probe for Camera {
    fn at(&self, point: Point) -> io::Result<()> {
        let paused = self.state.lock().pause.take_if(|(at, ..)| *at == point);
        if let Some((_, there, go)) = paused {
            there.send(()).unwrap();
            go.recv().unwrap();
        }
        let mut film = self.state.lock();
        film.points.push(point);
        if let Point::AfterSync(object) = point {
            film.synced.insert(object, fs::read(object_file(&self.dir, object))?);
        }
        match film.shoot_after {
            Some((0, seed)) => {
                film.shoot_after = None;
                film.picture = Some(crash_image(&self.dir, &film.synced, &mut Rng::new(seed)));
            }
            Some((n, seed)) => film.shoot_after = Some((n - 1, seed)),
            None => {}
        }
        match film.fail_after {
            Some((0, kind)) => Err(kind.into()),
            Some((n, kind)) => {
                film.fail_after = Some((n - 1, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What a power cut may leave: the log and all that was synced; of the rest of the backing files any pages, old or new.
fn crash_image(dir: &Path, synced: &BTreeMap<ObjectId, Vec<u8>>, rng: &mut Rng) -> TempDir {
    let image = copy_of(dir);
    for object in 0..0x100 {
        let path = object_file(image.path(), object);
        let now = fs::read(&path).ok();
        let was = synced.get(&object);
        if now.is_none() && was.is_none() {
            continue;
        }
        let (now_or, was_or) = (now.clone().unwrap_or_default(), was.cloned().unwrap_or_default());
        let exists = match (&now, was) {
            (Some(_), Some(_)) => true,
            _ => rng.below(2) == 0,
        };
        if !exists {
            let _ = fs::remove_file(&path);
            continue;
        }
        let len = if rng.below(2) == 0 { now_or.len() } else { was_or.len() };
        // What was synced and not cut since is there; a cut may or may not have reached the disk.
        let len = len.max(now_or.len().min(was_or.len()));
        let mut bytes = vec![0; len];
        for (n, page) in bytes.chunks_mut(PAGE).enumerate() {
            let from = if rng.below(2) == 0 { &now_or } else { &was_or };
            let start = (n * PAGE).min(from.len());
            let part = &from[start..(start + page.len()).min(from.len())];
            page[..part.len()].copy_from_slice(part);
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    image
}

/// A copy of a data directory as it is now.
pub(super) fn copy_of(dir: &Path) -> TempDir {
    let copy = scratch();
    let from = dir.join(".");
    // The log is allocated ahead: copied plainly it would be 64 MiB of zeros.
    let status =
        Command::new("cp").args(["-r", "--sparse=always"]).arg(from).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

/// Whether every byte of `found` is the same byte of one of `versions`. Not every page: where a file ended in the middle
/// of one, its old length may meet its new bytes.
pub(super) fn mixed_from(found: &[u8], versions: &[&[u8]]) -> bool {
    found.iter().enumerate().all(|(n, byte)| versions.iter().any(|version| version[n] == *byte))
}

pub(super) const BLOCK: usize = BLOCK_SIZE as usize;
