//! `yfs status`: what the replicas and the extent server say of themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use extent_server::{ExtentClient, ExtentOptions, ExtentStatus};
use futures_util::future::join_all;
use lock_rsm::locks::protocol::{STUCK, StuckReport};
use lock_rsm::rsm::{ReplicaStatus, procs};
use serde::Serialize;

use super::file::{Cluster, FileError, mount_part};
use crate::fuse::mountinfo;

/// How long a server may take to answer before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(2);

/// The role of a replica that does not answer.
const UNREACHABLE: &str = "unreachable";

/// A cluster's state. Its JSON form is an interface for scripts: fields are added, never changed.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The newest view any replica is in; `null` when none answers.
    pub view: Option<View>,
    /// Every replica asked, in the order of the addresses, then members that have come since.
    pub replicas: Vec<Replica>,
    /// The extent server.
    pub extent_server: ExtentServer,
    /// Open sessions of the lock service; `null` when no master answers.
    pub sessions: Option<u32>,
    /// Living clients that have kept for longer than a lease what others wait for; the first hundred of them.
    pub stuck: Vec<StuckClient>,
    /// The mounts recorded in the cluster's directory (empty when asked by addresses).
    pub mounts: Vec<Mount>,
}

/// A view of the lock service.
#[derive(Debug, Serialize)]
pub struct View {
    /// View number.
    pub number: u64,
    /// Addresses of its members.
    pub members: Vec<String>,
    /// Address of its master, when there is one.
    pub master: Option<String>,
}

/// One lock replica.
#[derive(Debug, Serialize)]
pub struct Replica {
    /// Its address.
    pub address: String,
    /// Its process, when it answers or is known to run.
    pub pid: Option<u32>,
    /// `master`, `slave`, `candidate`, `joining` (not a member yet, or not any more), `forming`, or `unreachable`.
    pub role: String,
    /// What it has applied.
    pub viewstamp: Option<Viewstamp>,
    /// Hash of the state after it.
    pub state_hash: Option<u64>,
    /// Committed commands, as the master counts them, that it has not applied yet; `null` when it or the master is not known.
    pub lag: Option<u64>,
}

/// A place in the replicated log.
#[derive(Debug, Serialize)]
pub struct Viewstamp {
    /// View number.
    pub view: u64,
    /// Sequence number.
    pub seq: u64,
}

/// The extent server.
#[derive(Debug, Serialize)]
pub struct ExtentServer {
    /// Its address.
    pub address: String,
    /// Its process, when it answers or is known to run.
    pub pid: Option<u32>,
    /// Whether it answers.
    pub reachable: bool,
    /// Identity of its store, when it answers.
    pub store: Option<String>,
    /// Why it takes no more writes, if so.
    pub failed: Option<String>,
}

/// A living client that does not give back a lock.
#[derive(Debug, Serialize)]
pub struct StuckClient {
    /// What it calls itself.
    pub name: String,
    /// Where it is connected from, when it is.
    pub address: Option<String>,
    /// Its session.
    pub session: u64,
    /// The lock it has owed for longest: an inode number.
    pub lock: u64,
    /// For how long.
    pub owed_ms: u64,
    /// How many sessions wait for it.
    pub waiting: u32,
}

/// A mount on this machine.
#[derive(Debug, Serialize)]
pub struct Mount {
    /// The mountpoint.
    pub path: PathBuf,
    /// The process that serves it, when it runs.
    pub pid: Option<u32>,
    /// Whether it is in the directory tree.
    pub mounted: bool,
}

/// Where to ask.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The lock replicas.
    pub locks: Vec<String>,
    /// The extent server.
    pub extents: String,
}

