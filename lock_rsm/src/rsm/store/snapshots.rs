//! Snapshots on disk: a file each, beside the log's store, so that writing a large one never holds up the log.
//!
//! `snapshots/GENERATION` (16 hex digits) is the marshalled state in pieces of [`CHUNK_BYTES`] (the last is shorter), each
//! sealed by [`rpc::record`]. A file is the snapshot only once the store names its generation; any other is a leftover.

use super::files::{DirLock, sync_dir};
use super::{SavedSnapshot, Snapshot, StoreError};
use crate::rsm::state::state_hash;
use bytes::{Bytes, BytesMut};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "snapshots";
const VERSION: u8 = 1;
/// What [`rpc::record`] adds to each piece.
const ENVELOPE_BYTES: u64 = 5;
/// Bytes of a snapshot in one record, and in one piece sent to a slave.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
/// Bytes after which a file being written is synced: a file system that must write it out before it can sync the log,
/// as ext4 does, is then held up by no more than this.
const SYNC_EVERY_BYTES: usize = 8 << 20;

/// The snapshot files of a data directory. Whoever writes one keeps the directory locked.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    data: PathBuf,
    dir: PathBuf,
    _lock: Arc<DirLock>,
}

impl Snapshots {
    pub(super) fn of(data: &Path, lock: Arc<DirLock>) -> Snapshots {
        Snapshots { data: data.to_owned(), dir: data.join(DIR), _lock: lock }
    }

    /// Writes the file of `generation`; it is on disk when this returns.
    pub(super) fn write(&self, generation: u64, snapshot: &Snapshot) -> Result<SavedSnapshot, StoreError> {
        let path = self.path(generation);
        let write = || -> std::io::Result<()> {
            match fs::create_dir(&self.dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => sync_dir(&self.data)?,
            }
            let mut file = File::create(&path)?;
            let mut unsynced = 0;
            for chunk in snapshot.state.chunks(CHUNK_BYTES) {
                file.write_all(&rpc::record::seal(VERSION, chunk))?;
                unsynced += chunk.len();
                if unsynced >= SYNC_EVERY_BYTES {
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            file.sync_all()?;
            sync_dir(&self.dir)
        };
        write().map_err(|source| StoreError::io(&path, source))?;
        Ok(SavedSnapshot {
            meta: snapshot.meta.clone(),
            generation,
            len: snapshot.state.len() as u64,
            hash: state_hash(&snapshot.state),
        })
    }

    /// Piece `index` of a snapshot.
    pub(super) fn chunk(&self, saved: &SavedSnapshot, index: u64) -> Result<Bytes, StoreError> {
        let file = self.file(saved)?;
        self.chunk_of(&file, saved, index)
    }

    /// The whole state, which must be as it was written.
    pub(super) fn read(&self, saved: &SavedSnapshot) -> Result<Snapshot, StoreError> {
        let file = self.file(saved)?;
        let mut state = BytesMut::new();
        for index in 0..chunk_count(saved.len) {
            state.extend_from_slice(&self.chunk_of(&file, saved, index)?);
        }
        if state_hash(&state) != saved.hash {
            return Err(self.damaged(saved.generation, "is not as it was written"));
        }
        Ok(Snapshot { meta: saved.meta.clone(), state: state.freeze() })
    }

    /// Removes a file that is no snapshot any more. One that stays is removed when the directory is opened next.
    pub(super) fn remove(&self, generation: u64) {
        let path = self.path(generation);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!("an old snapshot stays until the next start: {}: {error}", path.display());
        }
    }

    /// Removes every file but the one of generation `keep`.
    pub(super) fn remove_others(&self, keep: Option<u64>) -> Result<(), StoreError> {
        let files = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            files => files.map_err(|source| StoreError::io(&self.dir, source))?,
        };
        let keep = keep.map(|generation| self.path(generation));
        for file in files {
            let path = file.map_err(|source| StoreError::io(&self.dir, source))?.path();
            if Some(&path) != keep.as_ref() {
                fs::remove_file(&path).map_err(|source| StoreError::io(&path, source))?;
            }
        }
        Ok(())
    }

    fn file(&self, saved: &SavedSnapshot) -> Result<File, StoreError> {
        let path = self.path(saved.generation);
        File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.damaged(saved.generation, "is gone"),
            _ => StoreError::io(&path, error),
        })
    }

    fn chunk_of(&self, file: &File, saved: &SavedSnapshot, index: u64) -> Result<Bytes, StoreError> {
        let start = index * CHUNK_BYTES as u64;
        let body = saved.len.saturating_sub(start).min(CHUNK_BYTES as u64);
        let mut record = vec![0; usize::try_from(body + ENVELOPE_BYTES).expect("a piece is small")];
        match file.read_exact_at(&mut record, start + index * ENVELOPE_BYTES) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(self.damaged(saved.generation, "ends too early"));
            }
            read => read.map_err(|source| StoreError::io(&self.path(saved.generation), source))?,
        }
        let record = Bytes::from(record);
        match rpc::record::open(&record) {
            Ok((VERSION, body)) => Ok(record.slice_ref(body)),
            Ok((version, _)) => Err(StoreError::Version {
                dir: self.data.clone(),
                found: format!("{version} (of its snapshot file)"),
            }),
            Err(error) => Err(self.damaged(saved.generation, &format!("is broken ({error})"))),
        }
    }

    fn damaged(&self, generation: u64, what: &str) -> StoreError {
        StoreError::damaged(&self.data, format!("its {DIR}/{generation:016x} {what}"))
    }

    fn path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{generation:016x}"))
    }
}

/// Pieces of a snapshot of `len` bytes.
pub(super) fn chunk_count(len: u64) -> u64 {
    len.div_ceil(CHUNK_BYTES as u64)
}
