//! Calls per second over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rpc::{
    Client, ClientOptions, Loss, Register, Request, Response, ServerBuilder, ServerOptions, asynchronous,
    typed,
};

use crate::check::Failure;
use crate::procs::PATIENCE;

const SYNC: u32 = 1;
const ASYNC: u32 = 2;
const BULK: u32 = 3;
const BULK_LEN: usize = 1 << 20;

/// Prints one line for each kind of handler and number of callers.
pub async fn run(time: Duration) -> Result<(), Failure> {
    let mut builder = ServerBuilder::new(ServerOptions { loss: Loss::Off, ..Default::default() });
    builder.register(SYNC, typed(|_, n: u64| Ok(n + 1)));
    builder.register_async(ASYNC, asynchronous(later));
    builder.register_async(
        BULK,
        asynchronous(|r: Request| async move { Ok(Response::default().with_payload(r.payload)) }),
    );
    let server = builder.listen("0").await?;
    let client = Client::new(server.local_addr(), ClientOptions { loss: Loss::Off, ..Default::default() });
    client.bind(PATIENCE).await?;
    for (name, proc) in [("handler", SYNC), ("waiting handler", ASYNC)] {
        for callers in [1, 16, 64] {
            let rate = measure(&client, callers, time, move |client| async move {
                client.call::<_, u64>(proc, &7u64, PATIENCE).await.map(drop)
            });
            let rate = rate.await?;
            println!(
                "{name}: {callers:3} callers {rate:10.0} calls/s {:8.1} us/call",
                1e6 * callers as f64 / rate
            );
        }
    }
    for callers in [1, 4] {
        let payload = Bytes::from(vec![7; BULK_LEN]);
        let rate = measure(&client, callers, time, move |client| {
            let payload = payload.clone();
            async move { client.call_raw(BULK, Bytes::new(), payload, PATIENCE).await.map(drop) }
        });
        println!("1 MiB there and back: {callers} callers {:8.0} MiB/s each way", rate.await?);
    }
    server.shutdown().await;
    Ok(())
}

async fn later(request: Request) -> Result<Response, rpc::Status> {
    let n: u64 = request.decode()?;
    tokio::task::yield_now().await;
    Ok(Response::of(&(n + 1)))
}

/// Calls per second of so many callers.
async fn measure<F, Fut>(client: &Client, callers: usize, time: Duration, call: F) -> Result<f64, Failure>
where
    F: Fn(Client) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), rpc::RpcError>> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|_| {
            let (client, stop, call) = (client.clone(), stop.clone(), call.clone());
            tokio::spawn(async move {
                let mut calls = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    call(client.clone()).await?;
                    calls += 1;
                }
                Ok::<_, rpc::RpcError>(calls)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in running {
        calls += caller.await.map_err(|e| Failure::new(format!("a caller died: {e}")))??;
    }
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}
