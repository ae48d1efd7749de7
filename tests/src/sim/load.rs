//! What a client asks for, one thing after the other, and what it makes of the answers.

use super::client::{Acknowledged, Context};
use super::services::{APPEND, REGISTER};
use crate::linear::OpId;
use crate::linear::models::{LockOp, RegisterAnswer, RegisterOp};
use crate::rng::Rng;
use bytes::Bytes;
use lock_rsm::locks::Mode;
use lock_rsm::locks::protocol::{
    ACQUIRE, ALLOCATE, Acquire, Allocate, Allocated, CLOSE_SESSION, EndSession, Ended, OPEN_SESSION,
    OpenSession, RELEASE, Release, Standing, Standings,
};
use rpc::Proc;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// Few registers and locks, so that clients meet.
const REGISTERS: usize = 2;
const LOCKS: usize = 3;
/// A session is closed after so many commands, and another one opened.
const COMMANDS_MAX: u32 = 12;

/// What is asked of the group.
#[derive(Clone, Debug)]
pub enum Call {
    /// To execute a command.
    Command(Proc, Bytes),
    /// What a register holds, confirmed by a majority but not put into the log.
    Read(u64),
}

/// What was asked for, and what is to be done with the answer.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To append something; no two requests of a run append the same.
    Append {
        /// What.
        item: u64,
        /// How much was answered, to anybody, when it was first made.
        began_after: u64,
    },
    /// Something of a register.
    Register(RegisterOp, OpId),
    /// A session.
    Open,
    /// A lock, or to have it no more.
    Lock(OpId),
    /// Ids.
    Allocate(OpId),
    /// The end of the session, and with it of all its locks.
    Close(Vec<OpId>),
}

/// What one client is about.
#[derive(Debug)]
pub struct Load {
    client: usize,
    session: Session,
    /// What registers were seen to hold.
    seen: BTreeMap<u64, Option<u64>>,
}

#[derive(Debug)]
enum Session {
    None,
    /// It is being opened or closed.
    Changing,
    Open(Open),
}

#[derive(Debug)]
struct Open {
    session: u64,
    /// The locks it ever asked for.
    asked: BTreeSet<u64>,
    /// Commands to come before it is closed.
    left: u32,
    /// Commands under way.
    busy: u32,
}

impl Load {
    /// The load of one client.
    pub fn new(client: usize) -> Load {
        Load { client, session: Session::None, seen: BTreeMap::new() }
    }

    /// The next thing to ask for, as the client's request `number`.
    pub fn next(&mut self, number: u64, context: &mut Context<'_>) -> (Asked, Call) {
        // Written or appended by nobody else.
        let value = (self.client as u64) << 32 | number;
        match context.rng.below(100) {
            0..35 => self.append(value, context),
            35..70 => self.register(value, context),
            _ => self.lock_service(context).unwrap_or_else(|| self.append(value, context)),
        }
    }

    fn append(&self, item: u64, context: &Context<'_>) -> (Asked, Call) {
        let asked = Asked::Append { item, began_after: context.answered };
        (asked, Call::Command(APPEND, rpc::codec::encode(&item).into()))
    }

    fn register(&self, value: u64, context: &mut Context<'_>) -> (Asked, Call) {
        let key = context.rng.below(REGISTERS) as u64;
        let op = match context.rng.below(100) {
            0..30 => RegisterOp::Get { key },
            30..75 => RegisterOp::Put { key, value },
            // What was seen last has a fair chance to be there still.
            _ => RegisterOp::Cas { key, expected: self.seen.get(&key).copied().flatten(), value },
        };
        let id = context.histories.register(self.client, context.at, op);
        (Asked::Register(op, id), Call::Command(REGISTER, rpc::codec::encode(&op).into()))
    }

    /// A read that is to be confirmed and not put into the log.
    pub fn read(&self, context: &mut Context<'_>) -> (Asked, Call) {
        let key = context.rng.below(REGISTERS) as u64;
        let op = RegisterOp::Get { key };
        let id = context.histories.register(self.client, context.at, op);
        (Asked::Register(op, id), Call::Read(key))
    }

    fn lock_service(&mut self, context: &mut Context<'_>) -> Option<(Asked, Call)> {
        match &mut self.session {
            Session::None => {
                let (name, nonce) = (format!("client {}", self.client), context.rng.next_u64());
                let args = rpc::codec::encode(&OpenSession { name, nonce, lease_ms: 10_000 });
                self.session = Session::Changing;
                Some((Asked::Open, Call::Command(OPEN_SESSION, args.into())))
            }
            Session::Changing => None,
            Session::Open(open) if open.left > 0 => Some(open.command(self.client, context)),
            Session::Open(open) if open.busy > 0 => None,
            Session::Open(open) => {
                let asked = open.close(self.client, context);
                self.session = Session::Changing;
                Some(asked)
            }
        }
    }

