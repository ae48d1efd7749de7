//! `lock_demo ADDR`: asks the lock service how many sessions hold lock 1.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lock_rsm::locks::protocol::{LockId, STAT};
use lock_rsm::programs;
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError};

const NAME: &str = "lock_demo";
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the lock service how many sessions hold lock 1.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Args {
    /// Replicas of the lock service: HOST:PORT or a port, several separated by commas
    addr: String,
}

fn main() -> ExitCode {
    programs::run(NAME, ask(Args::parse()))
}

async fn ask(args: Args) -> Result<(), RsmError> {
    let addrs = programs::addresses(&args.addr)?;
    let options = RsmClientOptions { connect_timeout: PATIENCE, ..RsmClientOptions::default() };
    let client = RsmClient::connect(&addrs, options).await?;
    let lock: LockId = 1;
    let holders: u32 = client.invoke(STAT, &lock, PATIENCE).await?;
    println!("stat returned {holders}");
    Ok(())
}
