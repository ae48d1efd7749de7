//! The tests, by number.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use lock_rsm::locks::protocol::STAT;
use lock_rsm::locks::{LockClient, LockClientOptions, LockError, LockGuard, LockId, Mode, NoHooks};
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError};
use tokio::runtime::Handle;
use tokio::sync::Barrier;

use super::ledger::Ledger;

/// Clients, and operations at a time, of the labs' tests.
const MANY: usize = 10;
const A: LockId = 1;
const B: LockId = 2;
const C: LockId = 3;
/// What must happen soon gets this long; a machine under load fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the tests failed.
#[derive(Debug)]
pub struct Failure(pub String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Failure {
        Failure(error.to_string())
    }
}

impl From<RsmError> for Failure {
    fn from(error: RsmError) -> Failure {
        Failure(error.to_string())
    }
}

pub struct Tester {
    addrs: Vec<String>,
    clients: Vec<LockClient>,
    ledger: Arc<Ledger>,
}

/// A lock held exclusively and entered in the ledger.
struct Held {
    lock: LockId,
    ledger: Arc<Ledger>,
    _guard: LockGuard,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.released(self.lock);
    }
}

impl Tester {
    pub async fn connect(addrs: &[String]) -> Result<Tester, Failure> {
        let clients = connect(addrs).await?;
        Ok(Tester { addrs: addrs.to_vec(), clients, ledger: Arc::new(Ledger::new()) })
    }

    pub async fn close(self) -> Result<(), Failure> {
        close(self.clients).await
    }

    pub async fn test(&self, number: u32) -> Result<(), Failure> {
        match number {
            1 => self.one_client().await,
            2 => self.each_holds_it_for_a_second().await,
            3 => self.each_takes_it_ten_times().await,
            4 => self.two_operations_share_a_client().await,
            5 => self.same_and_different_clients().await,
            6 => self.hundred_rounds().await,
            7 => self.shared_locks().await,
            _ => unreachable!("the caller knows the numbers"),
        }
    }

    async fn take(&self, client: &LockClient, lock: LockId) -> Result<Held, Failure> {
        let guard = client.acquire(&[(lock, Mode::Exclusive)]).await?;
        self.ledger.granted(lock);
        Ok(Held { lock, ledger: self.ledger.clone(), _guard: guard })
    }

    async fn one_client(&self) -> Result<(), Failure> {
        let client = &self.clients[0];
        println!("acquire a release a acquire a release a");
        drop(self.take(client, A).await?);
        drop(self.take(client, A).await?);
        println!("acquire a acquire b release b release a");
        let a = self.take(client, A).await?;
        let b = self.take(client, B).await?;
        drop(b);
        drop(a);
        Ok(())
    }

    async fn each_holds_it_for_a_second(&self) -> Result<(), Failure> {
        let hold = |i: usize| async move {
            println!("test2: client {i} acquire a release a");
            let held = self.take(&self.clients[i], A).await?;
            println!("test2: client {i} acquire done");
            tokio::time::sleep(Duration::from_secs(1)).await;
            println!("test2: client {i} release");
            drop(held);
            println!("test2: client {i} release done");
            Ok(())
        };
        self.at_once(MANY, hold).await
    }

    async fn each_takes_it_ten_times(&self) -> Result<(), Failure> {
        self.at_once(MANY, |i| self.rounds("test3", i, &self.clients[i], 10)).await
    }

    async fn two_operations_share_a_client(&self) -> Result<(), Failure> {
        self.at_once(2, |i| self.rounds("test4", i, &self.clients[0], 10)).await
    }

    async fn same_and_different_clients(&self) -> Result<(), Failure> {
        self.at_once(MANY, |i| self.rounds("test5", i, &self.clients[usize::from(i >= 5)], 10)).await
    }