/// The cluster in a directory.
///
/// # Errors
/// When there is none.
pub async fn of_directory(dir: &Path) -> Result<Status, FileError> {
    let cluster = Cluster::load(dir)?;
    let mut status =
        of_addresses(&Addresses { locks: cluster.locks.clone(), extents: cluster.extents.clone() }).await;
    for (i, replica) in status.replicas.iter_mut().enumerate() {
        let running = cluster.running(&lock_part(i)).map(|process| process.pid);
        replica.pid = replica.pid.or(running);
    }
    let running = cluster.running(EXTENTS_PART).map(|process| process.pid);
    status.extent_server.pid = status.extent_server.pid.or(running);
    status.mounts = cluster
        .mounts
        .iter()
        .map(|path| Mount {
            path: path.clone(),
            pid: cluster.running(&mount_part(path)).map(|process| process.pid),
            mounted: is_mounted(path),
        })
        .collect();
    Ok(status)
}

/// The part's name of replica `i` (from 0) in `cluster.json`; also its directory.
pub fn lock_part(i: usize) -> String {
    format!("lock-{}", i + 1)
}

/// The part's name of the extent server in `cluster.json`; also its directory.
pub const EXTENTS_PART: &str = "extents";

/// Whether this program's file system is mounted at `path`.
pub fn is_mounted(path: &Path) -> bool {
    mountinfo::at(path).ok().flatten().is_some_and(|entry| entry.is_yfs())
}

/// The cluster at these addresses, each asked at the same time.
pub async fn of_addresses(addresses: &Addresses) -> Status {
    let (replicas, extents) = tokio::join!(ask_replicas(&addresses.locks), ask_extents(&addresses.extents));
    let (asked, answers): (Vec<String>, Vec<_>) = replicas.into_iter().unzip();
    let committed =
        answers.iter().flatten().filter(|status| status.role == "master").map(|s| s.committed).max();
    let view = newest_view(&answers);
    let report = match view.as_ref().and_then(|view| view.master.as_ref()) {
        Some(master) => ask_stuck(master).await,
        None => None,
    };
    Status {
        view,
        replicas: asked.iter().zip(answers).map(|(a, answer)| replica(a, answer, committed)).collect(),
        extent_server: extent_server(&addresses.extents, extents),
        sessions: report.as_ref().map(|report| report.sessions),
        stuck: report.into_iter().flat_map(|report| report.stuck).map(stuck_client).collect(),
        mounts: Vec::new(),
    }
}

/// What the replicas at these addresses say, and then the members that one of them named and that are not among them.
async fn ask_replicas(addresses: &[String]) -> Vec<(String, Option<ReplicaStatus>)> {
    let mut answers = join_all(addresses.iter().map(|address| ask_replica(address))).await;
    let members = newest_view(&answers).map(|view| view.members).unwrap_or_default();
    let others: Vec<String> = members.into_iter().filter(|member| !addresses.contains(member)).collect();
    answers.extend(join_all(others.iter().map(|address| ask_replica(address))).await);
    addresses.iter().cloned().chain(others).zip(answers).collect()
}

/// What one replica says of itself; `None` when it does not answer.
pub async fn ask_replica(address: &str) -> Option<ReplicaStatus> {
    let options = rpc::ClientOptions { connect_timeout: PATIENCE, ..rpc::ClientOptions::default() };
    let client = rpc::Client::new(address, options);
    let answer = client.call::<(), ReplicaStatus>(procs::STATUS, &(), PATIENCE).await;
    client.close();
    answer.inspect_err(|e| tracing::debug!("lock server {address}: {e}")).ok()
}

/// What the master says of its clients; `None` when it does not answer, or is none any more.
async fn ask_stuck(master: &str) -> Option<StuckReport> {
    let options = rpc::ClientOptions { connect_timeout: PATIENCE, ..rpc::ClientOptions::default() };
    let client = rpc::Client::new(master, options);
    let answer = client.call::<(), StuckReport>(STUCK, &(), PATIENCE).await;
    client.close();
    answer.inspect_err(|e| tracing::debug!("lock server {master}: {e}")).ok()
}

