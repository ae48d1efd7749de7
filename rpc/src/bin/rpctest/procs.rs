//! The procedures of the test server.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rpc::{Register, Request, Response, Server, ServerBuilder, ServerOptions, asynchronous, typed};

/// (a, b) → a followed by b.
pub const CONCAT: u32 = 22;
/// n → n + 1.
pub const ADD_ONE: u32 = 23;
/// (n, milliseconds) → n + 2, after that time.
pub const ADD_TWO_LATER: u32 = 24;
/// n → a string of n bytes.
pub const BYTES: u32 = 25;
/// n → how often this client's call n was executed so far.
pub const EXECUTE: u32 = 26;
/// () → of this client's calls of [`EXECUTE`]: (different ones, executions).
pub const EXECUTED: u32 = 27;

/// Time enough for any call that should succeed.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Executions = Arc<Mutex<HashMap<u64, HashMap<u64, u64>>>>;

/// Starts a server with these procedures.
pub async fn listen(options: ServerOptions, addr: &str) -> io::Result<Server> {
    let mut builder = ServerBuilder::new(options);
    builder.register(CONCAT, typed(|_, (a, b): (String, String)| Ok(a + &b)));
    builder.register(ADD_ONE, typed(|_, n: i64| Ok(n.wrapping_add(1))));
    builder.register(BYTES, typed(|_, n: u32| Ok("x".repeat(n.min(1 << 20) as usize))));
    builder.register_async(ADD_TWO_LATER, asynchronous(add_two_later));
    let executions = Executions::default();
    let count = executions.clone();
    builder.register(
        EXECUTE,
        typed(move |info, n: u64| {
            let mut all = count.lock();
            let times = all.entry(info.client).or_default().entry(n).or_default();
            *times += 1;
            Ok(*times)
        }),
    );
    builder.register(
        EXECUTED,
        typed(move |info, (): ()| {
            let all = executions.lock();
            let mine = all.get(&info.client);
            Ok(mine.map_or((0, 0), |calls| (calls.len() as u64, calls.values().sum::<u64>())))
        }),
    );
    builder.listen(addr).await
}

async fn add_two_later(request: Request) -> Result<Response, rpc::Status> {
    let (n, millis): (i64, u64) = request.decode()?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(Response::of(&n.wrapping_add(2)))
}
