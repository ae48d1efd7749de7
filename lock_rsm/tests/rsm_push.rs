//! What leaves the group besides answers: pushes, unreplicated calls, view changes, status.

#![allow(clippy::unwrap_used, reason = "test code")]

mod rsm_support;

use bytes::Bytes;
use lock_rsm::rsm::{
    NOT_MASTER, Replica, ReplicaOptions, RsmClient, RsmClientOptions, Service, View, replica_status,
};
use parking_lot::Mutex;
use rpc::{Request, Response, ServerBuilder, ServerOptions, Status};
use rsm_support::{ADD, Counter, Group, PATIENCE, eventually, free_addresses};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const HELLO: u32 = 0x50;
const GREETING: u32 = 0x51;

/// A replica of a counter that answers `HELLO` on the master only, by the address of who answers.
async fn start_greeter(options: ReplicaOptions, views: Arc<Mutex<Vec<(View, bool)>>>) -> Replica {
    let this: Arc<OnceLock<Replica>> = Arc::default();
    let at = Arc::clone(&this);
    let mut server = ServerBuilder::new(ServerOptions::default());
    server.register_async(
        HELLO,
        rpc::asynchronous(move |_: Request| {
            let reply = match at.get() {
                Some(replica) if replica.am_master() => Ok(Response::of(replica.address())),
                _ => Err(Status(NOT_MASTER)),
            };
            async move { reply }
        }),
    );
    let options = ReplicaOptions {
        on_view: Some(Arc::new(move |view: &View, master| views.lock().push((view.clone(), master)))),
        ..options
    };
    let service: Arc<dyn Service> = Arc::new(Counter::default());
    let replica = Replica::start(options, service, server).await.unwrap();
    assert!(this.set(replica.clone()).is_ok());
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_master_calls_follow_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let views: Arc<Mutex<Vec<(View, bool)>>> = Arc::default();
    let starting = addresses.iter().enumerate().map(|(i, me)| {
        let options = ReplicaOptions::new(&addresses[0], me, &addresses, dir.path().join(i.to_string()));
        start_greeter(options, Arc::clone(&views))
    });
    let mut replicas = futures_util::future::join_all(starting).await;

    let client = RsmClient::connect(&addresses, RsmClientOptions::default()).await.unwrap();
    let heard: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let at = Arc::clone(&heard);
    client.on_push(GREETING, Arc::new(move |notify: rpc::Notify| at.lock().push(notify.args)));

    for round in 0..2 {
        let answered: String = client.call_master(HELLO, &(), PATIENCE).await.unwrap();
        let master = replicas.iter().position(|replica| replica.address() == answered).unwrap();
        let greeting = Bytes::from(format!("hello {round}"));
        // The client has been heard by this master, so the push finds it without any invoke.
        assert!(replicas[master].push(client.id(), GREETING, greeting.clone()));
        eventually("the push", || heard.lock().contains(&greeting).then_some(())).await;
        let slave = &replicas[(master + 1) % replicas.len()];
        assert!(!slave.push(client.id(), GREETING, greeting), "slaves keep silent");
        replicas.remove(master).kill().await;
    }

    let views = views.lock();
    let led: Vec<u64> = views.iter().filter(|(_, master)| *master).map(|(view, _)| view.number).collect();
    assert!(led.len() >= 2, "{led:?}");
    let mut distinct = led.clone();
    distinct.dedup();
    assert_eq!(led, distinct, "no view has two masters");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_where_a_replica_stands() {
    let group = Group::start(3).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &7u64, PATIENCE).await.unwrap();
    group.check_equal().await;
    let mut hashes = Vec::new();
    for (i, replica) in group.running() {
        let status = replica_status(replica.address(), PATIENCE).await.unwrap();
        assert_eq!(status.address, group.addresses()[i]);
        assert_eq!(status.pid, std::process::id());
        let role = if replica.am_master() { "master" } else { "slave" };
        assert_eq!(status.role, role);
        assert_eq!(status.view.members, group.addresses());
        assert!(status.applied >= 3 && status.committed >= status.applied);
        hashes.push((status.viewstamp, status.state_hash.unwrap()));
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_says_that_it_is_forming() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses(2);
    let options = ReplicaOptions::new(&addresses[0], &addresses[0], &addresses, dir.path());
    let starting = tokio::spawn(rsm_support::start_replica(options));
    let status = loop {
        match replica_status(&addresses[0], Duration::from_secs(1)).await {
            Ok(status) => break status,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };
    assert_eq!(status.role, "forming");
    assert_eq!(status.state_hash, None);
    starting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_own_commands_go_through_the_master() {
    let group = Group::start(3).await;
    let master = group.master().await;
    let reply = group.replica(master).propose(ADD, rpc::codec::encode(&4u64).into()).await.unwrap();
    assert_eq!(rpc::codec::decode::<u64>(&reply), Ok(4));
    let slave = group.replica((master + 1) % 3);
    assert!(slave.propose(ADD, rpc::codec::encode(&4u64).into()).await.is_err());
}
