//! A client: numbers its requests, asks whoever it takes for the master, and asks again until it has the answer.

use super::histories::Histories;
use super::load::{Asked, Call, Load};
use crate::rng::Rng;
use bytes::Bytes;
use lock_rsm::consensus::ReplicaId;
use lock_rsm::rsm::core::{Answer, Applied, Command, Outcome, REGISTER_CLIENT, Refused, RequestKey};
use std::collections::BTreeMap;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is for.
    asked: Asked,
    call: Call,
    attempt: Awaited,
    /// When nobody waits for its answer any more; then it may be executed or not.
    until_ms: Option<u64>,
}

/// The last attempt.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// Its name; 0: there was none.
    token: u64,
    /// When it is given up and the next one made.
    due_ms: u64,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number in the run; not the one it gets from the group.
    pub index: usize,
    /// Its number in the reply table, once it has one.
    number: Option<u64>,
    next_request: u64,
    window: usize,
    /// The attempt to get a number.
    registering: Option<Awaited>,
    /// By request number.
    outstanding: BTreeMap<u64, Request>,
    load: Load,
    /// Whom it takes for the master.
    target: ReplicaId,
    /// Whom it asks for reads: the one that answered the last one, whatever became of its commands since.
    reads_at: ReplicaId,
    /// Requests are made no more.
    pub is_done: bool,
}

/// An attempt to be sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// To whom.
    pub to: ReplicaId,
    /// Its name.
    pub token: u64,
    /// What is asked.
    pub wish: Wish,
}

/// What an attempt asks of a replica.
#[derive(Clone, Debug)]
pub enum Wish {
    /// To have a command executed: which request of which client it is, and as it will stand in the log.
    Execute(RequestKey, Bytes),
    /// What a register holds.
    Read(u64),
}

/// An answer that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// What was appended.
    pub item: u64,
    /// The place in the register it was said to have got.
    pub place: u64,
    /// How much was answered, to anybody, when it was first asked for.
    pub began_after: u64,
}

/// How long a client waits for an answer before it asks again.
const PATIENCE_MS: u64 = 100;
/// So many of 100 requests are given up when they are not answered within [`GIVE_UP_MS_MAX`], or sooner. Few: what is
/// unknown may be explained in more ways than what was answered.
const GIVES_UP: usize = 5;
const GIVE_UP_MS_MAX: usize = 400;

impl Client {
    /// A client that has asked nothing yet, with at most `window` requests on their way.
    pub fn new(index: usize, window: usize) -> Client {
        Client {
            index,
            number: None,
            next_request: 1,
            window,
            registering: None,
            outstanding: BTreeMap::new(),
            load: Load::new(index),
            target: 1,
            reads_at: 1,
            is_done: false,
        }
    }

    /// Whether it waits for nothing.
    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Time passed: makes a new request now and then, and repeats what was not answered.
    pub fn tick(&mut self, now_ms: u64, context: &mut Context<'_>) -> Vec<Attempt> {
        let Some(number) = self.number else { return self.register(now_ms, context) };
        self.give_up(now_ms);
        if !self.is_done {
            self.begin(now_ms, context);
        }
        let acked_upto = self.outstanding.keys().next().map_or(self.next_request, |first| *first) - 1;
        let mut attempts = Vec::new();
        let (mut timed_out, mut read_timed_out) = (false, false);
        let due = self.outstanding.iter_mut().filter(|(_, request)| request.attempt.due_ms <= now_ms);
        for (&request, Request { call, attempt, .. }) in due {
            let again = attempt.token != 0;
            *attempt = Awaited { token: context.token(), due_ms: now_ms + PATIENCE_MS };
            let (to, wish) = match call {
                Call::Command(proc, args) => {
                    timed_out |= again;
                    let (proc, args) = (*proc, args.clone());
                    let command = Command { client: number, request, acked_upto, proc, args };
                    (self.target, Wish::Execute(Some((number, request)), command.encode()))
                }
                Call::Read(register) => {
                    read_timed_out |= again;
                    (self.reads_at, Wish::Read(*register))
                }
            };
            attempts.push(Attempt { to, token: attempt.token, wish });
        }
        if timed_out {
            self.target = context.anybody();
        }
        if read_timed_out {
            self.reads_at = context.anybody();
        }
        attempts
    }

    /// Asks for something new now and then: commands within the window, and one read at a time, which need not wait for them.
    fn begin(&mut self, now_ms: u64, context: &mut Context<'_>) {
        let reads = self.outstanding.values().filter(|request| matches!(request.call, Call::Read(_))).count();
        if self.outstanding.len() - reads < self.window && context.rng.below(3) == 0 {
            let asked = self.load.next(self.next_request, context);
            self.ask(asked, now_ms, context);
        }
        if reads == 0 && context.rng.below(4) == 0 {
            let asked = self.load.read(context);
            self.ask(asked, now_ms, context);
        }
    }

