//! A session between the two sides of a document, driven as the node drives it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use groundswell_core::{
    encoding::decode,
    kv::{
        Delivered, KvAuthor,
        restored::Returned,
        sync::{Heard, KvSync, Step},
        wire::{Held, KvHello, KvMessage, decode_kv_message, encode_kv_frame},
    },
    limits::MAX_KV_WANTS,
    wire::{Extension, FRAME_HEADER_BYTES},
};

use super::{
    KvBug,
    context::{Event, SideId},
    disk::Entry,
    side::{Command, ReadRows, Receiving, Session},
    world::World,
};
use crate::checkers::{Broken, Law};

/// Two connections within this time were dialled by both sides at once.
const BOTH_DIALLED_MS: u64 = 500;

/// The least limit of all, which is expected of a side that was not met.
pub(crate) const USUAL_LIMIT: usize = 32;

impl World {
    pub(crate) fn session(&mut self, id: SideId, connection: u64) -> Option<&mut Session> {
        self.side(id).session.as_mut().filter(|session| session.connection == connection)
    }

    /// A side dials, if it has no session.
    pub(crate) fn dial(&mut self, id: SideId) {
        let (here, there) = (&self.nodes[id.node()], &self.nodes[id.other().node()]);
        if !here.up || here.parting {
            return;
        }
        let reached = there.up && !there.parting && self.cx.now >= self.down_until[id.doc];
        let side = self.side(id);
        if side.session.is_some() || side.dialling.is_some() {
            return;
        }
        if !reached {
            return self.cx.after(2_000, Event::Dial { side: id });
        }
        self.dial_anew(id);
    }

    pub(crate) fn dial_anew(&mut self, id: SideId) {
        let connection = self.connect(id.doc, id.author);
        self.side(id).dialling = Some(connection);
        self.say_hello(id, connection);
    }

    fn say_hello(&mut self, id: SideId, connection: u64) {
        let one = &self.nodes[id.node()];
        let limit = one.limit as u64;
        let (mut held, agrees) = (self.side(id).heads, self.side(id).agrees);
        if agrees && !self.cx.has(KvBug::RestoredHoldsOwn) {
            held.clear(id.author);
        }
        if let Some(one) = self.connections.get_mut(&connection) {
            one.agrees_first[id.author.index()] = agrees;
        }
        let hello = KvHello {
            document: [id.doc as u8; 32],
            wall_ms: self.wall(id.node()),
            held,
            extension: Extension::new(&limit.to_be_bytes()).unwrap_or_default(),
        };
        let mut frame = Vec::new();
        if encode_kv_frame(self.nodes[id.node()].limit, &hello, &mut frame).is_ok() {
            self.send(id, connection, frame, false);
        }
    }

    /// Takes what has arrived on a connection.
    pub(crate) fn receive(&mut self, id: SideId, connection: u64) -> Result<(), Broken> {
        if !self.nodes[id.node()].up {
            return Ok(());
        }
        let (mut entries, mut heard, mut ends) = (Vec::new(), false, false);
        let most = 1 + self.cx.rng.index(if self.bulk { 1_000 } else { 12 });
        while entries.len() < most && !ends {
            let is_greeted = self.connections.get(&connection).is_some_and(|one| one.heard[id.author.index()]);
            match self.session(id, connection) {
                Some(session) if session.receiving.is_some() => return Ok(()),
                None if is_greeted => return Ok(()),
                _ => {}
            }
            let Some(frame) = self.take_frame(id, connection) else { break };
            let body = &frame[FRAME_HEADER_BYTES..];
            if !is_greeted {
                self.greeted(id, connection, body)?;
                continue;
            }
            heard = true;
            ends = self.hear(id, connection, body, &mut entries)?;
        }
        if heard { self.take(id, connection, entries, ends) } else { Ok(()) }
    }

