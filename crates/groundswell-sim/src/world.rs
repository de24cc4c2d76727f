//! One world: two publishers, their subscribers, and everything that goes wrong between them.

use std::num::NonZeroU64;

use groundswell_core::{Access, Frequency, Rule};

use crate::{
    Options, Report,
    bug::Bug,
    checkers::{Broken, Law},
    context::{Context, Event},
    lake::Wave,
    link::{Link, Side},
    publisher::Publisher,
    rng::Rng,
    subscriber::Subscriber,
    whole::Origin,
};

/// More events than any world needs that comes to an end.
const MANY_EVENTS: u64 = 400_000;
/// How many waves are given after the faults have stopped.
const LAST_WAVES: u32 = 3;
/// Each has one path, so that the history of one can go on at the other.
const PUBLISHERS: usize = 2;

pub(crate) struct World {
    cx: Context,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    links: Vec<Link>,
    /// How many actions are left before the faults stop.
    actions: u64,
    /// What is left to be given to each path after that; `None` before.
    last_waves: Option<Vec<u32>>,
    /// One subscriber's lake is not deterministic.
    lawless: bool,
    /// Waves are large, so that rocks have several chunks, and links are slow, so that these
    /// take a while.
    large: bool,
}

fn any_rule(rng: &mut Rng) -> Rule {
    let frequency = match rng.index(6) {
        0 => Frequency::Automatic,
        1 => Frequency::Never,
        _ => every(rng.within(1..=20)),
    };
    let horizon = match rng.index(5) {
        0 => None,
        1 => Some(1_000),
        _ => Some(rng.within(0..=40)),
    };
    Rule { frequency, horizon }
}

