//! Commits that concern bulk objects: data to the disk first, then one batch that refers to it.

use super::blocks::Bulk;
use super::chunk::{Crcs, first_dropped, from_block};
use super::object::{Object, State};
use super::probe::Point;
use super::session_order::Turn;
use super::steps::Step;
use crate::error::StoreError;
use crate::group_commit::Batch;
use crate::types::{BLOCK_SIZE, ObjectId, Op};
use parking_lot::MutexGuard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one commit does to one object.
#[derive(Default)]
struct Plan {
    /// The object's writes become durable.
    named: bool,
    /// All blocks from here on are dropped.
    cut: Option<u64>,
    /// The object goes altogether.
    removed: bool,
}

/// Blocks on their way through a commit. Dropping it lets writers at them again, whatever became of the commit.
struct Carried<'a> {
    object: &'a Object,
    chunks: Vec<(u64, Crcs)>,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        let mut state = self.object.state.lock();
        for (index, crcs) in &self.chunks {
            if let Some(chunk) = state.chunks.get_mut(index) {
                chunk.committing &= !crcs.present();
            }
        }
        drop(state);
        self.object.settled.notify_all();
    }
}

impl Bulk {
    /// Commits on this thread, which may block. `turn` is let go once the batch has its place in the queue.
    pub(crate) fn commit(
        &self,
        session: u64,
        ops: Vec<Op>,
        named: &[ObjectId],
        turn: Turn,
    ) -> Result<(), StoreError> {
        self.health.check()?;
        self.fences.check(session)?;
        let plans = plan(&ops, named);
        let objects = plans.keys().map(|id| self.object(*id)).collect::<Result<Vec<_>, _>>()?;
        let work: Vec<(&Arc<Object>, &Plan)> = objects.iter().zip(plans.values()).collect();
        // Ascending, as the map is: commits that share objects cannot wait for each other in a circle.
        let _commits: Vec<_> = work.iter().map(|(object, _)| object.commits.lock()).collect();
        let cut: Vec<_> = work.iter().filter(|(_, plan)| plan.cut.is_some()).collect();
        let _writers: Vec<_> = cut.iter().map(|(object, _)| object.writer.lock()).collect();
        let carried = self.carry(&work);
        self.sync(&carried)?;
        // Readers of what is cut wait, and see it as it was before or as it is after.
        let _io: Vec<_> = cut.iter().map(|(object, _)| object.io.write()).collect();
        let mut steps = Vec::new();
        for Carried { object, chunks } in &carried {
            steps.extend(chunks.iter().map(|(chunk, crcs)| Step::SetCrcs {
                object: object.id,
                chunk: *chunk,
                crcs: Box::new(crcs.clone()),
            }));
        }
        steps.extend(ops.into_iter().map(Step::from));
        let pending = self.group.submit(Batch { session: Some(session), steps });
        drop(turn);
        pending.wait()?;
        self.settle(&work, &carried);
        Ok(())
    }

