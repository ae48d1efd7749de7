//! Replies given later by another thread: in any order, many at once, to callers that do not read, and not at all.
#![allow(clippy::unwrap_used)] // also in helpers

mod support;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use parking_lot::Mutex;
use rpc::{Client, Replies, Request, Responder, Response, Server, ServerBuilder, ServerOptions, Status};
use support::{PATIENCE, client_options, server_options};

const LATER: u32 = 1;
const DROPPED: u32 = 2;
const PANICS: u32 = 3;

/// A server that hands the calls of `LATER` out through a channel.
async fn server(options: ServerOptions) -> (Server, Receiver<(u64, Responder)>) {
    let (calls, waiting) = channel();
    let calls = Mutex::new(calls);
    let mut builder = ServerBuilder::new(options);
    builder.register_deferred(
        LATER,
        Arc::new(move |request: Request, responder: Responder| {
            calls.lock().send((request.decode().unwrap(), responder)).unwrap();
        }),
    );
    builder.register_deferred(DROPPED, Arc::new(|_: Request, responder: Responder| drop(responder)));
    builder.register_deferred(PANICS, Arc::new(|_: Request, _: Responder| panic!("on purpose")));
    (builder.listen("0").await.unwrap(), waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_from_another_thread_and_in_any_order() {
    let (server, waiting) = server(server_options()).await;
    let answering = std::thread::spawn(move || {
        let mut calls: Vec<(u64, Responder)> = (0..200).map(|_| waiting.recv().unwrap()).collect();
        calls.reverse();
        let mut replies = Replies::new();
        for (n, responder) in calls {
            replies.add(responder, Ok(Response::of(&(n * 2))));
        }
        replies.send();
    });
    let clients: Vec<Client> = (0..4).map(|_| Client::new(server.local_addr(), client_options())).collect();
    let calls = (0..200u64).map(|n| {
        let client = clients[n as usize % clients.len()].clone();
        async move { client.call::<u64, u64>(LATER, &n, PATIENCE).await }
    });
    for (n, reply) in (0..).zip(futures_util::future::join_all(calls).await) {
        assert_eq!(reply.unwrap(), n * 2);
    }
    answering.join().unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_replies_to_is_a_fault_of_the_handler() {
    let (server, _waiting) = server(server_options()).await;
    let client = Client::new(server.local_addr(), client_options());
    for proc in [DROPPED, PANICS] {
        let reply = client.call::<u64, u64>(proc, &1, PATIENCE).await;
        assert!(
            matches!(reply, Err(rpc::RpcError::Status(status)) if status == Status::FAULT.0),
            "{reply:?}"
        );
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_replies_wait_for_room_and_all_arrive() {
    const LEN: usize = 1 << 20;
    let options = ServerOptions { max_queue_bytes: LEN, ..server_options() };
    let (server, waiting) = server(options).await;
    let answering = std::thread::spawn(move || {
        for (_, responder) in waiting {
            let payload = Bytes::from(vec![7; LEN]);
            responder.reply(Ok(Response::of(&()).with_payload(payload)));
        }
    });
    let client = Client::new(server.local_addr(), client_options());
    let args = |n: u64| Bytes::from(rpc::codec::encode(&n));
    let calls = (0..32).map(|n| client.call_raw(LATER, args(n), Bytes::new(), PATIENCE));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.unwrap().payload.len(), LEN);
    }
    server.shutdown().await; // and with it the handlers, so the thread ends
    answering.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_a_caller_that_left_harms_nobody() {
    let (server, waiting) = server(server_options()).await;
    let client = Client::new(server.local_addr(), client_options());
    let gone = client.clone();
    let calling = tokio::spawn(async move { gone.call::<u64, u64>(LATER, &1, PATIENCE).await });
    let (n, responder) = tokio::task::block_in_place(|| waiting.recv().unwrap());
    client.close();
    assert!(calling.await.unwrap().is_err());
    responder.reply(Ok(Response::of(&n)));
    let other = Client::new(server.local_addr(), client_options());
    let answering = std::thread::spawn(move || {
        let (n, responder) = waiting.recv().unwrap();
        responder.reply(Ok(Response::of(&n)));
    });
    assert_eq!(other.call::<u64, u64>(LATER, &5, PATIENCE).await.unwrap(), 5);
    answering.join().unwrap();
    server.shutdown().await;
}
