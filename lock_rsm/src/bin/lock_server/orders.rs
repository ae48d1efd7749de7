//! What an operator has done to a group that runs, or to one that cannot any more.

use std::path::Path;
use std::time::Duration;

use lock_rsm::rsm::admin::{RetireOptions, retire};
use lock_rsm::rsm::alone::Survivor;

/// An error that is printed as it is.
pub type Failure = Box<dyn std::error::Error>;

/// Has a replica leave its group for good and says how it goes.
pub async fn take_out(
    old: &str,
    new: Option<&str>,
    known: &[String],
    timeout: Duration,
) -> Result<(), Failure> {
    let options =
        RetireOptions { old: old.to_owned(), new: new.map(str::to_owned), known: known.to_vec(), timeout };
    let members = retire(&options, |step| println!("{step}")).await?;
    match new {
        Some(new) => println!("{new} has taken the place of {old}"),
        None => println!("{old} has left the group"),
    }
    println!("members {}", members.join(" "));
    Ok(())
}

/// Makes the stopped replica at `me` the only member of its group, after saying what that means. Without `sure` nothing is done.
pub async fn go_on_alone(data: &Path, me: &str, sure: bool) -> Result<(), Failure> {
    let survivor = Survivor::find(data, me).await?;
    let others = survivor.others();
    if others.is_empty() {
        println!("{me} is the only member of its group already");
        return Ok(());
    }
    println!("{me} goes on without {}: they are out of the group for good", others.join(" "));
    match survivor.may_lack() {
        true => println!(
            "what they acknowledged and this replica does not have is lost; it ends at {}: compare with other survivors, and take the one that reaches furthest",
            survivor.last()
        ),
        false => println!("nothing that was acknowledged is lost: in a group of two, both have everything"),
    }
    println!(
        "should one of them still run somewhere, there are two groups, which both give out the same locks"
    );
    if !sure {
        return Err("nothing was changed: to go on, give --force-alone --yes".into());
    }
    survivor.go_on_alone()?;
    println!("{me} is the only member now; start fresh replicas to join it: lock_server {me} NEW");
    Ok(())
}
