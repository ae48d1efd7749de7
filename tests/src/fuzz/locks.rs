//! The lock service: what travels, its table, and the replicated program under commands of all kinds.

use super::dice::Dice;
use super::{FACTOR, Target, one_of, samples_of};
use bytes::Bytes;
use lock_rsm::fuzzing::{Bench, Done, LOCKS, TABLES};
use lock_rsm::locks::protocol::*;
use lock_rsm::locks::table::LockTable;
use rpc::Status;
use rpc::codec::{decode, encode};
use serde::Serialize;

pub(super) const TARGETS: &[Target] = &[
    Target::new("lock_calls", |input| one_of(LOCKS, input), || samples_of(LOCKS)),
    Target::new("lock_tables", tables, || samples_of(TABLES)),
    Target {
        name: "lock_program",
        run: program,
        seeds: program_seeds,
        // One byte may ask for 255 locks of a fresh session, each in several maps, and the state is there three times.
        memory_base: 8 << 20,
        memory_factor: 256 * FACTOR,
    },
];

/// A table that was read is one that takes commands: whoever is in it can be ended, and then nothing is left.
fn tables(input: &[u8]) -> bool {
    if !one_of(TABLES, input) {
        return false;
    }
    let mut table = LockTable::unmarshal(&input[1..]).expect("it was just accepted");
    let sessions: Vec<SessionId> = table.sessions().map(|(id, ..)| id).collect();
    let mut notices = Default::default();
    let mut stamp = (table.stamp().0, 0);
    for session in sessions {
        while table.end_session(stamp, None, session, &mut notices) {
            stamp.1 += 1;
        }
    }
    assert_eq!((table.load(), table.sessions().count()), (0, 0));
    true
}

impl Dice<'_> {
    /// Small numbers, and some at the edges.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 2,
            253 => FIRST_ALLOCATED + u64::from(self.byte()),
            small => u64::from(small),
        }
    }

    fn mode(&mut self) -> Mode {
        if self.byte().is_multiple_of(2) { Mode::Shared } else { Mode::Exclusive }
    }
}

/// The most commands of one input.
const COMMANDS_MAX: usize = 64;

/// Commands to the replicated lock service. No handler panics, a replica that takes over the state half-way goes on to
/// the same answers and the same state, and a repeated request is answered as before.
fn program(input: &[u8]) -> bool {
    let (mut one, mut other) = (Bench::new(), Bench::new());
    let mut sessions = vec![0];
    let mut dice = Dice(input);
    let mut executed = 0;
    for n in 0..COMMANDS_MAX {
        if dice.0.is_empty() {
            break;
        }
        if n == COMMANDS_MAX / 4 {
            other = one.copy().expect("a state that was marshalled is taken over");
        }
        let command = command(&mut dice, &sessions);
        let done = command.apply(&mut one);
        assert_eq!(done, command.apply(&mut other), "{command:?}");
        assert_ne!(done, Done::Failed(Status::FAULT.0), "a handler panicked at {command:?}");
        if let (Done::Reply(reply), Command::Request { client, request, proc, args }) = (&done, &command) {
            if *client != 0 {
                assert_eq!(done, one.apply(*client, *request, *proc, args.clone()), "{command:?} repeated");
                other.apply(*client, *request, *proc, args.clone());
            }
            // A repeated number may be answered with what another procedure said.
            if *proc == OPEN_SESSION
                && let Ok(session) = decode(reply)
            {
                sessions.push(session);
            }
            executed += 1;
        }
    }
    assert_eq!(one.state(), other.state());
    executed > 0
}

#[derive(Debug)]
enum Command {
    Register,
    Garbage(Bytes),
    Request { client: u64, request: u64, proc: u32, args: Bytes },
}

impl Command {
    fn apply(&self, bench: &mut Bench) -> Done {
        match self {
            Command::Register => bench.register(),
            Command::Garbage(bytes) => bench.apply_bytes(bytes.clone()),
            Command::Request { client, request, proc, args } => {
                bench.apply(*client, *request, *proc, args.clone())
            }
        }
    }
}

fn command(dice: &mut Dice, sessions: &[SessionId]) -> Command {
    fn coded<T: Serialize>(proc: u32, args: &T) -> (u32, Bytes) {
        (proc, encode(args).into())
    }
    let kind = dice.byte();
    if kind.is_multiple_of(10) {
        return Command::Register;
    }
    let (client, request) = (dice.number(), dice.number());
    let session = sessions[usize::from(dice.byte()) % sessions.len()];
    let (proc, args) = match kind % 10 {
        1 => {
            let name = "n".repeat(usize::from(dice.byte()) * 2);
            coded(OPEN_SESSION, &OpenSession { name, nonce: dice.number(), lease_ms: dice.number() as u32 })
        }
        2 => {
            let locks = (0..dice.byte() % 16).map(|_| (dice.number(), dice.mode())).collect();
            coded(ACQUIRE, &Acquire { session, locks })
        }
        3 => {
            let keep = |dice: &mut Dice| dice.byte().is_multiple_of(3).then(|| dice.mode());
            let locks = (0..dice.byte() % 16).map(|_| (dice.number(), keep(dice))).collect();
            coded(RELEASE, &Release { session, locks })
        }
        4 => coded(ALLOCATE, &Allocate { session, count: dice.number() as u32 }),
        5 => coded(CLOSE_SESSION, &EndSession { session }),
        6 => coded(EXPIRE, &EndSession { session }),
        7 => coded(STAT, &dice.number()),
        8 => {
            let proc = [OPEN_SESSION, ACQUIRE, RELEASE, ALLOCATE, CLOSE_SESSION, EXPIRE, STAT, 0x6666];
            let (proc, count) = (proc[usize::from(dice.byte()) % proc.len()], dice.byte());
            (proc, dice.bytes(count.into()).into())
        }
        _ => {
            let count = dice.byte();
            return Command::Garbage(dice.bytes(count.into()).into());
        }
    };
    Command::Request { client, request, proc, args }
}

fn program_seeds() -> Vec<(String, Vec<u8>)> {
    // Two clients with a session each, and a lock that goes from one to the other.
    let (register, open, acquire, release) = (0, 1, 2, 3);
    let opened = vec![register, register, open, 1, 1, 0, 3, 7, 100, open, 2, 1, 0, 3, 8, 100];
    let hand_over = vec![
        acquire, 1, 2, 1, 2, 9, 1, 5, 0, // the first holds 9 and shares 5
        acquire, 2, 2, 2, 2, 9, 0, 5, 1, // the second waits for both
        release, 1, 3, 1, 2, 9, 1, 5, 0, 0, // the first gives one up and keeps the other shared
        5, 1, 4, 1, // and ends
    ];
    let others = vec![
        4, 2, 3, 2, 200, 6, 0, 0, 2, 7, 0, 0, 0, 9, 8, 2, 4, 2, 1, 3, 1, 2, 3, 9, 0, 0, 0, 4, 1, 2, 3, 4,
    ];
    let named = [("sessions", opened.clone()), ("hand-over", [opened.clone(), hand_over].concat())];
    let rest = [("others", [opened, others].concat())];
    named.into_iter().chain(rest).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}