    /// The other side has said hello.
    fn greeted(&mut self, id: SideId, connection: u64, body: &[u8]) -> Result<(), Broken> {
        let hello: KvHello = decode(body).map_err(|error| Law::Protocol.broken(error.to_string()))?;
        let Some(one) = self.connections.get_mut(&connection) else { return Ok(()) };
        one.heard[id.author.index()] = true;
        let held_there = hello.held.of(id.author);
        if self.notices(id, held_there) {
            return self.ask(id.node(), Command::WentBack { side: id, connection, held_there, hello: Some(hello) });
        }
        self.greet(id, connection, &hello)
    }

    /// Goes on with a hello.
    pub(crate) fn greet(&mut self, id: SideId, connection: u64, hello: &KvHello) -> Result<(), Broken> {
        let Some(one) = self.connections.get(&connection) else { return Ok(()) };
        let (dialled_by, is_open) = (one.dialled_by, one.open);
        if dialled_by == id.author {
            self.side(id).dialling = None;
        } else if self.nodes[id.node()].parting {
            self.cut(connection, Some(id.author));
            return Ok(());
        } else {
            self.say_hello(id, connection);
        }
        if is_open { self.begin(id, connection, dialled_by, hello) } else { Ok(()) }
    }

    /// A session takes its place, if another one does not keep it.
    fn begin(&mut self, id: SideId, connection: u64, dialled_by: KvAuthor, hello: &KvHello) -> Result<(), Broken> {
        let now = self.cx.now;
        let agrees_first = self.connections.get(&connection).is_some_and(|one| one.agrees_first[id.author.index()]);
        if self.side(id).agrees && !agrees_first {
            self.cut(connection, Some(id.author));
            return Ok(());
        }
        self.truth.begins(id, self.sides[id.doc][id.author.index()].agrees);
        let takes =
            hello.extension.as_bytes().first_chunk().map_or(USUAL_LIMIT as u64, |limit| u64::from_be_bytes(*limit));
        let takes = usize::try_from(takes).unwrap_or(USUAL_LIMIT);
        // The connection's own hello says it. A connection ends with the run of either of its sides.
        let boot = self.nodes[id.other().node()].boot;
        self.truth.check_held(
            id.other(),
            &self.nodes[id.other().node()].disk,
            hello.held,
            Law::PersistBeforeTransmit,
        )?;
        if !self.cx.has(KvBug::LeftOutNotFound) {
            self.find_left_out(id, takes)?;
        }
        let low = if self.manager_is_low { KvAuthor::Manager } else { KvAuthor::Machine };
        if let Some(old) = &self.side(id).session {
            let is_recent = old.boot == boot && now - old.since < BOTH_DIALLED_MS;
            let (old_connection, old_by) = (old.connection, old.dialled_by);
            let is_open = self.connections.get(&old_connection).is_some_and(|one| one.open);
            if is_recent && is_open && old_by != dialled_by && old_by == low {
                self.cx.report.crossed += 1;
                self.cut(connection, Some(id.author));
                return Ok(());
            }
            self.cx.report.superseded += 1;
            self.end_session(id);
            self.cut(old_connection, Some(id.author));
        }
        self.cx.report.sessions += 1;
        self.cx.note(|| format!("{id:?} begins a session on {connection}, and the other holds {:?}", hello.held));
        let keeps = self.cx.has(KvBug::KeepSession);
        let current = self.cx.has(KvBug::CurrentAtHello);
        let side = self.side(id);
        side.delivered = Delivered { number: id.doc as u64, upto: Some(hello.held.of(id.author)), ..side.delivered };
        side.current = false;
        let sync = side.kept.take().filter(|_| keeps);
        let mut sync = sync.unwrap_or_else(|| KvSync::new(id.author, side.heads, hello.held, now));
        if agrees_first {
            sync.agree_first();
        }
        side.session = Some(Session {
            connection,
            dialled_by,
            boot,
            since: now,
            sync,
            takes,
            hello: hello.held,
            receiving: None,
            reading: None,
            noting: false,
            returned: agrees_first.then(Returned::default),
            finished: false,
            open_wants: 0,
            sent: BTreeSet::new(),
            came: BTreeSet::new(),
            marked: Held::default(),
            wanted: BTreeMap::new(),
            acked: Held::default(),
            caught_up: false,
            late: Vec::new(),
        });
        self.tell_left_out(id)?;
        if current {
            self.is_current(id, connection)?;
        }
        if id.author == KvAuthor::Manager {
            self.cx.after(3_000, Event::Reconcile { doc: id.doc, connection });
        }
        self.cx.after(5, Event::Pump { side: id, connection });
        Ok(())
    }

