//! When an armed replica dies or is cut off. Pure: it is told what happens and says what should.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::consensus::{Body, Entry, Message, Payload, ReplicaId, Role, Viewstamp};
use std::collections::BTreeSet;

/// Who something happens to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) me: ReplicaId,
    pub(super) role: Role,
}

/// What is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Die at this breakpoint.
    Die(u32),
    /// Be cut off.
    Cut,
}

/// What is armed, and what has been seen since.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    armed: BTreeSet<u32>,
    partition: bool,
    /// The first command logged here since breakpoint 1 or a partition was armed.
    command: Option<u64>,
    /// The last change of the members that this replica decided on as the master.
    decided: Option<Viewstamp>,
    /// A change of the members, committed under breakpoint 2 and not told to anybody yet.
    untold: Option<Untold>,
}

#[derive(Debug)]
struct Untold {
    seq: u64,
    /// The clock of the first heartbeat that told it.
    told_ms: Option<u64>,
}

impl Breakpoints {
    pub(super) fn arm(&mut self, number: u32) {
        self.armed.insert(number);
    }

    /// Calls off everything but a partition.
    pub(super) fn disarm(&mut self) {
        self.armed.clear();
        self.untold = None;
    }

    pub(super) fn arm_partition(&mut self) {
        self.partition = true;
    }

    pub(super) fn disarm_partition(&mut self) {
        self.partition = false;
    }

    /// These entries are about to be written, and to be sent by a master.
    pub(super) fn logged(&mut self, standing: Standing, entries: &[Entry]) -> Option<Event> {
        let change = entries.iter().rfind(|entry| is_membership(entry));
        if let Some(change) = change.filter(|_| standing.role == Role::Master) {
            if self.armed.contains(&3) {
                return Some(Event::Die(3));
            }
            self.decided = Some(change.stamp);
        }
        if self.command.is_none() && (self.partition || self.armed.contains(&1)) {
            let command = entries.iter().find(|entry| matches!(entry.payload, Payload::Command(_)));
            self.command = command.map(|entry| entry.stamp.seq);
        }
        None
    }

    /// These entries turned out to be committed.
    pub(super) fn committed(&mut self, standing: Standing, entries: &[Entry]) -> Option<Event> {
        let change = entries.iter().rfind(|entry| is_membership(entry))?;
        let leads = standing.role == Role::Master;
        // What a predecessor decided on is not this one's: its death was somebody else's.
        if leads && self.decided == Some(change.stamp) && self.armed.contains(&4) {
            return Some(Event::Die(4));
        }
        let Payload::Membership(membership) = &change.payload else { unreachable!("just looked at") };
        if !self.armed.contains(&2) || !membership.is_voter(standing.me) {
            return None;
        }
        if !leads {
            return Some(Event::Die(2));
        }
        self.untold.get_or_insert(Untold { seq: change.stamp.seq, told_ms: None });
        None
    }

    pub(super) fn sending(&mut self, message: &Message) -> Option<Event> {
        match message.body {
            Body::Appended { matched } => self.acknowledged(matched),
            Body::Heartbeat { committed, sent_ms, .. } => {
                if let Some(untold) = self.untold.as_mut().filter(|untold| untold.seq <= committed) {
                    untold.told_ms.get_or_insert(sent_ms);
                }
                None
            }
            _ => None,
        }
    }

    pub(super) fn received(&mut self, standing: Standing, message: &Message) -> Option<Event> {
        match message.body {
            Body::Appended { matched } if standing.role == Role::Master => self.acknowledged(matched),
            Body::HeartbeatReply { sent_ms, .. } => {
                let told = self.untold.as_ref().and_then(|untold| untold.told_ms);
                told.filter(|&told| sent_ms >= told).map(|_| Event::Die(2))
            }
            _ => None,
        }
    }

    /// A slave, this one or another, has everything up to `seq` on disk and says so.
    fn acknowledged(&mut self, seq: u64) -> Option<Event> {
        self.command.filter(|&command| command <= seq)?;
        if self.armed.contains(&1) {
            return Some(Event::Die(1));
        }
        self.command = None;
        std::mem::take(&mut self.partition).then_some(Event::Cut)
    }
}