fn every(waves: u64) -> Frequency {
    Frequency::Every(NonZeroU64::new(waves).unwrap_or(NonZeroU64::MIN))
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let mut cx = Context::new(Rng::new(seed), options.bug, options.trace);
        let lawless = cx.rng.chance(10) || options.bug == Some(Bug::IgnoreDigest);
        let large = cx.rng.chance(12);
        let count = 1 + cx.rng.index(4);
        let mut publishers = Vec::new();
        for number in 0..PUBLISHERS {
            let access = if cx.rng.chance(75) { Access::Public } else { Access::secret() };
            cx.checkers.add_path(access.clone(), count);
            publishers.push(Publisher::new(number, any_rule(&mut cx.rng), access));
        }
        let links = (0..count).map(|number| Link::new(number, large, &mut cx.rng)).collect();
        let mut subscribers = Vec::new();
        for number in 0..count {
            let (rule, readers) = (any_rule(&mut cx.rng), 1 + cx.rng.index(2));
            let source = if number == 0 { 0 } else { cx.rng.index(PUBLISHERS) };
            let mut subscriber = Subscriber::new(number, source, rule, readers, &mut cx);
            subscriber.other_lake = cx.rng.chance(12);
            subscribers.push(subscriber);
        }
        if lawless {
            subscribers[0].set_faulty();
        }
        let actions = cx.rng.within(40..=250);
        Self { cx, publishers, subscribers, links, actions, last_waves: None, lawless, large }
    }

    /// Lets the world run to its end.
    pub(crate) fn run(mut self) -> (Result<Report, Broken>, u64, Vec<String>) {
        let result = self.run_to_end();
        let (report, now) = (self.cx.report.clone(), self.cx.now);
        (result.map(|()| report), now, self.cx.into_trace())
    }

    fn run_to_end(&mut self) -> Result<(), Broken> {
        for publisher in 0..self.publishers.len() {
            self.cx.at(0, Event::PublisherUp { publisher });
        }
        for subscriber in 0..self.subscribers.len() {
            self.cx.after(10_000, Event::SubscriberUp { subscriber });
        }
        self.cx.after(5_000, Event::Act);
        while let Some(event) = self.cx.next_event() {
            self.happens(event)?;
            if self.cx.report.events > MANY_EVENTS {
                return Err(Law::Convergence.broken("the world does not come to rest"));
            }
        }
        self.subscribers.iter().try_for_each(|subscriber| subscriber.check_converged(&self.cx))
    }

    fn happens(&mut self, event: Event) -> Result<(), Broken> {
        let cx = &mut self.cx;
        match event {
            Event::Act if self.last_waves.is_some() => self.finish(),
            Event::Act => self.act(),
            Event::Arrive { subscriber, connection, to: Side::Publisher } => {
                let publisher = &mut self.publishers[self.subscribers[subscriber].source];
                publisher.accept(cx, &mut self.links[subscriber], subscriber, connection)
            }
            Event::Arrive { subscriber, to: Side::Subscriber, .. } => {
                self.subscribers[subscriber].receive(cx, &mut self.links[subscriber])
            }
            Event::Closed { subscriber, connection, side: Side::Publisher } => {
                self.publishers[self.subscribers[subscriber].source].closed(subscriber, connection);
                Ok(())
            }
            Event::Closed { subscriber, connection, side: Side::Subscriber } => {
                self.subscribers[subscriber].closed(cx, &mut self.links[subscriber], connection);
                Ok(())
            }
            Event::Connect { subscriber } => {
                let up = self.publishers[self.subscribers[subscriber].source].is_up();
                self.subscribers[subscriber].connect(cx, &mut self.links[subscriber], up)
            }
            Event::PublisherUp { publisher } => self.publishers[publisher].start(cx),
            Event::PublisherSynced { publisher, run } => self.publishers[publisher].synced(cx, run),
            Event::Pump { subscriber, connection } => {
                let publisher = &mut self.publishers[self.subscribers[subscriber].source];
                publisher.pump(cx, &mut self.links[subscriber], subscriber, connection)
            }
            Event::SubscriberUp { subscriber } => self.subscribers[subscriber].start(cx),
            Event::SubscriberSynced { subscriber, run } => {
                self.subscribers[subscriber].synced(cx, &mut self.links[subscriber], run)
            }
            Event::Read { subscriber, run, reader } => self.subscribers[subscriber].read(cx, run, reader),
        }
    }

    /// One action, and the next is planned.
    fn act(&mut self) -> Result<(), Broken> {
        self.actions -= 1;
        let pause = if self.cx.rng.chance(10) { 50_000 } else { 3_000 };
        self.cx.after(pause, Event::Act);
        if self.actions == 0 {
            return self.stop_faults();
        }
        let subscriber = self.cx.rng.index(self.subscribers.len());
        let publisher = usize::from(self.cx.rng.chance(35));
        match self.cx.rng.index(120) {
            0..55 => self.give(publisher),
            55..60 => self.change_rule(publisher),
            60..63 => self.wipe(publisher),
            63..66 => self.change_replica(subscriber),
            66..74 => self.cut(subscriber),
            74..80 => self.crash_publisher(publisher),
            80..85 => self.crash_subscriber(subscriber),
            85..87 => {
                self.publishers[publisher].fails_next = true;
                Ok(())
            }
            87..89 => {
                self.subscribers[subscriber].fails_next = true;
                Ok(())
            }
            89..92 => {
                self.publishers[publisher].make_backup();
                Ok(())
            }
            92..94 => self.restore_known(publisher),
            94..96 => self.restore_unnoticed(publisher),
            96 => self.lose_disk(publisher),
            97 => self.quit(subscriber),
            98..106 => self.change_access(publisher),
            106..110 => self.kill(publisher),
            110..114 => self.fork(publisher),
            114..118 => self.copy(subscriber, publisher),
            _ => self.update(subscriber),
        }
    }

    fn waves(&mut self) -> Vec<Wave> {
        let rng = &mut self.cx.rng;
        // Now and then so many that even the slack is exceeded.
        let count = if rng.chance(3) { rng.within(200..=300) } else { rng.within(1..=6) };
        let large = self.large && count < 10;
        let wave = |rng: &mut Rng| {
            let length = if large && rng.chance(50) { rng.within(1..=40_000) } else { rng.within(0..=12) };
            let letter = char::from(b'a' + u8::try_from(rng.next() % 26).unwrap_or(0));
            let text = std::iter::repeat_n(letter, usize::try_from(length).unwrap_or(0)).collect();
            Wave { clear: rng.chance(2), text }
        };
        (0..count).map(|_| wave(rng)).collect()
    }

    fn give(&mut self, publisher: usize) -> Result<(), Broken> {
        let begins = !self.publishers[publisher].is_open();
        if !self.publishers[publisher].takes_waves(&self.cx) || (begins && self.cx.rng.chance(60)) {
            return Ok(());
        }
        let (waves, all_or_none) = (self.waves(), self.cx.rng.chance(20));
        self.publishers[publisher].give(&mut self.cx, &waves, all_or_none)
    }

    fn change_rule(&mut self, publisher: usize) -> Result<(), Broken> {
        let rule = any_rule(&mut self.cx.rng);
        let publisher = &mut self.publishers[publisher];
        if publisher.is_ready() { publisher.set_rule(&mut self.cx, rule) } else { Ok(()) }
    }

    fn wipe(&mut self, publisher: usize) -> Result<(), Broken> {
        let publisher = &mut self.publishers[publisher];
        if publisher.is_ready() { publisher.wipe(&mut self.cx) } else { Ok(()) }
    }

    /// A publisher that can change its path as a whole now. While a reader has to tell it of
    /// a restored backup, nothing may keep that reader from it.
    fn free(&mut self, publisher: usize) -> Option<&mut Publisher> {
        Some(&mut self.publishers[publisher]).filter(|publisher| publisher.is_ready() && !publisher.is_quiet())
    }

    fn kill(&mut self, publisher: usize) -> Result<(), Broken> {
        if self.free(publisher).is_some() {
            self.publishers[publisher].kill(&mut self.cx);
        }
        Ok(())
    }

    fn change_access(&mut self, publisher: usize) -> Result<(), Broken> {
        let count = self.subscribers.len();
        let change = |access: Access<usize>, cx: &mut Context| {
            let some = 1 + cx.rng.next() % 15;
            let some = (0..count).filter(|number| some >> number & 1 == 1);
            match cx.rng.index(10) {
                0..3 => Some(Access::Public),
                3 => Some(Access::secret()),
                4..7 => access.allow(some).ok(),
                // Of a public path no one can be blocked.
                _ => access.block(some).ok(),
            }
        };
        if self.free(publisher).is_some() {
            self.publishers[publisher].change_access(&mut self.cx, change);
        }
        Ok(())
    }

    /// The other publisher's path goes on at this one too, if there is none.
    fn fork(&mut self, publisher: usize) -> Result<(), Broken> {
        let origin = self.publishers[1 - publisher].origin();
        self.replicate(publisher, origin)
    }

    fn copy(&mut self, subscriber: usize, publisher: usize) -> Result<(), Broken> {
        let origin = self.subscribers[subscriber].origin();
        self.replicate(publisher, origin)
    }

    fn replicate(&mut self, publisher: usize, origin: Option<Origin>) -> Result<(), Broken> {
        let is_free = self.free(publisher).is_some_and(|publisher| !publisher.is_open());
        if let Some(origin) = origin.filter(|_| is_free) {
            self.publishers[publisher].replicate(&mut self.cx, origin);
        }
        Ok(())
    }

    fn change_replica(&mut self, subscriber: usize) -> Result<(), Broken> {
        if self.cx.rng.chance(30) {
            return self.subscribers[subscriber].wipe(&mut self.cx);
        }
        let rule = any_rule(&mut self.cx.rng);
        self.subscribers[subscriber].set_rule(&mut self.cx, rule);
        Ok(())
    }

    /// A subscriber learns the lake of its source.
    fn update(&mut self, subscriber: usize) -> Result<(), Broken> {
        if !std::mem::take(&mut self.subscribers[subscriber].other_lake) {
            return Ok(());
        }
        self.cx.report.updates += 1;
        self.crash_subscriber(subscriber)
    }

    fn cut(&mut self, subscriber: usize) -> Result<(), Broken> {
        let link = &mut self.links[subscriber];
        self.cx.report.cuts += u64::from(link.connection().is_some());
        link.cut(&mut self.cx);
        let longest = if self.cx.rng.chance(30) { 300_000 } else { 10_000 };
        link.down_until = self.cx.now + self.cx.rng.within(0..=longest);
        Ok(())
    }

    /// The process ends; whether its last transaction got to the disk is open.
    fn end_publisher(&mut self, publisher: usize) -> Result<(), Broken> {
        self.cx.report.crashes += u64::from(self.publishers[publisher].is_up());
        let survives = self.cx.rng.chance(50);
        self.publishers[publisher].crash(&mut self.cx, survives)?;
        for (subscriber, link) in self.subscribers.iter().zip(&mut self.links) {
            if subscriber.source == publisher {
                link.cut(&mut self.cx);
            }
        }
        self.cx.after(20_000, Event::PublisherUp { publisher });
        Ok(())
    }

    fn crash_publisher(&mut self, publisher: usize) -> Result<(), Broken> {
        if self.cx.rng.chance(30) {
            self.publishers[publisher].say_goodbye(&mut self.cx, &mut self.links)?;
            for (subscriber, link) in self.subscribers.iter_mut().zip(&mut self.links) {
                if subscriber.source == publisher {
                    subscriber.receive(&mut self.cx, link)?;
                }
            }
        }
        self.end_publisher(publisher)
    }

    fn crash_subscriber(&mut self, subscriber: usize) -> Result<(), Broken> {
        self.cx.report.crashes += u64::from(self.subscribers[subscriber].is_up());
        let survives = self.cx.rng.chance(50);
        self.subscribers[subscriber].crash(&mut self.cx, survives);
        self.links[subscriber].cut(&mut self.cx);
        self.cx.after(20_000, Event::SubscriberUp { subscriber });
        Ok(())
    }

    fn restore_known(&mut self, publisher: usize) -> Result<(), Broken> {
        if self.publishers[publisher].backup().is_none() {
            return Ok(());
        }
        self.end_publisher(publisher)?;
        self.cx.report.restores += 1;
        self.cx.note(|| format!("a backup of publisher {publisher} is restored, and known to be"));
        self.publishers[publisher].restore_backup(&mut self.cx, true)
    }

    /// A backup comes back, and only a reader that has seen more can tell. A world in which no one
    /// has seen more, or may read what came back, in which readers have gone on to another epoch, or in
    /// which a replica asks without its cursor, would not find out: there the word of who restores is
    /// needed.
    fn restore_unnoticed(&mut self, publisher: usize) -> Result<(), Broken> {
        let Some(rows) = self.publishers[publisher].backup() else { return Ok(()) };
        let Some(backup) = rows.cursor() else { return Ok(()) };
        let one_epoch = self.cx.checkers.latest(publisher) == Some(backup.epoch);
        let is_ahead = |(number, subscriber): (usize, &Subscriber)| {
            let seen = subscriber.durable().filter(|_| subscriber.source == publisher);
            let may_read = self.publishers[publisher].lets_in(rows, number);
            may_read && seen.is_some_and(|seen| seen.epoch == backup.epoch && seen.aeon > backup.aeon)
        };
        let ahead = self.subscribers.iter().enumerate().any(is_ahead);
        if !one_epoch || !ahead || self.lawless || self.publishers[publisher].is_quiet() {
            return Ok(());
        }
        self.end_publisher(publisher)?;
        self.cx.report.unnoticed_restores += 1;
        self.cx.note(|| format!("a backup of publisher {publisher} at {backup} is restored, and no one says so"));
        self.publishers[publisher].restore_backup(&mut self.cx, false)
    }

    fn lose_disk(&mut self, publisher: usize) -> Result<(), Broken> {
        self.end_publisher(publisher)?;
        self.cx.report.lost_disks += 1;
        self.cx.note(|| format!("publisher {publisher} loses its disk"));
        self.publishers[publisher].lose_disk(&mut self.cx)
    }

    fn quit(&mut self, subscriber: usize) -> Result<(), Broken> {
        // The reader by which a publisher learns of its restored backup stays.
        if !self.publishers[self.subscribers[subscriber].source].is_quiet() {
            self.cx.report.quits += 1;
            self.subscribers[subscriber].quit(&mut self.cx, &mut self.links[subscriber]);
        }
        Ok(())
    }

    /// From now on nothing fails, and every lake is lawful.
    fn stop_faults(&mut self) -> Result<(), Broken> {
        self.cx.note(|| "the faults stop".to_owned());
        for subscriber in 0..self.subscribers.len() {
            self.update(subscriber)?;
            self.subscribers[subscriber].fails_next = false;
            self.subscribers[subscriber].faulty = false;
        }
        let mut last = Vec::new();
        for publisher in &mut self.publishers {
            publisher.fails_next = false;
            // A path that has ended, or never began, may stay so.
            let published = self.cx.checkers.head(publisher.number).is_some();
            let gives = published || self.cx.rng.chance(50);
            last.push(if gives { LAST_WAVES } else { 0 });
        }
        self.last_waves = Some(last);
        Ok(())
    }

    /// A few more waves, as soon as they can be given. Where a lake was lawless, each with a rock,
    /// so that its digest tells.
    fn finish(&mut self) -> Result<(), Broken> {
        let Some(mut last) = self.last_waves.take() else { return Ok(()) };
        for (left, publisher) in last.iter_mut().zip(&mut self.publishers) {
            if *left == 0 || !publisher.takes_waves(&self.cx) {
                continue;
            }
            if !publisher.is_open() {
                publisher.open(&mut self.cx)?;
                continue;
            }
            if self.lawless && *left == LAST_WAVES {
                publisher.set_rule(&mut self.cx, Rule { frequency: every(1), horizon: Some(10) })?;
            } else {
                let wave = Wave { clear: true, text: format!("the last but {left}") };
                publisher.give(&mut self.cx, &[wave], false)?;
            }
            *left -= 1;
        }
        if last.iter().any(|left| *left > 0) {
            self.cx.after(20_000, Event::Act);
        }
        self.last_waves = Some(last);
        Ok(())
    }
}