    async fn hundred_rounds(&self) -> Result<(), Failure> {
        let clients = connect(&self.addrs).await?;
        self.at_once(MANY, |i| self.rounds("test6", i, &clients[i], 100)).await?;
        close(clients).await?;
        let rsm = RsmClient::connect(&self.addrs, RsmClientOptions::default()).await?;
        let holders: u32 = rsm.invoke(STAT, &A, PATIENCE).await?;
        check(holders == 0, "test6: closed clients still hold lock a")?;
        println!("test6: all clients closed");
        Ok(())
    }

    async fn rounds(&self, test: &str, i: usize, client: &LockClient, rounds: u32) -> Result<(), Failure> {
        println!("{test}: client {i} acquire a release a {rounds} times");
        for _ in 0..rounds {
            let held = self.take(client, A).await?;
            // Lets others try to get in.
            tokio::task::yield_now().await;
            drop(held);
        }
        println!("{test}: client {i} done");
        Ok(())
    }

    /// Readers hold the lock together, a writer is kept out meanwhile, and a reader costs a writer only a downgrade.
    async fn shared_locks(&self) -> Result<(), Failure> {
        const READERS: usize = 5;
        let (together, together_again) = (Barrier::new(READERS), Barrier::new(READERS));
        let writer = &self.clients[READERS];
        let read = |i: usize| {
            let (together, together_again) = (&together, &together_again);
            async move {
                let guard = self.clients[i].acquire(&[(C, Mode::Shared)]).await?;
                self.ledger.nobody_writes(C);
                together.wait().await;
                check(
                    writer.try_acquire(&[(C, Mode::Exclusive)]).is_none(),
                    "test7: a writer among readers",
                )?;
                self.ledger.nobody_writes(C);
                together_again.wait().await;
                drop(guard);
                Ok(())
            }
        };
        println!("test7: {READERS} clients share c");
        self.at_once(READERS, read).await?;

        println!("test7: readers and writers take turns");
        let turns = |i: usize| async move {
            for round in 0..20 {
                if (i + round).is_multiple_of(4) {
                    drop(self.take(&self.clients[i], C).await?);
                } else {
                    let guard = self.clients[i].acquire(&[(C, Mode::Shared)]).await?;
                    self.ledger.nobody_writes(C);
                    drop(guard);
                }
            }
            Ok(())
        };
        self.at_once(MANY, turns).await?;

        println!("test7: a reader costs a writer only a downgrade");
        drop(self.take(writer, C).await?);
        let reader = self.clients[0].acquire(&[(C, Mode::Shared)]).await?;
        let keeps_it = async {
            while writer.try_acquire(&[(C, Mode::Shared)]).is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        };
        let asked = writer.stats().acquire_rpcs;
        within("test7: the writer lost its lock to a reader", keeps_it).await?;
        check(writer.stats().acquire_rpcs == asked, "test7: the writer had to ask again")?;
        drop(reader);
        Ok(())
    }

    /// Runs `work(0) .. work(count - 1)`, each on a thread of its own; fails if one of them does.
    async fn at_once<F>(&self, count: usize, work: impl Fn(usize) -> F + Sync) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let (runtime, work) = (Handle::current(), &work);
        tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let run = |i| {
                    let runtime = runtime.clone();
                    scope.spawn(move || runtime.block_on(work(i)))
                };
                let threads: Vec<_> = (0..count).map(run).collect();
                let mut ended = threads.into_iter().map(|thread| thread.join());
                ended.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })
    }
}

async fn connect(addrs: &[String]) -> Result<Vec<LockClient>, Failure> {
    let connecting = (0..MANY).map(|i| {
        let opts = LockClientOptions { name: format!("lock_tester {i}"), ..LockClientOptions::default() };
        LockClient::connect(addrs, opts, Arc::new(NoHooks))
    });
    Ok(try_join_all(connecting).await?)
}

async fn close(clients: Vec<LockClient>) -> Result<(), Failure> {
    try_join_all(clients.into_iter().map(LockClient::close)).await?;
    Ok(())
}

fn check(so: bool, otherwise: &str) -> Result<(), Failure> {
    if so { Ok(()) } else { Err(Failure(otherwise.to_owned())) }
}

async fn within(what: &str, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(Failure(what.to_owned())))
}
