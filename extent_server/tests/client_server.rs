//! A client and a server over real sockets.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use extent_server::format::FormatError;
use extent_server::{
    BLOCK_SIZE, BootId, EmbeddedStore, ExtentClient, ExtentError, ExtentOptions, KEY_MAX, Op, OpenError,
    StoreOptions, VALUE_MAX, serve,
};
use rpc::{Server, ServerOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Room on any disk a test may run on.
fn options() -> StoreOptions {
    StoreOptions { reserve: Some(0), ..StoreOptions::default() }
}

/// Opens the store, once the last user of its directory has let go of it.
async fn open(dir: &Path) -> Arc<EmbeddedStore> {
    let dir = dir.to_path_buf();
    let opening = move || loop {
        match EmbeddedStore::open(&dir, &options()) {
            Ok(store) => return Arc::new(store),
            Err(OpenError::Format(FormatError::InUse { .. })) => std::thread::yield_now(),
            Err(e) => panic!("{e}"),
        }
    };
    tokio::task::spawn_blocking(opening).await.unwrap()
}

async fn start(dir: &Path, listen: &str) -> (Arc<EmbeddedStore>, Server) {
    let store = open(dir).await;
    let server = serve(store.clone(), listen, ServerOptions::default()).await.unwrap();
    (store, server)
}

async fn connect(server: &Server) -> ExtentClient {
    ExtentClient::connect(server.local_addr(), ExtentOptions::default()).await.unwrap()
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key_text: &str, value: &str) -> Op {
    Op::Put { key: key(key_text), value: key(value) }
}

/// Bytes that differ from block to block and from seed to seed.
fn pattern(seed: u64, len: usize) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    std::iter::repeat_with(next).take(len).collect::<Vec<u8>>().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_values() {
    let dir = TempDir::new().unwrap();
    let (_store, server) = start(dir.path(), "127.0.0.1:0").await;
    let client = connect(&server).await;
    let ops = vec![put("a", "1"), put("b", "2"), put("b/x", "3"), put("b/y", "4"), put("c", "")];
    client.commit(1, ops, vec![]).await.unwrap();
    let found = client.get(vec![key("c"), key("nothing"), key("a")]).await.unwrap();
    assert_eq!(found, [Some(key("")), None, Some(key("1"))]);
    let (entries, more) = client.scan(key("b"), key("c"), 2).await.unwrap();
    assert_eq!(entries, [(key("b"), key("2")), (key("b/x"), key("3"))]);
    assert!(more);
    let (entries, more) = client.scan(key("b/y"), key("z"), 10).await.unwrap();
    assert_eq!(entries, [(key("b/y"), key("4")), (key("c"), key(""))]);
    assert!(!more);
    assert_eq!(client.scan(key("z"), key("a"), 10).await.unwrap(), (vec![], false));
    // In order: the prefix goes, with what was put before it; what comes after stays.
    let ops = vec![
        put("b/z", "5"),
        Op::DeletePrefix { prefix: key("b/") },
        put("b/x", "6"),
        Op::Delete { key: key("a") },
        put("d", "7"),
        Op::Delete { key: key("d") },
    ];
    client.commit(1, ops, vec![]).await.unwrap();
    let (entries, _) = client.scan(key(""), key("zz"), 100).await.unwrap();
    assert_eq!(entries, [(key("b"), key("2")), (key("b/x"), key("6")), (key("c"), key(""))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_larger_than_a_frame_come_in_parts() {
    let dir = TempDir::new().unwrap();
    let (_store, server) = start(dir.path(), "127.0.0.1:0").await;
    let client = connect(&server).await;
    let value = |n: u64| pattern(n, VALUE_MAX);
    let name = |n: u64| key(&format!("{n:03}"));
    for n in 0..20 {
        client.commit(1, vec![Op::Put { key: name(n), value: value(n) }], vec![]).await.unwrap();
    }
    let keys: Vec<Bytes> = (0..20).map(name).collect();
    let values = client.get(keys).await.unwrap();
    assert!(values.into_iter().eq((0..20).map(|n| Some(value(n)))));
    let (mut from, mut all) = (key(""), Vec::new());
    loop {
        let (entries, more) = client.scan(from.clone(), key("z"), 1000).await.unwrap();
        assert!(!entries.is_empty());
        all.extend(entries);
        if !more {
            break;
        }
        from = [&all.last().unwrap().0[..], b"\0"].concat().into();
    }
    assert!(all.into_iter().eq((0..20).map(|n| (name(n), value(n)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_in_many_pieces() {
    let dir = TempDir::new().unwrap();
    let (store, server) = start(dir.path(), "127.0.0.1:0").await;
    let client = connect(&server).await;
    let data = pattern(1, 5_000_000);
    let at = 3 * BLOCK_SIZE - 17;
    let boot = client.write(1, 7, vec![(at, data.len() as u32)], data.clone()).await.unwrap();
    assert_eq!(boot, store.boot());
    assert_eq!(client.status().await.unwrap().uncommitted_objects, 1);
    client.commit(1, vec![put("size", "5000000")], vec![(7, boot)]).await.unwrap();
    assert_eq!(client.status().await.unwrap().uncommitted_objects, 0);
    let read = client.read(7, vec![(at - 5, 10), (at, data.len() as u32), (1 << 40, 4)]).await.unwrap();
    assert_eq!(read[..5], [0; 5]);
    assert_eq!(read[5..10], data[..5]);
    assert_eq!(read[10..10 + data.len()], data[..]);
    assert_eq!(read[10 + data.len()..], [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_see_each_other_and_a_fence_ends_one() {
    let dir = TempDir::new().unwrap();
    let (_store, server) = start(dir.path(), "127.0.0.1:0").await;
    let (one, two) = (connect(&server).await, connect(&server).await);
    one.commit(1, vec![put("k", "one")], vec![]).await.unwrap();
    assert_eq!(two.get(vec![key("k")]).await.unwrap(), [Some(key("one"))]);
    let boot = one.write(1, 5, vec![(0, 3)], key("abc")).await.unwrap();
    two.fence(1).await.unwrap();
    two.fence(1).await.unwrap();
    let fenced = Err(ExtentError::Fenced { session: 1 });
    assert_eq!(one.commit(1, vec![put("k", "late")], vec![(5, boot)]).await, fenced);
    assert_eq!(one.commit(1, vec![put("k", "late")], vec![]).await, fenced);
    assert!(matches!(
        one.write(1, 5, vec![(0, 3)], key("xyz")).await,
        Err(ExtentError::Fenced { session: 1 })
    ));
    assert_eq!(two.get(vec![key("k")]).await.unwrap(), [Some(key("one"))]);
    assert_eq!(
        two.read(5, vec![(0, 3)]).await.unwrap(),
        [0; 3][..],
        "what it wrote and did not commit is gone"
    );
    one.commit(3, vec![put("k", "another session")], vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_commit_and_tells_of_lost_writes() {
    let dir = TempDir::new().unwrap();
    let (store, server) = start(dir.path(), "127.0.0.1:0").await;
    let addr = server.local_addr().to_string();
    let client = connect(&server).await;
    let old = client.write(1, 5, vec![(0, 3)], key("abc")).await.unwrap();
    client.commit(1, vec![put("k", "v")], vec![]).await.unwrap();
    server.shutdown().await;
    drop(store);
    // Asked while the server is away: answered when it is back.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.commit(1, vec![put("l", "w")], vec![]).await }
    });
    let (store, _server) = start(dir.path(), &addr).await;
    waiting.await.unwrap().unwrap();
    assert_ne!(store.boot(), old);
    assert_eq!(client.get(vec![key("k"), key("l")]).await.unwrap(), [Some(key("v")), Some(key("w"))]);
    assert_eq!(client.read(5, vec![(0, 3)]).await.unwrap(), [0; 3][..], "it was never committed");
    let commit = |boot: BootId| client.commit(1, vec![put("size", "3")], vec![(5, boot)]);
    assert_eq!(commit(old).await, Err(ExtentError::Restarted));
    assert_eq!(client.get(vec![key("size")]).await.unwrap(), [None]);
    let new = client.write(1, 5, vec![(0, 3)], key("abc")).await.unwrap();
    commit(new).await.unwrap();
    // The answer may be lost with the server; sending it again does no harm.
    commit(new).await.unwrap();
    assert_eq!(client.read(5, vec![(0, 3)]).await.unwrap(), key("abc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_bounds_are_refused_and_harm_nothing() {
    let dir = TempDir::new().unwrap();
    let (_store, server) = start(dir.path(), "127.0.0.1:0").await;
    let client = connect(&server).await;
    let long = Bytes::from(vec![b'k'; KEY_MAX + 1]);
    let big = Bytes::from(vec![0; VALUE_MAX + 1]);
    let too_large = |e: ExtentError| assert!(matches!(e, ExtentError::TooLarge { .. }), "{e}");
    too_large(client.get(vec![long.clone()]).await.unwrap_err());
    too_large(client.commit(1, vec![Op::Put { key: key("k"), value: big }], vec![]).await.unwrap_err());
    too_large(client.commit(1, vec![Op::Delete { key: long }], vec![]).await.unwrap_err());
    too_large(client.read(1, vec![(u64::MAX, 1)]).await.unwrap_err());
    too_large(client.write(1, 1, vec![(u64::MAX - 1, 1)], key("x")).await.unwrap_err());
    let wrong = client.write(1, 1, vec![(0, 2)], key("x")).await.unwrap_err();
    assert!(matches!(wrong, ExtentError::Invalid { .. }), "{wrong}");
    // Past the client's own checks the server's must hold.
    use extent_server::protocol::{COMMIT, CommitArgs, READ, ReadArgs, Reply, WRITE, WireOp, WriteArgs};
    let raw = rpc::Client::new(server.local_addr(), rpc::ClientOptions::default());
    let call = async |proc, args: Vec<u8>, payload: Bytes| {
        raw.call_raw(proc, args.into(), payload, Duration::from_secs(20)).await.unwrap()
    };
    let ops = vec![WireOp::Put { key: u32::MAX, value: 1 }];
    let commit = CommitArgs { session: 1, ops, objects: vec![] };
    let answer = call(COMMIT, rpc::codec::encode(&commit), key("kv")).await;
    assert!(answer.decode::<Reply<()>>().unwrap().is_err());
    let read = ReadArgs { object: 1, ranges: vec![(0, u32::MAX); 10] };
    let answer = call(READ, rpc::codec::encode(&read), Bytes::new()).await;
    assert!(answer.decode::<Reply<()>>().unwrap().is_err());
    let write = WriteArgs { session: 1, object: 1, ranges: vec![(0, 100)] };
    let answer = call(WRITE, rpc::codec::encode(&write), key("short")).await;
    assert!(answer.decode::<Reply<extent_server::protocol::WriteReply>>().unwrap().is_err());
    let garbage =
        raw.call_raw(COMMIT, key("\x07garbage").clone(), key("more"), Duration::from_secs(20)).await;
    assert!(matches!(garbage, Err(rpc::RpcError::BadArgs)), "{garbage:?}");
    assert_eq!(client.scan(key(""), key("z"), 10).await.unwrap(), (vec![], false));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_is_survived() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = TempDir::new().unwrap();
    let (_store, server) = start(dir.path(), "127.0.0.1:0").await;
    for seed in 0..20 {
        let mut socket = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
        // The server may close on us in the middle of it.
        let _ = socket.write_all(&pattern(seed, 10_000)).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    let client = connect(&server).await;
    client.commit(1, vec![put("k", "v")], vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_an_extent_server_is_named() {
    let quick = ExtentOptions { connect_timeout: Duration::from_millis(300), ..ExtentOptions::default() };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let e = ExtentClient::connect(&nobody, quick.clone()).await.err().unwrap();
    assert!(matches!(&e, ExtentError::Unreachable { addr, .. } if *addr == nobody), "{e}");
    let other = rpc::ServerBuilder::new(ServerOptions::default()).listen("127.0.0.1:0").await.unwrap();
    let e = ExtentClient::connect(other.local_addr(), quick.clone()).await.err().unwrap();
    assert!(matches!(e, ExtentError::Protocol { .. }), "{e}");
    let e = ExtentClient::connect("no port", quick).await.err().unwrap();
    assert!(e.to_string().contains("not an address"), "{e}");
}
