//! Replies that were received are not remembered.

use rpc::{Client, ClientOptions, ServerOptions};

use crate::check::{Failure, check, ensure};
use crate::procs::{self, BYTES, PATIENCE};

const REPLY_LEN: u32 = 250_000;
const ROUNDS: usize = 5;
const CALLS: usize = 100;
const CLIENTS: usize = 2;
/// 1000 replies of 250 KB are 250 MB; what remains of them is a few read buffers.
const GROWTH_MAX: usize = 24 << 20;

/// The labs' garbage_collection_test: many large replies, and neither the window nor the process grows.
pub async fn garbage_collection_test() -> Result<(), Failure> {
    println!("garbage_collection_test");
    let server = procs::listen(ServerOptions::default(), "0").await?;
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| Client::new(server.local_addr(), ClientOptions::default())).collect();
    for client in &clients {
        call(client).await?; // buffers are there before the measurement
    }
    let before = resident()?;
    check("memory stays bounded", async {
        for _ in 0..ROUNDS {
            for client in &clients {
                for _ in 0..CALLS {
                    call(client).await?;
                }
            }
            let stats = server.stats();
            // Each client's last reply has not been acknowledged by a later call.
            let bytes_max = CLIENTS * (REPLY_LEN as usize + 1000);
            ensure(stats.window_bytes <= bytes_max && stats.window_entries <= CLIENTS, || {
                format!("{stats:?}")
            })?;
        }
        let growth = resident()?.saturating_sub(before);
        ensure(growth <= GROWTH_MAX, || format!("the process grew by {growth} bytes"))
    })
    .await?;
    server.shutdown().await;
    Ok(())
}

async fn call(client: &Client) -> Result<(), Failure> {
    let text: String = client.call(BYTES, &REPLY_LEN, PATIENCE).await?;
    ensure(text.len() == REPLY_LEN as usize, || format!("got {} bytes", text.len()))
}

/// Bytes of memory this process occupies.
fn resident() -> Result<usize, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| Failure::new("/proc/self/status has no VmRSS"))
}
