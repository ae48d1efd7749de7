//! The core's store over the extent client.

use bytes::Bytes;
use extent_server::{ExtentClient, ExtentError};
use lock_rsm::locks::LockClient;

use crate::core::{BootId, Extents, Ino, Op, ScanPage, StatFs, StoreError};

/// The extent server as the core's store.
#[derive(Clone)]
pub struct RemoteExtents {
    client: ExtentClient,
    locks: LockClient,
}

impl RemoteExtents {
    /// Over a connected client. When the server says that a session is fenced, `locks` is told to give it up.
    pub fn new(client: ExtentClient, locks: LockClient) -> RemoteExtents {
        RemoteExtents { client, locks }
    }

    /// The result of a call that changes something. A fenced session can never flush again: the sooner a new one is
    /// opened, the sooner the mount goes on.
    fn changed<T>(&self, result: Result<T, ExtentError>) -> Result<T, StoreError> {
        if let Err(ExtentError::Fenced { session }) = &result {
            self.locks.abandon(*session);
        }
        result.map_err(store_error)
    }
}

fn store_error(e: ExtentError) -> StoreError {
    match e {
        ExtentError::Fenced { session } => StoreError::Fenced(session),
        ExtentError::NoSpace => StoreError::NoSpace,
        ExtentError::Restarted => StoreError::Restarted,
        ExtentError::Corrupt { what } => StoreError::Corrupt(what),
        ExtentError::Timeout { .. } | ExtentError::Unreachable { .. } => {
            StoreError::Unreachable(e.to_string())
        }
        other => StoreError::Io(other.to_string()),
    }
}

/// The core's operation in the extent server's words.
pub(crate) fn server_op(op: Op) -> extent_server::Op {
    match op {
        Op::Put { key, value } => extent_server::Op::Put { key, value },
        Op::Delete { key } => extent_server::Op::Delete { key },
        Op::DeletePrefix { prefix } => extent_server::Op::DeletePrefix { prefix },
        Op::Truncate { object, size } => extent_server::Op::Truncate { object, size },
        Op::Remove { object } => extent_server::Op::Remove { object },
    }
}

impl Extents for RemoteExtents {
    async fn get(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.client.get(keys).await.map_err(store_error)
    }

    async fn scan(&self, from: Bytes, to: Bytes, limit: u32) -> Result<ScanPage, StoreError> {
        self.client.scan(from, to, limit).await.map_err(store_error)
    }

    async fn read(&self, object: Ino, ranges: Vec<(u64, u32)>) -> Result<Bytes, StoreError> {
        self.client.read(object, ranges).await.map_err(store_error)
    }

    async fn write(
        &self,
        session: u64,
        object: Ino,
        ranges: Vec<(u64, u32)>,
        data: Bytes,
    ) -> Result<BootId, StoreError> {
        let boot = self.changed(self.client.write(session, object, ranges, data).await)?;
        Ok(boot.0)
    }

    async fn commit(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<(Ino, BootId)>,
    ) -> Result<(), StoreError> {
        let ops = ops.into_iter().map(server_op).collect();
        let objects =
            objects.into_iter().map(|(object, boot)| (object, extent_server::BootId(boot))).collect();
        self.changed(self.client.commit(session, ops, objects).await)
    }

    async fn statfs(&self) -> Result<StatFs, StoreError> {
        let space = self.client.statfs().await.map_err(store_error)?;
        Ok(StatFs {
            bytes_total: space.total,
            bytes_free: space.available,
            files_total: space.files,
            files_free: space.files_free,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_that_are_acted_on_keep_their_meaning() {
        assert_eq!(store_error(ExtentError::Fenced { session: 7 }), StoreError::Fenced(7));
        assert_eq!(store_error(ExtentError::NoSpace), StoreError::NoSpace);
        assert_eq!(store_error(ExtentError::Restarted), StoreError::Restarted);
        let silent = ExtentError::Timeout { addr: "a:1".into(), waited: std::time::Duration::from_secs(1) };
        assert!(matches!(store_error(silent), StoreError::Unreachable(why) if why.contains("a:1")));
    }
}
