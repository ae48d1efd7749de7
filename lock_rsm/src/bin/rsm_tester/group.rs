//! The lock servers of a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lock_rsm::rsm::{ReplicaStatus, replica_status, test_port};

use super::checks;
use super::failure::Failure;
use super::history::History;
use super::ports::Ports;
use super::process::{self, PATIENCE, POLL};
use super::server::Server;
use super::views;

/// How long one question to a server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Whoever may do nothing is watched for this long.
const QUIET: Duration = Duration::from_secs(5);

/// How servers are set up.
pub struct Setup {
    pub bin_dir: PathBuf,
    pub dir: PathBuf,
    pub seed: u64,
    /// How many servers there can be.
    pub servers: u16,
    /// All members are listed in a file `config`, and found the group together.
    pub listed: bool,
    /// Silent servers are removed, as soon as they usually are.
    pub removes: bool,
    /// Logs are named as in the lab of 2007, not as in the later ones.
    pub as_in_2007: bool,
    /// Ends servers by SIGTERM, not by SIGKILL.
    pub gently: bool,
}

impl Setup {
    /// The name of the log of `program`, called for these ports.
    pub fn log(&self, program: &str, ports: &[u16]) -> String {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        match self.as_in_2007 {
            true => format!("{program}-{}.out", ports.join(" ")),
            false => format!("{program}-{}.log", ports.join("-")),
        }
    }
}

/// The lock servers of a test, by number; number 0 is started first.
pub struct Group {
    pub setup: Setup,
    pub servers: Vec<Server>,
    history: History,
    founders: Vec<usize>,
    _ports: Ports,
}

impl Group {
    /// Servers that do not run yet.
    pub fn new(setup: Setup) -> Result<Group, Failure> {
        let ports = Ports::take(setup.servers, setup.seed)?;
        let numbers: Vec<usize> = (0..usize::from(setup.servers)).collect();
        let first = ports.server(0);
        let server = |&i: &usize| {
            let port = ports.server(i);
            Server::new(port, setup.dir.join(setup.log("lock_server", &[first, port])))
        };
        let servers: Vec<Server> = numbers.iter().map(server).collect();
        if setup.listed {
            let config: String = servers.iter().map(|server| format!("{}\n", server.port)).collect();
            let file = setup.dir.join("config");
            std::fs::write(&file, config).map_err(|error| Failure::cannot("write", &file, &error))?;
        }
        let founders = if setup.listed { numbers } else { vec![0] };
        Ok(Group { setup, servers, history: History::default(), founders, _ports: ports })
    }

    /// Starts server `i` as `lock_server MASTER I`.
    pub fn start(&mut self, i: usize, master: usize) -> Result<(), Failure> {
        let master = self.servers[master].port.to_string();
        let server = &mut self.servers[i];
        let test_port = (server.port + 1).to_string();
        let mut arguments = vec![master, server.port.to_string(), "--test-port".to_owned(), test_port];
        if !self.setup.removes {
            arguments.extend(["--remove-after".to_owned(), "0".to_owned()]);
        }
        let program = self.setup.bin_dir.join("lock_server");
        let child = process::spawn(&program, "./lock_server", &arguments, &self.setup.dir, &server.log)?;
        server.started(child);
        self.history.restarted(server.port);
        Ok(())
    }

    /// Starts all servers of a group that is listed in `config`.
    pub fn start_listed(&mut self) -> Result<(), Failure> {
        (0..self.servers.len()).try_for_each(|i| self.start(i, 0))
    }

