//! What holds in a world of pairs once nothing fails any more, and what people do about the rest.

use super::{
    link::{At, Connection},
    world::{CALM, Event, MANAGERS, World},
};
use crate::checkers::{Broken, Law};

/// How often people look for pairs that a restored backup has parted.
const MENDING_ROUNDS: u64 = 4;

impl World {
    /// Looks at the world while nothing fails. True at its end.
    pub(super) fn settled(&mut self, round: u64) -> Result<bool, Broken> {
        self.check_told()?;
        if round < MENDING_ROUNDS {
            self.mend();
            self.queue.push(self.now + CALM, Event::Settled { round: round + 1 });
            return Ok(false);
        }
        self.check_agreed()?;
        Ok(true)
    }

    /// Nobody shares a document with one who has given it up, and knows that.
    fn check_told(&self) -> Result<(), Broken> {
        for (node, one) in self.nodes.iter().enumerate() {
            for (number, peer) in &one.disk.given_up {
                let other = &self.nodes[*peer];
                let believes = other.disk.pairs().contains(&(node, *number));
                // One of them went back to this document, and the other had forgotten it for a later one, or has told it
                // already. The one that believes asks by itself, if it can.
                let is_restored = one.restored || other.restored;
                let asks = self.silent != Some(other.role) && !one.disk.forgotten.contains(number);
                let is_excused = is_restored && !asks;
                if believes && !is_excused {
                    let what = format!("{peer} still shares document {number} with {node}, which has given it up");
                    return Err(Law::Pairing.broken(what));
                }
            }
        }
        Ok(())
    }

    /// People see that a side does not know the other, and claim again, or end the pairing.
    fn mend(&mut self) {
        for manager in 0..MANAGERS {
            for machine in MANAGERS..self.nodes.len() {
                let own = self.nodes[machine].disk.own;
                let number = own.map(|own| own.number);
                let is_its = own.is_some_and(|own| own.standing.peer() == Some(manager));
                let has = self.nodes[manager].disk.pairs().into_iter().find(|(with, _)| *with == machine);
                match has.map(|(_, number)| number) {
                    Some(has) if is_its && number == Some(has) => {}
                    Some(_) if own.is_some_and(|own| own.standing.peer().is_none()) => {
                        self.report.mended += 1;
                        self.connect(manager, machine, At::Claiming);
                    }
                    Some(_) => {
                        self.report.mended += 1;
                        self.ask_release(manager, machine);
                    }
                    None if is_its => {
                        self.report.mended += 1;
                        self.ask_release(machine, manager);
                    }
                    None => {}
                }
            }
        }
    }

    /// At the end both sides of each pair have it, and a session.
    fn check_agreed(&self) -> Result<(), Broken> {
        for (node, one) in self.nodes.iter().enumerate() {
            for (peer, number) in one.disk.pairs() {
                if !self.nodes[peer].disk.pairs().contains(&(node, number)) {
                    return Err(
                        Law::Convergence.broken(format!("{node} shares document {number} with {peer}, which does not"))
                    );
                }
                let is_session = |one: &Connection| {
                    one.nodes.contains(&node) && one.nodes.contains(&peer) && one.at == [At::Session(number); 2]
                };
                if !self.connections.values().any(is_session) {
                    return Err(Law::Convergence
                        .broken(format!("{node} and {peer} share document {number}, and have no session")));
                }
            }
        }
        Ok(())
    }
}