    /// Nobody waits for the answer any more. A session is never given up half-way.
    pub fn gives_up(&mut self, asked: &Asked) {
        if let (Session::Open(open), Asked::Lock(_) | Asked::Allocate(_)) = (&mut self.session, asked) {
            open.busy -= 1;
        }
    }

    /// Whether a client may give this up.
    pub fn may_be_given_up(asked: &Asked) -> bool {
        !matches!(asked, Asked::Open | Asked::Close(_))
    }

    /// The answer to what was asked for.
    pub fn answered(
        &mut self,
        asked: Asked,
        reply: &[u8],
        context: &mut Context<'_>,
    ) -> Result<Option<Acknowledged>, String> {
        let at = context.at;
        self.gives_up(&asked);
        match asked {
            Asked::Append { item, began_after } => {
                return Ok(Some(Acknowledged { item, place: read(reply)?, began_after }));
            }
            Asked::Register(op, id) => {
                let answer = read(reply)?;
                self.note(&op, answer);
                context.histories.register_answered(id, at, answer);
            }
            Asked::Open => {
                let (session, left) = (read(reply)?, COMMANDS_MAX);
                self.session = Session::Open(Open { session, asked: BTreeSet::new(), left, busy: 0 });
            }
            Asked::Lock(id) => {
                let Standings { locks, .. } = read(reply)?;
                let [standing] = locks[..] else { return Err(format!("{} locks for one", locks.len())) };
                context.histories.lock_answered(id, at, standing);
            }
            Asked::Allocate(id) => {
                let Allocated { first, .. } = read(reply)?;
                context.histories.allocated(id, at, first);
            }
            Asked::Close(ends) => {
                let Ended { more } = read(reply)?;
                if more {
                    return Err("a few locks are not freed at once".into());
                }
                ends.into_iter().for_each(|id| context.histories.lock_answered(id, at, Standing::default()));
                self.session = Session::None;
            }
        }
        Ok(None)
    }

    fn note(&mut self, op: &RegisterOp, answer: RegisterAnswer) {
        let value = match (answer, op) {
            (RegisterAnswer::Value(value) | RegisterAnswer::Differs(value), _) => value,
            (_, RegisterOp::Put { value, .. } | RegisterOp::Cas { value, .. }) => Some(*value),
            (_, RegisterOp::Get { .. }) => return,
        };
        self.seen.insert(op.key(), value);
    }
}

impl Open {
    fn command(&mut self, client: usize, context: &mut Context<'_>) -> (Asked, Call) {
        (self.left, self.busy) = (self.left - 1, self.busy + 1);
        let Context { rng, histories, at, .. } = context;
        let (session, lock, mode) = (self.session, rng.below(LOCKS) as u64, mode(rng));
        let (asked, proc, args) = match rng.below(100) {
            0..8 => {
                let count = 1 + rng.below(5) as u32;
                let id = histories.allocation(client, *at, count.into());
                (Asked::Allocate(id), ALLOCATE, rpc::codec::encode(&Allocate { session, count }))
            }
            8..60 => {
                let id = histories.lock(client, *at, LockOp::Acquire { lock, session, mode });
                let args = Acquire { session, locks: vec![(lock, mode)] };
                (Asked::Lock(id), ACQUIRE, rpc::codec::encode(&args))
            }
            kind => {
                let keep = (kind >= 92).then_some(Mode::Shared);
                let id = histories.lock(client, *at, LockOp::Release { lock, session, keep });
                let args = Release { session, locks: vec![(lock, keep)] };
                (Asked::Lock(id), RELEASE, rpc::codec::encode(&args))
            }
        };
        if matches!(asked, Asked::Lock(_)) {
            self.asked.insert(lock);
        }
        (asked, Call::Command(proc, args.into()))
    }

    fn close(&self, client: usize, context: &mut Context<'_>) -> (Asked, Call) {
        let session = self.session;
        let end = |&lock: &u64| context.histories.lock(client, context.at, LockOp::End { lock, session });
        let ends = self.asked.iter().map(end).collect();
        let args = rpc::codec::encode(&EndSession { session });
        (Asked::Close(ends), Call::Command(CLOSE_SESSION, args.into()))
    }
}

fn mode(rng: &mut Rng) -> Mode {
    if rng.chance(50) { Mode::Shared } else { Mode::Exclusive }
}

fn read<T: DeserializeOwned>(reply: &[u8]) -> Result<T, String> {
    rpc::codec::decode(reply).map_err(|error| format!("the reply does not decode: {error}"))
}
