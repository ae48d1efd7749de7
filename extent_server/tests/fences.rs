//! A fence against the real program: writes and commits of many connections race it, it is killed right after the answer,
//! and what comes late is refused for ever.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use extent_server::{BLOCK_SIZE, ExtentClient, ExtentError, ExtentOptions, Op};
use tempfile::TempDir;

/// A running server; killed when dropped.
struct Running(Child, String);

impl Running {
    fn start(listen: &str, data: &Path) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_extent_server"));
        command.args([listen, "--data"]).arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Running(child, address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect(address: &str) -> ExtentClient {
    ExtentClient::connect(address, ExtentOptions::default()).await.unwrap()
}

const BLOCKS: u64 = 4;
const OBJECTS: u64 = 3;

fn name(object: u64) -> Bytes {
    format!("o{object}").into()
}

/// Everything that the fenced session could have changed.
async fn picture(client: &ExtentClient) -> Vec<(Option<Bytes>, Bytes)> {
    let mut picture = Vec::new();
    for object in 1..=OBJECTS {
        let value = client.get(vec![name(object)]).await.unwrap().remove(0);
        let data = client.read(object, vec![(0, (BLOCKS * BLOCK_SIZE) as u32)]).await.unwrap();
        picture.push((value, data));
    }
    picture
}

/// Writes and commits on a connection of its own until it hears of the fence, and then on, since it does not care.
async fn late_writer(client: ExtentClient, session: u64, object: u64, landed: Arc<AtomicU64>) {
    let fenced = ExtentError::Fenced { session };
    let mut refusals = 0;
    for n in 0u64.. {
        let data = Bytes::from(vec![(n % 250 + 1) as u8; BLOCK_SIZE as usize]);
        let range = vec![(n % BLOCKS * BLOCK_SIZE, BLOCK_SIZE as u32)];
        let op = Op::Put { key: name(object), value: n.to_string().into() };
        let result = match client.write(session, object, range, data).await {
            Ok(boot) => client.commit(session, vec![op], vec![(object, boot)]).await,
            Err(e) if e == fenced => client.commit(session, vec![op], vec![]).await,
            Err(e) => Err(e),
        };
        match result {
            Ok(()) => assert_eq!(refusals, 0, "a fenced session was let in again"),
            Err(ExtentError::Restarted) => continue,
            Err(e) => {
                assert_eq!(e, fenced);
                refusals += 1;
            }
        }
        landed.fetch_add(u64::from(refusals == 0), Ordering::Relaxed);
        if refusals == 20 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_lands_after_the_answer_to_a_fence_nor_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut server = Running::start("0", dir.path());
    let address = server.1.clone();
    let master = connect(&address).await;
    for session in 1..=4u64 {
        let landed = Arc::new(AtomicU64::new(0));
        let mut writers = Vec::new();
        for object in 1..=OBJECTS {
            let client = connect(&address).await;
            writers.push(tokio::spawn(late_writer(client, session, object, landed.clone())));
        }
        while landed.load(Ordering::Relaxed) < 10 * session {
            tokio::task::yield_now().await;
        }
        master.fence(session).await.unwrap();
        if session % 2 == 0 {
            // As late as possible: the fence is answered, and the writers write on into the next life of the server.
            drop(server);
            server = Running::start(&address, dir.path());
        }
        let at_fence = picture(&master).await;
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(picture(&master).await == at_fence, "something of session {session} landed after its fence");
        assert_eq!(master.status().await.unwrap().fenced_sessions, session);
    }
    drop(server);
    let verified = Command::new(env!("CARGO_BIN_EXE_extent_server"))
        .args(["--data", dir.path().to_str().unwrap(), "--verify"])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}
