//! Tests 0 to 7 of the later labs: who the members are, while servers die and return; nobody uses the service.
//!
//! The labs speak of the first, second, third server and mean the master and its slaves. Here the master is looked for, as
//! a machine under load may have elected another one meanwhile; `all[0]` is the one the labs call the first.

use super::failure::Failure;
use super::group::Group;
use super::scene::{first, with, without};

/// 0: three servers, one after the other.
pub async fn start(group: &mut Group) -> Result<(), Failure> {
    group.start_joining(3).await?;
    group.say_spawned();
    group.finish(&first(3), &[&[0], &[0, 1], &[0, 1, 2]]).await
}

/// Three servers, spawned and told of; the master first.
async fn three(group: &mut Group) -> Result<[usize; 3], Failure> {
    group.start_joining(3).await?;
    group.say_spawned();
    let order = group.master_first(&first(3)).await?;
    Ok([order[0], order[1], order[2]])
}

/// 1 and 2: the third server dies, or the first one.
pub async fn kill_one(group: &mut Group, which: usize) -> Result<(), Failure> {
    let all = first(3);
    let victim = three(group).await?[which];
    group.kill(victim).await?;
    let rest = without(&all, &[victim]);
    group.wait_for_view(&rest).await?;
    group.finish(&rest, &[&[0], &[0, 1], &all, &rest]).await
}

/// 3: a server dies and comes back.
pub async fn kill_and_restart(group: &mut Group) -> Result<(), Failure> {
    let all = first(3);
    let [master, _, third] = three(group).await?;
    group.kill(third).await?;
    let rest = without(&all, &[third]);
    group.wait_for_view(&rest).await?;
    group.start(third, master)?;
    let again = with(&rest, third);
    group.wait_for_view(&again).await?;
    group.finish(&again, &[&[0], &[0, 1], &all, &rest, &again]).await
}

/// 4: of two members one dies; a former member cannot take its place.
pub async fn former_member_cannot_help(group: &mut Group) -> Result<(), Failure> {
    let all = first(3);
    let [master, second, third] = three(group).await?;
    group.kill(third).await?;
    let two = without(&all, &[third]);
    group.wait_for_view(&two).await?;
    group.kill(second).await?;
    group.nothing_happens().await?;
    group.start(third, master)?;
    group.nothing_happens().await?;
    group.kill(third).await?;
    group.start(second, master)?;
    group.wait_for_view(&two).await?;
    group.start(third, master)?;
    let again = with(&two, third);
    group.wait_for_view(&again).await?;
    group.finish(&again, &[&[0], &[0, 1], &all, &two, &again]).await
}

/// 5: the master dies before the change it decided on leaves it. The change never happened.
pub async fn die_before_proposing(group: &mut Group) -> Result<(), Failure> {
    let all = first(3);
    let [_, _, third] = three(group).await?;
    let (dead, others) = die_of_removing(group, &all, third, 3).await?;
    group.call_off(&others).await?;
    group.nothing_happens().await?;
    group.start(third, dead)?;
    let rest = without(&all, &[dead]);
    group.wait_for_view(&rest).await?;
    group.finish(&rest, &[&[0], &[0, 1], &all, &rest]).await
}

/// Kills `victim`; the master that is about to remove it dies of `breakpoint`. Returns that master, and who is left.
async fn die_of_removing(
    group: &mut Group,
    all: &[usize],
    victim: usize,
    breakpoint: u32,
) -> Result<(usize, Vec<usize>), Failure> {
    // Whoever is the master by then: a machine under load may elect another one at any time.
    for &i in all {
        group.arm(i, breakpoint).await?;
    }
    group.kill(victim).await?;
    let left = without(all, &[victim]);
    let dead = group.wait_for_death_of(&left, breakpoint).await?;
    Ok((dead, without(&left, &[dead])))
}

/// 6 and 7: the master dies when a majority has accepted the change it decided on, before it tells anybody. The change must
/// happen all the same; in 7 even if all others die too before they can have done anything about it.
pub async fn die_before_telling(group: &mut Group, others_too: bool) -> Result<(), Failure> {
    let all = first(4);
    group.start_joining(4).await?;
    group.say_spawned();
    let fourth = group.master_first(&all).await?[3];
    let (dead, others) = die_of_removing(group, &all, fourth, 4).await?;
    if others_too {
        for &i in &others {
            group.kill(i).await?;
        }
        for &i in &others {
            group.start(i, dead)?;
        }
    } else {
        group.call_off(&others).await?;
    }
    let accepted = without(&all, &[fourth]);
    group.wait_for_view(&others).await?;
    group.start(fourth, others[0])?;
    let again = with(&others, fourth);
    group.wait_for_view(&again).await?;
    group.finish(&again, &[&[0], &[0, 1], &[0, 1, 2], &all, &accepted, &others, &again]).await
}
