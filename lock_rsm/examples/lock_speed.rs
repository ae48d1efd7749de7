//! `lock_speed ADDR`: how fast a lock service and its client are, in four numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_rsm::locks::{LockClient, LockClientOptions, LockId, Mode, NoHooks};
use lock_rsm::programs;

const CACHED: u32 = 1_000_000;
const FRESH: u32 = 500;
const TURNS: u32 = 500;
const BATCH: u64 = 4000;

fn main() -> std::process::ExitCode {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "3001".to_owned());
    programs::run("lock_speed", measure(addr))
}

async fn measure(addr: String) -> Result<(), Box<dyn std::error::Error>> {
    let addrs = programs::addresses(&addr)?;
    let connect = || LockClient::connect(&addrs, LockClientOptions::default(), Arc::new(NoHooks));
    let (a, b) = (connect().await?, connect().await?);

    drop(a.acquire(&[(1, Mode::Exclusive)]).await?);
    let start = Instant::now();
    for _ in 0..CACHED {
        drop(a.try_acquire(&[(1, Mode::Shared)]).ok_or("a cached lock is not there")?);
    }
    println!("cached try_acquire and drop: {:?}", start.elapsed() / CACHED);

    let mut times = Vec::new();
    for id in 1000..1000 + LockId::from(FRESH) {
        let start = Instant::now();
        drop(a.acquire(&[(id, Mode::Exclusive)]).await?);
        times.push(start.elapsed());
    }
    println!(
        "uncontended acquire: median {:?}, 99 % {:?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99)
    );

    let wants: Vec<_> = (10_000..10_000 + BATCH).map(|id| (id, Mode::Exclusive)).collect();
    let start = Instant::now();
    drop(a.acquire(&wants).await?);
    println!("{BATCH} locks at once: {:?}", start.elapsed());

    let start = Instant::now();
    for _ in 0..TURNS {
        drop(a.acquire(&[(2, Mode::Exclusive)]).await?);
        drop(b.acquire(&[(2, Mode::Exclusive)]).await?);
    }
    let each = start.elapsed() / (2 * TURNS);
    println!("hand-over from client to client: {each:?}, {:.0} a second", 1.0 / each.as_secs_f64());
    a.close().await?;
    b.close().await?;
    Ok(())
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}