    /// Starts `count` servers one after the other; each joins those before it.
    pub async fn start_joining(&mut self, count: usize) -> Result<(), Failure> {
        for i in 0..count {
            self.start(i, 0)?;
            self.wait_for_view(&(0..=i).collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// Prints the labs' line.
    pub fn say_spawned(&self) {
        let pids: Vec<String> =
            self.servers.iter().filter_map(|server| server.pid()).map(|pid| pid.to_string()).collect();
        println!("spawned: {}", pids.join(" "));
    }

    /// Ends server `i`, as a crash would unless set up otherwise.
    pub async fn kill(&mut self, i: usize) -> Result<(), Failure> {
        match self.setup.gently {
            true => self.servers[i].terminate(true).await,
            false => self.servers[i].kill().await,
        }
    }

    /// Calls off the breakpoints of these servers, unless they have died already.
    pub async fn call_off(&mut self, of: &[usize]) -> Result<(), Failure> {
        for &i in of {
            if self.servers[i].is_running() {
                self.arm(i, 0).await?;
            }
        }
        Ok(())
    }

    /// Has server `i` die at breakpoint `number`; 0 calls off all that was asked.
    pub async fn arm(&self, i: usize, number: u32) -> Result<(), Failure> {
        let at = self.servers[i].test_address();
        let armed = test_port::arm_breakpoint(&at, number).await;
        armed
            .map(drop)
            .map_err(|error| Failure::new(format!("cannot set breakpoint {number} at {at}: {error}")))
    }

    /// Waits for server `i` to die at breakpoint `number`.
    pub async fn wait_for_death(&mut self, i: usize, number: u32) -> Result<(), Failure> {
        self.wait_for_death_of(&[i], number).await.map(drop)
    }

    /// Waits for one of these servers to die at breakpoint `number`, and says which.
    pub async fn wait_for_death_of(&mut self, of: &[usize], number: u32) -> Result<usize, Failure> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for &i in of {
                if self.servers[i].has_died_at(number)? {
                    println!("died: {}", self.servers[i].port);
                    return Ok(i);
                }
            }
            tokio::time::sleep(POLL / 4).await;
        }
        Err(Failure::new(format!("nobody died at breakpoint {number} within {PATIENCE:?}")))
    }

    /// Cuts server `i` off at its next command, or repairs that.
    pub async fn partition(&self, i: usize, heal: bool) -> Result<(), Failure> {
        let at = self.servers[i].test_address();
        let done = test_port::net_repair(&at, heal).await;
        done.map(drop).map_err(|error| Failure::new(format!("cannot partition by {at}: {error}")))
    }

    /// What these servers say of themselves.
    async fn statuses(&self, of: &[usize]) -> Result<Vec<ReplicaStatus>, String> {
        let questions = of.iter().map(|&i| async move {
            let address = self.servers[i].address();
            replica_status(&address, ANSWER_WITHIN).await.map_err(|error| format!("{address}: {error}"))
        });
        join_all(questions).await.into_iter().collect()
    }

    /// Nobody has died unasked, and all tell the same history.
    pub async fn look(&mut self) -> Result<(), Failure> {
        for i in 0..self.servers.len() {
            self.servers[i].must_run()?;
            if self.servers[i].is_running() {
                self.read_history(i).await?;
            }
        }
        Ok(())
    }

    async fn read_history(&mut self, i: usize) -> Result<(), Failure> {
        let (port, at) = (self.servers[i].port, self.servers[i].test_address());
        loop {
            let from = self.history.next_of(port);
            // It may have just started, or have just died.
            let Ok(page) = test_port::read_history(&at, from).await else { return Ok(()) };
            if page.lines.is_empty() {
                return Ok(());
            }
            self.history.told(port, page.lines).map_err(Failure::new)?;
        }
    }

    /// Waits until `members`, in this order, are the view of each of them, with one of them as the master of all.
    pub async fn wait_for_view(&mut self, members: &[usize]) -> Result<(), Failure> {
        let addresses = self.addresses(members);
        let what = format!("the view {}", addresses.join(" "));
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.wait_for(&what, members, |statuses| checks::one_view(statuses, &addresses)).await?;
            self.look().await?;
            // A view is followed a moment before it is committed.
            if self.agreed_members().last() == Some(&addresses) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{what}: followed and not committed within {PATIENCE:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Who the members were, one after the other, as far as that is committed.
    fn agreed_members(&self) -> Vec<Vec<String>> {
        self.history.members(self.addresses(&self.founders))
    }

    /// Waits until all of these servers say something that is `found` right.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        of: &[usize],
        found: impl Fn(&[ReplicaStatus]) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look().await?;
            let why = match self.statuses(of).await.and_then(|statuses| found(&statuses)) {
                Ok(value) => return Ok(value),
                Err(why) => why,
            };
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{what}: not within {PATIENCE:?}: {why}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `members` with the master in front.
    pub async fn master_first(&mut self, members: &[usize]) -> Result<Vec<usize>, Failure> {
        let master = self.wait_for("a master", members, checks::one_master).await?;
        let (mut order, others): (Vec<usize>, Vec<usize>) =
            members.iter().partition(|&&i| self.servers[i].address() == master);
        order.extend(others);
        Ok(order)
    }

    /// The running servers, too few to decide anything, commit and adopt nothing for a while, and none claims to lead.
    pub async fn nothing_happens(&mut self) -> Result<(), Failure> {
        self.look().await?;
        let (before, committed) = (self.adopted()?, self.history.last());
        tokio::time::sleep(QUIET).await;
        self.look().await?;
        if self.history.last() != committed {
            return Err(Failure::new(format!(
                "entry {} is committed without a majority",
                self.history.last()
            )));
        }
        if let Some((address, view)) = self.adopted()?.iter().find_map(|(address, views)| {
            let known = before.get(address).map_or(0, Vec::len);
            views.get(known).map(|view| (address, view))
        }) {
            return Err(Failure::new(format!("{address} adopted {view} without a majority")));
        }
        let running: Vec<usize> = (0..self.servers.len()).filter(|&i| self.servers[i].is_running()).collect();
        for &i in &running {
            // One that waits to be let in may not answer.
            let Ok(status) = self.statuses(&[i]).await else { continue };
            if status[0].role == "master" {
                return Err(Failure::new(format!("{} leads without a majority", status[0].address)));
            }
        }
        Ok(())
    }

    fn adopted(&self) -> Result<BTreeMap<String, Vec<lock_rsm::rsm::View>>, Failure> {
        let started = self.servers.iter().filter(|server| Path::exists(&server.log));
        started.map(|server| Ok((server.address(), server.views()?))).collect()
    }

    /// The end of a test: `members` agree on everything, the members were these one after the other (numbers of servers),
    /// what the servers printed fits that, and all end well.
    pub async fn finish(
        &mut self,
        members: &[usize],
        one_after_the_other: &[&[usize]],
    ) -> Result<(), Failure> {
        self.wait_for_view(members).await?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = self.one_history(members).await? {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("one history: not within {PATIENCE:?}: {why}")));
            }
            tokio::time::sleep(POLL).await;
        }
        self.check_views(one_after_the_other)?;
        for server in self.servers.iter_mut().filter(|server| server.is_running()) {
            server.terminate(false).await?;
        }
        Ok(())
    }

