//! What an operator does to a group: have a replica leave it for good, alone or in exchange for a fresh one.
//!
//! The group does it (`rsm::core`'s `retire`); here somebody finds its master and repeats the order until it is carried out.

use super::core::{Place, Retire, Retirement};
use super::store::cluster_id;
use super::types::{View, procs};
use super::wire::{IdentityReply, RetireReply, RetireRequest};
use crate::consensus::Membership;
use futures_util::future::join_all;
use rpc::{Client, ClientOptions, RpcError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long one replica may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long the replica that is to come may take to answer at all.
const NEW_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Addresses asked for the group.
const ADDRESSES_MAX: usize = 64;

/// A replica that is to leave its group for good.
#[derive(Clone, Debug)]
pub struct RetireOptions {
    /// Where it listens, or did.
    pub old: String,
    /// The replica that takes its place: a fresh one that was started, and joins the group by itself. `None`: nobody does.
    pub new: Option<String>,
    /// Further replicas that may know the group, should `old` and `new` not.
    pub known: Vec<String>,
    /// For how long it is tried.
    pub timeout: Duration,
}

/// Why a replica did not leave, or did not yet.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// An address is none.
    #[error(transparent)]
    Address(#[from] rpc::addr::AddrError),
    /// Somebody is to take its own place.
    #[error(
        "{0} cannot take its own place: start the new replica at another address, or, to begin anew at this one, stop it, move its data directory away and start it"
    )]
    Same(String),
    /// The new one does not answer.
    #[error(
        "the new replica {address} does not answer ({source}): start it first (lock_server MEMBER {address}), then replace {old}"
    )]
    NewUnreachable {
        /// Its address.
        address: String,
        /// The one it was to replace.
        old: String,
        /// What is wrong.
        source: RpcError,
    },
    /// The new one is a member of another group.
    #[error(
        "the new replica {0} belongs to another group: give it an empty --data directory and start it again"
    )]
    OtherGroup(String),
    /// The group knows nobody at the old one's address.
    #[error("no replica at {old} is or was a member of the group, whose members are {members}")]
    Unknown {
        /// The address.
        old: String,
        /// The members.
        members: String,
    },
    /// Nobody would be left.
    #[error("{0} is the only member of its group and cannot leave it: stop it instead, or replace it")]
    Last(String),
    /// Not in time. What was done stays; the same order goes on from there.
    #[error("not done after {} s: {why}; the same command goes on from here", after.as_secs_f64())]
    Late {
        /// The time it was given.
        after: Duration,
        /// What it waits for.
        why: String,
    },
}

