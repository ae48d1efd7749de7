//! Many callers at once, over a sound network and over a lossy one.

use std::future::Future;
use std::time::{Duration, Instant};

use rpc::{Client, ClientOptions, Loss, ServerOptions};

use crate::LOSS_PERCENT;
use crate::check::{Failure, check, ensure};
use crate::procs::{self, ADD_TWO_LATER, BYTES, EXECUTE, EXECUTED, PATIENCE};

const CALLERS: u64 = 10;
const CALLS: u64 = 100;
const LOSSY_TIME: Duration = Duration::from_secs(5);

/// The labs' concurrent_test: ten callers, a hundred quick and a hundred slower calls each.
pub async fn concurrent_test(clients: &[Client]) -> Result<(), Failure> {
    println!("concurrent_test");
    let callers = (0..CALLERS).map(|i| caller(clients[i as usize % clients.len()].clone(), i));
    check("10 callers with 200 calls each", all(callers)).await
}

async fn all(
    callers: impl Iterator<Item = impl Future<Output = Result<(), Failure>> + Send + 'static>,
) -> Result<(), Failure> {
    let running: Vec<_> = callers.map(tokio::spawn).collect();
    for caller in running {
        caller.await.map_err(|e| Failure::new(format!("a caller died: {e}")))??;
    }
    Ok(())
}

async fn caller(client: Client, seed: u64) -> Result<(), Failure> {
    for i in 0..CALLS {
        let len = (seed * 7919 + i * 104_729) % 2000;
        let text: String = client.call(BYTES, &(len as u32), PATIENCE).await?;
        ensure(text.len() as u64 == len, || format!("asked for {len} bytes, got {}", text.len()))?;
    }
    for i in 0..CALLS as i64 {
        let n: i64 = client.call(ADD_TWO_LATER, &(i, (seed + i as u64) % 5), PATIENCE).await?;
        ensure(n == i + 2, || format!("{i} + 2 gave {n}"))?;
    }
    Ok(())
}

/// The labs' lossy_test, and more: both sides lose, and every call is executed exactly once.
pub async fn lossy_test(seed: u64) -> Result<(), Failure> {
    println!("lossy_test ({LOSS_PERCENT} percent of frames lost, {LOSSY_TIME:?}; again with --seed {seed})");
    let loss = |salt| Loss::percent(LOSS_PERCENT, seed ^ salt);
    let server = procs::listen(ServerOptions { loss: loss(1 << 40), ..Default::default() }, "0").await?;
    let client =
        Client::new(server.local_addr(), ClientOptions { loss: loss(2 << 40), ..Default::default() });
    check("every call executed exactly once", exactly_once(&client)).await?;
    server.shutdown().await;
    Ok(())
}

async fn exactly_once(client: &Client) -> Result<(), Failure> {
    let until = Instant::now() + LOSSY_TIME;
    let callers = (0..CALLERS).map(|i| lossy_caller(client.clone(), i, until));
    let running: Vec<_> = callers.map(tokio::spawn).collect();
    let mut made = 0;
    for caller in running {
        made += caller.await.map_err(|e| Failure::new(format!("a caller died: {e}")))??;
    }
    let (different, executions): (u64, u64) = client.call(EXECUTED, &(), PATIENCE).await?;
    print!(" {made} calls ..");
    ensure(different == made && executions == made, || {
        format!("{made} calls were made, {different} were executed, {executions} times in all")
    })
}

async fn lossy_caller(client: Client, caller: u64, until: Instant) -> Result<u64, Failure> {
    let mut made = 0;
    while Instant::now() < until {
        let times: u64 = client.call(EXECUTE, &(caller << 32 | made), PATIENCE).await?;
        ensure(times == 1, || format!("a call was executed {times} times"))?;
        made += 1;
    }
    Ok(made)
}