    pub(crate) fn end_session(&mut self, id: SideId) {
        let side = self.side(id);
        if let Some(session) = side.session.take() {
            side.kept = Some(session.sync);
            side.current = false;
        }
    }

    /// A side learns that a connection is gone, or closes it.
    pub(crate) fn closed(&mut self, id: SideId, connection: u64) {
        self.cut(connection, Some(id.author));
        let side = self.side(id);
        if side.dialling == Some(connection) {
            side.dialling = None;
        }
        if side.session.as_ref().is_some_and(|session| session.connection == connection) {
            self.end_session(id);
        }
        self.cx.after(500, Event::Dial { side: id });
    }

    /// Hears one message; whether nothing more comes.
    fn hear(&mut self, id: SideId, connection: u64, body: &[u8], entries: &mut Vec<Rc<Entry>>) -> Result<bool, Broken> {
        let limit = self.nodes[id.node()].limit;
        let message = decode_kv_message(limit, body).map_err(|error| Law::Protocol.broken(error.to_string()))?;
        let has_early = self.cx.has(KvBug::HoldOnReceipt);
        let hears_late = self.cx.has(KvBug::EchoReceived);
        let Some(session) = self.session(id, connection) else { return Ok(true) };
        if let KvMessage::UpTo { author, counter } = &message {
            session.marked.raise(*author, *counter);
        }
        match &message {
            KvMessage::Answered { wants } => {
                session.open_wants = session
                    .open_wants
                    .checked_sub(*wants as usize)
                    .ok_or_else(|| Law::Wants.broken("more wants are answered than were said"))?;
            }
            KvMessage::UpTo { author, counter } if has_early => {
                let (author, counter) = (*author, *counter);
                self.side(id).heads.raise(author, counter);
            }
            KvMessage::UpTo { author, counter } if hears_late => {
                session.late.push((*author, *counter));
                return Ok(false);
            }
            _ => {}
        }
        let Some(session) = self.session(id, connection) else { return Ok(true) };
        match session.sync.handle(message) {
            Heard::Nothing => {}
            Heard::Entry { signed, envelope } => {
                let entry = Rc::new(Entry::from_sent(&signed, &envelope, limit)?);
                session.came.insert((entry.place(), entry.counter));
                entries.push(entry);
            }
            Heard::Delivered(upto) => {
                if self.notices(id, upto) {
                    let command = Command::WentBack { side: id, connection, held_there: upto, hello: None };
                    self.ask(id.node(), command)?;
                    return Ok(true);
                }
                self.delivered(id, upto)?;
            }
            Heard::Released(_) => return Err(Law::Protocol.broken("nobody releases anything here")),
            Heard::ShuttingDown => {
                self.cx.report.partings_heard += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn delivered(&mut self, id: SideId, upto: u64) -> Result<(), Broken> {
        let delivered = &mut self.side(id).delivered;
        if delivered.number == id.doc as u64 && delivered.upto < Some(upto) {
            delivered.upto = Some(upto);
        }
        self.check_delivered(id)
    }

    /// Has entries stored with the marks that came with them.
    fn take(&mut self, id: SideId, connection: u64, entries: Vec<Rc<Entry>>, ends: bool) -> Result<(), Broken> {
        let early = self.cx.has(KvBug::StoredBeforeDurable);
        self.look_over(id, &entries);
        let marks_first = self.cx.has(KvBug::MarkBeforeEntries);
        let Some(session) = self.session(id, connection) else { return Ok(()) };
        let received = session.sync.received();
        let mut commits = VecDeque::new();
        let mut entries = Some(entries);
        for author in KvAuthor::BOTH {
            if let Some(counter) = received.upto(author) {
                let with = if marks_first { None } else { entries.take() };
                commits.push_back((with.unwrap_or_default(), Some((author, counter))));
            }
        }
        for mark in &session.late {
            commits.push_back((entries.take().unwrap_or_default(), Some(*mark)));
        }
        if let Some(rest) = entries.filter(|rest| !rest.is_empty()) {
            commits.push_back((rest, None));
        }
        session.receiving = Some(Receiving { commits, received, ends });
        if early && session.sync.stored(received) {
            self.is_current(id, connection)?;
        }
        self.commit(id, connection)
    }

    /// Has the next part of it stored; once all is, the session goes on.
    fn commit(&mut self, id: SideId, connection: u64) -> Result<(), Broken> {
        let Some(session) = self.session(id, connection) else { return Ok(()) };
        let Some(receiving) = &mut session.receiving else { return Ok(()) };
        if let Some((entries, upto)) = receiving.commits.pop_front() {
            return self.ask(id.node(), Command::Take { side: id, connection, entries, upto });
        }
        let (received, ends) = (receiving.received, receiving.ends);
        session.receiving = None;
        for (author, counter) in std::mem::take(&mut session.late) {
            let _ = session.sync.handle(KvMessage::UpTo { author, counter });
            let _ = session.sync.received();
        }
        if session.sync.stored(received) {
            self.is_current(id, connection)?;
        }
        if ends {
            self.closed(id, connection);
            return Ok(());
        }
        self.cx.at(self.cx.now, Event::Pump { side: id, connection });
        self.cx.at(self.cx.now, Event::Arrive { side: id, connection });
        Ok(())
    }

    /// The keeper has stored a part, or failed.
    pub(crate) fn committed(&mut self, id: SideId, connection: u64, done: bool) -> Result<(), Broken> {
        if self.session(id, connection).is_none() {
            return Ok(());
        }
        if done {
            return self.commit(id, connection);
        }
        self.closed(id, connection);
        Ok(())
    }

    fn is_current(&mut self, id: SideId, connection: u64) -> Result<(), Broken> {
        let Some(session) = self.session(id, connection) else { return Ok(()) };
        let hello = session.hello;
        let side = self.side(id);
        side.current = true;
        self.cx.report.current += 1;
        // Of values that are larger than this side takes the counters are held all the same.
        self.truth.check_held(id, &self.nodes[id.node()].disk, hello, Law::Current)
    }

    /// Does what the state machine says, until it waits.
    pub(crate) fn pump(&mut self, id: SideId, connection: u64) -> Result<(), Broken> {
        loop {
            let (now, heads) = (self.cx.now, self.side(id).heads);
            let has_room = self.has_room(id, connection);
            let parting = self.nodes[id.node()].parting;
            let Some(session) = self.session(id, connection) else { return Ok(()) };
            if session.reading.is_some() || session.noting || session.finished || !has_room {
                return Ok(());
            }
            if parting {
                session.sync.part();
            }
            session.sync.holds(heads, now);
            let step = session.sync.poll(now);
            let stored = &self.nodes[id.node()].disk.documents[id.doc];
            let read = match step {
                Step::Say(message) => {
                    self.say(id, connection, &message)?;
                    continue;
                }
                Step::Entries { author, upto, .. } if author == id.author && !self.is_sent(id, upto) => {
                    return self.wait_for(id, Command::Sent { side: id, connection, counter: upto });
                }
                Step::Entries { author, after, upto } => {
                    let piece = 1 + self.cx.rng.index(if self.bulk { 500 } else { 5 });
                    let entries: Vec<_> = stored.after(author, after, upto).take(piece).cloned().collect();
                    let is_last = entries.len() < piece || self.cx.has(KvBug::MarkPastPiece);
                    let last = entries.last().map(|entry| entry.counter).filter(|_| !is_last);
                    if let Some(session) = self.session(id, connection) {
                        let came = |entry: &&Rc<Entry>| session.came.contains(&(entry.place(), entry.counter));
                        let marked = session.marked.of(author);
                        if let Some(entry) = entries.iter().find(|entry| came(entry) && entry.counter <= marked) {
                            return Err(Law::Rest.broken(format!("{id:?} sends back what came: {entry:?}")));
                        }
                    }
                    ReadRows::Entries { author, entries, last: last.unwrap_or(upto) }
                }
                Step::Answer(wants) => {
                    let found = wants.iter().filter_map(|place| stored.entries.get(place).cloned());
                    let found = found.collect();
                    if let Some(session) = self.session(id, connection) {
                        for place in wants {
                            *session.wanted.entry(place).or_default() += 1;
                        }
                    }
                    ReadRows::Answer(found)
                }
                Step::LookUpMissing { after } => {
                    let limit = if self.cx.has(KvBug::WantWithoutLimit) { usize::MAX } else { MAX_KV_WANTS };
                    let all = stored.missing.keys().filter(|place| after.is_none_or(|after| **place > after));
                    ReadRows::Missing(all.take(limit).copied().collect())
                }
                Step::Finish => {
                    if let Some(session) = self.session(id, connection) {
                        session.finished = true;
                    }
                    return Ok(());
                }
                Step::Agree { upto } => {
                    let returned = self.session(id, connection).and_then(|session| session.returned.take());
                    let returned = returned.unwrap_or_default();
                    return self.wait_for(id, Command::Agree { side: id, connection, upto, returned });
                }
                Step::Wait { until_ms } => {
                    let side = self.side(id);
                    if std::mem::take(&mut side.missing)
                        && let Some(session) = &mut side.session
                    {
                        session.sync.found_missing();
                        continue;
                    }
                    self.check_asked(id)?;
                    if let Some(at) = until_ms {
                        self.cx.at(at.max(now + 1), Event::Pump { side: id, connection });
                    }
                    return Ok(());
                }
            };
            if self.cx.rng.chance(20) {
                self.cx.report.slow_reads += 1;
                if let Some(session) = self.session(id, connection) {
                    session.reading = Some(read);
                }
                self.cx.after(30, Event::ReadDone { side: id, connection });
                return Ok(());
            }
            self.was_read(id, connection, read)?;
        }
    }

    /// That a session which waits has asked for everything that was found missing.
    fn check_asked(&mut self, id: SideId) -> Result<(), Broken> {
        let missing = &self.nodes[id.node()].disk.documents[id.doc].missing;
        let side = &mut self.sides[id.doc][id.author.index()];
        side.unasked.retain(|place| missing.contains_key(place));
        let waits = side.session.as_ref().is_some_and(|session| session.open_wants == 0 && session.receiving.is_none());
        match side.unasked.first().filter(|_| waits) {
            Some(place) => {
                Err(Law::Wants.broken(format!("{id:?} has found {place:?} missing, and does not ask for it")))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn read_done(&mut self, id: SideId, connection: u64) -> Result<(), Broken> {
        if let Some(read) = self.session(id, connection).and_then(|session| session.reading.take()) {
            self.was_read(id, connection, read)?;
            self.pump(id, connection)?;
        }
        Ok(())
    }

    fn was_read(&mut self, id: SideId, connection: u64, read: ReadRows) -> Result<(), Broken> {
        match read {
            ReadRows::Entries { author, mut entries, last } => {
                if self.cx.has(KvBug::SkipEntry) && entries.len() > 1 {
                    entries.pop();
                }
                for entry in &entries {
                    self.send_entry(id, connection, entry)?;
                }
                self.say(id, connection, &KvMessage::UpTo { author, counter: last })?;
                if let Some(session) = self.session(id, connection) {
                    session.sync.entries_sent(author, last);
                }
                if author == id.author && self.cx.has(KvBug::DeliveredWhenSent) {
                    self.delivered(id, last)?;
                }
            }
            ReadRows::Answer(entries) => {
                for entry in &entries {
                    self.send_entry(id, connection, entry)?;
                }
            }
            ReadRows::Missing(missing) => {
                if let Some(session) = self.session(id, connection) {
                    session.sync.want(missing);
                }
            }
        }
        Ok(())
    }

    fn send_entry(&mut self, id: SideId, connection: u64, entry: &Rc<Entry>) -> Result<(), Broken> {
        let Some(takes) = self.session(id, connection).map(|session| session.takes) else { return Ok(()) };
        if entry.value_bytes() > takes && !self.cx.has(KvBug::SendTooLarge) {
            self.cx.report.left_out += 1;
            let tells = entry.author == id.author && !self.cx.has(KvBug::LeaveOutUntold);
            return if tells { self.leave_out(id, entry) } else { Ok(()) };
        }
        let envelope = entry.envelope.encode(usize::MAX).map_err(|error| Law::Protocol.broken(error.to_string()))?;
        self.cx.report.entries_sent += 1;
        let (place, counter) = (entry.place(), entry.counter);
        let Some(session) = self.session(id, connection) else { return Ok(()) };
        let was_wanted = session.wanted.contains_key(&place);
        if !session.sent.insert((place, counter)) && !was_wanted {
            return Err(Law::Rest.broken(format!("{id:?} sends an entry again: {entry:?}")));
        }
        self.say(id, connection, &KvMessage::Entry { signed: entry.signed().into(), envelope: envelope.into() })
    }

    fn say(&mut self, id: SideId, connection: u64, message: &KvMessage<'_>) -> Result<(), Broken> {
        let limit = self.nodes[id.node()].limit;
        let document = id.doc;
        let Some(session) = self.session(id, connection) else { return Ok(()) };
        let mut is_ack = false;
        match message {
            KvMessage::Ack(held) => {
                is_ack = true;
                let before = std::mem::replace(&mut session.acked, *held);
                if before == *held {
                    return Err(Law::Rest.broken(format!("{id:?} acknowledges {held:?} twice")));
                }
                self.cx.report.acks += 1;
                self.truth.check_held(id, &self.nodes[id.node()].disk, *held, Law::PersistBeforeTransmit)?;
            }
            KvMessage::Want { author, key } => {
                let place = (*author, *key);
                session.open_wants += 1;
                let open = session.open_wants;
                self.side(id).unasked.remove(&place);
                self.cx.report.wants += 1;
                self.cx.report.full_wants += u64::from(open == MAX_KV_WANTS);
                if open > MAX_KV_WANTS {
                    return Err(Law::Wants.broken(format!("{open} wants are in flight")));
                }
            }
            KvMessage::CaughtUp if session.caught_up => {
                return Err(Law::Rest.broken("a side catches up twice in a session"));
            }
            KvMessage::CaughtUp => session.caught_up = true,
            _ => {}
        }
        self.cx.note(|| format!("document {document} on {connection}: {} says {}", id.author, name_of(message)));
        let takes = self.session(id, connection).map_or(0, |session| session.takes);
        let mut frame = Vec::new();
        let encoded = encode_kv_frame(limit.max(takes).max(256), message, &mut frame);
        encoded.map_err(|error| Law::Protocol.broken(error.to_string()))?;
        self.send(id, connection, frame, is_ack);
        Ok(())
    }
}

/// A message in a few words.
fn name_of(message: &KvMessage<'_>) -> String {
    match message {
        KvMessage::Entry { envelope, .. } => format!("an entry of {} bytes", envelope.len()),
        other => format!("{other:?}"),
    }
}
