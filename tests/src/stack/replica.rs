//! A lock server on a simulated machine: the real replica and the real lock service, with tasks for threads and a
//! simulated disk.

use super::network::{HostId, address};
use super::record::Record;
use crate::rng::Rng;
use crate::sim::disk::Disk;
use lock_rsm::consensus::{Member, Membership, SnapshotMeta, SnapshotWanted, Viewstamp};
use lock_rsm::locks::protocol::{CLOSE_SESSION, EXPIRE, EndSession, OPEN_SESSION, OpenSession};
use lock_rsm::locks::{LockService, LockServiceOptions};
use lock_rsm::rsm::{
    Identity, Limits, LogWrite, Replica, ReplicaOptions, SaveSnapshot, SavedSnapshot, Service, Snapshot,
    SnapshotPiece, StateError, Store, StoreError, Timers, View, Workers,
};
use parking_lot::Mutex;
use rpc::{CallInfo, Handler, Proc, Register, ServerBuilder, ServerOptions, Status};
use std::sync::Arc;
use std::time::Duration;

/// Largest piece of a snapshot sent.
const PIECE_BYTES: usize = 4096;

/// A replica's disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct ReplicaDisk(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    disk: Disk,
    /// Written, and not in force yet.
    saved: Option<Snapshot>,
}

impl ReplicaDisk {
    /// The disk of a member of the group that `hosts` found.
    pub fn founding(hosts: &[HostId]) -> ReplicaDisk {
        let member = |&id| Member { id: u64::from(id), address: address(id), voter: true };
        let founding = Membership::of(hosts.iter().map(member).collect());
        let disk = Disk { founding, ..Disk::default() };
        ReplicaDisk(Arc::new(Mutex::new(Contents { disk, saved: None })))
    }
}

impl Store for ReplicaDisk {
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError> {
        let mut contents = self.0.lock();
        batches.into_iter().for_each(|batch| contents.disk.write(batch));
        Ok(())
    }

    fn form(&mut self, founding: &Membership) -> Result<(), StoreError> {
        self.0.lock().disk.founding = founding.clone();
        Ok(())
    }

    fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot {
        let contents = self.0.clone();
        Box::new(move || {
            let meta: SnapshotMeta = snapshot.meta.clone();
            let len = snapshot.state.len() as u64;
            contents.lock().saved = Some(snapshot);
            Ok(SavedSnapshot { meta, generation: 1, len, hash: 0 })
        })
    }

    fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
        let mut contents = self.0.lock();
        if let Some(snapshot) = contents.saved.take_if(|snapshot| snapshot.meta == saved.meta) {
            contents.disk.save(snapshot);
        }
        Ok(())
    }

    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError> {
        let wanted = SnapshotWanted { to: 0, stamp, offset };
        Ok(self.0.lock().disk.piece(&wanted, PIECE_BYTES))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// How the lock service of a run is set up.
#[derive(Clone, Debug)]
pub struct LockSetup {
    /// The members.
    pub hosts: Vec<HostId>,
    /// Where sessions are fenced.
    pub extents: HostId,
    /// The length of leases.
    pub lease: Duration,
    /// Shortest silence of a master before an election.
    pub election_timeout: Duration,
    /// A write takes up to so long.
    pub disk_ms_max: u64,
    /// Entries applied before a snapshot is taken.
    pub snapshot_after: u64,
    /// A living client that keeps a lock from others for so long is ended.
    pub stuck_after: Option<Duration>,
}

/// The main program of a lock server: never returns while the machine is on.
pub async fn serve(me: HostId, setup: LockSetup, disk: ReplicaDisk, seed: u64, record: Record) {
    let addresses: Vec<String> = setup.hosts.iter().map(|host| address(*host)).collect();
    let locks = LockService::new(LockServiceOptions {
        lease: setup.lease,
        fences: vec![address(setup.extents)],
        fence_timeout: Duration::from_secs(1),
        election_timeout: setup.election_timeout,
        stuck_after: setup.stuck_after,
    });
    let mut server = ServerBuilder::new(ServerOptions::default());
    locks.register_unreplicated(&mut server);
    let rng = Mutex::new(Rng::new(seed));
    let disk_ms_max = setup.disk_ms_max;
    let options = ReplicaOptions {
        timers: Timers { heartbeat: setup.election_timeout / 3, election_timeout: setup.election_timeout },
        limits: Limits { snapshot_after_entries: setup.snapshot_after, ..Limits::default() },
        // Nobody is removed: what that leads to is the subject of the replicas' own simulator.
        remove_after: None,
        workers: Workers::Tasks(Arc::new(move || {
            Duration::from_millis(rng.lock().next_u64() % (disk_ms_max + 1))
        })),
        ..ReplicaOptions::new(&addresses[0], &address(me), &addresses, "simulated")
    };
    let recovered = disk.0.lock().disk.recovered(Identity { id: u64::from(me), address: address(me) });
    let watched = Arc::new(Watched { locks: locks.clone(), record: record.clone() });
    let started = Replica::start_on(options, watched, server, Box::new(disk), recovered).await;
    let replica = match started {
        Ok(replica) => replica,
        Err(error) => return record.broken("a replica starts from its disk", format!("host {me}: {error}")),
    };
    let _tasks = locks.run(replica.clone());
    record.replica(me, replica.clone(), locks.clone());
    if let Err(error) = replica.ended().await {
        record.broken("a replica goes on", format!("host {me}: {error}"));
    }
}

/// The lock service, and somebody who looks on.
struct Watched {
    locks: Arc<LockService>,
    record: Record,
}

impl Service for Watched {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        let mut looking = Looking { to, record: self.record.clone() };
        self.locks.clone().register(&mut looking);
    }

    fn marshal_state(&self) -> Vec<u8> {
        self.locks.marshal_state()
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        self.locks.unmarshal_state(bytes)
    }

    fn on_view_change(&self, view: &View, am_master: bool) {
        if am_master {
            self.record.count(|counts| counts.masters += 1);
        }
        self.locks.on_view_change(view, am_master);
    }
}

struct Looking<'a> {
    to: &'a mut dyn Register,
    record: Record,
}

impl Register for Looking<'_> {
    fn register(&mut self, proc: Proc, handler: Arc<dyn Handler>) {
        let record = self.record.clone();
        let look = move |info: &CallInfo, args: &[u8]| -> Result<Vec<u8>, Status> {
            let answer = handler.call(info, args);
            if let Ok(answer) = &answer {
                see(&record, proc, args, answer);
            }
            answer
        };
        self.to.register(proc, Arc::new(look));
    }
}

/// A replica executed a command about a session.
fn see(record: &Record, proc: Proc, args: &[u8], answer: &[u8]) {
    match proc {
        OPEN_SESSION => {
            let opened = (rpc::codec::decode(args), rpc::codec::decode(answer));
            let (Ok(OpenSession { name, .. }), Ok(session)) = opened else { return };
            if let Some(Ok(client)) = name.strip_prefix("client ").map(str::parse) {
                record.session_opened(session, client);
            }
        }
        EXPIRE | CLOSE_SESSION => {
            if let Ok(EndSession { session }) = rpc::codec::decode(args) {
                record.session_ended(session, proc == EXPIRE);
            }
        }
        _ => {}
    }
}