    fn ask(&mut self, (asked, call): (Asked, Call), now_ms: u64, context: &mut Context<'_>) {
        let gives_up = Load::may_be_given_up(&asked) && context.rng.chance(GIVES_UP);
        let until_ms = gives_up.then(|| now_ms + 1 + context.rng.below(GIVE_UP_MS_MAX) as u64);
        let attempt = Awaited { token: 0, due_ms: now_ms };
        self.outstanding.insert(self.next_request, Request { asked, call, attempt, until_ms });
        self.next_request += 1;
    }

    fn give_up(&mut self, now_ms: u64) {
        let load = &mut self.load;
        self.outstanding.retain(|_, request| {
            let is_over = request.until_ms.is_some_and(|ms| ms <= now_ms);
            if is_over {
                load.gives_up(&request.asked);
            }
            !is_over
        });
    }

    fn register(&mut self, now_ms: u64, context: &mut Context<'_>) -> Vec<Attempt> {
        if self.registering.is_some_and(|attempt| attempt.due_ms > now_ms) {
            return Vec::new();
        }
        if self.registering.is_some_and(|attempt| attempt.token != 0) {
            self.target = context.anybody();
        }
        let token = context.token();
        self.registering = Some(Awaited { token, due_ms: now_ms + PATIENCE_MS });
        let command =
            Command { client: 0, request: 0, acked_upto: 0, proc: REGISTER_CLIENT, args: Bytes::new() };
        vec![Attempt { to: self.target, token, wish: Wish::Execute(None, command.encode()) }]
    }

    /// An answer came, from a replica that takes `hint` for the master. `Err` says what is wrong with it.
    pub fn answer(
        &mut self,
        token: u64,
        answer: Answer,
        hint: Option<ReplicaId>,
        now_ms: u64,
        context: &mut Context<'_>,
    ) -> Result<Answered, String> {
        match answer {
            Ok(applied) => return self.executed(token, applied, context),
            Err(Refused::NotMaster) => {
                let to = hint.unwrap_or_else(|| context.anybody());
                self.ask_again(token, now_ms + 1 + context.rng.below(20) as u64, Some(to));
            }
            Err(Refused::Busy) => self.ask_again(token, now_ms + 20, None),
            Err(Refused::TooLarge) => return Err("a small request is too large".into()),
        }
        Ok(Answered::Nothing)
    }

    fn ask_again(&mut self, token: u64, at_ms: u64, to: Option<ReplicaId>) {
        let again = Awaited { token: 0, due_ms: at_ms };
        if self.registering.take_if(|attempt| attempt.token == token).is_some() {
            self.registering = Some(again);
            self.target = to.unwrap_or(self.target);
        }
        let Some(request) = self.outstanding.values_mut().find(|it| it.attempt.token == token) else {
            return;
        };
        request.attempt = again;
        match request.call {
            Call::Command(..) => self.target = to.unwrap_or(self.target),
            Call::Read(_) => self.reads_at = to.unwrap_or(self.reads_at),
        }
    }

    fn executed(
        &mut self,
        token: u64,
        applied: Applied,
        context: &mut Context<'_>,
    ) -> Result<Answered, String> {
        if self.registering.take_if(|attempt| attempt.token == token).is_some() {
            let number = rpc::codec::decode(&reply(applied)?);
            self.number = Some(number.map_err(|error| format!("its number does not decode: {error}"))?);
            return Ok(Answered::Nothing);
        }
        let found = self.outstanding.iter().find(|(_, request)| request.attempt.token == token);
        let Some(number) = found.map(|(number, _)| *number) else { return Ok(Answered::Nothing) };
        let Request { asked, .. } = self.outstanding.remove(&number).expect("just found");
        let answered = reply(applied).and_then(|reply| self.load.answered(asked.clone(), &reply, context));
        let acknowledged = answered.map_err(|what| format!("request {number}, {asked:?}: {what}"))?;
        Ok(acknowledged.map_or(Answered::Request, Answered::Append))
    }
}

/// What an answer was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Nothing that anybody waited for.
    Nothing,
    /// A request.
    Request,
    /// A request to append something.
    Append(Acknowledged),
}

fn reply(applied: Applied) -> Result<Bytes, String> {
    match applied {
        Applied::Executed(Outcome::Done(reply)) => Ok(reply),
        other => Err(format!("answered {other:?}")),
    }
}

/// What the world lends a client.
#[derive(Debug)]
pub struct Context<'a> {
    /// The run's randomness.
    pub rng: &'a mut Rng,
    /// The last name given to an attempt.
    pub tokens: &'a mut u64,
    /// Replicas that may be asked: 1, 2, …
    pub replicas: usize,
    /// How much was appended and answered so far, to anybody: one more than the greatest place.
    pub answered: u64,
    /// What all clients ask and are answered.
    pub histories: &'a mut Histories,
    /// The number of this step.
    pub at: u64,
}

impl Context<'_> {
    /// Some replica.
    fn anybody(&mut self) -> ReplicaId {
        1 + self.rng.below(self.replicas) as u64
    }

    fn token(&mut self) -> u64 {
        *self.tokens += 1;
        *self.tokens
    }
}
