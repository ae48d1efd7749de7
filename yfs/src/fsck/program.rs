//! `yfs fsck`: reads a picture of the store, checks it, and repairs it if asked to.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lock_rsm::locks::{LockClient, LockClientOptions, LockError, LockGuard, NoHooks, protocol};
use lock_rsm::rsm::RsmError;

use super::outcome::Outcome;
use super::source::{Picture, Source, SourceError};
use super::{Known, Plan, Report};
use crate::client::clock::WallClock;
use crate::core::types::{RENAME_LOCK, ROOT};
use crate::core::{Clock, Ino};

/// How long the lock service may take to answer.
const LOCKS_PATIENCE: Duration = Duration::from_secs(10);
/// A repair is planned again when the locks it needs were not those it had; so often.
const PLANS_MAX: usize = 5;
/// The session of a repair without lock service.
const NO_SESSION: u64 = extent_server::NO_SESSION;

/// What to check.
#[derive(Clone, Debug)]
pub enum Target {
    /// A running cluster.
    Cluster {
        /// Addresses of the lock replicas.
        locks: Vec<String>,
        /// Address of the extent server.
        extents: String,
        /// Identity that the store must have, when known.
        store: Option<String>,
    },
    /// The data directory of an extent server that is not running.
    Directory(PathBuf),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where.
    pub target: Target,
    /// Read all bulk data and compare it with its checksums.
    pub data: bool,
    /// Repair what is wrong.
    pub repair: bool,
    /// The user vouches that no mount lives, where that cannot be seen.
    pub unmounted: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The store.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another cluster's.
    #[error("the extent server holds store {found}, but this cluster was made with store {expected}")]
    OtherStore {
        /// The store it has.
        found: String,
        /// The store it should have.
        expected: String,
    },
    /// The lock service, which a repair needs.
    #[error("cannot repair without the lock service: {0}")]
    Locks(#[from] LockError),
    /// The lock service, which must say who is there.
    #[error("cannot repair: the lock service does not say who has a session: {0}")]
    Sessions(#[from] RsmError),
    /// Others are there.
    #[error("cannot repair while others use the file system: unmount {}, or wait until the lease of a dead client has run out", .0.join(", "))]
    InUse(Vec<String>),
    /// Offline nobody can be seen.
    #[error(
        "cannot see from the directory alone whether mounts live, whose changes would overwrite a repair: repair \
         through the running servers, or make sure that nobody has it mounted and give --unmounted"
    )]
    NobodySeen,
    /// Something changes what is to be repaired.
    #[error(
        "the store changed while it was being repaired, again and again: unmount it everywhere and try again"
    )]
    Changing,
}