    /// Takes a picture of what is to be committed of each named object (but for what this very commit cuts), and keeps
    /// writers off those blocks.
    fn carry<'a>(&self, work: &[(&'a Arc<Object>, &Plan)]) -> Vec<Carried<'a>> {
        let named = work.iter().filter(|(_, plan)| plan.named && !plan.removed);
        named
            .map(|(object, plan)| {
                let _writer: Option<MutexGuard<()>> = plan.cut.is_none().then(|| object.writer.lock());
                let mut state = object.state.lock();
                let mut chunks = Vec::new();
                for (index, chunk) in &mut state.chunks {
                    let kept = chunk.dirty & !plan.cut.map_or(0, |first| from_block(*index, first));
                    if kept != 0 {
                        chunk.committing = kept;
                        chunks.push((*index, chunk.crcs.only(kept)));
                    }
                }
                Carried { object, chunks }
            })
            .collect()
    }

    /// Brings the data of the carried objects to the disk. After an error nobody knows what is there.
    fn sync(&self, carried: &[Carried<'_>]) -> Result<(), StoreError> {
        let mut created = Vec::new();
        for Carried { object, .. } in carried {
            // Cleared before the sync: a write meanwhile sets it again.
            let unsynced = std::mem::take(&mut object.state.lock().unsynced);
            if unsynced {
                self.probe(Point::BeforeSync(object.id)).map_err(|e| self.failed_sync(object, &e))?;
                let file = self.file(object).map_err(|e| self.failed_sync(object, &e))?;
                file.sync_data().map_err(|e| self.failed_sync(object, &e))?;
                self.probe(Point::AfterSync(object.id)).map_err(|e| self.failed_sync(object, &e))?;
            }
            if object.state.lock().created {
                created.push(object.id);
            }
        }
        if created.is_empty() {
            return Ok(());
        }
        let synced = self.objects.sync_directories(&created);
        synced.map_err(|e| self.health.fail(format!("cannot sync the directory of new bulk data: {e}")))?;
        for Carried { object, .. } in carried {
            object.state.lock().created = false;
        }
        Ok(())
    }

    fn failed_sync(&self, object: &Object, e: &dyn std::fmt::Display) -> StoreError {
        self.health.fail(format!("cannot sync {}: {e}", self.objects.path(object.id).display()))
    }

    /// The commit is durable: brings memory in line, and gives back the space of what was cut.
    fn settle(&self, work: &[(&Arc<Object>, &Plan)], carried: &[Carried<'_>]) {
        for (object, plan) in work {
            let carried = carried.iter().find(|c| c.object.id == object.id);
            let kept: BTreeMap<u64, u64> = carried
                .iter()
                .flat_map(|c| &c.chunks)
                .map(|(index, crcs)| (*index, crcs.present()))
                .collect();
            for (index, chunk) in &mut object.state.lock().chunks {
                chunk.dropped(plan.cut.map_or(0, |first| from_block(*index, first)));
                chunk.committed(kept.get(index).copied().unwrap_or(0));
            }
            if let Some(first) = plan.cut {
                self.reclaim(object, plan.removed, first);
            }
        }
    }

    /// Cuts the file to what is left of it. Only space is at stake: what fails here is made good at the next start.
    fn reclaim(&self, object: &Object, removed: bool, first: u64) {
        let result = self.probe(Point::BeforeReclaim(object.id)).and_then(|()| {
            let reclaimed = if removed { self.forget(object) } else { self.shrink(object, first) };
            reclaimed.map_err(|e| self.io_error(object, &e))
        });
        if let Err(e) = result {
            tracing::warn!("space of object {:#x} is given back only at the next start: {e}", object.id);
        }
    }

    fn forget(&self, object: &Object) -> std::io::Result<()> {
        *object.state.lock() = State::default();
        self.objects.unlink(object)
    }

    fn shrink(&self, object: &Object, first: u64) -> std::io::Result<()> {
        let Some(file) = self.objects.file(object, false)? else { return Ok(()) };
        let end = first * BLOCK_SIZE;
        if file.metadata()?.len() > end { file.set_len(end) } else { Ok(()) }
    }
}

fn plan(ops: &[Op], named: &[ObjectId]) -> BTreeMap<ObjectId, Plan> {
    let mut plans: BTreeMap<ObjectId, Plan> = BTreeMap::new();
    for id in named.iter().copied().collect::<BTreeSet<_>>() {
        plans.entry(id).or_default().named = true;
    }
    for op in ops {
        match op {
            Op::Truncate { object, size } => {
                let plan = plans.entry(*object).or_default();
                let first = first_dropped(*size);
                plan.cut = Some(plan.cut.map_or(first, |cut| cut.min(first)));
            }
            Op::Remove { object } => {
                let plan = plans.entry(*object).or_default();
                (plan.cut, plan.removed) = (Some(0), true);
            }
            Op::Put { .. } | Op::Delete { .. } | Op::DeletePrefix { .. } => {}
        }
    }
    plans
}
