//! What the clients do, and how it is recorded.

use super::model::{Said, What};
use super::mount::{Mount, MountSetup, USER};
use crate::rng::Rng;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use yfs::core::{FsError, Ino, OpenFlags, ROOT, RenameFlags};

/// Object 0 is a directory; the others are files with as many bytes as this says. None is so large that its data lies
/// beside its attributes: what a crash leaves of an unsynced write of several blocks need not be whole.
pub const FILE_BYTES: [usize; 4] = [64, 64, 5_000, 60_000];
/// Objects that are recorded.
pub const OBJECTS: u8 = FILE_BYTES.len() as u8 + 1;
const DIRECTORY: u8 = 0;
/// Names of the directory.
const NAMES: u8 = 5;
/// Names of the directory that nobody records, where links come and go.
const NOISE: usize = 4;

/// What a client is there for.
#[derive(Clone)]
pub struct Plan {
    /// Works until this is set, then flushes everything; an auditor looks at everything once.
    pub stop: Arc<AtomicBool>,
    /// Whether it is an auditor.
    pub audits: bool,
    /// The longest pause between two operations.
    pub pause_ms_max: u64,
    /// Clients that are done.
    pub stopped: Arc<Mutex<BTreeSet<u32>>>,
}

/// The objects as this mount found them.
struct Places {
    objects: Vec<Ino>,
    noise: Ino,
}

