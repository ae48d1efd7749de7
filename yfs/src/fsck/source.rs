//! Where a store is read and repaired: at a running extent server, or in the data directory of one that is not running.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use extent_server::store::Store;
use extent_server::survey::{BlocksChecked, KeysPage, ObjectsPage};
use extent_server::{
    COMMIT_BYTES_MAX, COMMIT_OPS_MAX, EmbeddedStore, ExtentClient, ExtentError, ExtentOptions, OpenError,
    StoreError, StoreOptions,
};

use super::finding::{Finding, Problem};
use super::{Image, Object, Reader};
use crate::client::extents::server_op;
use crate::core::{Ino, Op};

/// How long the extent server may take to answer at first.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How often a snapshot is taken again that was lost while it was read.
const TRIES: usize = 3;

/// A store.
pub(super) enum Source {
    /// Behind its server.
    Server(ExtentClient),
    /// In its directory.
    Directory(Arc<EmbeddedStore>),
}

/// Why a store cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server.
    #[error(transparent)]
    Server(#[from] ExtentError),
    /// It does not answer.
    #[error(
        "no extent server answers at {0} within {CONNECT_PATIENCE:?}: is it running? If it is not to run, check its \
         data directory with `yfs fsck --store DIR`"
    )]
    Silent(String),
    /// The directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No directory of an extent server.
    #[error("{} is no data directory of an extent server", .0.display())]
    NoStore(PathBuf),
    /// The store in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program itself.
    #[error("a task of the check ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A picture of the store, and what could not be read of it.
pub(super) struct Picture {
    pub image: Image,
    /// Objects that have blocks.
    pub objects: Vec<Object>,
    /// Where reading failed.
    pub unreadable: Vec<Finding>,
    /// Keys may be missing from the picture, so that nothing can be concluded from what is not in it.
    pub keys_lost: bool,
}

impl Source {
    /// Connects to a server.
    pub async fn server(addr: &str) -> Result<Source, SourceError> {
        let options = ExtentOptions { connect_timeout: CONNECT_PATIENCE, ..ExtentOptions::default() };
        match tokio::time::timeout(CONNECT_PATIENCE, ExtentClient::connect(addr, options)).await {
            Ok(client) => Ok(Source::Server(client?)),
            Err(_) => Err(SourceError::Silent(addr.to_owned())),
        }
    }

