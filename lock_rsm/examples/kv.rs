//! A replicated key-value store that knows nothing of locks, in a page of code.
//!
//! README says how to start three of them.

use clap::Parser;
use lock_rsm::rsm::{
    Replica, ReplicaOptions, RsmClient, RsmClientOptions, RsmError, Service, StateError, View,
};
use parking_lot::Mutex;
use rpc::{CallInfo, Register, ServerBuilder, ServerOptions, typed};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const PUT: u32 = 1;
const GET: u32 = 2;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The program: a map, its two procedures, and how to carry it over as bytes.
#[derive(Default)]
struct Store(Mutex<BTreeMap<String, String>>);

impl Service for Store {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        let at = Arc::clone(&self);
        let put = move |_: &CallInfo, (key, value): (String, String)| Ok(at.0.lock().insert(key, value));
        to.register(PUT, typed(put));
        let get = move |_: &CallInfo, key: String| Ok(self.0.lock().get(&key).cloned());
        to.register(GET, typed(get));
    }

    fn marshal_state(&self) -> Vec<u8> {
        rpc::codec::encode(&*self.0.lock())
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        Ok(())
    }
}

/// A replicated key-value store.
#[derive(Parser)]
enum Command {
    /// Run the replica ME of a group that MASTER leads first.
    Server {
        master: String,
        me: String,
        #[arg(long, value_delimiter = ',', required = true)]
        members: Vec<String>,
        /// The replica's directory [default: kv-ME.data]
        #[arg(long)]
        data: Option<String>,
    },
    /// Set KEY to VALUE.
    Put { replicas: String, key: String, value: String },
    /// Print the value of KEY.
    Get { replicas: String, key: String },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Server { master, me, members, data } => {
            let data = data.unwrap_or_else(|| format!("kv-{me}.data"));
            serve(ReplicaOptions {
                on_view: Some(Arc::new(|view: &View, _| println!("{view}"))),
                ..ReplicaOptions::new(&master, &me, &members, data)
            })
            .await?;
        }
        Command::Put { replicas, key, value } => {
            let before: Option<String> =
                connect(&replicas).await?.invoke(PUT, &(key, value), TIMEOUT).await?;
            println!("was {}", before.as_deref().unwrap_or("not set"));
        }
        Command::Get { replicas, key } => {
            let value: Option<String> = connect(&replicas).await?.invoke(GET, &key, TIMEOUT).await?;
            println!("{}", value.ok_or_else(|| format!("{key} is not set"))?);
        }
    }
    Ok(())
}

async fn connect(replicas: &str) -> Result<RsmClient, RsmError> {
    let addresses: Vec<String> = replicas.split(',').map(str::to_owned).collect();
    RsmClient::connect(&addresses, RsmClientOptions::default()).await
}

async fn serve(options: ReplicaOptions) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter("info,fjall=warn,lsm_tree=warn")
        .init();
    let server = ServerBuilder::new(ServerOptions::default());
    let replica = Replica::start(options, Arc::new(Store::default()), server).await?;
    tokio::select! {
        ended = replica.ended() => Ok(ended?),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            replica.shutdown().await;
            Ok(())
        }
    }
}