/// What the extent server says of itself; `None` when it does not answer.
pub async fn ask_extents(address: &str) -> Option<ExtentStatus> {
    let options = ExtentOptions { timeout: PATIENCE, connect_timeout: PATIENCE, ..ExtentOptions::default() };
    let asked = async { ExtentClient::connect(address, options).await?.status().await };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(status)) => Some(status),
        Ok(Err(e)) => {
            tracing::debug!("extent server {address}: {e}");
            None
        }
        Err(_) => None,
    }
}

fn newest_view(answers: &[Option<ReplicaStatus>]) -> Option<View> {
    let answered = answers.iter().flatten();
    // Of replicas in the same view one may know the master and another not yet.
    let newest = answered.max_by_key(|status| (status.view.number, status.view.master.is_some()))?;
    let view = &newest.view;
    Some(View { number: view.number, members: view.members.clone(), master: view.master.clone() })
}

fn replica(address: &str, answer: Option<ReplicaStatus>, committed: Option<u64>) -> Replica {
    match answer {
        Some(status) => Replica {
            address: address.to_owned(),
            pid: Some(status.pid),
            role: status.role,
            viewstamp: Some(Viewstamp { view: status.viewstamp.view, seq: status.viewstamp.seq }),
            state_hash: status.state_hash,
            lag: committed.map(|committed| committed.saturating_sub(status.applied)),
        },
        None => Replica {
            address: address.to_owned(),
            pid: None,
            role: UNREACHABLE.to_owned(),
            viewstamp: None,
            state_hash: None,
            lag: None,
        },
    }
}

fn stuck_client(client: lock_rsm::locks::protocol::StuckClient) -> StuckClient {
    let lock_rsm::locks::protocol::StuckClient { session, name, address, lock, owed_ms, waiting } = client;
    StuckClient { name, address, session, lock, owed_ms, waiting }
}

fn extent_server(address: &str, answer: Option<ExtentStatus>) -> ExtentServer {
    ExtentServer {
        address: address.to_owned(),
        pid: answer.as_ref().map(|status| status.pid),
        reachable: answer.is_some(),
        store: answer.as_ref().map(|status| status.store.clone()),
        failed: answer.and_then(|status| status.failed),
    }
}

impl Status {
    /// Whether locks can be had and extents be read: a master is known and the extent server answers.
    pub fn serves(&self) -> bool {
        let master = self.view.as_ref().is_some_and(|view| view.master.is_some());
        master && self.replicas.iter().any(|r| r.role == "master") && self.extent_server.reachable
    }