    /// Opens a directory, which no server may be using.
    pub async fn directory(dir: &Path) -> Result<Source, SourceError> {
        if !dir.join("FORMAT").is_file() {
            return Err(SourceError::NoStore(dir.to_owned()));
        }
        let dir = dir.to_owned();
        let opening =
            tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, &StoreOptions::default()));
        Ok(Source::Directory(Arc::new(opening.await??)))
    }

    /// Identity of the store.
    pub async fn identity(&self) -> Result<String, SourceError> {
        Ok(match self {
            Source::Server(client) => client.status().await?.store,
            Source::Directory(store) => store.status().store,
        })
    }

    /// Reads all keys and what there is of bulk data, as of one moment.
    pub async fn picture(&self) -> Result<Picture, SourceError> {
        for _ in 1..TRIES {
            match self.try_picture().await {
                // The server restarted, and its snapshots are gone.
                Err(SourceError::Server(ExtentError::Invalid { .. })) => {}
                other => return other,
            }
        }
        self.try_picture().await
    }

    async fn try_picture(&self) -> Result<Picture, SourceError> {
        let snapshot = self.snapshot().await?;
        let picture = self.read(snapshot).await;
        let dropped = match self {
            Source::Server(client) => client.drop_snapshot(snapshot).await,
            Source::Directory(store) => {
                store.drop_snapshot(snapshot);
                Ok(())
            }
        };
        if let Err(e) = dropped {
            tracing::debug!("the server gives the snapshot up by itself: {e}");
        }
        picture
    }

    async fn read(&self, snapshot: u64) -> Result<Picture, SourceError> {
        let (mut reader, mut objects, mut unreadable) = (Reader::default(), Vec::new(), Vec::new());
        let mut next = Some(Bytes::new());
        while let Some(from) = next {
            let page = self.keys(snapshot, from).await?;
            for (key, value) in page.entries {
                reader.pair(&key, &value.unwrap_or_default());
            }
            unreadable.extend(page.lost.into_iter().map(|what| damage(0, what)));
            next = page.next;
        }
        let keys_lost = !unreadable.is_empty();
        let mut next = Some(0);
        while let Some(from) = next {
            let page = self.objects(snapshot, from).await?;
            let found = page.objects.iter();
            objects.extend(found.map(|o| Object { ino: o.object, blocks: o.blocks, end: o.end }));
            unreadable.extend(page.lost.into_iter().map(|what| damage(0, what)));
            next = page.next;
        }
        objects.iter().for_each(|object| reader.object(*object));
        Ok(Picture { image: reader.finish(), objects, unreadable, keys_lost })
    }

    async fn snapshot(&self) -> Result<u64, SourceError> {
        match self {
            Source::Server(client) => Ok(client.snapshot().await?),
            Source::Directory(store) => blocking(store, |store| store.snapshot()).await,
        }
    }

    async fn keys(&self, snapshot: u64, from: Bytes) -> Result<KeysPage, SourceError> {
        match self {
            Source::Server(client) => Ok(client.survey(snapshot, from).await?),
            Source::Directory(store) => blocking(store, move |store| store.survey(snapshot, &from)).await,
        }
    }

    async fn objects(&self, snapshot: u64, from: Ino) -> Result<ObjectsPage, SourceError> {
        match self {
            Source::Server(client) => Ok(client.survey_objects(snapshot, from).await?),
            Source::Directory(store) => {
                blocking(store, move |store| store.survey_objects(snapshot, from)).await
            }
        }
    }

    /// Reads an object's blocks and compares them with their checksums; `progress` hears how many.
    pub async fn check_data(
        &self,
        object: Ino,
        progress: &mut impl FnMut(u64),
    ) -> Result<Vec<Finding>, SourceError> {
        let (mut found, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let checked = self.check_blocks(object, from).await?;
            progress(checked.intact + checked.damaged.len() as u64);
            found.extend(checked.damaged.into_iter().map(|what| damage(object, what)));
            next = checked.next;
        }
        Ok(found)
    }

    async fn check_blocks(&self, object: Ino, from: u64) -> Result<BlocksChecked, SourceError> {
        match self {
            Source::Server(client) => Ok(client.check_blocks(object, from).await?),
            Source::Directory(store) => blocking(store, move |store| store.check_blocks(object, from)).await,
        }
    }

    /// Commits changes under a session: together, but for more than one commit can take.
    pub async fn commit(&self, session: u64, ops: Vec<Op>) -> Result<(), SourceError> {
        for ops in batches(ops) {
            match self {
                Source::Server(client) => client.commit(session, ops, Vec::new()).await?,
                Source::Directory(store) => store.commit(session, ops, Vec::new()).await?,
            }
        }
        Ok(())
    }
}

fn damage(ino: Ino, what: String) -> Finding {
    Finding { ino, path: None, problem: Problem::Unreadable { what } }
}

async fn blocking<T: Send + 'static>(
    store: &Arc<EmbeddedStore>,
    work: impl FnOnce(&EmbeddedStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, SourceError> {
    let store = store.clone();
    Ok(tokio::task::spawn_blocking(move || work(&store)).await??)
}

/// As few commits as the bounds allow.
fn batches(ops: Vec<Op>) -> Vec<Vec<extent_server::Op>> {
    let mut batches = vec![Vec::new()];
    let mut cost = 0;
    for op in ops.into_iter().map(server_op) {
        let last = batches.last_mut().expect("there is always one");
        if last.len() == COMMIT_OPS_MAX || cost + op.cost() > COMMIT_BYTES_MAX {
            cost = op.cost();
            batches.push(vec![op]);
        } else {
            cost += op.cost();
            last.push(op);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_stay_within_their_bounds() {
        let put = |len: usize| Op::Put { key: Bytes::from_static(b"k"), value: vec![0; len].into() };
        assert!(batches(Vec::new()).is_empty());
        assert_eq!(batches(vec![put(10), put(10)]).len(), 1);
        let large = batches(vec![put(900_000); 30]);
        assert_eq!(large.iter().map(Vec::len).sum::<usize>(), 30);
        assert!(
            large.len() > 2
                && large.iter().all(|b| b.iter().map(|o| o.cost()).sum::<usize>() <= COMMIT_BYTES_MAX)
        );
        let many = batches(vec![put(1); COMMIT_OPS_MAX + 1]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [COMMIT_OPS_MAX, 1]);
    }
}
