//! Strangers, floods, oversize messages, and clients that stop reading: they hurt nobody but themselves.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rpc::{
    Client, ClientOptions, Register, Request, Response, RpcError, Server, ServerOptions, asynchronous, typed,
};
use support::{
    BYTES, Cuttable, EXECUTE, EXECUTE_LATER, Ledger, PATIENCE, client_options, server_options, until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn still_serves(server: &Server) {
    let client = Client::new(server.local_addr(), client_options());
    assert_eq!(client.call::<_, u64>(EXECUTE, &1u64, PATIENCE).await.unwrap(), 1);
}

/// Waits for the other side to close.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    ended.expect("the server must close the connection").ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_dropped() {
    let server = Ledger::new().listen(server_options(), "0").await;
    let hello = rpc::frame::Frame {
        body: Bytes::from_static(b"no magic"),
        ..rpc::frame::Frame::new(rpc::frame::Kind::Hello)
    };
    let call = rpc::frame::Frame::new(rpc::frame::Kind::Call);
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
        &[
            32, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0,
        ],
        &hello.to_bytes(),
        &call.to_bytes(),
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        closed(&mut stream).await;
    }
    still_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_dropped_in_time() {
    let options = ServerOptions { handshake_timeout: Duration::from_millis(50), ..server_options() };
    let server = Ledger::new().listen(options, "0").await;
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    closed(&mut silent).await;
    let mut halfway = TcpStream::connect(server.local_addr()).await.unwrap();
    halfway.write_all(&[60, 0, 0]).await.unwrap();
    closed(&mut halfway).await;
    still_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_the_bound() {
    let ledger = Ledger::new();
    let server = ledger.listen(ServerOptions { max_connections: 2, ..server_options() }, "0").await;
    let clients: Vec<Client> = (0..3).map(|_| Client::new(server.local_addr(), client_options())).collect();
    clients[0].bind(PATIENCE).await.unwrap();
    clients[1].bind(PATIENCE).await.unwrap();
    let refused = clients[2].bind(Duration::from_millis(200)).await;
    assert!(matches!(refused, Err(RpcError::Unreachable { .. })), "{refused:?}");
    clients[0].close();
    clients[2].bind(PATIENCE).await.unwrap();
    assert_eq!(clients[1].call::<_, u64>(EXECUTE, &1u64, PATIENCE).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_messages_are_refused_on_both_sides() {
    let server = Ledger::new().listen(ServerOptions { max_frame: 10_000, ..server_options() }, "0").await;
    let small = Client::new(server.local_addr(), ClientOptions { max_frame: 5_000, ..client_options() });
    let large = Client::new(server.local_addr(), client_options());
    let arguments = |len| Bytes::from(vec![0; len]);

    let own_bound = small.call_raw(EXECUTE, arguments(5_001), Bytes::new(), PATIENCE).await;
    assert!(matches!(own_bound, Err(RpcError::TooLarge { size: 5_001, max: 5_000 })), "{own_bound:?}");
    let servers_bound = large.call_raw(EXECUTE, arguments(10_001), Bytes::new(), PATIENCE).await;
    assert!(
        matches!(servers_bound, Err(RpcError::TooLarge { size: 10_001, max: 10_000 })),
        "{servers_bound:?}"
    );
    assert!(!large.notify(EXECUTE, arguments(10_001), Bytes::new()));
    let reply = small.call::<_, String>(BYTES, &6_000usize, PATIENCE).await;
    assert!(matches!(reply, Err(RpcError::TooLarge { max: 5_000, .. })), "{reply:?}");
    for client in [small, large] {
        assert_eq!(client.call::<_, u64>(EXECUTE, &1u64, PATIENCE).await.unwrap(), 1);
    }
}

/// A client by hand: greets, and then does as the test pleases.
async fn raw_client(addr: &str, nonce: u64) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut body = b"YFS-RPC\0\x01\0".to_vec();
    body.extend(rpc::codec::encode(&(nonce, 0u64, 1u64 << 24, false)));
    let hello = rpc::frame::Frame { body: body.into(), ..rpc::frame::Frame::new(rpc::frame::Kind::Hello) };
    stream.write_all(&hello.to_bytes()).await.unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut rest = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest[0], rpc::frame::Kind::Welcome as u8);
    stream
}

fn raw_call(proc: u32, xid: u64, args: &impl serde::Serialize) -> Bytes {
    let body = rpc::codec::encode(args).into();
    let flags = rpc::frame::AT_MOST_ONCE;
    rpc::frame::Frame { proc, xid, flags, body, ..rpc::frame::Frame::new(rpc::frame::Kind::Call) }.to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_of_the_protocol_is_named_on_both_sides() {
    let greeting = |kind, version: u8, rest: &[u8]| {
        let body = [b"YFS-RPC\0".as_slice(), &[version, 0], rest].concat().into();
        rpc::frame::Frame { body, ..rpc::frame::Frame::new(kind) }.to_bytes()
    };
    let server = Ledger::new().listen(server_options(), "0").await;
    let mut newer = TcpStream::connect(server.local_addr()).await.unwrap();
    newer.write_all(&greeting(rpc::frame::Kind::Hello, 9, b"whatever comes")).await.unwrap();
    let mut answer = Vec::new();
    newer.read_to_end(&mut answer).await.unwrap();
    let welcome = rpc::frame::decode(answer.into()).unwrap();
    assert_eq!((welcome.kind, welcome.body[8]), (rpc::frame::Kind::Welcome, 1));

    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = other.local_addr().unwrap().to_string();
    let client = Client::new(&addr, ClientOptions { fail_fast: true, ..client_options() });
    let bound = tokio::spawn(async move { client.bind(PATIENCE).await });
    let (mut stream, _) = other.accept().await.unwrap();
    stream.write_all(&greeting(rpc::frame::Kind::Welcome, 9, b"")).await.unwrap();
    let error = bound.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains(&addr), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_frame_after_the_greeting_ends_the_connection() {
    let server = Ledger::new().listen(server_options(), "0").await;
    let mut stream = raw_client(server.local_addr(), 5).await;
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    closed(&mut stream).await;
    still_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_in_the_middle_of_a_frame_leaves_nothing() {
    let server = Ledger::new().listen(server_options(), "0").await;
    let mut stream = raw_client(server.local_addr(), 5).await;
    let call = raw_call(EXECUTE, 1, &vec![0u8; 1 << 20]);
    stream.write_all(&call[..call.len() / 2]).await.unwrap();
    drop(stream);
    until("the connection is gone", || server.stats().connections == 0).await;
    assert_eq!(server.stats().window_entries, 0);
    still_serves(&server).await;
}

/// A string of 100,000 bytes, from a handler and from a waiting one.
const LARGE: u32 = 10;
const LARGE_LATER: u32 = 11;

/// Asks for large replies and reads none, until the server reads no more.
async fn gorge(addr: String, proc: u32) {
    let mut stream = raw_client(&addr, 666).await;
    for xid in 1..200_000u64 {
        if stream.write_all(&raw_call(proc, xid, &())).await.is_err() {
            return; // the test is over
        }
    }
    panic!("the server kept reading from one who reads nothing");
}

/// Has a glutton run until it is stuck; others are served promptly meanwhile.
async fn others_go_on(proc: u32) {
    let served = Arc::new(AtomicUsize::new(0));
    let mut builder = Ledger::new().builder(server_options());
    let count = served.clone();
    builder.register(
        LARGE,
        typed(move |_, (): ()| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok("x".repeat(100_000))
        }),
    );
    let count = served.clone();
    builder.register_async(
        LARGE_LATER,
        asynchronous(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(Response::of(&"x".repeat(100_000))) }
        }),
    );
    let server = builder.listen("0").await.unwrap();
    let glutton = tokio::spawn(gorge(server.local_addr().to_string(), proc));
    until("the glutton is served", || served.load(Ordering::Relaxed) > 0).await;
    let client = Client::new(server.local_addr(), client_options());
    let (mut n, mut slowest) = (0, Duration::ZERO);
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        n += 1;
        let began = Instant::now();
        assert_eq!(client.call::<_, u64>(EXECUTE, &n, PATIENCE).await.unwrap(), 1);
        slowest = slowest.max(began.elapsed());
        let now = served.load(Ordering::Relaxed);
        assert!(now < 1_000, "{now} large replies for one who reads none");
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    assert!(!glutton.is_finished(), "{:?}", glutton.await);
    assert!(slowest < Duration::from_secs(5), "a call took {slowest:?}");
    glutton.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_replies_stalls_only_itself() {
    others_go_on(LARGE).await;
    others_go_on(LARGE_LATER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_bounded_per_connection() {
    let ledger = Ledger::new();
    let server = ledger.listen(ServerOptions { max_in_flight: 4, ..server_options() }, "0").await;
    let crowd = Client::new(server.local_addr(), client_options());
    let calls: Vec<_> = (0..50u64)
        .map(|n| {
            let crowd = crowd.clone();
            tokio::spawn(async move { crowd.call::<_, u64>(EXECUTE_LATER, &n, PATIENCE).await })
        })
        .collect();
    until("the bound is reached", || ledger.totals().0 == 4).await;
    still_serves(&server).await;
    assert!(ledger.totals().0 <= 5, "four of the crowd and the other client's");
    ledger.gate.add_permits(50);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_beyond_the_clients_bound_wait_their_turn() {
    let ledger = Ledger::new();
    let server = ledger.listen(server_options(), "0").await;
    let client = Client::new(server.local_addr(), ClientOptions { max_in_flight: 2, ..client_options() });
    let calls: Vec<_> = (0..10u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.call::<_, u64>(EXECUTE_LATER, &n, PATIENCE).await })
        })
        .collect();
    until("two are being executed", || ledger.totals().0 == 2).await;
    let late = client.call::<_, u64>(EXECUTE, &99u64, Duration::from_millis(20)).await;
    assert!(matches!(late, Err(RpcError::Timeout { .. })), "{late:?}");
    assert_eq!(ledger.totals().0, 2);
    ledger.gate.add_permits(10);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up() {
    let heartbeat = Duration::from_millis(50);
    let ledger = Ledger::new();
    let server = ledger.listen(ServerOptions { heartbeat, ..server_options() }, "0").await;
    let transport = Cuttable::default();
    let options = ClientOptions { heartbeat, transport: Arc::new(transport.clone()), ..client_options() };
    let alive = Client::new(server.local_addr(), options);
    alive.bind(PATIENCE).await.unwrap();
    for nonce in [5, 6] {
        let mute = raw_client(server.local_addr(), nonce).await;
        until("the mute one is given up", || server.stats().connections == 1).await;
        drop(mute);
    }
    assert!(
        alive.is_connected() && transport.links() == 1,
        "idle sides that give signs of life stay connected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_to_who_does_not_read_are_refused_at_last() {
    let mut builder = Ledger::new().builder(server_options());
    let refused = Arc::new(AtomicBool::new(false));
    let told = refused.clone();
    builder.register_async(
        5,
        asynchronous(move |request: Request| {
            let told = told.clone();
            async move {
                let chunk = Bytes::from(vec![0; 100_000]);
                let pushed =
                    (0..10_000).take_while(|_| request.peer.notify(1, Bytes::new(), chunk.clone())).count();
                assert!(pushed < 1_000, "{pushed} pushes were queued");
                told.store(true, Ordering::Relaxed);
                Ok(Response::default())
            }
        }),
    );
    let server = builder.listen("0").await.unwrap();
    let mut stream = raw_client(server.local_addr(), 5).await;
    stream.write_all(&raw_call(5, 1, &())).await.unwrap();
    until("pushes are refused", || refused.load(Ordering::Relaxed)).await;
    still_serves(&server).await;
}
