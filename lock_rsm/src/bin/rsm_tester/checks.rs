//! What the replicas must agree on.

use lock_rsm::rsm::ReplicaStatus;

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

/// All of `statuses` are in one view that has the living replicas among its members and one of them as its master, and
/// nobody who does not belong to the group; and all have the same state after the same command.
pub fn agreement(statuses: &[ReplicaStatus], group: &[String]) -> Result<(), String> {
    one_master(statuses)?;
    let view = &statuses[0].view;
    if let Some(missing) = statuses.iter().find(|status| !view.members.contains(&status.address)) {
        return Err(format!("{} is not a member of {view}", missing.address));
    }
    if let Some(stranger) = view.members.iter().find(|member| !group.contains(member)) {
        return Err(format!("{stranger} is a member of {view} and does not belong to the group"));
    }
    let first = &statuses[0];
    for other in statuses {
        if other.state_hash.is_none() || other.viewstamp != first.viewstamp {
            return Err(format!(
                "{} is at {:?}, {} at {:?}",
                first.address, first.viewstamp, other.address, other.viewstamp
            ));
        }
        if other.state_hash != first.state_hash {
            return Err(format!("{} and {} differ after the same command", first.address, other.address));
        }
    }
    Ok(())
}
