//! What the command-line programs of this crate share.

use std::fmt::Display;
use std::future::Future;
use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// What is logged unless `YFS_LOG` says otherwise; the store's own news are for its developers.
const LOG_DEFAULT: &str = "info,fjall=warn,lsm_tree=warn";

/// Runs a program: logging to stderr (`YFS_LOG`, by default `info`), as many open files as allowed, a runtime, and one line of error with exit status 1
/// if `main` fails.
pub fn run<E: Display>(name: &str, main: impl Future<Output = Result<(), E>>) -> ExitCode {
    init_logging();
    rpc::open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(name, format!("cannot start its threads: {error}")),
    };
    let result = runtime.block_on(main);
    // What is still running has nothing left to finish.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(name, error),
    }
}

/// Says what is wrong, in one line, and gives the exit status for it.
pub fn fail(name: &str, error: impl Display) -> ExitCode {
    eprintln!("{name}: {error}");
    ExitCode::FAILURE
}

/// Log lines of at least the level in `YFS_LOG` go to stderr.
pub fn init_logging() {
    let filter = EnvFilter::try_from_env("YFS_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}

/// The addresses in a comma list; `HOST:PORT` or a bare port each.
pub fn addresses(list: &str) -> Result<Vec<String>, rpc::addr::AddrError> {
    list.split(',').map(|address| rpc::addr::parse(address.trim())).collect()
}

/// Waits for SIGTERM or SIGINT.
pub async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
