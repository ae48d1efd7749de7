//! No call runs twice and none that should run is lost, whatever happens to frames, connections and servers.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rpc::transport::{Memory, Tcp, Transport};
use rpc::window::WindowLimits;
use rpc::{Client, ClientOptions, Loss, OnRestart, RpcError, ServerOptions};
use support::{
    BYTES, Cuttable, EXECUTE, EXECUTE_LATER, Ledger, PATIENCE, client_options, server_options, until,
};

fn execute(client: &Client, proc: u32, n: u64) -> tokio::task::JoinHandle<Result<u64, RpcError>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(proc, &n, PATIENCE).await })
}

async fn lossy_run(transport: Arc<dyn Transport>, client_percent: u32, server_percent: u32) {
    let ledger = Ledger::new();
    ledger.gate.add_permits(1_000_000);
    let loss = Loss::percent(server_percent, 11);
    let server =
        ledger.listen(ServerOptions { loss, transport: transport.clone(), ..server_options() }, "0").await;
    let clients: Vec<Client> = (0..3)
        .map(|i| {
            let loss = Loss::percent(client_percent, 22 + i);
            Client::new(
                server.local_addr(),
                ClientOptions { loss, transport: transport.clone(), ..client_options() },
            )
        })
        .collect();
    let callers = (0..30u64).map(|caller| {
        let client = clients[caller as usize % 3].clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let proc = if i % 2 == 0 { EXECUTE } else { EXECUTE_LATER };
                assert_eq!(client.call::<_, u64>(proc, &(caller * 1000 + i), PATIENCE).await.unwrap(), 1);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(ledger.totals(), (600, 600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_client_executes_exactly_once() {
    lossy_run(Arc::new(Tcp), 10, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_server_executes_exactly_once() {
    lossy_run(Arc::new(Tcp), 0, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lossy_sides_execute_exactly_once() {
    lossy_run(Arc::new(Tcp), 5, 5).await;
    lossy_run(Arc::new(Memory::default()), 5, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_under_load_cost_nothing_but_time() {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let transport = Cuttable::default();
    let client = Client::new(
        server.local_addr(),
        ClientOptions { transport: Arc::new(transport.clone()), ..client_options() },
    );
    let callers: Vec<_> = (0..8u64)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                for i in 0..200 {
                    assert_eq!(
                        client.call::<_, u64>(EXECUTE, &(caller << 32 | i), PATIENCE).await.unwrap(),
                        1
                    );
                }
            })
        })
        .collect();
    while !callers.iter().all(|caller| caller.is_finished()) {
        until("a link, or the end", || transport.links() > 0 || callers.iter().all(|c| c.is_finished()))
            .await;
        transport.cut();
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(ledger.totals(), (1600, 1600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_cut_in_the_middle_is_answered_over_the_next_connection() {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let transport = Cuttable::default();
    let client = Client::new(
        server.local_addr(),
        ClientOptions { transport: Arc::new(transport.clone()), ..client_options() },
    );
    let call = execute(&client, EXECUTE_LATER, 7);
    until("the call is being executed", || ledger.times(&client, 7) == 1).await;
    for _ in 0..3 {
        transport.cut();
        until("the client reconnects", || transport.links() > 0).await;
        client.call::<_, String>(BYTES, &10usize, PATIENCE).await.unwrap();
    }
    let finished = Instant::now();
    ledger.gate.add_permits(10);
    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert_eq!(ledger.times(&client, 7), 1);
    assert!(finished.elapsed() < Duration::from_secs(4), "the reply took the client's repetition to arrive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_fails_calls_in_bounded_time() {
    let server = Ledger::new().listen(server_options(), "0").await;
    let addr = server.local_addr().to_string();
    server.shutdown().await;
    for fail_fast in [false, true] {
        let client = Client::new(&addr, ClientOptions { fail_fast, ..client_options() });
        let began = Instant::now();
        let timeout = if fail_fast { PATIENCE } else { Duration::from_millis(300) };
        let error = client.call::<_, u64>(EXECUTE, &1u64, timeout).await.unwrap_err();
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
        let error = client.bind(timeout).await.unwrap_err();
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&addr), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_greets_is_unreachable() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let options =
        ClientOptions { connect_timeout: Duration::from_millis(50), fail_fast: true, ..client_options() };
    let error = Client::new(&addr, options).call::<_, u64>(EXECUTE, &1u64, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("greeting"), "{error}");
}

/// A server restarts with one call executing and, at the client, one call that was never sent.
async fn restart(options: ClientOptions) -> (Client, Result<u64, RpcError>, Result<u64, RpcError>, Ledger) {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let addr = server.local_addr().to_string();
    let client = Client::new(&addr, options);
    let before = execute(&client, EXECUTE_LATER, 7);
    until("the call is being executed", || ledger.times(&client, 7) == 1).await;
    server.shutdown().await;
    until("the client notices", || !client.is_connected()).await;
    let after = execute(&client, EXECUTE, 8);
    ledger.gate.add_permits(10);
    let server = ledger.listen(server_options(), &addr).await;
    let (before, after) = (before.await.unwrap(), after.await.unwrap());
    server.shutdown().await;
    (client, before, after, ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_fails_for_ever_those_who_want_it_so() {
    let (client, before, after, ledger) =
        restart(ClientOptions { on_restart: OnRestart::Fail, ..client_options() }).await;
    for result in
        [before, after, client.call(EXECUTE, &9u64, PATIENCE).await, client.bind(PATIENCE).await.map(|()| 0)]
    {
        assert!(matches!(result, Err(RpcError::ServerRestarted { .. })), "{result:?}");
    }
    assert_eq!((ledger.times(&client, 7), ledger.times(&client, 8)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_only_calls_sent_before_fail() {
    let (client, before, after, ledger) = restart(client_options()).await;
    assert!(matches!(before, Err(RpcError::ServerRestarted { .. })), "{before:?}");
    assert_eq!(after.unwrap(), 1);
    assert_eq!((ledger.times(&client, 7), ledger.times(&client, 8)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_calls_are_sent_again_to_a_restarted_server() {
    let (client, before, after, ledger) =
        restart(ClientOptions { at_most_once: false, ..client_options() }).await;
    assert_eq!((before.unwrap(), after.unwrap()), (2, 1));
    assert_eq!((ledger.times(&client, 7), ledger.times(&client, 8)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_clients_repeated_call_is_not_executed_again() {
    let ledger = Ledger::new();
    let server = ledger.listen(ServerOptions { max_clients: 1, ..server_options() }, "0").await;
    let transport = Cuttable::default();
    let options = ClientOptions { transport: Arc::new(transport.clone()), ..client_options() };
    let client = Client::new(server.local_addr(), options);
    let call = execute(&client, EXECUTE_LATER, 7);
    until("the call is being executed", || ledger.times(&client, 7) == 1).await;
    transport.hold_back();
    transport.cut();
    until("the server sees it go", || server.stats().connections == 0).await;
    let other = Client::new(server.local_addr(), client_options());
    other.call::<_, u64>(EXECUTE, &1u64, PATIENCE).await.unwrap();
    drop(other);
    until("the other client is the one remembered", || {
        server.stats().connections == 0 && server.stats().clients == 1
    })
    .await;
    transport.let_on();
    assert!(matches!(call.await.unwrap(), Err(RpcError::Forgotten)));
    assert_eq!(client.call::<_, u64>(EXECUTE, &8u64, PATIENCE).await.unwrap(), 1);
    assert_eq!(ledger.times(&client, 7), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_stays_bounded() {
    let server = Ledger::new().listen(server_options(), "0").await;
    let client = Client::new(server.local_addr(), client_options());
    for _ in 0..200 {
        client.call::<_, String>(BYTES, &250_000usize, PATIENCE).await.unwrap();
        let stats = server.stats();
        assert!(stats.window_entries <= 1 && stats.window_bytes <= 260_000, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_given_up_do_not_hold_the_window() {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let client = Client::new(server.local_addr(), client_options());
    client.bind(PATIENCE).await.unwrap();
    for n in 0..20u64 {
        let late = client.call::<_, u64>(EXECUTE_LATER, &n, Duration::from_millis(5)).await;
        assert!(matches!(late, Err(RpcError::Timeout { .. })), "{late:?}");
    }
    ledger.gate.add_permits(20);
    until("the window holds no more than the newest call", || server.stats().window_entries <= 1).await;
    client.call::<_, u64>(EXECUTE, &100u64, PATIENCE).await.unwrap();
    assert_eq!(server.stats().window_entries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_call_does_not_let_the_window_grow() {
    let ledger = Ledger::new();
    let window = WindowLimits { entries_max: 16, bytes_max: 1 << 20 };
    let server = ledger.listen(ServerOptions { window, ..server_options() }, "0").await;
    let client = Client::new(server.local_addr(), client_options());
    let slow = execute(&client, EXECUTE_LATER, 7);
    for n in 1000..1500u64 {
        assert_eq!(client.call::<_, u64>(EXECUTE, &n, PATIENCE).await.unwrap(), 1);
        assert!(server.stats().window_entries <= 17);
    }
    for _ in 0..20 {
        client.call::<_, String>(BYTES, &250_000usize, PATIENCE).await.unwrap();
        assert!(server.stats().window_bytes <= 1 << 20);
    }
    ledger.gate.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_are_remembered_within_bounds() {
    let server = Ledger::new()
        .listen(ServerOptions { max_clients: 10, max_window_bytes: 100_000, ..server_options() }, "0")
        .await;
    for _ in 0..50 {
        let client = Client::new(server.local_addr(), client_options());
        client.call::<_, String>(BYTES, &30_000usize, PATIENCE).await.unwrap();
        drop(client);
        until("it is gone", || server.stats().connections == 0).await;
        let stats = server.stats();
        assert!(stats.clients <= 10 && stats.window_bytes <= 100_000, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_client_ends_its_calls() {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let client = Client::new(server.local_addr(), client_options());
    let call = execute(&client, EXECUTE_LATER, 7);
    until("the call is being executed", || ledger.times(&client, 7) == 1).await;
    client.close();
    assert!(matches!(call.await.unwrap(), Err(RpcError::Closed)));
    assert!(matches!(client.call::<_, u64>(EXECUTE, &1u64, PATIENCE).await, Err(RpcError::Closed)));
    assert!(!client.notify(1, Bytes::new(), Bytes::new()));
    until("the server sees it go", || server.stats().connections == 0).await;
}
