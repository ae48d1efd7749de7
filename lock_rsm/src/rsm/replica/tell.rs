//! Whoever waits for the answer to a command.

use super::super::core::{Answer, Refused, Ticket};
use super::super::state::{Applied, Outcome};
use super::super::wire::InvokeReply;
use super::shared::Shared;
use rpc::{Replies, Responder, Response, Status};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A caller. One that is dropped without an answer is told to ask another replica.
pub(super) enum Tell {
    /// A task of this process.
    Task(oneshot::Sender<Answer>),
    /// An RSM client, over its connection.
    Client(Client),
}

/// The reply owed to an RSM client.
pub(super) struct Client {
    shared: Arc<Shared>,
    responder: Option<Responder>,
}

impl Tell {
    pub(super) fn client(shared: Arc<Shared>, responder: Responder) -> Tell {
        Tell::Client(Client { shared, responder: Some(responder) })
    }

    /// Tells the answer. A caller that gave up is not there to be told.
    pub(super) fn send(self, answer: Answer) {
        self.add_to(&mut Replies::new(), answer);
    }

    /// The same, for many callers at once: clients get theirs when `replies` are sent.
    pub(super) fn add_to(self, replies: &mut Replies, answer: Answer) {
        match self {
            Tell::Task(tell) => drop(tell.send(answer)),
            Tell::Client(mut client) => {
                if let Some(responder) = client.responder.take() {
                    replies.add(responder, Ok(response(&client.shared, answer)));
                }
            }
        }
    }
}

impl Ticket for Tell {
    fn is_void(&self) -> bool {
        match self {
            Tell::Task(tell) => tell.is_closed(),
            Tell::Client(client) => client.responder.as_ref().is_none_or(Responder::is_disconnected),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(responder) = self.responder.take() {
            responder.reply(Ok(response(&self.shared, Err(Refused::NotMaster))));
        }
    }
}

fn response(shared: &Shared, answer: Answer) -> Response {
    match answer {
        Ok(Applied::Executed(Outcome::Done(reply))) => Response::of(&InvokeReply::Done).with_payload(reply),
        Ok(Applied::Executed(Outcome::Failed(status))) => Response::of(&InvokeReply::Failed(status)),
        Ok(Applied::Forgotten) => Response::of(&InvokeReply::Forgotten),
        Err(Refused::NotMaster) => Response::of(&InvokeReply::NotMaster(shared.view())),
        Err(Refused::Busy) => Response::of(&InvokeReply::Busy),
        Err(Refused::TooLarge) => Response::of(&InvokeReply::Failed(Status::TOO_LARGE.0)),
    }
}