    /// Waits until `members` agree, and says whether all that they agree on is known here.
    async fn one_history(&mut self, members: &[usize]) -> Result<Result<(), String>, Failure> {
        let addresses = self.addresses(members);
        let stamp = self
            .wait_for("agreement of the replicas", members, |statuses| {
                checks::agreement(statuses, &addresses)
            })
            .await?;
        self.look().await?;
        let mut complete = members.iter().map(|&i| self.history.is_complete(stamp.seq, self.servers[i].port));
        Ok(complete.try_for_each(|one| one))
    }

    fn check_views(&self, one_after_the_other: &[&[usize]]) -> Result<(), Failure> {
        let agreed = self.agreed_members();
        let wanted: Vec<Vec<String>> =
            one_after_the_other.iter().map(|members| self.addresses(members)).collect();
        if agreed != wanted {
            return Err(Failure::new(format!(
                "the members were to be {}, and were {}",
                listed(&wanted),
                listed(&agreed)
            )));
        }
        views::check(&self.adopted()?, &agreed).map_err(Failure::new)
    }

    pub fn addresses(&self, of: &[usize]) -> Vec<String> {
        of.iter().map(|&i| self.servers[i].address()).collect()
    }
}

fn listed(views: &[Vec<String>]) -> String {
    let views: Vec<String> = views.iter().map(|members| format!("{{{}}}", members.join(" "))).collect();
    views.join(", ")
}
