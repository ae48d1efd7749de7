//! Calls, replies, statuses, pushes and calls against the usual direction, over TCP and in memory.
#![allow(clippy::unwrap_used)] // also in helpers

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rpc::transport::{Memory, Tcp, Transport};
use rpc::{
    Client, ClientOptions, Loss, Notify, Register, Request, Response, RpcError, Server, ServerBuilder,
    ServerOptions, Status, asynchronous, typed,
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

const CONCAT: u32 = 22;
const FAIL: u32 = 23;
const SLOW: u32 = 24;
const BYTES: u32 = 25;
const ECHO: u32 = 26;
const CALL_BACK: u32 = 27;
const PANIC: u32 = 28;
const PANIC_LATER: u32 = 29;
const ADD_ONE: u32 = 30;
const SUBSCRIBE: u32 = 31;
const PUSH: u32 = 0x8001;
const NEWS: u32 = 40;

fn transports() -> Vec<Arc<dyn Transport>> {
    vec![Arc::new(Tcp), Arc::new(Memory::default())]
}

async fn call_back(request: Request) -> Result<Response, Status> {
    let n: u64 = request.decode()?;
    let answer: u64 = request.peer.call(ADD_ONE, &n, PATIENCE).await.map_err(|_| Status(9))?;
    Ok(Response::of(&answer))
}

async fn push_thrice(request: Request) -> Result<Response, Status> {
    for i in 0..3u64 {
        let args = rpc::codec::encode(&i);
        assert!(request.peer.notify(PUSH, args.into(), Bytes::from_static(b"bulk")));
    }
    Ok(Response::default())
}

fn builder(transport: &Arc<dyn Transport>) -> ServerBuilder {
    let options = ServerOptions { transport: transport.clone(), loss: Loss::Off, ..Default::default() };
    let mut builder = ServerBuilder::new(options);
    builder.register(CONCAT, typed(|_, (a, b): (String, String)| Ok(a + &b)));
    builder.register(FAIL, typed(|_, status: i32| Err::<(), _>(Status(status))));
    builder.register(BYTES, typed(|_, n: usize| Ok(vec![7u8; n])));
    builder.register(PANIC, typed(|_, (): ()| -> Result<(), Status> { panic!("as the test wants") }));
    builder.register_async(
        PANIC_LATER,
        asynchronous(|_| async {
            tokio::task::yield_now().await;
            panic!("as the test wants")
        }),
    );
    builder.register_async(
        SLOW,
        asynchronous(|request| async move {
            let millis: u64 = request.decode()?;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(Response::of(&millis))
        }),
    );
    builder.register_async(
        ECHO,
        asynchronous(|r: Request| async move { Ok(Response { body: r.args, payload: r.payload }) }),
    );
    builder.register_async(CALL_BACK, asynchronous(call_back));
    builder.register_async(SUBSCRIBE, asynchronous(push_thrice));
    builder
}

async fn pair(transport: &Arc<dyn Transport>) -> (Server, Client) {
    let server = builder(transport).listen("0").await.unwrap();
    let client = Client::new(server.local_addr(), options(transport));
    (server, client)
}

fn options(transport: &Arc<dyn Transport>) -> ClientOptions {
    ClientOptions { transport: transport.clone(), loss: Loss::Off, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_are_answered() {
    for transport in transports() {
        let (server, client) = pair(&transport).await;
        client.bind(PATIENCE).await.unwrap();
        let text: String = client.call(CONCAT, &("hello", " world"), PATIENCE).await.unwrap();
        assert_eq!(text, "hello world");
        assert_eq!(client.call::<_, u64>(SLOW, &5u64, PATIENCE).await.unwrap(), 5);
        assert_eq!(client.call::<_, Vec<u8>>(BYTES, &70_000usize, PATIENCE).await.unwrap(), vec![7; 70_000]);
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_travel_beside_the_codec() {
    for transport in transports() {
        let (_server, client) = pair(&transport).await;
        for len in [0, 1, 8 << 10, 64 << 10, (64 << 10) + 1, 1_000_000, 16 << 20] {
            let payload: Bytes = (0..len).map(|i| i as u8).collect::<Vec<_>>().into();
            let answer = client.call_raw(ECHO, Bytes::new(), payload.clone(), PATIENCE).await.unwrap();
            assert!(answer.payload == payload, "{len} bytes came back different");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_get_each_their_own_answer() {
    for transport in transports() {
        let (_server, client) = pair(&transport).await;
        let callers = (0..100u64).map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                for j in 0..20u64 {
                    let (a, b) = (format!("{i}"), format!("-{j}"));
                    let got: String = client.call(CONCAT, &(&a, &b), PATIENCE).await.unwrap();
                    assert_eq!(got, a + &b);
                    if i % 10 == 0 {
                        assert_eq!(client.call::<_, u64>(SLOW, &(j % 4), PATIENCE).await.unwrap(), j % 4);
                    }
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_far_side_are_told_apart() {
    let transport: Arc<dyn Transport> = Arc::new(Tcp);
    let (_server, client) = pair(&transport).await;
    assert!(matches!(client.call::<_, ()>(FAIL, &17, PATIENCE).await, Err(RpcError::Status(17))));
    assert!(matches!(client.call::<_, ()>(FAIL, &0, PATIENCE).await, Err(RpcError::Status(_))));
    assert!(matches!(client.call::<_, ()>(999, &0, PATIENCE).await, Err(RpcError::NoSuchProc(999))));
    assert!(matches!(client.call::<_, String>(CONCAT, &"one", PATIENCE).await, Err(RpcError::BadArgs)));
    assert!(matches!(
        client.call::<_, String>(CONCAT, &("a", "b", "c"), PATIENCE).await,
        Err(RpcError::BadArgs)
    ));
    assert!(matches!(
        client.call::<_, (u64, u64)>(CONCAT, &("a", "b"), PATIENCE).await,
        Err(RpcError::BadReply(_))
    ));
    let fault = Status::FAULT.0;
    for proc in [PANIC, PANIC_LATER] {
        assert_eq!(client.call::<_, ()>(proc, &(), PATIENCE).await.unwrap_err().status(), Some(fault));
    }
    let text: String = client.call(CONCAT, &("still", "there"), PATIENCE).await.unwrap();
    assert_eq!(text, "stillthere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline() {
    let transport: Arc<dyn Transport> = Arc::new(Tcp);
    let (_server, client) = pair(&transport).await;
    client.bind(PATIENCE).await.unwrap();
    let error = client.call::<_, u64>(SLOW, &60_000u64, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { proc: SLOW, .. }), "{error}");
    assert!(error.to_string().contains(client.addr()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_way_messages_reach_the_server() {
    for transport in transports() {
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let mut builder = builder(&transport);
        builder.on_notify(
            NEWS,
            Arc::new(move |n: Notify| drop(sender.send((n.client, n.decode::<String>(), n.payload)))),
        );
        let server = builder.listen("0").await.unwrap();
        let client = Client::new(server.local_addr(), options(&transport));
        assert!(!client.notify(NEWS, Bytes::new(), Bytes::new()), "there is no connection yet");
        client.bind(PATIENCE).await.unwrap();
        let args: Bytes = rpc::codec::encode("news").into();
        assert!(client.notify(NEWS, args, Bytes::from_static(b"payload")));
        let (nonce, text, payload) = arrived.recv().await.unwrap();
        assert_eq!((nonce, text.unwrap().as_str(), &payload[..]), (client.nonce(), "news", &b"payload"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_pushes_and_calls_over_the_clients_connection() {
    for transport in transports() {
        let (_server, client) = pair(&transport).await;
        let (sender, mut pushed) = mpsc::unbounded_channel();
        client.on_push(
            PUSH,
            Arc::new(move |n: Notify| drop(sender.send((n.decode::<u64>().unwrap(), n.payload)))),
        );
        client.register(ADD_ONE, typed(|_, n: u64| Ok(n + 1)));
        client.call_raw(SUBSCRIBE, Bytes::new(), Bytes::new(), PATIENCE).await.unwrap();
        for wanted in 0..3 {
            let (n, payload) = pushed.recv().await.unwrap();
            assert_eq!((n, &payload[..]), (wanted, &b"bulk"[..]));
        }
        for n in 0..50u64 {
            assert_eq!(client.call::<_, u64>(CALL_BACK, &n, PATIENCE).await.unwrap(), n + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_server_run_at_most_once_over_a_lossy_link() {
    let transport: Arc<dyn Transport> = Arc::new(Tcp);
    let (sender, mut failures) = mpsc::unbounded_channel();
    let mut lossy = ServerBuilder::new(ServerOptions { loss: Loss::percent(5, 3), ..Default::default() });
    lossy.register_async(
        CALL_BACK,
        asynchronous(move |request: Request| {
            let sender = sender.clone();
            async move {
                let n: u64 = request.decode()?;
                // A cut connection ends the peer, and so the call.
                match request.peer.call::<_, u64>(ADD_ONE, &n, PATIENCE).await {
                    Ok(answer) => Ok(Response::of(&Some(answer))),
                    Err(RpcError::Closed) => Ok(Response::of(&None::<u64>)),
                    Err(other) => {
                        let _ = sender.send(other);
                        Err(Status(1))
                    }
                }
            }
        }),
    );
    let server = lossy.listen("0").await.unwrap();
    let client =
        Client::new(server.local_addr(), ClientOptions { loss: Loss::percent(5, 4), ..options(&transport) });
    let runs = Arc::new(AtomicU64::new(0));
    let count = runs.clone();
    client.register(
        ADD_ONE,
        typed(move |_, n: u64| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(n + 1)
        }),
    );
    let mut answered = 0;
    for n in 0..60u64 {
        let answer: Option<u64> = client.call(CALL_BACK, &n, PATIENCE).await.unwrap();
        assert!(answer.is_none_or(|a| a == n + 1));
        answered += u64::from(answer.is_some());
    }
    assert!(failures.try_recv().is_err());
    let runs = runs.load(Ordering::Relaxed);
    assert!(answered > 30 && (answered..=60).contains(&runs), "{answered} answers after {runs} runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_server_numbers_its_calls() {
    let last = Arc::new(AtomicU64::new(0));
    let seen = last.clone();
    let mut builder = ServerBuilder::new(ServerOptions { loss: Loss::Off, ..Default::default() });
    builder.register(
        1,
        typed(move |info, (): ()| {
            assert_eq!(info.order.0, 0);
            assert_eq!(seen.swap(info.order.1, Ordering::Relaxed) + 1, info.order.1);
            Ok(info.client)
        }),
    );
    let server = builder.listen("0").await.unwrap();
    let client = Client::new(server.local_addr(), ClientOptions { loss: Loss::Off, ..Default::default() });
    for _ in 0..10 {
        assert_eq!(client.call::<_, u64>(1, &(), PATIENCE).await.unwrap(), client.nonce());
    }
    assert_eq!(last.load(Ordering::Relaxed), 10);
}

#[test]
fn a_call_may_be_polled_outside_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let transport: Arc<dyn Transport> = Arc::new(Tcp);
    let server = runtime.block_on(builder(&transport).listen("0")).unwrap();
    let client = Client::new(
        server.local_addr(),
        ClientOptions { runtime: Some(runtime.handle().clone()), ..options(&transport) },
    );
    // The first poll happens on this thread, which belongs to no runtime, as a FUSE thread does; the rest inside.
    let mut call = Box::pin(async move { client.call::<_, u64>(SLOW, &1u64, PATIENCE).await });
    let waker = std::task::Waker::noop();
    assert!(call.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    assert_eq!(runtime.block_on(call).unwrap(), 1);
}
