//! The simulated world: machines, their programs and disks, a network, and time, in one thread. All of it follows from the
//! seed.

use super::clock;
use super::host::Host;
use super::model::ClientId;
use super::mount::{self, MountSetup};
use super::network::{HostId, Network, Weather, address};
use super::record::Record;
use super::replica::{self, LockSetup, ReplicaDisk};
use super::setup::Setup;
use super::store::SimStore;
use super::work::{OBJECTS, Plan};
use crate::rng::Rng;
use parking_lot::Mutex;
use rpc::ServerOptions;
use rpc::lossy::Lossy;
use rpc::transport::{Ambient, set_ambient};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Machines run in turn for so long, and hear of each other in between.
pub const TICK_MS: u64 = 2;
/// The lock replicas.
const REPLICAS: [HostId; 3] = [1, 2, 3];
/// The extent server.
const EXTENTS: HostId = 4;
/// The first client.
const FIRST_CLIENT: HostId = 11;
/// Looks at everything when the others are done.
const AUDITOR: HostId = 99;

/// What a machine is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A lock server.
    Replica,
    /// A mount.
    Client,
    /// The extent server.
    Extents,
}

impl Role {
    /// What the machine is.
    pub fn of(host: HostId) -> Role {
        match host {
            EXTENTS => Role::Extents,
            host if REPLICAS.contains(&host) => Role::Replica,
            _ => Role::Client,
        }
    }

    fn index(self) -> usize {
        match self {
            Role::Replica => 0,
            Role::Client => 1,
            Role::Extents => 2,
        }
    }
}

struct Machine {
    /// None while it is off.
    host: Option<Host>,
    paused_until_ms: u64,
    /// How often it was switched on.
    starts: u32,
}

/// The world.
pub struct World {
    /// What it is like.
    pub setup: Setup,
    /// Virtual time.
    pub now_ms: u64,
    /// Randomness of the faults.
    pub rng: Rng,
    /// The network.
    pub network: Network,
    /// What everybody did.
    pub record: Record,
    /// The extent server's store.
    pub store: SimStore,
    disks: BTreeMap<HostId, ReplicaDisk>,
    machines: BTreeMap<HostId, Machine>,
    stop: Arc<AtomicBool>,
    stopped: Arc<Mutex<BTreeSet<HostId>>>,
}

impl World {
    /// A world whose machines are all switched on.
    pub fn new(setup: Setup) -> World {
        let seed = setup.seed;
        let record = Record::default();
        let network = Network::new(seed ^ 1, setup.weather);
        let loss = (setup.lossy > 0).then(|| Arc::new(Lossy::new(setup.lossy, seed ^ 2)));
        set_ambient(Some(Ambient { transport: Arc::new(network.clone()), loss }));
        let store = SimStore::new(seed ^ 3, setup.disk_ms_max, record.clone());
        let disks = REPLICAS.iter().map(|&host| (host, ReplicaDisk::founding(&REPLICAS))).collect();
        let mut world = World {
            now_ms: 0,
            rng: Rng::new(seed),
            network,
            record,
            store,
            disks,
            machines: BTreeMap::new(),
            stop: Arc::default(),
            stopped: Arc::default(),
            setup,
        };
        for host in REPLICAS.into_iter().chain([EXTENTS]).chain(world.clients()) {
            world.switch_on(host);
        }
        world
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// All machines.
    pub fn hosts(&self) -> Vec<HostId> {
        self.machines.keys().copied().collect()
    }

    /// The machines of the clients at work.
    pub fn clients(&self) -> Vec<HostId> {
        (0..self.setup.clients).map(|index| FIRST_CLIENT + index).collect()
    }

    /// The machines that are on and have this role.
    pub fn hosts_that_are(&self, role: Role) -> Vec<HostId> {
        let on = self.machines.iter().filter(|(_, machine)| machine.host.is_some());
        on.map(|(host, _)| *host).filter(|host| Role::of(*host) == role).collect()
    }

    /// The machines that are off.
    pub fn hosts_off(&self) -> Vec<HostId> {
        self.machines.iter().filter(|(_, machine)| machine.host.is_none()).map(|(host, _)| *host).collect()
    }

    /// Switches a machine on, if it is off: its programs start, servers from their disks.
    pub fn switch_on(&mut self, id: HostId) {
        let machine =
            self.machines.entry(id).or_insert(Machine { host: None, paused_until_ms: 0, starts: 0 });
        if machine.host.is_some() {
            return;
        }
        machine.starts += 1;
        let starts = machine.starts;
        self.network.switch_on(id);
        self.record.note(&[self.now_ms, id.into(), 1]);
        let seed = self.rng.next_u64();
        let record = self.record.clone();
        let host = match Role::of(id) {
            Role::Replica => {
                let main = replica::serve(id, self.locks(), self.disks[&id].clone(), seed, record);
                Host::start(id, self.now_ms, main)
            }
            Role::Extents => Host::start(id, self.now_ms, extents(self.store.clone(), record)),
            Role::Client => {
                let setup = MountSetup {
                    host: id,
                    client: client_id(id, starts),
                    locks: REPLICAS.to_vec(),
                    extents: EXTENTS,
                    flush_after: Duration::from_millis(self.setup.flush_after_ms),
                    seed,
                };
                Host::start(id, self.now_ms, mount::serve(setup, self.plan(id), record))
            }
        };
        self.machines.get_mut(&id).expect("made above").host = Some(host);
    }

    fn locks(&self) -> LockSetup {
        LockSetup {
            hosts: REPLICAS.to_vec(),
            extents: EXTENTS,
            lease: Duration::from_millis(self.setup.lease_ms),
            election_timeout: Duration::from_millis(self.setup.election_timeout_ms),
            disk_ms_max: self.setup.disk_ms_max,
            snapshot_after: self.setup.snapshot_after,
            stuck_after: self.setup.stuck_after_ms.map(Duration::from_millis),
        }
    }

    fn plan(&self, id: HostId) -> Plan {
        Plan {
            stop: self.stop.clone(),
            audits: id == AUDITOR,
            pause_ms_max: self.setup.pause_ms_max,
            stopped: self.stopped.clone(),
        }
    }

    /// Pulls a machine's plug. `silently`: the others do not notice by their connections.
    pub fn switch_off(&mut self, id: HostId, silently: bool) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let Some(host) = machine.host.take() else { return };
        machine.paused_until_ms = 0;
        let starts = machine.starts;
        self.network.switch_off(id, silently);
        self.record.off(id);
        drop(host);
        let role = Role::of(id);
        self.record.count(|counts| counts.crashes[role.index()] += 1);
        self.record.note(&[self.now_ms, id.into(), 2]);
        match role {
            Role::Client => self.record.loses(client_id(id, starts), None, OBJECTS),
            Role::Extents => self.store.crash(),
            Role::Replica => {}
        }
    }

