//! Clients of the replicated registers.

use super::load::{Load, LoadError, outcome, side_by_side, timeout};
use super::register_server::{LOCAL_READ, REGISTER};
use crate::linear::models::{RegisterAnswer, RegisterOp, Registers};
use crate::linear::{AnyHistory, Recorder};
use crate::rng::Rng;
use lock_rsm::rsm::RsmClient;
use rpc::{Client, ClientOptions};
use std::collections::BTreeMap;
use std::time::Duration;

const CLIENTS: u64 = 4;
const KEYS: u64 = 3;

pub(super) async fn run(load: &Load) -> Result<Vec<AnyHistory>, LoadError> {
    let recorder = Recorder::new();
    side_by_side((0..CLIENTS).map(|i| one(load.clone(), load.first_process + i, recorder.clone()))).await?;
    Ok(vec![AnyHistory::Registers(Registers, recorder.history())])
}

async fn one(load: Load, process: u64, recorder: Recorder<Registers>) -> Result<(), LoadError> {
    let mut rng = load.rng(process);
    let client = load.connect(process).await?;
    let replicas: Vec<Client> = load.replicas.iter().map(|address| direct(address)).collect();
    let mut seen = BTreeMap::new();
    let mut value = process * 1_000_000;
    while load.goes_on() {
        value += 1; // never written by anybody else
        let op = choose(&mut rng, value, &seen);
        let timeout = timeout(&mut rng);
        let local = load.cheat && matches!(op, RegisterOp::Get { .. });
        let pending = recorder.invoke(process, op);
        let answer = if local {
            read_locally(&replicas[rng.below(replicas.len())], op).await
        } else {
            let answer: Result<RegisterAnswer, _> = client.invoke(REGISTER, &op, timeout).await;
            outcome(process, timeout, answer)?
        };
        match answer {
            Some(answer) => {
                pending.answer(answer);
                note(&mut seen, &op, answer);
            }
            None => pending.unknown(),
        }
        load.breathe(&mut rng).await;
    }
    drop::<RsmClient>(client);
    Ok(())
}

fn choose(rng: &mut Rng, value: u64, seen: &BTreeMap<u64, Option<u64>>) -> RegisterOp {
    let key = Load::name(KEYS, 500, rng);
    match rng.below(100) {
        0..45 => RegisterOp::Get { key },
        45..75 => RegisterOp::Put { key, value },
        // What was seen last has a fair chance to be there still.
        _ => RegisterOp::Cas { key, expected: seen.get(&key).copied().flatten(), value },
    }
}

fn note(seen: &mut BTreeMap<u64, Option<u64>>, op: &RegisterOp, answer: RegisterAnswer) {
    let value = match (answer, op) {
        (RegisterAnswer::Value(value) | RegisterAnswer::Differs(value), _) => value,
        (_, RegisterOp::Put { value, .. } | RegisterOp::Cas { value, .. }) => Some(*value),
        (_, RegisterOp::Get { .. }) => return,
    };
    seen.insert(op.key(), value);
}

/// A connection to one replica, whether it is the master or not.
fn direct(address: &str) -> Client {
    Client::new(address, ClientOptions { fail_fast: true, at_most_once: false, ..ClientOptions::default() })
}

async fn read_locally(replica: &Client, op: RegisterOp) -> Option<RegisterAnswer> {
    replica.call(LOCAL_READ, &op, Duration::from_millis(200)).await.ok()
}
