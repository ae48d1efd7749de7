//! One client, one call at a time.

use std::time::{Duration, Instant};

use rpc::{Client, ClientOptions, Loss, RpcError, codec};

use crate::check::{Failure, check, ensure};
use crate::failure::dead_address;
use crate::procs::{ADD_TWO_LATER, BYTES, CONCAT, PATIENCE};

/// Values survive the codec, and what is no value is refused.
pub fn codec_test() -> Result<(), Failure> {
    let value = (12345u32, -1i64, "hello".to_string(), vec![0u8, 255], Some(true));
    let bytes = codec::encode(&value);
    let back = codec::decode::<(u32, i64, String, Vec<u8>, Option<bool>)>(&bytes);
    ensure(back.as_ref() == Ok(&value), || format!("codec: {value:?} came back as {back:?}"))?;
    let short = codec::decode::<(u32, i64, String, Vec<u8>, Option<bool>)>(&bytes[..bytes.len() - 1]);
    ensure(short.is_err(), || "codec: bytes cut short were accepted")?;
    println!("marshalling ok");
    Ok(())
}

/// The labs' simple_tests.
pub async fn simple_tests(client: &Client, lossy: bool) -> Result<(), Failure> {
    println!("simple_tests");
    check("string concat RPC", concat(client)).await?;
    check("big reply RPC", big_reply(client)).await?;
    check("megabyte argument RPC", megabyte_argument(client)).await?;
    check("too many arguments are refused", wrong_arguments(client, &("a", "b", "c"))).await?;
    check("too few arguments are refused", wrong_arguments(client, &"just one")).await?;
    check("a wrong reply type is noticed", wrong_reply(client)).await?;
    if !lossy {
        // With frames lost even a call that takes no time may take longer than this allows.
        check("no spurious timeout", no_timeout(client)).await?;
    }
    check("a timeout when it is due", timeout(client)).await?;
    check("a dead server is noticed in time", dead_server()).await
}

async fn concat(client: &Client) -> Result<(), Failure> {
    let text: String = client.call(CONCAT, &("hello", " goodbye"), PATIENCE).await?;
    ensure(text == "hello goodbye", || format!("got \"{text}\""))
}

async fn big_reply(client: &Client) -> Result<(), Failure> {
    let text: String = client.call(BYTES, &70_000u32, PATIENCE).await?;
    ensure(text.len() == 70_000, || format!("got {} bytes", text.len()))
}

async fn megabyte_argument(client: &Client) -> Result<(), Failure> {
    let text: String = client.call(CONCAT, &("x".repeat(1_000_000), "z"), PATIENCE).await?;
    ensure(text.len() == 1_000_001 && text.ends_with("xz"), || format!("got {} bytes", text.len()))
}

async fn wrong_arguments<A: serde::Serialize>(client: &Client, args: &A) -> Result<(), Failure> {
    match client.call::<_, String>(CONCAT, args, PATIENCE).await {
        Err(RpcError::BadArgs) => Ok(()),
        other => Err(Failure::new(format!("got {other:?}"))),
    }
}

async fn wrong_reply(client: &Client) -> Result<(), Failure> {
    match client.call::<_, (String, String)>(CONCAT, &("a", "b"), PATIENCE).await {
        Err(RpcError::BadReply(_)) => Ok(()),
        other => Err(Failure::new(format!("got {other:?}"))),
    }
}

async fn no_timeout(client: &Client) -> Result<(), Failure> {
    let n: i64 = client.call(ADD_TWO_LATER, &(19i64, 300u64), Duration::from_secs(5)).await?;
    ensure(n == 21, || format!("got {n}"))
}

async fn timeout(client: &Client) -> Result<(), Failure> {
    let began = Instant::now();
    match client.call::<_, i64>(ADD_TWO_LATER, &(1i64, 30_000u64), Duration::from_millis(300)).await {
        Err(RpcError::Timeout { .. } | RpcError::Unreachable { .. }) => {}
        other => return Err(Failure::new(format!("got {other:?}"))),
    }
    let took = began.elapsed();
    ensure(took >= Duration::from_millis(300) && took < Duration::from_secs(2), || format!("after {took:?}"))
}

async fn dead_server() -> Result<(), Failure> {
    let dead = dead_address().await?;
    let client = Client::new(&dead, ClientOptions { loss: Loss::Off, ..Default::default() });
    let began = Instant::now();
    match client.bind(Duration::from_secs(3)).await {
        Err(RpcError::Unreachable { .. }) => {}
        other => return Err(Failure::new(format!("got {other:?}"))),
    }
    ensure(began.elapsed() <= Duration::from_secs(4), || format!("after {:?}", began.elapsed()))
}
