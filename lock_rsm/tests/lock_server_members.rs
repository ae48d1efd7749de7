//! `lock_server` processes: replaced by others, leaving for good, and the last resort of a group that lost its majority.

#![allow(clippy::unwrap_used, reason = "test code")]

use lock_rsm::rsm::{ReplicaStatus, View, replica_status};
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far more than anything takes here, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers by number, each with its address and directory; and their processes while they run.
struct Servers {
    addresses: Vec<String>,
    running: Vec<Option<Child>>,
    dir: TempDir,
}

impl Servers {
    fn new(count: usize) -> Servers {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        Servers { addresses, running: (0..count).map(|_| None).collect(), dir: tempfile::tempdir().unwrap() }
    }

    /// A group of the first `founders` servers, of `count` there can be.
    async fn founded(count: usize, founders: usize) -> Servers {
        let mut servers = Servers::new(count);
        for i in 0..founders {
            servers.start(i, 0, founders);
        }
        servers.until_members(&(0..founders).collect::<Vec<_>>()).await;
        servers
    }

    fn data(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("data-{i}"))
    }

    fn log(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("log-{i}"))
    }

    fn said(&self, i: usize) -> String {
        std::fs::read_to_string(self.log(i)).unwrap()
    }

    fn program() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lock_server"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts server `i`; the first `founders` found the group, others join at `member`.
    fn start(&mut self, i: usize, member: usize, founders: usize) {
        let mut command = Servers::program();
        command.args([&self.addresses[member], &self.addresses[i]]).arg("--data").arg(self.data(i));
        if i < founders {
            command.args(["--members", &self.addresses[..founders].join(",")]);
        }
        let log = File::create(self.log(i)).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.running[i] = Some(command.spawn().unwrap());
    }

    fn kill(&mut self, i: usize) {
        let mut child = self.running[i].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until server `i` has ended by itself; whether it says that all is well.
    fn ends_well(&mut self, i: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let child = self.running[i].as_mut().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "server {i} does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        self.running[i] = None;
        status.success()
    }

    async fn status(&self, i: usize) -> Option<ReplicaStatus> {
        replica_status(&self.addresses[i], Duration::from_secs(5)).await.ok()
    }

    /// Waits until all of these, and nobody else, are the members for each of them, and one of them leads.
    async fn until_members(&self, members: &[usize]) {
        let mut wanted: Vec<&String> = members.iter().map(|i| &self.addresses[*i]).collect();
        wanted.sort();
        let agrees = |view: &View| {
            let mut members: Vec<&String> = view.members.iter().collect();
            members.sort();
            members == wanted && view.master.as_ref().is_some_and(|master| wanted.contains(&master))
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut seen = Vec::new();
            for i in members {
                seen.push(self.status(*i).await.map(|status| status.view));
            }
            if seen.iter().all(|view| view.as_ref().is_some_and(agrees)) {
                return;
            }
            assert!(Instant::now() < deadline, "members {members:?}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs `lock_server` with orders for the group.
    fn order(&self, what: &str, of: &[usize], more: &[&str]) -> Output {
        let mut command = Servers::program();
        command.arg(what).args(of.iter().map(|i| &self.addresses[*i])).args(more);
        command.output().unwrap()
    }

    fn succeed(&self, what: &str, of: &[usize], more: &[&str]) -> String {
        let output = self.order(what, of, more);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what} {of:?}: {}: {complaint}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The complaint of an order that is refused: one line.
    fn refused(&self, what: &str, of: &[usize], more: &[&str]) -> String {
        complaint(&self.order(what, of, more))
    }

    /// What making server `i` the only one comes to.
    fn alone(&self, i: usize, more: &[&str]) -> Output {
        let mut command = Servers::program();
        command.args([&self.addresses[i], &self.addresses[i]]).arg("--data").arg(self.data(i));
        command.arg("--force-alone").args(more).output().unwrap()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it should have been refused: {output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("lock_server: ")).collect();
    assert_eq!(lines.len(), 1, "not one line: {text}");
    lines[0].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_is_replaced_and_its_disk_refused() {
    let mut servers = Servers::founded(4, 3).await;
    servers.kill(0);
    servers.start(3, 1, 3);
    let said = servers.succeed("--replace", &[0, 3], &[]);
    let line = format!("{} has taken the place of {}", servers.addresses[3], servers.addresses[0]);
    assert!(said.contains(&line) && said.contains("members "), "{said}");
    servers.until_members(&[1, 2, 3]).await;

    servers.start(0, 1, 3);
    assert!(!servers.ends_well(0), "it must not say that all is well");
    let why = servers.said(0);
    let data = servers.data(0);
    assert!(why.contains("was replaced") && why.contains(&*data.to_string_lossy()), "{why}");
    servers.until_members(&[1, 2, 3]).await;

    // The remedy it names.
    std::fs::rename(&data, servers.dir.path().join("away")).unwrap();
    servers.start(0, 1, 0);
    servers.until_members(&[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_master_is_replaced_and_ends() {
    let mut servers = Servers::founded(4, 3).await;
    let master = servers.status(0).await.unwrap().view.master.unwrap();
    let master = servers.addresses.iter().position(|address| *address == master).unwrap();
    servers.start(3, 0, 3);
    servers.succeed("--replace", &[master, 3], &[]);
    assert!(!servers.ends_well(master));
    assert!(servers.said(master).contains("was replaced"), "{}", servers.said(master));
    let rest: Vec<usize> = (0..4).filter(|i| *i != master).collect();
    servers.until_members(&rest).await;
    servers.succeed("--replace", &[master, 3], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let mut servers = Servers::founded(6, 3).await;
    let away = servers.refused("--replace", &[0, 3], &["--timeout", "1"]);
    assert!(away.contains(&servers.addresses[3]) && away.contains("start it first"), "{away}");
    let same = servers.refused("--replace", &[0, 0], &[]);
    assert!(same.contains("cannot take its own place"), "{same}");
    servers.start(3, 0, 3);
    let unknown = servers.refused("--replace", &[4, 3], &[]);
    assert!(unknown.contains(&servers.addresses[4]) && unknown.contains("is or was a member"), "{unknown}");
    let nobody = servers.refused("--leave", &[4], &["--timeout", "1"]);
    assert!(nobody.contains("no replica leads the group"), "{nobody}");
    let unknown = servers.refused("--leave", &[4], &["--members", &servers.addresses[0]]);
    assert!(unknown.contains("is or was a member"), "{unknown}");

    // A group of its own.
    servers.start(5, 5, 0);
    servers.until_members(&[5]).await;
    let stranger = servers.refused("--replace", &[0, 5], &["--timeout", "10"]);
    assert!(stranger.contains("another group"), "{stranger}");
    let last = servers.refused("--leave", &[5], &[]);
    assert!(last.contains("only member"), "{last}");

    servers.until_members(&[0, 1, 2, 3]).await;
    servers.kill(1);
    servers.kill(2);
    let late = servers.refused("--replace", &[1, 3], &["--timeout", "3"]);
    assert!(late.contains("majority"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_leave_until_one_is_left() {
    let mut servers = Servers::founded(3, 3).await;
    servers.succeed("--leave", &[2], &[]);
    assert!(!servers.ends_well(2));
    servers.until_members(&[0, 1]).await;
    let master = servers.status(0).await.unwrap().view.master.unwrap();
    let slave = usize::from(servers.addresses[0] == master);
    servers.succeed("--leave", &[slave], &[]);
    servers.until_members(&[1 - slave]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_two_goes_on_alone_when_it_is_told_to() {
    let mut servers = Servers::founded(3, 2).await;
    let view = servers.status(0).await.unwrap().view.number;
    servers.kill(0);
    let alive = complaint(&servers.alone(0, &["--yes"]));
    assert!(alive.contains(&servers.addresses[1]) && alive.contains("alive"), "{alive}");
    servers.kill(1);
    // The disk of one is lost, and it comes back without.
    std::fs::remove_dir_all(servers.data(1)).unwrap();
    servers.start(0, 0, 2);
    servers.start(1, 0, 2);
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        let leads = servers.status(0).await.is_some_and(|status| status.role == "master");
        assert!(!leads, "it cannot know that the other does not go on without it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let in_use = complaint(&servers.alone(0, &["--yes"]));
    assert!(in_use.contains("in use"), "{in_use}");
    servers.kill(0);
    let told = servers.alone(0, &[]);
    assert!(complaint(&told).contains("--yes"));
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(
        said.contains("goes on without") && said.contains("nothing that was acknowledged is lost"),
        "{said}"
    );

    let done = servers.alone(0, &["--yes"]);
    assert!(done.status.success(), "{done:?}");
    servers.start(0, 0, 2);
    // The one without its disk has been asking to be taken in.
    servers.until_members(&[0, 1]).await;
    let status = servers.status(0).await.unwrap();
    assert!(status.view.number > view, "clients follow the later view: {status:?}");
    let other = complaint(&servers.alone(2, &["--yes"]));
    assert!(other.contains("--data"), "{other}");
    assert!(!servers.data(2).exists());
}
