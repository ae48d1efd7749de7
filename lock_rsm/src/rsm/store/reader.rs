//! Reading the store's sealed records, and what is wrong with them, in words.

use super::files::Format;
use super::{Identity, RECORD_VERSION, SavedSnapshot, Snapshot, StoreError, keys, log_record};
use crate::consensus::{Entry, HardState, Member, Membership, SnapshotMeta, Viewstamp};
use crate::rsm::state::state_hash;
use bytes::{Bytes, BytesMut};
use fjall::Keyspace;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the record that names a snapshot file.
pub(super) const SNAPSHOT_VERSION: u8 = 3;
/// Version 2 knew members only.
const MEMBERS_ONLY_VERSION: u8 = 2;
/// Version 1 was the same, and named pieces in the store itself.
const PIECES_VERSION: u8 = RECORD_VERSION;

/// What the store says about its snapshot.
pub(super) enum Named {
    /// It is a file of its own.
    File(SavedSnapshot),
    /// Its pieces lie in the store, as an earlier version of this program wrote them.
    Pieces(SavedSnapshot),
}

/// The log's records (first seq to last stamp), and its entries after the snapshot.
pub(super) type Log = (BTreeMap<u64, Viewstamp>, Vec<Entry>);

pub(super) struct Reader<'a> {
    pub(super) dir: &'a Path,
    pub(super) keyspace: &'a Keyspace,
}

