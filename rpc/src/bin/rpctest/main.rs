//! `rpctest`: checks the RPC layer from outside, in the manner of the YFS labs.
//!
//! Without options it runs a server and its clients in one process and ends with `rpctest OK` and exit status 0.
//! `-s` only serves, `-c` only calls (at port `-p`), `-l` has both sides lose 5 percent of their frames throughout.

mod bench;
mod check;
mod concurrent;
mod failure;
mod garbage;
mod procs;
mod simple;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rpc::{Client, ClientOptions, Loss, Server, ServerOptions};
use tracing_subscriber::EnvFilter;

use check::Failure;

/// Percent of frames lost with `-l` and in the lossy test, as in the labs.
const LOSS_PERCENT: u32 = 5;

/// Checks the RPC layer, or measures it.
#[derive(Debug, Clone, Parser)]
#[command(name = "rpctest")]
struct Options {
    /// Run only the clients, against a server at the port given with -p
    #[arg(short = 'c', conflicts_with = "serve")]
    call: bool,
    /// Run only the server, until killed
    #[arg(short = 's')]
    serve: bool,
    /// How much to log, 0 (errors) to 4 (everything)
    #[arg(short = 'd', default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    debug: u8,
    /// The server's port; 0 picks a free one
    #[arg(short = 'p', default_value_t = 0)]
    port: u16,
    /// Lose 5 percent of the frames throughout
    #[arg(short = 'l')]
    lossy: bool,
    /// Seed of the frames to lose; the time unless given
    #[arg(long)]
    seed: Option<u64>,
    /// Print calls per second at 1, 16 and 64 callers instead of testing
    #[arg(long)]
    bench: bool,
    /// Seconds each measurement takes
    #[arg(long, default_value_t = 2.0, requires = "bench")]
    seconds: f64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    start_logging(options.debug);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(Failure::new(format!("cannot start the runtime: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("rpctest: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(level: u8) {
    let default = ["error", "warn", "info", "debug", "trace"][usize::from(level)];
    let filter = EnvFilter::try_from_env("YFS_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// What every part of the test needs.
struct Setting {
    seed: u64,
    lossy: bool,
}

impl Setting {
    fn of(options: &Options) -> Setting {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Setting { seed: options.seed.unwrap_or(since_1970.as_nanos() as u64), lossy: options.lossy }
    }

    /// Loss as the options ask; `salt` sets the dice of one side apart from those of another.
    fn loss(&self, salt: u64) -> Loss {
        if self.lossy { Loss::percent(LOSS_PERCENT, self.seed ^ salt) } else { Loss::FromEnv }
    }

    fn server_options(&self) -> ServerOptions {
        ServerOptions { loss: self.loss(1 << 32), ..Default::default() }
    }

    fn client_options(&self, salt: u64) -> ClientOptions {
        ClientOptions { loss: self.loss(salt), ..Default::default() }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let setting = Setting::of(options);
    if options.bench {
        return bench::run(Duration::from_secs_f64(options.seconds.clamp(0.01, 600.0))).await;
    }
    if options.call && options.port == 0 {
        return Err(Failure::new("-c needs the server's port: give -p PORT"));
    }
    let server = if options.call { None } else { Some(start_server(&setting, options.port).await?) };
    if options.serve {
        wait_for_signal().await;
        return Ok(());
    }
    let addr =
        server.as_ref().map_or_else(|| options.port.to_string(), |server| server.local_addr().to_string());
    if setting.lossy {
        println!("losing {LOSS_PERCENT} percent of all frames; again with --seed {}", setting.seed);
    }
    test(&setting, &addr).await?;
    if let Some(server) = server {
        server.shutdown().await;
    }
    println!("rpctest OK");
    Ok(())
}

async fn start_server(setting: &Setting, port: u16) -> Result<Server, Failure> {
    let server = procs::listen(setting.server_options(), &port.to_string()).await?;
    println!("starting server on {} RPC_HEADER_SZ {}", server.local_addr(), rpc::frame::HEAD_LEN);
    Ok(server)
}

async fn wait_for_signal() {
    // Without a handler the signal ends the process, which is as well.
    let _ = tokio::signal::ctrl_c().await;
}

async fn test(setting: &Setting, addr: &str) -> Result<(), Failure> {
    simple::codec_test()?;
    let clients: Vec<Client> = (0..2).map(|i| Client::new(addr, setting.client_options(i))).collect();
    for client in &clients {
        client.bind(procs::PATIENCE).await?;
    }
    simple::simple_tests(&clients[0], setting.lossy).await?;
    concurrent::concurrent_test(&clients).await?;
    concurrent::lossy_test(setting.seed).await?;
    failure::failure_test().await?;
    garbage::garbage_collection_test().await
}
