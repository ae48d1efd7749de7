//! What a sync acknowledged, or another client has seen, is not lost: a file never shows again what was overwritten before.
//!
//! [`linearizable`](super::linearizable) implies it; this looks at it by itself, with nothing but the order of time.

use crate::linear::Operation;
use crate::stack::model::{Ask, Said, What};
use crate::stack::record::{Broken, Record};

/// Its name.
pub const NAME: &str = "what was synced or seen stays";

/// A write that is known to be durable, and since when.
struct Durable {
    object: u8,
    value: u64,
    began: u64,
    since: u64,
}

/// Checks the whole history.
pub fn verify(record: &Record) -> Result<(), Broken> {
    let history = record.history();
    let operations: Vec<&Operation<Ask, Said>> = history.operations().collect();
    let durable: Vec<Durable> = operations.iter().filter_map(|write| durable(write, &operations)).collect();
    for read in &operations {
        let Some((object, value)) = seen(read) else { continue };
        // The write whose value this is, if it was over before a durable one began.
        let written =
            |op: &&&Operation<Ask, Said>| op.input.object == object && (op.input.what == What::Write(value));
        let over =
            operations.iter().find(written).map_or(Some(0), |op| op.answer.as_ref().map(|answer| answer.at));
        let Some(over) = over else { continue };
        let lost =
            durable.iter().find(|it| it.object == object && it.since < read.invoked && over < it.began);
        if let Some(Durable { value: lost, since, .. }) = lost {
            let at = read.invoked;
            let what = format!(
                "file {object} holds {value:#x} at moment {at}, but {lost:#x}, written later, was durable at {since}"
            );
            return Err(Broken { invariant: NAME, what });
        }
    }
    Ok(())
}

/// What a read saw of a file.
fn seen(op: &Operation<Ask, Said>) -> Option<(u8, u64)> {
    match (op.input.what, &op.answer.as_ref()?.output) {
        (What::Read, Said::Value(value)) => Some((op.input.object, *value)),
        _ => None,
    }
}

fn durable(write: &Operation<Ask, Said>, operations: &[&Operation<Ask, Said>]) -> Option<Durable> {
    let (What::Write(value), Some(done)) = (write.input.what, &write.answer) else { return None };
    let Ask { object, client, .. } = write.input;
    let lost = operations.iter().filter(|op| op.input.client == client);
    let lost = lost.filter(|op| matches!(op.input.what, What::Lose { .. })).map(|op| op.invoked);
    let lost_at = lost.filter(|at| *at > write.invoked).min().unwrap_or(u64::MAX);
    let shows = operations.iter().filter(|op| op.input.object == object);
    let since = shows.filter_map(|op| {
        let answer = op.answer.as_ref()?;
        let synced = op.input.what == What::Sync && op.input.client == client && answer.output == Said::Done;
        let synced = synced && op.invoked > done.at && answer.at < lost_at;
        let seen = op.input.client != client && seen(op) == Some((object, value));
        (synced || seen).then_some(answer.at)
    });
    Some(Durable { object, value, began: write.invoked, since: since.min()? })
}