impl Reader<'_> {
    fn bytes(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.keyspace.get(key).map_err(|error| read_error(self.dir, &error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn open(&self, value: &Bytes, what: &str) -> Result<(u8, Bytes), StoreError> {
        match rpc::record::open(value) {
            Ok((version @ RECORD_VERSION..=SNAPSHOT_VERSION, body)) => Ok((version, value.slice_ref(body))),
            Ok((version, _)) => Err(self.unknown(version, what)),
            Err(error) => Err(self.broken(what, error)),
        }
    }

    /// The body of a record of the one version it has ever had.
    fn open_first(&self, value: &Bytes, what: &str) -> Result<Bytes, StoreError> {
        match self.open(value, what)? {
            (RECORD_VERSION, body) => Ok(body),
            (version, _) => Err(self.unknown(version, what)),
        }
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8], what: &str) -> Result<T, StoreError> {
        rpc::codec::decode(body).map_err(|error| self.broken(what, error))
    }

    fn unknown(&self, version: u8, what: &str) -> StoreError {
        StoreError::Version { dir: self.dir.to_owned(), found: format!("{version} (of its {what} record)") }
    }

    fn broken(&self, what: &str, why: impl std::fmt::Display) -> StoreError {
        StoreError::damaged(self.dir, format!("the {what} record in its store/ is broken ({why})"))
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<Option<T>, StoreError> {
        let Some(value) = self.bytes(key)? else { return Ok(None) };
        self.decode(&self.open_first(&value, what)?, what).map(Some)
    }

    fn must<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<T, StoreError> {
        self.get(key, what)?
            .ok_or_else(|| StoreError::damaged(self.dir, format!("the {what} record in its store/ is gone")))
    }

    /// Whose directory it is.
    pub(super) fn identity(&self) -> Result<Identity, StoreError> {
        self.must(keys::IDENTITY, "identity")
    }

    /// The promises.
    pub(super) fn hard_state(&self) -> Result<HardState, StoreError> {
        self.must(keys::HARD_STATE, "promises")
    }

    /// The founding membership; FORMAT and the store must agree on it. FORMAT may lag by the crash between the two writes.
    pub(super) fn founding(&self, format: &Format) -> Result<Option<Membership>, StoreError> {
        let members: Option<Vec<Member>> = self.get(keys::FOUNDING, "membership")?;
        let founding = members.map(Membership::of);
        if format.cluster.is_some() && format.cluster != founding.as_ref().map(super::cluster_id) {
            return Err(StoreError::damaged(
                self.dir,
                "its store/ belongs to another group than its FORMAT file",
            ));
        }
        Ok(founding)
    }

    /// Which snapshot there is.
    pub(super) fn snapshot(&self) -> Result<Option<Named>, StoreError> {
        let Some(value) = self.bytes(keys::SNAPSHOT)? else { return Ok(None) };
        let (version, body) = self.open(&value, "snapshot")?;
        Ok(Some(match version {
            PIECES_VERSION => Named::Pieces(self.members_only(&body)?),
            MEMBERS_ONLY_VERSION => Named::File(self.members_only(&body)?),
            _ => Named::File(self.decode(&body, "snapshot")?),
        }))
    }

    /// The record of a snapshot as earlier versions of this program wrote it.
    fn members_only(&self, body: &[u8]) -> Result<SavedSnapshot, StoreError> {
        let (stamp, members, generation, len, hash) = self.decode(body, "snapshot")?;
        let meta = SnapshotMeta { stamp, membership: Membership::of(members) };
        Ok(SavedSnapshot { meta, generation, len, hash })
    }

    /// The state of a snapshot whose pieces lie in the store.
    pub(super) fn pieces(&self, saved: &SavedSnapshot) -> Result<Snapshot, StoreError> {
        let mut state = BytesMut::new();
        for item in self.keyspace.prefix(keys::pieces(saved.generation)) {
            let (_, value) = item.into_inner().map_err(|error| read_error(self.dir, &error))?;
            state.extend_from_slice(&self.open_first(&Bytes::copy_from_slice(&value), "snapshot")?);
        }
        if state.len() as u64 != saved.len || state_hash(&state) != saved.hash {
            return Err(StoreError::damaged(self.dir, "the snapshot in its store/ is not as it was written"));
        }
        Ok(Snapshot { meta: saved.meta.clone(), state: state.freeze() })
    }

    /// The entries of one record.
    pub(super) fn log_record(&self, first: u64) -> Result<Vec<Entry>, StoreError> {
        let value = self
            .bytes(&keys::log(first))?
            .ok_or_else(|| StoreError::damaged(self.dir, "a log record in its store/ is gone"))?;
        self.decode_log_record(&value)
    }

    fn decode_log_record(&self, value: &Bytes) -> Result<Vec<Entry>, StoreError> {
        let body = self.open_first(value, "log")?;
        log_record::decode(body).ok_or_else(|| self.broken("log", "it is not a run of entries"))
    }

    /// The log's records, and the entries after `base`.
    pub(super) fn log(&self, base: Viewstamp) -> Result<Log, StoreError> {
        let mut records = BTreeMap::new();
        let mut entries: Vec<Entry> = Vec::new();
        for item in self.keyspace.prefix(keys::LOG_PREFIX) {
            let (key, value) = item.into_inner().map_err(|error| read_error(self.dir, &error))?;
            let run = self.decode_log_record(&Bytes::copy_from_slice(&value))?;
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                return Err(self.broken("log", "it is empty"));
            };
            if key != keys::log(first.stamp.seq) {
                return Err(self.broken("log", "it is not where it belongs"));
            }
            records.insert(first.stamp.seq, last.stamp);
            for entry in run.into_iter().filter(|entry| entry.stamp.seq > base.seq) {
                let before = entries.last().map_or(base, |last| last.stamp);
                if entry.stamp.seq != before.seq + 1 {
                    let hole =
                        format!("the log in its store/ has a hole between {before} and {}", entry.stamp);
                    return Err(StoreError::damaged(self.dir, hole));
                }
                entries.push(entry);
            }
        }
        Ok((records, entries))
    }
}

/// What fjall says while reading, in our words.
pub(super) fn read_error(dir: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::InUse { dir: dir.to_owned() },
        fjall::Error::InvalidVersion(_) => {
            StoreError::damaged(dir, "its store/version is not one that is known")
        }
        fjall::Error::Io(source) => StoreError::io(&dir.join(super::STORE_DIR), same(source)),
        other => StoreError::damaged(dir, format!("its store/ cannot be read ({other:?})")),
    }
}

/// What fjall says while writing, in our words.
pub(super) fn write_error(dir: &Path, error: &fjall::Error) -> StoreError {
    let what = match error {
        fjall::Error::Io(source) => same(source).to_string(),
        fjall::Error::Poisoned => "an earlier write failed, as the log above says".to_owned(),
        other => other.to_string(),
    };
    StoreError::Write { dir: dir.to_owned(), what }
}

fn same(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => std::io::Error::new(error.kind(), error.to_string()),
    }
}
