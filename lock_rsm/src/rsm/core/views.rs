//! Which views this replica adopts, and when.
//!
//! A view is adopted when its master is known and the program has got the first entry of it: the master's state then
//! includes everything committed in earlier views. Within a view, a change of its members is adopted when the program has
//! got the entry that says so, which is when it is committed.

use super::super::types::View;
use super::effects::Task;
use super::replica::ReplicaCore;
use super::waiting::{Refused, Ticket};
use crate::consensus::{Entry, Membership, Payload, ViewInfo, Viewstamp};

/// What was told to the program about views.
#[derive(Debug, Default)]
pub(super) struct Adoption {
    /// The view as consensus has it.
    info: Option<ViewInfo>,
    /// The last one adopted.
    adopted: View,
    /// Whether the program was told that this replica leads.
    leads: bool,
}

impl<T: Ticket> ReplicaCore<T> {
    /// Consensus has another view number, master or membership.
    pub(super) fn view_changed(&mut self, info: ViewInfo) {
        let leads = info.master == Some(self.core.id());
        let gone = self.waiting.lock().give_up_except(leads.then_some(info.number));
        self.effects.refused.extend(gone.into_iter().map(|ticket| (ticket, Refused::NotMaster)));
        let goes_on = leads && self.adoption.adopted.number == info.number;
        if self.adoption.leads && !goes_on {
            self.adoption.leads = false;
            self.effects.tasks.push(Task::View(View { master: None, ..View::of(&info) }, false));
        }
        self.effects.view = Some(info.clone());
        self.adoption.info = Some(info);
        self.adopt();
    }

    /// Hands committed entries to the program, and between them the views that they bring.
    pub(super) fn hand_entries(&mut self, mut entries: Vec<Entry>) {
        while let Some(at) = entries.iter().position(|entry| self.may_bring_a_view(entry)) {
            let rest = entries.split_off(at + 1);
            self.apply(std::mem::replace(&mut entries, rest));
            self.adopt();
        }
        self.apply(entries);
    }

    fn may_bring_a_view(&self, entry: &Entry) -> bool {
        matches!(entry.payload, Payload::Membership(_)) || entry.stamp.view > self.delivered.view
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let Some(last) = entries.last() else { return };
        if let Payload::Membership(membership) = &last.payload {
            self.note_retired(membership);
        }
        self.delivered = last.stamp;
        self.effects.tasks.push(Task::Apply(entries));
    }

    /// This membership is committed.
    pub(super) fn note_retired(&mut self, membership: &Membership) {
        let retired: Vec<_> = membership.retired().collect();
        self.effects.has_left |= retired.contains(&self.core.id());
        self.effects.retired = Some(retired);
    }

    /// Adopts the view if it is due and news.
    pub(super) fn adopt(&mut self) {
        let Viewstamp { view, seq } = self.delivered;
        let Some(info) = self.adoption.info.as_ref().filter(|info| info.number == view) else { return };
        let Some(master) = info.master.and_then(|id| info.membership.get(id)) else { return };
        let Some(meta) = self.core.snapshot_meta(seq) else { return };
        let adopted = View::new(info.number, &meta.membership, Some(master.address.clone()));
        if self.adoption.adopted == adopted {
            return;
        }
        self.adoption.leads = info.master == Some(self.core.id());
        self.adoption.adopted = adopted.clone();
        self.effects.tasks.push(Task::View(adopted, self.adoption.leads));
    }
}