/// Does what is planned.
pub async fn run(mount: Mount, setup: MountSetup, plan: Plan) {
    let places = loop {
        match prepare(&mount).await {
            Ok(places) => break places,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    mount.record.mounted(setup.host, setup.client);
    let mut worker = Worker { mount, places, rng: Rng::new(setup.seed), written: 0 };
    if plan.audits {
        worker.audit().await;
    } else {
        while !plan.stop.load(Ordering::Relaxed) {
            worker.step().await;
            let pause_ms = worker.rng.next_u64() % (plan.pause_ms_max + 1);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        while worker.mount.fs.flush_all().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    plan.stopped.lock().insert(setup.host);
}

/// Finds the objects, or makes them; they are durable then.
async fn prepare(mount: &Mount) -> Result<Places, FsError> {
    let mut objects = vec![directory(mount, b"names").await?];
    for index in 1..OBJECTS {
        let name = format!("file{index}");
        let made = mount.fs.create(ROOT, name.as_bytes(), 0o644, USER, OpenFlags::default()).await?;
        let ino = made.into_value().ino;
        mount.fs.release(ino).await?;
        objects.push(ino);
    }
    let noise = directory(mount, b"noise").await?;
    mount.fs.flush_all().await?;
    Ok(Places { objects, noise })
}

async fn directory(mount: &Mount, name: &[u8]) -> Result<Ino, FsError> {
    match mount.fs.mkdir(ROOT, name, 0o755, USER).await {
        Ok(made) => Ok(made.into_value().ino),
        Err(FsError::Exists) => {
            let found = mount.fs.lookup(ROOT, name).await?.into_value();
            found.map(|attr| attr.ino).ok_or(FsError::NotFound)
        }
        Err(e) => Err(e),
    }
}

struct Worker {
    mount: Mount,
    places: Places,
    rng: Rng,
    written: u64,
}

impl Worker {
    /// One operation.
    async fn step(&mut self) {
        let object = 1 + self.rng.below(FILE_BYTES.len()) as u8;
        let (a, b) = (self.rng.below(NAMES.into()) as u8, self.rng.below(NAMES.into()) as u8);
        let (object, what) = match self.rng.below(100) {
            0..30 => (object, What::Read),
            30..55 => {
                self.written += 1;
                (object, What::Write(u64::from(self.mount.client) << 32 | self.written))
            }
            55..63 => (object, What::Sync),
            63..73 => (DIRECTORY, What::Create(a)),
            73..79 => (DIRECTORY, What::Unlink(a)),
            79..84 if a != b => (DIRECTORY, What::Rename(a, b)),
            79..89 => (DIRECTORY, What::Look(a)),
            89..92 => (DIRECTORY, What::List),
            92..94 => (DIRECTORY, What::Sync),
            _ => return self.noise().await,
        };
        self.record(object, what).await;
    }

    /// Looks at everything.
    async fn audit(&mut self) {
        self.record(DIRECTORY, What::List).await;
        for object in 1..OBJECTS {
            self.record(object, What::Read).await;
        }
    }

    async fn record(&mut self, object: u8, what: What) {
        let (client, record) = (self.mount.client, self.mount.record.clone());
        let id = record.begin(client, object, what);
        let result = self.perform(object, what).await;
        match result {
            Ok(said) => record.end(client, id, said),
            Err(FsError::Exists | FsError::NotFound) if object == DIRECTORY => {
                record.end(client, id, Said::Refused);
            }
            Err(error @ (FsError::Lost | FsError::TimedOut(_) | FsError::Io(_))) => {
                tracing::info!("client {client}: {what:?}: {error}");
                match what {
                    What::Sync => record.end(client, id, Said::Failed),
                    What::Read | What::List | What::Look(_) => record.never(id),
                    _ => record.failed(),
                }
                if what != What::Sync && error == FsError::Lost {
                    record.told(client, object);
                }
            }
            Err(error) => record.broken(
                super::invariants::ERRORS,
                format!("client {client}: {what:?} of object {object} failed: {error}"),
            ),
        }
    }

    async fn perform(&self, object: u8, what: What) -> Result<Said, FsError> {
        let (fs, ino) = (&self.mount.fs, self.places.objects[usize::from(object)]);
        let name = |index: u8| format!("n{index}").into_bytes();
        match what {
            What::Read => {
                let len = FILE_BYTES[usize::from(object) - 1] as u32;
                let (bytes, cached) = self.mount.kernel.read(fs, ino, len).await?;
                self.mount.record.count(|counts| counts.cached += u64::from(cached));
                return Ok(Said::Value(self.decode(object, &bytes)));
            }
            What::Write(value) => {
                let written = fs.write(ino, 0, contents(value, object), false, USER).await;
                self.mount.kernel.wrote(ino);
                written?;
            }
            What::Create(index) => {
                let flags = OpenFlags { exclusive: true, truncate: false };
                let made = fs.create(ino, &name(index), 0o644, USER, flags).await?.into_value();
                let _ = fs.release(made.ino).await; // the file is not what this is about
            }
            What::Unlink(index) => fs.unlink(ino, &name(index)).await?,
            What::Rename(from, to) => {
                fs.rename(ino, &name(from), ino, &name(to), RenameFlags::default()).await?;
            }
            What::Look(index) => {
                let found = fs.lookup(ino, &name(index)).await?.into_value().is_some();
                return Ok(Said::Value(found.into()));
            }
            What::List => {
                let entries = fs.readdir(ino, 0, 100, false).await?.into_value();
                let index =
                    |name: &[u8]| std::str::from_utf8(name).ok()?.strip_prefix('n')?.parse::<u8>().ok();
                let names = entries.iter().filter_map(|entry| index(&entry.name));
                return Ok(Said::Value(names.fold(0, |set, index| set | 1 << index)));
            }
            What::Sync => fs.fsync(ino).await?,
            What::Lose { .. } | What::Told => unreachable!("nobody does that on purpose"),
        }
        Ok(Said::Done)
    }

    /// The number that a file holds. One that holds several was written by halves.
    fn decode(&self, object: u8, bytes: &[u8]) -> u64 {
        let Some(first) = bytes.first_chunk() else { return 0 };
        let value = u64::from_le_bytes(*first);
        if bytes != contents(value, object) {
            let what = format!(
                "client {} read {} bytes of file {object} that begin with {value:#x} and do not go on so",
                self.mount.client,
                bytes.len()
            );
            self.mount.record.broken(super::invariants::WHOLE, what);
        }
        value
    }

    /// Directories and links come and go in a directory that nobody records, for the store's sake.
    async fn noise(&mut self) {
        let (fs, dir) = (self.mount.fs.clone(), self.places.noise);
        let name = |index: usize| format!("x{index}").into_bytes();
        let (a, b) = (name(self.rng.below(NOISE)), name(self.rng.below(NOISE)));
        let result = match self.rng.below(6) {
            0 => fs.mkdir(dir, &a, 0o755, USER).await.map(drop),
            1 => fs.rmdir(dir, &a).await,
            2 => fs.symlink(dir, &a, b"somewhere", USER).await.map(drop),
            3 => fs.rename(dir, &a, dir, &b, RenameFlags::default()).await.map(drop),
            4 => fs.unlink(dir, &a).await,
            _ => {
                let found = fs.lookup(dir, &a).await.map(|held| held.into_value());
                match found {
                    Ok(Some(attr)) => fs.link(attr.ino, dir, &b).await.map(drop),
                    _ => Ok(()),
                }
            }
        };
        drop(result); // whatever came of it, the store must be consistent
    }
}

fn contents(value: u64, object: u8) -> Bytes {
    let len = FILE_BYTES[usize::from(object) - 1];
    value.to_le_bytes().into_iter().cycle().take(len).collect::<Vec<u8>>().into()
}
