//! What happens to a world of keys: writes, and faults.

use bytes::Bytes;
use groundswell_core::kv::{Change, KvAuthor};

use super::{
    context::{Event, SideId},
    disk::Outcome,
    readers::key_of,
    side::Command,
    world::{LIMITS, World, any_wall},
};
use crate::checkers::Broken;

/// How many keys a world has in which not all can be wanted at once.
const BULK_KEYS: u64 = 2_600;

impl World {
    /// One action, and the next is planned.
    pub(crate) fn act(&mut self) -> Result<(), Broken> {
        if self.actions == 0 {
            return self.last_act();
        }
        self.actions -= 1;
        if self.actions == 0 {
            return self.calm_down();
        }
        let pause = if self.cx.rng.chance(10) { 4_000 } else { 200 };
        self.cx.after(pause, Event::Act);
        let author = if self.cx.rng.chance(50) { KvAuthor::Machine } else { KvAuthor::Manager };
        let id = SideId { doc: self.cx.rng.index(self.sides.len()), author };
        if self.bulk && self.cx.rng.chance(25) {
            return self.power_cut(id.node());
        }
        if self.restores && self.cx.rng.chance(12) {
            return self.back_up_or_restore(id);
        }
        match self.cx.rng.index(100) {
            0..60 => self.write_some(id),
            60..68 => {
                self.cut_link(id.doc);
                Ok(())
            }
            68..75 => self.power_cut(id.node()),
            75..78 => {
                self.part(id.node());
                self.pump_node(id)
            }
            78..84 => {
                let outcome = if self.cx.rng.chance(50) { Outcome::NotDone } else { Outcome::Unknown };
                let count = self.cx.rng.within(1..=3);
                self.nodes[id.node()].fails = Some((outcome, count));
                Ok(())
            }
            84..88 => {
                self.cx.report.clock_jumps += 1;
                self.nodes[id.node()].wall = any_wall(&mut self.cx.rng);
                Ok(())
            }
            88..94 => {
                if self.nodes[id.node()].up {
                    let readers = self.side(id).readers.len();
                    let reader = self.cx.rng.index(readers);
                    self.revive(id, reader);
                }
                Ok(())
            }
            _ => {
                self.dial_again(id);
                Ok(())
            }
        }
    }

    fn write_some(&mut self, id: SideId) -> Result<(), Broken> {
        let is_big = self.bulk && self.cx.rng.chance(30);
        let count = if is_big { BULK_KEYS } else { self.cx.rng.within(1..=4) };
        for number in 0..count {
            let number = if is_big { number } else { self.cx.rng.within(0..=self.keys) };
            self.write(id, number)?;
        }
        Ok(())
    }

    /// One write of a side's own.
    fn write(&mut self, id: SideId, number: u64) -> Result<(), Broken> {
        let one = &self.nodes[id.node()];
        if !one.up || one.parting {
            return Ok(());
        }
        let limit = one.limit as u64;
        let space = self.spaces[self.cx.rng.index(self.spaces.len())].clone();
        let Some(key) = key_of(number) else { return Ok(()) };
        let change = if self.cx.rng.chance(25) {
            Change::Delete
        } else {
            let is_large = self.sizes && self.cx.rng.chance(25);
            let length = if is_large { self.cx.rng.within(8..=limit) } else { 8 };
            let mut value = self.cx.number().to_le_bytes().to_vec();
            value.resize(usize::try_from(length).unwrap_or(8), b'.');
            Change::Put(Bytes::from(value))
        };
        self.ask(id.node(), Command::Write { side: id, space, key, change })
    }

    fn cut_link(&mut self, doc: usize) {
        let open: Vec<u64> =
            self.connections.iter().filter(|(_, one)| one.doc == doc && one.open).map(|(number, _)| *number).collect();
        for connection in open {
            self.cx.report.cuts += 1;
            self.cut(connection, None);
        }
        let longest = if self.cx.rng.chance(30) { 10_000 } else { 300 };
        self.down_until[doc] = self.cx.now + self.cx.rng.within(0..=longest);
    }

    pub(crate) fn power_cut(&mut self, node: usize) -> Result<(), Broken> {
        self.end(node, true)?;
        self.change_limit(node);
        self.cx.after(3_000, Event::NodeUp { node });
        Ok(())
    }

    /// A node starts again with another limit, now and then.
    fn change_limit(&mut self, node: usize) {
        if self.sizes && !self.nodes[node].up && self.cx.rng.chance(30) {
            let limit = LIMITS[self.cx.rng.index(LIMITS.len())];
            self.set_limit(node, limit);
        }
    }

    fn set_limit(&mut self, node: usize, limit: usize) {
        self.cx.report.limit_changes += u64::from(self.nodes[node].limit != limit);
        self.nodes[node].limit = limit;
        for id in self.sides_of(node) {
            self.truth.limited(id, limit);
        }
    }

    /// A node shuts down: what it holds is sent first, within a time.
    fn part(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        if !one.up || one.parting {
            return;
        }
        one.parting = true;
        let run = one.run;
        self.cx.report.partings += 1;
        self.cx.note(|| format!("node {node} parts"));
        self.cx.after(2_000, Event::Stop { node, run });
    }

    fn pump_node(&mut self, id: SideId) -> Result<(), Broken> {
        for id in self.sides_of(id.node()) {
            if let Some(connection) = self.side(id).session.as_ref().map(|session| session.connection) {
                self.pump(id, connection)?;
            }
        }
        Ok(())
    }

    /// The time of a parting is over.
    pub(crate) fn stop(&mut self, node: usize, run: u64) -> Result<(), Broken> {
        if self.nodes[node].run == run {
            self.end(node, false)?;
            self.change_limit(node);
            self.cx.after(2_000, Event::NodeUp { node });
        }
        Ok(())
    }

    /// A side dials although it has a session, as one that does not know yet.
    fn dial_again(&mut self, id: SideId) {
        let up = |node: usize| self.nodes[node].up && !self.nodes[node].parting;
        let reached = up(id.node()) && up(id.other().node()) && self.cx.now >= self.down_until[id.doc];
        if reached && self.side(id).dialling.is_none() {
            self.dial_anew(id);
            if self.cx.rng.chance(50) && self.side(id.other()).dialling.is_none() {
                self.dial_anew(id.other());
            }
        }
    }

    /// From now on nothing fails.
    fn calm_down(&mut self) -> Result<(), Broken> {
        self.cx.note(|| "the faults stop".to_owned());
        self.calm = true;
        self.damages = false;
        let same = self.cx.rng.chance(70);
        for node in 0..self.nodes.len() {
            self.nodes[node].fails = None;
            if same && self.nodes[node].limit != LIMITS[2] {
                self.end(node, true)?;
                self.set_limit(node, LIMITS[2]);
            }
            self.cx.after(3_000, Event::NodeUp { node });
        }
        self.cx.after(8_000, Event::Act);
        Ok(())
    }

    /// A last write of each side.
    fn last_act(&mut self) -> Result<(), Broken> {
        let ids: Vec<SideId> = self.sides.iter().flatten().map(|side| side.id).collect();
        for id in ids {
            if self.cx.rng.chance(70) {
                self.write(id, 0)?;
            }
        }
        Ok(())
    }
}