    /// A machine stands still for a while.
    pub fn pause(&mut self, id: HostId, for_ms: u64) {
        let until_ms = self.now_ms + for_ms;
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.paused_until_ms = until_ms;
            self.record.count(|counts| counts.pauses[Role::of(id).index()] += 1);
            self.record.note(&[self.now_ms, id.into(), 3]);
        }
    }

    /// Everything goes on for one tick.
    pub fn tick(&mut self) {
        self.now_ms += TICK_MS;
        clock::set_world_ms(self.now_ms);
        self.network.deliver(self.now_ms);
        for machine in self.machines.values_mut() {
            if machine.paused_until_ms <= self.now_ms
                && let Some(host) = &mut machine.host
            {
                host.run_until(self.now_ms, TICK_MS);
            }
        }
        let (bytes, _) = self.network.counts();
        self.record.note(&[bytes]);
    }

    /// All faults end: everything is on, goes on, and is connected.
    pub fn heal(&mut self) {
        self.network.heal();
        self.network.set_weather(Weather::FAIR);
        for machine in self.machines.values_mut() {
            machine.paused_until_ms = 0;
        }
        self.hosts_off().into_iter().for_each(|host| self.switch_on(host));
    }

    /// The clients are to flush everything and rest.
    pub fn stop_clients(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether these machines' clients are done.
    pub fn have_stopped(&self, hosts: &[HostId]) -> bool {
        let stopped = self.stopped.lock();
        hosts.iter().all(|host| stopped.contains(host))
    }

    /// A client that sees everything for the first time looks at it.
    pub fn audit(&mut self) -> HostId {
        self.switch_on(AUDITOR);
        AUDITOR
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Machines first, whose programs look at the clock and the network when they end.
        let ids = self.hosts();
        for id in ids {
            self.network.switch_off(id, true);
            self.record.off(id);
            if let Some(machine) = self.machines.get_mut(&id) {
                drop(machine.host.take());
            }
        }
        set_ambient(None);
    }
}

fn client_id(host: HostId, starts: u32) -> ClientId {
    host * 1_000 + starts
}

/// The main program of the extent server.
async fn extents(store: SimStore, record: Record) {
    store.boot();
    tokio::spawn(store.clone().work());
    match extent_server::serve(Arc::new(store), &address(EXTENTS), ServerOptions::default()).await {
        Ok(_server) => std::future::pending().await,
        Err(error) => record.broken("the extent server starts", error.to_string()),
    }
}
