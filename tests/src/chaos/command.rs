//! Running the system's own programs.

use super::ChaosError;
use std::process::{Command, Stdio};

/// Runs a command that must succeed.
pub fn run(command: Command) -> Result<(), ChaosError> {
    said(command).map(drop)
}

/// What a command that must succeed printed.
pub fn said(mut command: Command) -> Result<String, ChaosError> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().map_err(ChaosError::io("running", &shown))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // What is wrong may be on either.
    let why =
        [&output.stdout[..], &output.stderr[..]].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    let why = why.join("\n");
    Err(ChaosError::Command { command: shown, why: format!("{}: {why}", output.status) })
}
