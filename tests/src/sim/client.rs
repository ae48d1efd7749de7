//! A client: numbers its requests, asks whoever it takes for the master, and asks again until it has the answer.

use super::register::APPEND;
use crate::rng::Rng;
use bytes::Bytes;
use lock_rsm::consensus::ReplicaId;
use lock_rsm::rsm::core::{Answer, Applied, Command, Outcome, REGISTER_CLIENT, Refused, RequestKey};
use std::collections::BTreeMap;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is appended; no two requests of a run append the same.
    pub item: u64,
    /// The attempt that is awaited.
    token: u64,
    /// When it is given up and the next one made.
    due_ms: u64,
    /// How much was answered, to anybody, when it was first made.
    pub began_after: u64,
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
    registering: Option<Request>,
    /// By request number.
    pub outstanding: BTreeMap<u64, Request>,
    target: ReplicaId,
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
    /// Which request of which client it is.
    pub key: RequestKey,
    /// The command as it will stand in the log.
    pub command: Bytes,
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
const PATIENCE_MS: u64 = 200;

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
            target: 1,
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
        if !self.is_done && self.outstanding.len() < self.window && context.rng.below(3) == 0 {
            let item = (self.index as u64) << 32 | self.next_request;
            let request = Request { item, token: 0, due_ms: now_ms, began_after: context.answered };
            self.outstanding.insert(self.next_request, request);
            self.next_request += 1;
        }
        let acked_upto = self.outstanding.keys().next().map_or(self.next_request, |first| *first) - 1;
        let mut attempts = Vec::new();
        let mut timed_out = false;
        for (&request, waiting) in self.outstanding.iter_mut().filter(|(_, it)| it.due_ms <= now_ms) {
            timed_out |= waiting.token != 0;
            waiting.token = context.token();
            waiting.due_ms = now_ms + PATIENCE_MS;
            let args = Bytes::from(rpc::codec::encode(&waiting.item));
            let command = Command { client: number, request, acked_upto, proc: APPEND, args };
            let (key, command) = (Some((number, request)), command.encode());
            attempts.push(Attempt { to: self.target, token: waiting.token, key, command });
        }
        if timed_out {
            self.try_another(context);
        }
        attempts
    }

    fn register(&mut self, now_ms: u64, context: &mut Context<'_>) -> Vec<Attempt> {
        if self.registering.as_ref().is_some_and(|waiting| waiting.due_ms > now_ms) {
            return Vec::new();
        }
        if self.registering.is_some() {
            self.try_another(context);
        }
        let token = context.token();
        self.registering = Some(Request { item: 0, token, due_ms: now_ms + PATIENCE_MS, began_after: 0 });
        let command =
            Command { client: 0, request: 0, acked_upto: 0, proc: REGISTER_CLIENT, args: Bytes::new() };
        vec![Attempt { to: self.target, token, key: None, command: command.encode() }]
    }

    fn try_another(&mut self, context: &mut Context<'_>) {
        self.target = 1 + context.rng.below(context.replicas) as u64;
    }

    /// An answer came, from a replica that takes `hint` for the master. `Err` says what is wrong with it.
    pub fn answer(
        &mut self,
        token: u64,
        answer: Answer,
        hint: Option<ReplicaId>,
        now_ms: u64,
        context: &mut Context<'_>,
    ) -> Result<Option<Acknowledged>, String> {
        match answer {
            Ok(applied) => return self.executed(token, applied),
            Err(Refused::NotMaster) => {
                self.ask_again(token, now_ms + 1 + context.rng.below(20) as u64, || {
                    hint.unwrap_or_else(|| 1 + context.rng.below(context.replicas) as u64)
                })
            }
            Err(Refused::Busy) => {
                let to = self.target;
                self.ask_again(token, now_ms + 20, || to)
            }
            Err(Refused::TooLarge) => return Err("a small request is too large".into()),
        }
        Ok(None)
    }

    fn ask_again(&mut self, token: u64, at_ms: u64, to: impl FnOnce() -> ReplicaId) {
        let mut waiting = self.outstanding.values_mut().chain(&mut self.registering);
        if let Some(request) = waiting.find(|request| request.token == token) {
            request.due_ms = at_ms;
            self.target = to();
        }
    }

    fn executed(&mut self, token: u64, applied: Applied) -> Result<Option<Acknowledged>, String> {
        if self.registering.as_ref().is_some_and(|request| request.token == token) {
            self.registering = None;
            self.number = Some(number_in(applied)?);
            return Ok(None);
        }
        let found = self.outstanding.iter().find(|(_, request)| request.token == token);
        let Some(request) = found.map(|(request, _)| *request) else { return Ok(None) };
        let Request { item, began_after, .. } = self.outstanding.remove(&request).expect("just found");
        let place = number_in(applied).map_err(|what| format!("request {request} for {item:#x}: {what}"))?;
        Ok(Some(Acknowledged { item, place, began_after }))
    }
}

fn number_in(applied: Applied) -> Result<u64, String> {
    match applied {
        Applied::Executed(Outcome::Done(reply)) => {
            rpc::codec::decode(&reply).map_err(|error| format!("the reply does not decode: {error}"))
        }
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
    /// How much was answered so far, to anybody: one more than the greatest place.
    pub answered: u64,
}

impl Context<'_> {
    fn token(&mut self) -> u64 {
        *self.tokens += 1;
        *self.tokens
    }
}
