//! What the replicas must agree on.

use lock_rsm::rsm::{ReplicaStatus, Viewstamp};

/// The address of the master that all of `statuses` follow in one view.
pub fn one_master(statuses: &[ReplicaStatus]) -> Result<String, String> {
    let first = statuses.first().ok_or("nobody is left")?;
    if let Some(other) = statuses.iter().find(|status| status.view != first.view) {
        return Err(format!("{} is in {}, {} in {}", first.address, first.view, other.address, other.view));
    }
    let master = first.view.master.clone().ok_or_else(|| format!("{} has no master", first.view))?;
    let masters: Vec<&str> =
        statuses.iter().filter(|status| status.role == "master").map(|status| &*status.address).collect();
    if masters != [master.as_str()] {
        return Err(format!("{} is led by {master}, but masters are: {}", first.view, masters.join(" ")));
    }
    Ok(master)
}

/// All of `statuses`, which are those of `members`, are in one view of exactly these members, in this order.
pub fn one_view(statuses: &[ReplicaStatus], members: &[String]) -> Result<(), String> {
    one_master(statuses)?;
    let view = &statuses[0].view;
    if view.members == members { Ok(()) } else { Err(format!("the view is {view}")) }
}

/// Besides, all have the same state after the same command; its stamp.
pub fn agreement(statuses: &[ReplicaStatus], members: &[String]) -> Result<Viewstamp, String> {
    one_view(statuses, members)?;
    let first = &statuses[0];
    for other in statuses {
        if other.state_hash.is_none() || other.viewstamp != first.viewstamp {
            let (one, two) = (first.viewstamp, other.viewstamp);
            return Err(format!("{} is at {one}, {} at {two}", first.address, other.address));
        }
        if other.state_hash != first.state_hash {
            return Err(format!("{} and {} differ after the same command", first.address, other.address));
        }
    }
    Ok(first.viewstamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_rsm::rsm::View;

    fn statuses() -> [ReplicaStatus; 2] {
        ["a:1", "b:2"].map(|address| ReplicaStatus {
            address: address.into(),
            role: if address == "a:1" { "master" } else { "slave" }.into(),
            view: View { number: 3, members: vec!["a:1".into(), "b:2".into()], master: Some("a:1".into()) },
            viewstamp: Viewstamp { view: 3, seq: 9 },
            state_hash: Some(5),
            ..ReplicaStatus::default()
        })
    }

    fn members(list: &[&str]) -> Vec<String> {
        list.iter().map(|&member| member.to_owned()).collect()
    }

    #[test]
    fn agreement_is_recognised_and_every_difference_noticed() {
        let all = members(&["a:1", "b:2"]);
        assert_eq!(agreement(&statuses(), &all), Ok(Viewstamp { view: 3, seq: 9 }));
        let changes: [fn(&mut ReplicaStatus); 6] = [
            |status| status.view.number = 4,
            |status| status.view.master = None,
            |status| status.role = "master".into(),
            |status| status.viewstamp.seq = 8,
            |status| status.state_hash = Some(6),
            |status| status.state_hash = None,
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut statuses = statuses();
            change(&mut statuses[1]);
            assert!(agreement(&statuses, &all).is_err(), "change {i}");
        }
    }

    #[test]
    fn members_and_their_order_count() {
        for other in [&["b:2", "a:1"][..], &["a:1"], &["a:1", "b:2", "c:3"], &["a:1", "c:3"]] {
            assert!(one_view(&statuses(), &members(other)).is_err(), "{other:?}");
        }
    }
}
