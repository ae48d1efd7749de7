//! The lines the test prints, and how it fails.

use std::fmt::Display;
use std::future::Future;
use std::io::Write as _;

use rpc::RpcError;
use thiserror::Error;

/// What did not go as it must.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    pub fn new(what: impl Into<String>) -> Failure {
        Failure(what.into())
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Failure {
        Failure(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// Fails with what `what` says unless `holds`.
pub fn ensure<W: Display>(holds: bool, what: impl FnOnce() -> W) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(what().to_string())) }
}

/// Runs one check and prints its line: `   -- NAME .. ok`.
pub async fn check(name: &str, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    print!("   -- {name} ..");
    let _ = std::io::stdout().flush(); // only for the eye
    let outcome = work.await;
    println!(" {}", if outcome.is_ok() { "ok" } else { "FAILED" });
    outcome.map_err(|Failure(what)| Failure(format!("{name}: {what}")))
}