    /// Whether anything at all answered.
    pub fn anybody_there(&self) -> bool {
        self.view.is_some() || self.extent_server.reachable
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            let _ = writeln!(out, "{}", text.trim_end()); // writing to a string does not fail
        };
        match &self.view {
            Some(view) => {
                let master = view.master.as_deref().unwrap_or("none (electing)");
                line(format!("view {}  master {master}  members {}", view.number, view.members.join(" ")));
            }
            None => line("no lock server answers".into()),
        }
        line(format!(
            "{:<14} {:<22} {:>8}  {:<12} {:<12} {}",
            "PART", "ADDRESS", "PID", "ROLE", "VIEWSTAMP", "LAG"
        ));
        for replica in &self.replicas {
            let stamp = replica.viewstamp.as_ref().map_or(String::new(), |v| format!("{}.{}", v.view, v.seq));
            let pid = pid_text(replica.pid);
            let lag = replica.lag.map_or(String::new(), |lag| lag.to_string());
            line(format!(
                "{:<14} {:<22} {pid:>8}  {:<12} {stamp:<12} {lag}",
                "lock server", replica.address, replica.role
            ));
        }
        let extents = &self.extent_server;
        let role = match (&extents.failed, extents.reachable) {
            (Some(why), _) => format!("failed: {why}"),
            (None, true) => "serving".into(),
            (None, false) => UNREACHABLE.into(),
        };
        let pid = pid_text(extents.pid);
        line(format!("{:<14} {:<22} {pid:>8}  {role}", "extent server", extents.address));
        if let Some(sessions) = self.sessions {
            line(format!("sessions {sessions}"));
        }
        for StuckClient { name, address, lock, owed_ms, waiting, .. } in &self.stuck {
            let from = address.as_deref().unwrap_or("not connected");
            let seconds = owed_ms / 1000;
            line(format!(
                "{:<14} {name} ({from}) does not give back lock {lock}, asked for {seconds} s ago; {waiting} waiting",
                "stuck client"
            ));
        }
        for mount in &self.mounts {
            let role = match (mount.mounted, mount.pid) {
                (true, Some(_)) => "mounted",
                (true, None) => "dead (yfs umount --force)",
                (false, _) => "not mounted",
            };
            let pid = pid_text(mount.pid);
            line(format!("{:<14} {:<22} {pid:>8}  {role}", "mount", mount.path.display()));
        }
        out
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Status {
        Status {
            view: None,
            replicas: vec![replica("127.0.0.1:1", None, None)],
            extent_server: extent_server("127.0.0.1:2", None),
            sessions: None,
            stuck: vec![],
            mounts: vec![],
        }
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(nobody()).unwrap();
        assert_eq!(json["view"], serde_json::Value::Null);
        assert_eq!(json["replicas"][0]["role"], "unreachable");
        assert_eq!(json["replicas"][0]["pid"], serde_json::Value::Null);
        assert_eq!(json["replicas"][0]["lag"], serde_json::Value::Null);
        assert_eq!(json["extent_server"]["address"], "127.0.0.1:2");

        let mut status = nobody();
        status.view =
            Some(View { number: 3, members: vec!["127.0.0.1:1".into()], master: Some("127.0.0.1:1".into()) });
        status.replicas[0].viewstamp = Some(Viewstamp { view: 3, seq: 10 });
        status.replicas[0].role = "master".into();
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["view"]["number"], 3);
        assert_eq!(json["view"]["master"], "127.0.0.1:1");
        assert_eq!(json["replicas"][0]["viewstamp"], serde_json::json!({"view": 3, "seq": 10}));
        assert!(!status.serves(), "the extent server is away");
        status.extent_server.reachable = true;
        assert!(status.serves());
    }

    #[test]
    fn the_table_names_every_part() {
        let mut status = nobody();
        status.mounts.push(Mount { path: "/mnt/a".into(), pid: None, mounted: true });
        let table = status.table();
        for word in ["no lock server answers", "127.0.0.1:1", "127.0.0.1:2", "unreachable", "/mnt/a", "dead"]
        {
            assert!(table.contains(word), "{word} is missing in:\n{table}");
        }
    }

    #[test]
    fn stuck_clients_are_named() {
        let mut status = nobody();
        status.sessions = Some(2);
        let (name, address) = ("yfs mount /mnt/a".to_owned(), Some("10.0.0.7:4711".to_owned()));
        status.stuck = vec![StuckClient { name, address, session: 9, lock: 17, owed_ms: 23_400, waiting: 2 }];
        let table = status.table();
        for words in
            ["sessions 2", "stuck client", "yfs mount /mnt/a (10.0.0.7:4711)", "lock 17", "23 s", "2 waiting"]
        {
            assert!(table.contains(words), "{words} is missing in:\n{table}");
        }
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["stuck"][0]["lock"], 17);
        assert_eq!(json["sessions"], 2);
    }

    #[tokio::test]
    async fn nobody_at_home_is_an_answer_too() {
        let port = super::super::ports::pick_pairs(1).unwrap()[0];
        let status = of_addresses(&Addresses {
            locks: vec![format!("127.0.0.1:{port}")],
            extents: format!("127.0.0.1:{}", port + 1),
        })
        .await;
        assert!(!status.anybody_there() && !status.serves());
        assert_eq!(status.replicas[0].role, UNREACHABLE);
    }
}
