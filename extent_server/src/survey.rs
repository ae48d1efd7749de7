//! Looking at all of a store as of one moment: which keys, values and bulk data it has, and what of it is damaged.
//!
//! A snapshot is taken first and named by a number; pages of it are asked for one after the other, while clients go on.
//! A server keeps few snapshots and lets go of one that was not used for a while, and of all when it ends.

use crate::client::ExtentClient;
use crate::error::{ExtentError, StoreError};
use crate::protocol::{ANSWER_BYTES_MAX, Unpacker, WireKey, invalid};
use crate::types::{Key, ObjectId, Value};
use bytes::{Bytes, BytesMut};
use rpc::Proc;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `()` -> `u64`: takes a snapshot of keys and bulk data, which the number names from then on.
pub const SNAPSHOT: Proc = 0x6012;
/// [`SurveyArgs`] -> [`SurveyReply`] with keys and values as payload: keys of a snapshot in order, damaged ones included.
pub const SURVEY: Proc = 0x6013;
/// [`SurveyObjectsArgs`] -> [`ObjectsPage`]: bulk objects of a snapshot in order.
pub const SURVEY_OBJECTS: Proc = 0x6014;
/// [`CheckBlocksArgs`] -> [`BlocksChecked`]: compares blocks of an object with their checksums, as they are now.
pub const CHECK_BLOCKS: Proc = 0x6015;

/// `u64` -> `()`: gives a snapshot up.
pub const DROP_SNAPSHOT: Proc = 0x6016;

/// Entries or objects in one answer, at most.
pub const SURVEY_MAX: usize = 16 * 1024;
/// A snapshot that nobody used for so long is given up.
pub const SNAPSHOT_IDLE: Duration = Duration::from_secs(60);
/// Snapshots kept at once.
pub const SNAPSHOTS_MAX: usize = 4;

/// A page of a snapshot's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysPage {
    /// Keys in order with their values; `None` where the value fails its checksum.
    pub entries: Vec<(Key, Option<Value>)>,
    /// Where reading the store itself failed, so that keys may be missing.
    pub lost: Vec<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<Key>,
}

/// A bulk object in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSummary {
    /// Which.
    pub object: ObjectId,
    /// Its blocks that exist; all others are holes.
    pub blocks: u64,
    /// One past the last that exists.
    pub end: u64,
}

/// A page of a snapshot's bulk objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsPage {
    /// In order.
    pub objects: Vec<ObjectSummary>,
    /// Records of blocks that cannot be read, in words.
    pub lost: Vec<String>,
    /// Where to go on; `None` at the end.
    pub next: Option<ObjectId>,
}

/// What comparing blocks with their checksums gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocksChecked {
    /// Blocks that are as they should be.
    pub intact: u64,
    /// The others, in words.
    pub damaged: Vec<String>,
    /// The block to go on with; `None` at the end.
    pub next: Option<u64>,
}

/// See [`SURVEY`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyArgs {
    /// The snapshot.
    pub snapshot: u64,
    /// The first key.
    pub from: WireKey,
}

/// Answer of [`SURVEY`]: [`KeysPage`] with lengths in the place of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyReply {
    /// Lengths of each key and value in the payload; no value where it is damaged.
    pub entries: Vec<(u32, Option<u32>)>,
    /// See [`KeysPage::lost`].
    pub lost: Vec<String>,
    /// See [`KeysPage::next`].
    pub next: Option<WireKey>,
}

/// See [`SURVEY_OBJECTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyObjectsArgs {
    /// The snapshot.
    pub snapshot: u64,
    /// The first object.
    pub from: ObjectId,
}

/// See [`CHECK_BLOCKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckBlocksArgs {
    /// The object.
    pub object: ObjectId,
    /// The first block.
    pub from: u64,
}

impl KeysPage {
    /// Separates it into header and payload.
    pub(crate) fn pack(self) -> (SurveyReply, Bytes) {
        let mut payload = BytesMut::new();
        let mut put = |bytes: &Bytes| {
            payload.extend_from_slice(bytes);
            bytes.len() as u32
        };
        let entries =
            self.entries.iter().map(|(key, value)| (put(key), value.as_ref().map(&mut put))).collect();
        (SurveyReply { entries, lost: self.lost, next: self.next.map(WireKey) }, payload.freeze())
    }

    fn unpack(reply: SurveyReply, payload: Bytes) -> Result<KeysPage, StoreError> {
        let mut payload = Unpacker::new(payload);
        let take = |(key, value): (u32, Option<u32>)| {
            let key = payload.take(key)?;
            Ok((key, value.map(|len| payload.take(len)).transpose()?))
        };
        let entries = reply.entries.into_iter().map(take).collect::<Result<_, StoreError>>()?;
        payload.finish()?;
        Ok(KeysPage { entries, lost: reply.lost, next: reply.next.map(|key| key.0) })
    }

    /// Whether it has as much as one answer should have.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        bytes > ANSWER_BYTES_MAX || self.entries.len() + self.lost.len() >= SURVEY_MAX
    }
}

impl ExtentClient {
    /// Takes a snapshot for the calls below. It is given up after [`SNAPSHOT_IDLE`] without any.
    pub async fn snapshot(&self) -> Result<u64, ExtentError> {
        Ok(self.query(SNAPSHOT, &()).await?.0)
    }

    /// Gives a snapshot up.
    pub async fn drop_snapshot(&self, snapshot: u64) -> Result<(), ExtentError> {
        self.query(DROP_SNAPSHOT, &snapshot).await.map(|((), _)| ())
    }

    /// Keys of a snapshot, from `from` on.
    pub async fn survey(&self, snapshot: u64, from: Key) -> Result<KeysPage, ExtentError> {
        let args = SurveyArgs { snapshot, from: WireKey(from.clone()) };
        let (reply, payload) = self.query::<_, SurveyReply>(SURVEY, &args).await?;
        let page = KeysPage::unpack(reply, payload)?;
        match &page.next {
            Some(next) if *next <= from => Err(invalid("a survey does not go on").into()),
            _ => Ok(page),
        }
    }

    /// Bulk objects of a snapshot, from `from` on.
    pub async fn survey_objects(&self, snapshot: u64, from: ObjectId) -> Result<ObjectsPage, ExtentError> {
        let page: ObjectsPage = self.query(SURVEY_OBJECTS, &SurveyObjectsArgs { snapshot, from }).await?.0;
        match page.next {
            Some(next) if next <= from => Err(invalid("a survey of objects does not go on").into()),
            _ => Ok(page),
        }
    }

    /// Compares some blocks of an object, from block `from` on, with their checksums: as they are now, not as of a
    /// snapshot.
    pub async fn check_blocks(&self, object: ObjectId, from: u64) -> Result<BlocksChecked, ExtentError> {
        let checked: BlocksChecked = self.query(CHECK_BLOCKS, &CheckBlocksArgs { object, from }).await?.0;
        match checked.next {
            Some(next) if next <= from => Err(invalid("a check of blocks does not go on").into()),
            _ => Ok(checked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_survive_packing() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let page = KeysPage {
            entries: vec![(key("a"), Some(key("value"))), (key("bc"), None), (key("d"), Some(key("")))],
            lost: vec!["a block".into()],
            next: Some(key("e")),
        };
        let (reply, payload) = page.clone().pack();
        assert_eq!(KeysPage::unpack(reply.clone(), payload.clone()), Ok(page));
        assert!(KeysPage::unpack(reply, payload.slice(1..)).is_err());
    }
}
