//! Dead and restarted servers.

use std::time::{Duration, Instant};

use rpc::{Client, ClientOptions, OnRestart, RpcError, Server, ServerOptions};

use crate::check::{Failure, check, ensure};
use crate::procs::{self, ADD_TWO_LATER, CONCAT, PATIENCE};

/// An address where nobody listens.
pub async fn dead_address() -> Result<String, Failure> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}

/// The labs' failure_test.
pub async fn failure_test() -> Result<(), Failure> {
    println!("failure_test");
    let server = procs::listen(ServerOptions::default(), "0").await?;
    let addr = server.local_addr().to_string();
    let client = |on_restart| Client::new(&addr, ClientOptions { on_restart, ..Default::default() });
    let (old, rebinding) = (client(OnRestart::Fail), client(OnRestart::Rebind));
    for client in [&old, &rebinding] {
        client.bind(PATIENCE).await?;
        concat(client).await?;
    }
    check("a server dies with calls outstanding", dies(server, &rebinding)).await?;
    check("a call to a dead server fails in time", dead(&old)).await?;
    let _restarted = procs::listen(ServerOptions::default(), &addr).await?;
    check("an old client gets oldsrv_failure from a restarted server", old_server(&old)).await?;
    check("a rebinding client goes on with a restarted server", concat(&rebinding)).await?;
    check("a new client binds to a restarted server", concat(&client(OnRestart::Fail))).await?;
    check("a call that is dropped is given up", cancel(&client(OnRestart::Fail))).await
}

async fn concat(client: &Client) -> Result<(), Failure> {
    let text: String = client.call(CONCAT, &("a", "b"), PATIENCE).await?;
    ensure(text == "ab", || format!("got \"{text}\""))
}

/// Calls outstanding while the server goes end in bounded time.
async fn dies(server: Server, client: &Client) -> Result<(), Failure> {
    let calls: Vec<_> = (0..10i64)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                client.call::<_, i64>(ADD_TWO_LATER, &(i, 60_000u64), Duration::from_secs(1)).await
            })
        })
        .collect();
    while server.stats().window_entries < calls.len() {
        tokio::task::yield_now().await;
    }
    server.shutdown().await;
    for call in calls {
        match call.await.map_err(|e| Failure::new(format!("a caller died: {e}")))? {
            Err(RpcError::Timeout { .. } | RpcError::Unreachable { .. }) => {}
            other => return Err(Failure::new(format!("got {other:?}"))),
        }
    }
    Ok(())
}

async fn dead(client: &Client) -> Result<(), Failure> {
    let began = Instant::now();
    match client.call::<_, String>(CONCAT, &("a", "b"), Duration::from_secs(1)).await {
        Err(RpcError::Unreachable { .. }) => {}
        other => return Err(Failure::new(format!("got {other:?}"))),
    }
    ensure(began.elapsed() < Duration::from_secs(3), || format!("after {:?}", began.elapsed()))
}

async fn old_server(client: &Client) -> Result<(), Failure> {
    for _ in 0..2 {
        match client.call::<_, String>(CONCAT, &("a", "b"), PATIENCE).await {
            Err(RpcError::ServerRestarted { .. }) => {}
            other => return Err(Failure::new(format!("a call got {other:?}"))),
        }
    }
    match client.bind(PATIENCE).await {
        Err(RpcError::ServerRestarted { .. }) => Ok(()),
        other => Err(Failure::new(format!("a second bind got {other:?}"))),
    }
}

/// The labs' cancel(): dropping a call, or closing the client, ends it.
async fn cancel(client: &Client) -> Result<(), Failure> {
    let slow = |client: Client| async move {
        client.call::<_, i64>(ADD_TWO_LATER, &(1i64, 60_000u64), PATIENCE).await
    };
    let dropped = tokio::time::timeout(Duration::from_millis(50), slow(client.clone())).await;
    ensure(dropped.is_err(), || "the slow call was quick")?;
    concat(client).await?;
    let outstanding = tokio::spawn(slow(client.clone()));
    concat(client).await?;
    client.close();
    match outstanding.await.map_err(|e| Failure::new(format!("a caller died: {e}")))? {
        Err(RpcError::Closed) => Ok(()),
        other => Err(Failure::new(format!("got {other:?}"))),
    }
}