/// Has a replica leave its group for good. `progress` is told every step in a few words; returns the members afterwards.
pub async fn retire(
    options: &RetireOptions,
    mut progress: impl FnMut(&str),
) -> Result<Vec<String>, RetireError> {
    let old = rpc::addr::parse(&options.old)?;
    let new = options.new.as_deref().map(rpc::addr::parse).transpose()?;
    if new.as_ref() == Some(&old) {
        return Err(RetireError::Same(old));
    }
    let mut group = Group::default();
    for address in new.iter().chain([&old]).chain(&options.known) {
        group.note(address);
    }
    let deadline = Instant::now() + options.timeout;
    if let Some(new) = &new {
        let wait = NEW_ANSWERS_WITHIN.min(options.timeout);
        let identity = group.identity(new, wait).await.map_err(|source| RetireError::NewUnreachable {
            address: new.clone(),
            old: old.clone(),
            source,
        })?;
        identity.configured.iter().for_each(|address| group.note(address));
    }
    let order = Retire { old, new };
    let mut said = String::new();
    loop {
        let why = match group.give(&order).await? {
            Step::Done(members) => return Ok(members),
            Step::NotYet(why) => why,
        };
        if why != said {
            progress(&why);
            said.clone_from(&why);
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(RetireError::Late { after: options.timeout, why });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What came of giving the order once.
enum Step {
    Done(Vec<String>),
    NotYet(String),
}

/// Whom to ask.
#[derive(Default)]
struct Group {
    clients: BTreeMap<String, Client>,
    /// The group of the replica that is to come, once it has one.
    cluster: Option<u64>,
}

impl Group {
    fn note(&mut self, address: &str) {
        let is_new = self.clients.len() < ADDRESSES_MAX && !self.clients.contains_key(address);
        if let Some(address) = rpc::addr::parse(address).ok().filter(|_| is_new) {
            let options = ClientOptions { fail_fast: true, at_most_once: false, ..ClientOptions::default() };
            self.clients.insert(address.clone(), Client::new(&address, options));
        }
    }

    /// Who the replica at `address` is; tried for a while, since it may just have been started.
    async fn identity(&self, address: &str, wait: Duration) -> Result<IdentityReply, RpcError> {
        let deadline = Instant::now() + wait;
        loop {
            let answer = self.clients[address].call(procs::IDENTITY, &(), ANSWER_WITHIN).await;
            if answer.is_ok() || Instant::now() + PAUSE >= deadline {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Gives the master the order.
    async fn give(&mut self, order: &Retire) -> Result<Step, RetireError> {
        if let Some(new) = order.new.as_ref().filter(|_| self.cluster.is_none()) {
            let answer = self.identity(new, Duration::ZERO).await;
            let formed = answer.ok().and_then(|identity| identity.formed);
            let Some(formed) = formed else {
                return Ok(Step::NotYet(format!("{new} has not found the group yet")));
            };
            formed.iter().for_each(|member| self.note(&member.address));
            let cluster = cluster_id(&Membership::of(formed));
            let old = self.identity(&order.old, Duration::ZERO).await.ok().and_then(|it| it.formed);
            if old.is_some_and(|formed| cluster_id(&Membership::of(formed)) != cluster) {
                return Err(RetireError::OtherGroup(new.clone()));
            }
            self.cluster = Some(cluster);
        }
        let Some(master) = self.master().await else { return Ok(Step::NotYet(self.nobody_leads())) };
        let request = RetireRequest { cluster: self.cluster, order: order.clone() };
        match self.clients[&master].call(procs::RETIRE, &request, ANSWER_WITHIN).await {
            Ok(RetireReply::Order(so_far)) => judge(order, so_far),
            Ok(RetireReply::OtherGroup) => {
                let stranger = order.new.as_ref().unwrap_or(&order.old);
                Err(RetireError::OtherGroup(stranger.clone()))
            }
            Ok(RetireReply::NotMaster(view)) => {
                view.members.iter().for_each(|member| self.note(member));
                Ok(Step::NotYet(self.nobody_leads()))
            }
            Err(error) => Ok(Step::NotYet(format!("the master {master} does not answer: {error}"))),
        }
    }

    /// The master of the latest view that anybody knows of.
    async fn master(&mut self) -> Option<String> {
        let questions = self.clients.values().map(|client| async move {
            let view: Result<View, _> = client.call(procs::MEMBERS, &(), ANSWER_WITHIN).await;
            view.ok()
        });
        let views: Vec<View> = join_all(questions).await.into_iter().flatten().collect();
        views.iter().flat_map(|view| &view.members).for_each(|member| self.note(member));
        let latest = views.into_iter().filter(|view| view.master.is_some()).max_by_key(|view| view.number)?;
        latest.master.filter(|master| self.clients.contains_key(master))
    }

    fn nobody_leads(&self) -> String {
        let asked: Vec<&str> = self.clients.keys().map(String::as_str).collect();
        format!(
            "no replica leads the group; is a majority of its members running? (asked {})",
            asked.join(" ")
        )
    }
}

/// What the master's answer means.
fn judge(order: &Retire, so_far: Retirement) -> Result<Step, RetireError> {
    let Retire { old, new } = order;
    let new_is = new.as_deref().unwrap_or_default();
    Ok(Step::NotYet(match so_far {
        Retirement::Done(members) => return Ok(Step::Done(members)),
        Retirement::Unknown(members) => {
            return Err(RetireError::Unknown { old: old.clone(), members: members.join(" ") });
        }
        Retirement::Last => return Err(RetireError::Last(old.clone())),
        Retirement::UnderWay { new: Some(Place::Nowhere), .. } => {
            format!("{new_is} has not asked to be taken in yet")
        }
        Retirement::UnderWay { new: Some(Place::Asking), .. } => {
            format!("{new_is} has asked to be taken in")
        }
        Retirement::UnderWay { new: Some(Place::Joining), .. } => format!("{new_is} is being caught up"),
        Retirement::UnderWay { is_member: true, .. } => format!("{old} is about to be removed"),
        Retirement::UnderWay { is_member: false, .. } => format!("{old} is removed; this is being noted"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Retire {
        Retire { old: "127.0.0.1:1".into(), new: Some("127.0.0.1:4".into()) }
    }

    #[test]
    fn what_cannot_be_done_is_said_in_one_line_with_the_remedy() {
        let members = vec!["127.0.0.1:2".to_owned(), "127.0.0.1:3".to_owned()];
        let unknown = judge(&order(), Retirement::Unknown(members)).err().unwrap().to_string();
        assert!(unknown.contains("127.0.0.1:1") && unknown.contains("127.0.0.1:2 127.0.0.1:3"), "{unknown}");
        let last = judge(&order(), Retirement::Last).err().unwrap().to_string();
        assert!(last.contains("stop it instead"), "{last}");
    }

    #[tokio::test]
    async fn a_replica_is_not_replaced_by_itself_or_by_one_that_is_not_there() {
        let try_it = async |old: &str, new: &str| {
            let (old, new) = (old.to_owned(), Some(new.to_owned()));
            let options = RetireOptions { old, new, known: vec![], timeout: Duration::from_millis(300) };
            retire(&options, |_| {}).await.unwrap_err().to_string()
        };
        let same = try_it("7001", "127.0.0.1:7001").await;
        assert!(same.contains("cannot take its own place"), "{same}");
        let nonsense = try_it("7001", "nonsense:port").await;
        assert!(nonsense.contains("nonsense:port"), "{nonsense}");
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let away = try_it("7001", &nobody).await;
        assert!(away.contains(&nobody) && away.contains("start it first"), "{away}");
    }
}
