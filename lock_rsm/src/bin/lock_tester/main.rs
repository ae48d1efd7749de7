//! `lock_tester ADDR [1..7]`: the labs' test of a lock service.
//!
//! Tests 1 to 5 are the labs'; 6 runs a hundred rounds on clients that are closed afterwards; 7 is about shared locks.
//! Without a number all of them run. Whoever gets a lock counts itself in and out, so a lock that is granted twice shows.

mod ledger;
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lock_rsm::programs;
use tests::{Failure, Tester};

const NAME: &str = "lock_tester";
/// The line that the labs' scripts look for, as the program was called there.
const PASSED: &str = "./lock_tester: passed all tests successfully";
const LAST_TEST: u32 = 7;

/// The labs' test of a lock service.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Args {
    /// Replicas of the lock service: HOST:PORT or a port, several separated by commas
    addr: String,
    /// Run this test only
    test: Option<String>,
    /// Fail when the tests take longer than this
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let only = match args.test.as_deref().map(str::parse::<u32>) {
        None => None,
        Some(Ok(number)) if (1..=LAST_TEST).contains(&number) => Some(number),
        Some(_) => {
            println!("Test number must be between 1 and {LAST_TEST}");
            return ExitCode::FAILURE;
        }
    };
    watch(Duration::from_secs(args.timeout));
    programs::run(NAME, run(args.addr, only))
}

/// Ends the program when the tests take too long, whatever they are stuck in.
fn watch(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        programs::fail(NAME, format_args!("the tests did not end within {limit:?}"));
        std::process::exit(1);
    });
}

async fn run(addr: String, only: Option<u32>) -> Result<(), Failure> {
    let addrs = programs::addresses(&addr).map_err(|error| Failure(error.to_string()))?;
    println!("cache lock client");
    let tester = Tester::connect(&addrs).await?;
    for number in 1..=LAST_TEST {
        if only.is_none_or(|only| only == number) {
            tester.test(number).await?;
        }
    }
    tester.close().await?;
    println!("{PASSED}");
    Ok(())
}
