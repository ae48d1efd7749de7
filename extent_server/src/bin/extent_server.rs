//! `extent_server LISTEN --data DIR [--verify]`: serves a data directory, or checks it and says what is damaged.

use clap::Parser;
use extent_server::{EmbeddedStore, Store, StoreOptions, VerifyReport, serve};
use rpc::{Server, ServerOptions};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps extents (keys, values and bulk data) durable in a directory, and serves them to file system clients.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: HOST:PORT, or a bare PORT on this machine; port 0 takes a free one.
    #[arg(required_unless_present = "verify")]
    listen: Option<String>,
    /// The data directory; created if it does not exist.
    #[arg(long)]
    data: PathBuf,
    /// Do not serve: read everything back, compare it with its checksums, print a report. Exit status 1 if anything is damaged.
    #[arg(long)]
    verify: bool,
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Address(#[from] rpc::addr::AddrError),
    #[error(transparent)]
    Open(#[from] extent_server::OpenError),
    #[error("cannot listen on {addr}: {source}; choose another address or stop who has it")]
    Listen { addr: String, source: io::Error },
    #[error("no data directory {}; give an existing one to --verify", .0.display())]
    NothingToVerify(PathBuf),
    #[error("cannot verify: {0}")]
    Verify(extent_server::StoreError),
    #[error("the store failed: {0}; the reason is above, restart when it is mended")]
    StoreFailed(String),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("YFS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let done = match &arguments.listen {
        Some(listen) if !arguments.verify => run(listen, &arguments),
        _ => verify(&arguments),
    };
    done.unwrap_or_else(|e| {
        eprintln!("extent_server: {e}");
        ExitCode::FAILURE
    })
}

fn verify(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if !arguments.data.join("FORMAT").is_file() {
        return Err(Failure::NothingToVerify(arguments.data.clone()));
    }
    let store = EmbeddedStore::open(&arguments.data, &StoreOptions::default())?;
    let report: VerifyReport = store.verify().map_err(Failure::Verify)?;
    println!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(listen: &str, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let listen = rpc::addr::parse(listen)?;
    let files = rpc::open_files::raise_limit();
    // The LSM store and the connections need their share of descriptors, too.
    let options = StoreOptions { files_max: (files / 4).clamp(64, 4096), ..StoreOptions::default() };
    let store = Arc::new(EmbeddedStore::open(&arguments.data, &options)?);
    // Short lookups run on these threads and may wait for the disk, so there are more of them than processors.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).max(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let end = runtime.block_on(serve_until_the_end(&store, &listen, arguments));
    drop(runtime);
    end
}

async fn serve_until_the_end(
    store: &Arc<EmbeddedStore>,
    listen: &str,
    arguments: &Arguments,
) -> Result<ExitCode, Failure> {
    let serving = serve(store.clone(), listen, ServerOptions::default()).await;
    let server = serving.map_err(|source| Failure::Listen { addr: listen.to_string(), source })?;
    store.start_sweeping();
    println!("extent_server: serving {} on {}", arguments.data.display(), server.local_addr());
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        reason = store.failed() => Err(Failure::StoreFailed(reason)),
        _ = terminate.recv() => end(server).await,
        _ = interrupt.recv() => end(server).await,
    }
}

async fn end(server: Server) -> Result<ExitCode, Failure> {
    tracing::info!("asked to end");
    server.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