/// Checks and, if asked to, repairs. `progress` hears how many of how many blocks have been read.
///
/// # Errors
/// When the store cannot be read. That it cannot be repaired stands in the outcome.
pub async fn run(
    request: &Request,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Outcome, FsckError> {
    let open = open(request).await?;
    let mut outcome = open.check(request.data, progress).await?;
    if request.repair && outcome.repairable() {
        let repaired = open.repair(request, &mut outcome).await;
        outcome.failure = repaired.err().map(|e| e.to_string());
    }
    Ok(outcome)
}

/// A store, and the lock service beside it when there is one.
struct Opened {
    source: Source,
    locks: Option<Vec<String>>,
}

async fn open(request: &Request) -> Result<Opened, FsckError> {
    match &request.target {
        Target::Directory(dir) => Ok(Opened { source: Source::directory(dir).await?, locks: None }),
        Target::Cluster { locks, extents, store } => {
            let source = Source::server(extents).await?;
            let found = source.identity().await?;
            match store {
                Some(expected) if *expected != found => {
                    Err(FsckError::OtherStore { found, expected: expected.clone() })
                }
                _ => Ok(Opened { source, locks: Some(locks.clone()) }),
            }
        }
    }
}

impl Opened {
    async fn check(
        &self,
        data: bool,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Outcome, FsckError> {
        let picture = self.source.picture().await?;
        let mut outcome = Outcome::default();
        let known = self.known(&mut outcome.unchecked).await;
        outcome.report = judge(&picture, &known);
        outcome.keys_lost = picture.keys_lost;
        if data {
            self.check_data(&picture, &mut outcome, progress).await?;
        } else {
            outcome.unchecked.push("the checksums of bulk data: not asked for".to_owned());
        }
        Ok(outcome)
    }

    /// What the lock service knows; it is asked after the picture was taken.
    async fn known(&self, unchecked: &mut Vec<String>) -> Known {
        let Some(addrs) = &self.locks else {
            unchecked.push("sessions and given out inode numbers: without the lock service".to_owned());
            return Known::default();
        };
        match self.ask(addrs).await {
            Ok(known) => known,
            Err(e) => {
                unchecked.push(format!("sessions and given out inode numbers: {e}"));
                Known::default()
            }
        }
    }

    async fn ask(&self, addrs: &[String]) -> Result<Known, FsckError> {
        let client = connect(addrs).await?;
        let fresh = client.allocate(1).await;
        let sessions = lock_rsm::locks::sessions(addrs, LOCKS_PATIENCE).await;
        client.close().await?;
        let alive = sessions?.into_iter().map(|(id, _)| id).collect();
        Ok(Known { alive: Some(alive), allocated_below: Some(fresh?.start) })
    }

    async fn check_data(
        &self,
        picture: &Picture,
        outcome: &mut Outcome,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), FsckError> {
        let all: u64 = picture.objects.iter().map(|object| object.blocks).sum();
        let mut done = 0;
        for object in &picture.objects {
            let mut more = |blocks: u64| {
                done += blocks;
                progress(done, all.max(done));
            };
            for mut finding in self.source.check_data(object.ino, &mut more).await? {
                finding.path = picture.image.path_of(finding.ino);
                outcome.report.push(finding);
            }
        }
        Ok(())
    }

    async fn repair(&self, request: &Request, outcome: &mut Outcome) -> Result<(), FsckError> {
        let plan = match &self.locks {
            None if !request.unmounted => return Err(FsckError::NobodySeen),
            None => {
                let plan = self.source.picture().await?.image.plan(WallClock.now());
                self.source.commit(NO_SESSION, plan.ops.clone()).await?;
                plan
            }
            Some(addrs) => {
                let client = connect(addrs).await?;
                let done = self.repair_locked(addrs, &client).await;
                let closed = client.close().await;
                let plan = done?;
                if let Err(e) = closed {
                    tracing::warn!("the session of the repair was not closed in order: {e}");
                }
                plan
            }
        };
        outcome.repaired(plan);
        let picture = self.source.picture().await?;
        let known = self.known(&mut Vec::new()).await;
        outcome.after = Some(judge(&picture, &known));
        Ok(())
    }

    /// Plans anew under the locks of all that the plan changes, until those are enough; then nobody can have changed
    /// it since the picture was taken.
    async fn repair_locked(&self, addrs: &[String], client: &LockClient) -> Result<Plan, FsckError> {
        let mut wanted = BTreeSet::from([ROOT, RENAME_LOCK]);
        for _ in 0..PLANS_MAX {
            let session = client.session();
            refuse_others(addrs, session).await?;
            let guard = lock(client, &wanted).await?;
            let plan = self.source.picture().await?.image.plan(WallClock.now());
            if plan.inodes.is_subset(&wanted) && !guard.is_void() && client.session() == session {
                refuse_others(addrs, session).await?;
                self.source.commit(session, plan.ops.clone()).await?;
                return Ok(plan);
            }
            wanted.extend(&plan.inodes);
        }
        Err(FsckError::Changing)
    }
}

async fn connect(addrs: &[String]) -> Result<LockClient, LockError> {
    let options = LockClientOptions {
        name: format!("yfs fsck (process {})", std::process::id()),
        wait_max: LOCKS_PATIENCE,
        connect_max: LOCKS_PATIENCE,
        ..LockClientOptions::default()
    };
    LockClient::connect(addrs, options, Arc::new(NoHooks)).await
}

async fn lock(client: &LockClient, inodes: &BTreeSet<Ino>) -> Result<LockGuard, LockError> {
    let wants: Vec<_> = inodes.iter().map(|ino| (*ino, protocol::Mode::Exclusive)).collect();
    client.acquire(&wants).await
}

async fn refuse_others(addrs: &[String], session: u64) -> Result<(), FsckError> {
    let others: Vec<String> = lock_rsm::locks::sessions(addrs, LOCKS_PATIENCE)
        .await?
        .into_iter()
        .filter(|(id, _)| *id != session)
        .map(|(id, name)| format!("{name} (session {id})"))
        .collect();
    if others.is_empty() { Ok(()) } else { Err(FsckError::InUse(others)) }
}

fn judge(picture: &Picture, known: &Known) -> Report {
    let mut report = picture.image.check(known);
    picture.unreadable.iter().cloned().for_each(|finding| report.push(finding));
    report
}
