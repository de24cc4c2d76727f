//! One world: a publisher, its subscribers, and everything that goes wrong between them.

use std::num::NonZeroU64;

use groundswell_core::{Frequency, Rule};

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
};

/// More events than any world needs that comes to an end.
const MANY_EVENTS: u64 = 400_000;
/// How many waves are given after the faults have stopped.
const LAST_WAVES: u32 = 3;

pub(crate) struct World {
    cx: Context,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    links: Vec<Link>,
    /// How many actions are left before the faults stop.
    actions: u64,
    /// What is left to be given after that; `None` before.
    last_waves: Option<u32>,
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
        let publisher = Publisher::new(any_rule(&mut cx.rng));
        let count = 1 + cx.rng.index(3);
        let links = (0..count).map(|number| Link::new(number, large, &mut cx.rng)).collect();
        let mut subscribers = Vec::new();
        for number in 0..count {
            let (rule, readers) = (any_rule(&mut cx.rng), 1 + cx.rng.index(2));
            subscribers.push(Subscriber::new(number, rule, readers, &mut cx));
        }
        if lawless {
            subscribers[0].set_faulty();
        }
        let actions = cx.rng.within(40..=250);
        Self { cx, publisher, subscribers, links, actions, last_waves: None, lawless, large }
    }

    /// Lets the world run to its end.
    pub(crate) fn run(mut self) -> (Result<Report, Broken>, u64, Vec<String>) {
        let result = self.run_to_end();
        let (report, now) = (self.cx.report.clone(), self.cx.now);
        (result.map(|()| report), now, self.cx.into_trace())
    }

    fn run_to_end(&mut self) -> Result<(), Broken> {
        self.cx.at(0, Event::PublisherUp);
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
                self.publisher.accept(cx, &mut self.links[subscriber], subscriber, connection)
            }
            Event::Arrive { subscriber, to: Side::Subscriber, .. } => {
                self.subscribers[subscriber].receive(cx, &mut self.links[subscriber])
            }
            Event::Closed { subscriber, connection, side: Side::Publisher } => {
                self.publisher.closed(subscriber, connection);
                Ok(())
            }
            Event::Closed { subscriber, connection, side: Side::Subscriber } => {
                self.subscribers[subscriber].closed(cx, &mut self.links[subscriber], connection);
                Ok(())
            }
            Event::Connect { subscriber } => {
                let up = self.publisher.is_up();
                self.subscribers[subscriber].connect(cx, &mut self.links[subscriber], up)
            }
            Event::PublisherUp => self.publisher.start(cx),
            Event::PublisherSynced { run } => self.publisher.synced(cx, run),
            Event::Pump { subscriber, connection } => {
                self.publisher.pump(cx, &mut self.links[subscriber], subscriber, connection)
            }
            Event::Unblock { subscriber } => self.publisher.block(cx, &mut self.links[subscriber], subscriber, false),
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
            self.stop_faults();
            return Ok(());
        }
        let subscriber = self.cx.rng.index(self.subscribers.len());
        match self.cx.rng.index(100) {
            0..55 => self.give(),
            55..60 => self.change_rule(),
            60..63 => self.wipe(),
            63..66 => {
                let rule = any_rule(&mut self.cx.rng);
                self.subscribers[subscriber].set_rule(&mut self.cx, rule);
                Ok(())
            }
            66..74 => self.cut(subscriber),
            74..80 => self.crash_publisher(),
            80..85 => self.crash_subscriber(subscriber),
            85..87 => {
                self.publisher.fails_next = true;
                Ok(())
            }
            87..89 => {
                self.subscribers[subscriber].fails_next = true;
                Ok(())
            }
            89..92 => {
                self.publisher.make_backup();
                Ok(())
            }
            92..94 => self.restore_known(),
            94..96 => self.restore_unnoticed(),
            96 => self.lose_disk(),
            97 => self.quit(subscriber),
            _ => self.block(subscriber),
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

    fn give(&mut self) -> Result<(), Broken> {
        if !self.publisher.takes_waves(&self.cx) {
            return Ok(());
        }
        let (waves, all_or_none) = (self.waves(), self.cx.rng.chance(20));
        self.publisher.give(&mut self.cx, &waves, all_or_none)
    }

    fn change_rule(&mut self) -> Result<(), Broken> {
        let rule = any_rule(&mut self.cx.rng);
        if self.publisher.is_ready() {
            self.publisher.set_rule(&mut self.cx, rule);
        }
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), Broken> {
        if self.publisher.is_ready() { self.publisher.wipe(&mut self.cx) } else { Ok(()) }
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
    fn end_publisher(&mut self) -> Result<(), Broken> {
        self.cx.report.crashes += u64::from(self.publisher.is_up());
        let survives = self.cx.rng.chance(50);
        self.publisher.crash(&mut self.cx, survives)?;
        self.links.iter_mut().for_each(|link| link.cut(&mut self.cx));
        self.cx.after(20_000, Event::PublisherUp);
        Ok(())
    }

    fn crash_publisher(&mut self) -> Result<(), Broken> {
        if self.cx.rng.chance(30) {
            self.publisher.say_goodbye(&mut self.cx, &mut self.links)?;
            for (subscriber, link) in self.links.iter_mut().enumerate() {
                self.subscribers[subscriber].receive(&mut self.cx, link)?;
            }
        }
        self.end_publisher()
    }

    fn crash_subscriber(&mut self, subscriber: usize) -> Result<(), Broken> {
        self.cx.report.crashes += u64::from(self.subscribers[subscriber].is_up());
        let survives = self.cx.rng.chance(50);
        self.subscribers[subscriber].crash(&mut self.cx, survives);
        self.links[subscriber].cut(&mut self.cx);
        self.cx.after(20_000, Event::SubscriberUp { subscriber });
        Ok(())
    }

    fn restore_known(&mut self) -> Result<(), Broken> {
        if self.publisher.backup().is_none() {
            return Ok(());
        }
        self.end_publisher()?;
        self.cx.report.restores += 1;
        self.cx.note(|| "a backup is restored, and known to be".to_owned());
        self.publisher.restore_backup(&mut self.cx, true)
    }

    /// A backup comes back, and only a reader that has seen more can tell. A world in which no one
    /// has seen more, in which readers have gone on to another epoch, or in which a replica asks
    /// without its cursor, would not find out: there the word of who restores is needed.
    fn restore_unnoticed(&mut self) -> Result<(), Broken> {
        let Some(backup) = self.publisher.backup() else { return Ok(()) };
        let one_epoch = self.cx.checkers.latest() == Some(backup.epoch);
        let durable = |subscriber: &Subscriber| subscriber.durable();
        let ahead = self.subscribers.iter().filter_map(durable);
        let ahead = ahead.filter(|seen| seen.epoch == backup.epoch && seen.aeon > backup.aeon).count();
        if !one_epoch || ahead == 0 || self.lawless || self.publisher.is_quiet() {
            return Ok(());
        }
        self.end_publisher()?;
        self.cx.report.unnoticed_restores += 1;
        self.cx.note(|| format!("a backup at {backup} is restored, and no one says so"));
        self.publisher.restore_backup(&mut self.cx, false)
    }

    fn lose_disk(&mut self) -> Result<(), Broken> {
        self.end_publisher()?;
        self.cx.report.lost_disks += 1;
        self.publisher.lose_disk();
        Ok(())
    }

    fn quit(&mut self, subscriber: usize) -> Result<(), Broken> {
        // The reader by which the publisher learns of its restored backup stays.
        if !self.publisher.is_quiet() {
            self.cx.report.quits += 1;
            self.subscribers[subscriber].quit(&mut self.cx, &mut self.links[subscriber]);
        }
        Ok(())
    }

    fn block(&mut self, subscriber: usize) -> Result<(), Broken> {
        self.cx.after(30_000, Event::Unblock { subscriber });
        self.publisher.block(&mut self.cx, &mut self.links[subscriber], subscriber, true)
    }

    /// From now on nothing fails, and every lake is lawful.
    fn stop_faults(&mut self) {
        self.cx.note(|| "the faults stop".to_owned());
        self.publisher.fails_next = false;
        for subscriber in &mut self.subscribers {
            subscriber.fails_next = false;
            subscriber.faulty = false;
        }
        self.last_waves = Some(LAST_WAVES);
    }

    /// A few more waves, as soon as they can be given. Where a lake was lawless, each with a rock,
    /// so that its digest tells.
    fn finish(&mut self) -> Result<(), Broken> {
        let Some(left) = self.last_waves.filter(|left| *left > 0) else { return Ok(()) };
        self.cx.after(20_000, Event::Act);
        if !self.publisher.takes_waves(&self.cx) {
            return Ok(());
        }
        if self.lawless && left == LAST_WAVES {
            self.publisher.set_rule(&mut self.cx, Rule { frequency: every(1), horizon: Some(10) });
        } else {
            let wave = Wave { clear: true, text: format!("the last but {left}") };
            self.publisher.give(&mut self.cx, &[wave], false)?;
        }
        self.last_waves = Some(left - 1);
        Ok(())
    }
}
