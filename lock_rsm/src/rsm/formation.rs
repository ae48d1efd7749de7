//! How a group comes into being from a static configuration.
//!
//! A fresh replica asks every configured member who it is. When all are known and fresh, the group is founded by exactly
//! these identities; each replica records that before it takes part. A fresh replica that finds a group formed without its
//! identity joins that: it is not configured to found anything, or it came late, or it has lost its directory, and with it
//! its promises. Then it may not vote under its old identity again, and the group takes it in under the new one.
//!
//! Two replicas may see different incarnations of a third and found different groups. That is harmless: groups ignore each
//! other's messages, and since every address has one living incarnation, at most one of the groups has a majority.

use super::store::Identity;
use super::wire::IdentityReply;
use crate::consensus::{Member, Membership};
use std::collections::BTreeMap;

/// A fresh replica must not join in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormationError {
    /// The members are configured differently.
    #[error(
        "{peer} is configured with the members {theirs}, this replica with {ours}; give all replicas the same configuration"
    )]
    ConfigDiffers {
        /// The other replica.
        peer: String,
        /// Its configuration.
        theirs: String,
        /// This replica's configuration.
        ours: String,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Ask again: these members have not answered yet.
    Wait(Vec<String>),
    /// All are there and fresh: this is the group.
    Found(Membership),
    /// The others founded the group with this replica in it already.
    Adopt(Membership),
    /// There is a group, founded by these without this replica: ask it to be taken in.
    Join(Membership),
    /// Do not start.
    Refuse(FormationError),
}

/// Decides from what the other members answered so far, by address.
pub(super) fn decide(
    me: &Identity,
    configured: &[String],
    answers: &BTreeMap<String, IdentityReply>,
) -> Decision {
    if let Some(group) = answers.values().find_map(|answer| answer.formed.as_ref()) {
        return by_group(me, group);
    }
    let founds = configured.contains(&me.address);
    if !founds {
        return Decision::Wait(configured.to_vec());
    }
    if let Some((peer, answer)) = answers.iter().find(|(_, answer)| answer.configured != configured) {
        return Decision::Refuse(FormationError::ConfigDiffers {
            peer: peer.clone(),
            theirs: answer.configured.join(" "),
            ours: configured.join(" "),
        });
    }
    let missing: Vec<String> = configured
        .iter()
        .filter(|address| **address != me.address && !answers.contains_key(*address))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Decision::Wait(missing);
    }
    let members = configured.iter().map(|address| Member {
        id: answers.get(address).map_or(me.id, |answer| answer.id),
        address: address.clone(),
        voter: true,
    });
    Decision::Found(Membership::of(members.collect()))
}

fn by_group(me: &Identity, group: &[Member]) -> Decision {
    let membership = Membership::of(group.to_vec());
    if membership.contains(me.id) { Decision::Adopt(membership) } else { Decision::Join(membership) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Vec<String> {
        ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec()
    }

    fn me() -> Identity {
        Identity { id: 10, address: "a:1".into() }
    }

    fn fresh(id: u64) -> IdentityReply {
        IdentityReply { id, configured: configured(), formed: None }
    }

    fn member(id: u64, address: &str) -> Member {
        Member { id, address: address.into(), voter: true }
    }

    fn formed(id: u64, members: &[Member]) -> IdentityReply {
        IdentityReply { formed: Some(members.to_vec()), ..fresh(id) }
    }

    fn answers(list: &[(&str, IdentityReply)]) -> BTreeMap<String, IdentityReply> {
        list.iter().map(|(address, answer)| ((*address).to_owned(), answer.clone())).collect()
    }

    #[test]
    fn waits_for_everybody_then_founds_in_the_order_of_the_configuration() {
        let some = answers(&[("c:1", fresh(30))]);
        assert_eq!(decide(&me(), &configured(), &some), Decision::Wait(vec!["b:1".into()]));
        let all = answers(&[("c:1", fresh(30)), ("b:1", fresh(20))]);
        let members = vec![member(10, "a:1"), member(20, "b:1"), member(30, "c:1")];
        assert_eq!(decide(&me(), &configured(), &all), Decision::Found(Membership::of(members)));
    }

    #[test]
    fn adopts_the_group_that_was_founded_with_it() {
        let group = [member(10, "a:1"), member(20, "b:1"), member(30, "c:1")];
        let some = answers(&[("b:1", formed(20, &group))]);
        let adopted = Decision::Adopt(Membership::of(group.to_vec()));
        assert_eq!(decide(&me(), &configured(), &some), adopted);
    }

    #[test]
    fn after_amnesia_it_joins_under_its_new_identity() {
        let group = [member(99, "a:1"), member(20, "b:1"), member(30, "c:1")];
        let some = answers(&[("b:1", formed(20, &group)), ("c:1", fresh(31))]);
        let joins = Decision::Join(Membership::of(group.to_vec()));
        assert_eq!(decide(&me(), &configured(), &some), joins);
    }

    #[test]
    fn who_is_not_configured_waits_for_a_group_to_join() {
        let configured = ["b:1".to_owned()];
        let waits = Decision::Wait(configured.to_vec());
        let forming = IdentityReply { id: 20, configured: configured.to_vec(), formed: None };
        assert_eq!(decide(&me(), &configured, &BTreeMap::new()), waits);
        assert_eq!(decide(&me(), &configured, &answers(&[("b:1", forming)])), waits);
        let group = [member(20, "b:1")];
        let joins = Decision::Join(Membership::of(group.to_vec()));
        assert_eq!(decide(&me(), &configured, &answers(&[("b:1", formed(20, &group))])), joins);
    }

    #[test]
    fn refuses_differing_configurations() {
        let other = IdentityReply { id: 20, configured: vec!["a:1".into(), "b:1".into()], formed: None };
        assert!(matches!(
            decide(&me(), &configured(), &answers(&[("b:1", other)])),
            Decision::Refuse(FormationError::ConfigDiffers { .. })
        ));
    }

    #[test]
    fn a_group_of_one_founds_itself() {
        let founded = Decision::Found(Membership::of(vec![member(10, "a:1")]));
        assert_eq!(decide(&me(), &["a:1".to_owned()], &BTreeMap::new()), founded);
    }
}