fn is_membership(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Membership(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Member, Membership};

    const MASTER: Standing = Standing { me: 1, role: Role::Master };
    const SLAVE: Standing = Standing { me: 2, role: Role::Slave };

    fn entry(seq: u64, payload: Payload) -> Vec<Entry> {
        vec![Entry { stamp: Viewstamp::new(1, seq), payload }]
    }

    fn command(seq: u64) -> Vec<Entry> {
        entry(seq, Payload::Command(b"x".as_slice().into()))
    }

    fn change(seq: u64, ids: &[ReplicaId]) -> Vec<Entry> {
        let member = |&id| Member { id, address: format!("host:{id}"), voter: true };
        entry(seq, Payload::Membership(Membership::of(ids.iter().map(member).collect())))
    }

    fn says(body: Body) -> Message {
        Message { view: 1, body }
    }

    fn appended(matched: u64) -> Message {
        says(Body::Appended { matched })
    }

    fn armed(number: u32) -> Breakpoints {
        let mut breakpoints = Breakpoints::default();
        breakpoints.arm(number);
        breakpoints
    }

    #[test]
    fn nothing_happens_unarmed() {
        let mut quiet = Breakpoints::default();
        assert_eq!(quiet.logged(MASTER, &command(1)), None);
        assert_eq!(quiet.logged(MASTER, &change(2, &[1])), None);
        assert_eq!(quiet.received(MASTER, &appended(2)), None);
        assert_eq!(quiet.committed(MASTER, &change(2, &[1])), None);
        assert_eq!(quiet.sending(&appended(2)), None);
    }

    #[test]
    fn one_waits_for_the_first_acknowledgement_of_a_command() {
        let mut master = armed(1);
        assert_eq!(master.received(MASTER, &appended(4)), None, "there was no command");
        assert_eq!(master.logged(MASTER, &change(5, &[1, 2])), None);
        assert_eq!(master.logged(MASTER, &command(6)), None);
        assert_eq!(master.logged(MASTER, &command(7)), None);
        assert_eq!(master.received(MASTER, &appended(5)), None, "that is the entry before");
        assert_eq!(master.received(MASTER, &appended(6)), Some(Event::Die(1)));

        let mut slave = armed(1);
        assert_eq!(slave.logged(SLAVE, &command(6)), None);
        assert_eq!(slave.sending(&appended(5)), None);
        assert_eq!(slave.sending(&appended(6)), Some(Event::Die(1)));
    }

    #[test]
    fn two_waits_for_a_committed_view_with_this_replica() {
        let mut slave = armed(2);
        assert_eq!(slave.committed(SLAVE, &command(4)), None);
        assert_eq!(slave.committed(SLAVE, &change(5, &[1, 3])), None, "not in it");
        assert_eq!(slave.committed(SLAVE, &change(6, &[1, 2])), Some(Event::Die(2)));
    }

    #[test]
    fn two_lets_a_master_tell_it_first() {
        let heartbeat = |committed, sent_ms| says(Body::Heartbeat { committed, round: 0, sent_ms });
        let reply = |sent_ms| says(Body::HeartbeatReply { round: 0, sent_ms });
        let mut master = armed(2);
        assert_eq!(master.committed(MASTER, &change(6, &[1, 2])), None);
        assert_eq!(master.sending(&heartbeat(5, 100)), None);
        assert_eq!(master.received(MASTER, &reply(100)), None, "it was not told yet");
        assert_eq!(master.sending(&heartbeat(6, 150)), None);
        assert_eq!(master.sending(&heartbeat(6, 200)), None);
        assert_eq!(master.received(MASTER, &reply(100)), None, "an older answer");
        assert_eq!(master.received(MASTER, &reply(150)), Some(Event::Die(2)));
    }

    #[test]
    fn three_comes_before_anything_is_done_and_four_before_anything_is_told() {
        let mut master = armed(3);
        assert_eq!(master.logged(MASTER, &command(5)), None);
        assert_eq!(master.logged(SLAVE, &change(6, &[1, 2])), None, "another's decision");
        assert_eq!(master.logged(MASTER, &change(7, &[1, 2])), Some(Event::Die(3)));

        let mut master = armed(4);
        assert_eq!(master.logged(MASTER, &change(7, &[1, 2])), None);
        assert_eq!(master.committed(MASTER, &command(6)), None);
        assert_eq!(master.committed(MASTER, &change(7, &[1, 2])), Some(Event::Die(4)));

        let mut successor = armed(4);
        assert_eq!(successor.logged(SLAVE, &change(7, &[1, 2])), None);
        assert_eq!(successor.committed(MASTER, &change(7, &[1, 2])), None, "its predecessor's");
    }

    #[test]
    fn what_was_armed_can_be_called_off() {
        let mut master = armed(3);
        master.disarm();
        assert_eq!(master.logged(MASTER, &change(7, &[1, 2])), None);
    }

    #[test]
    fn a_partition_comes_at_the_next_command_and_once() {
        let mut master = Breakpoints::default();
        master.arm_partition();
        assert_eq!(master.received(MASTER, &appended(3)), None);
        master.logged(MASTER, &command(4));
        assert_eq!(master.received(MASTER, &appended(4)), Some(Event::Cut));
        master.logged(MASTER, &command(5));
        assert_eq!(master.received(MASTER, &appended(5)), None);
        master.arm_partition();
        master.disarm_partition();
        master.logged(MASTER, &command(6));
        assert_eq!(master.received(MASTER, &appended(6)), None);
    }
}
