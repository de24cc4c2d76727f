//! The publisher's side of its streams: who asks is served, or waits, or is told what is wrong.

use std::borrow::Cow;

use groundswell_core::{
    Access, Aeon, Tide,
    encoding::decode,
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    wire::{FRAME_HEADER_BYTES, Message, Refusal, Surf, encode_frame},
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law},
    context::{Context, Event},
    disk::Disk,
    lake,
    link::{Link, Side},
    publisher::{Publisher, Run},
};

/// How many steps of one stream are taken before others have their turn.
const STEPS_AT_ONCE: usize = 8;

/// One stream, as its publisher has it.
pub(crate) struct Stream {
    outflow: Outflow,
    surf: Surf,
    standing: Standing,
}

/// What a stream is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Served,
    NotAvailable,
    LakeDiffers,
}

impl Publisher {
    /// A request has arrived.
    pub(crate) fn accept(
        &mut self,
        cx: &mut Context,
        link: &mut Link,
        subscriber: usize,
        connection: u64,
    ) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(frame) = link.take(cx.now, Side::Publisher, connection) else { return Ok(()) };
        let surf: Surf = decode(frame.get(FRAME_HEADER_BYTES..).unwrap_or_default())?;
        cx.note(|| format!("publisher {} is asked by {subscriber} with {:?}", self.number, surf.cursor));
        let stream = Stream { outflow: Outflow::new(surf.cursor), surf, standing: Standing::New };
        run.streams.insert((subscriber, connection), stream);
        cx.after(100, Event::Pump { subscriber, connection });
        Ok(())
    }

    pub(crate) fn closed(&mut self, subscriber: usize, connection: u64) {
        if let Some(run) = &mut self.run {
            run.streams.remove(&(subscriber, connection));
        }
    }

    /// Says goodbye to its streams: a crash follows.
    pub(crate) fn say_goodbye(&mut self, cx: &mut Context, links: &mut [Link]) -> Result<(), Broken> {
        let Some(run) = &self.run else { return Ok(()) };
        for &(subscriber, connection) in run.streams.keys() {
            let link = &mut links[subscriber];
            let mut wire = Wire { link, publisher: self.number, subscriber, connection, disk: &self.disk };
            wire.send(cx, &Message::ShuttingDown)?;
        }
        Ok(())
    }

    /// Lets one stream go on, as far as the link has room.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context,
        link: &mut Link,
        subscriber: usize,
        connection: u64,
    ) -> Result<(), Broken> {
        let serves = !self.disk.rows().restored || cx.has(Bug::ForgetNewEpoch);
        let Some(run) = self.run.as_mut().filter(|_| serves) else { return Ok(()) };
        let Some(stream) = run.streams.get_mut(&(subscriber, connection)) else { return Ok(()) };
        let mut wire = Wire { link, publisher: self.number, subscriber, connection, disk: &self.disk };
        for _ in 0..STEPS_AT_ONCE {
            if !wire.link.has_room(connection) {
                return Ok(());
            }
            let tide = run.tide.as_ref();
            let standing = stream.looked_up(cx, tide, &run.access, subscriber)?;
            let Some(tide) = tide.filter(|_| standing == Standing::Served) else {
                return wire.park(cx, stream, standing);
            };
            stream.standing = Standing::Served;
            match stream.outflow.poll(tide) {
                Step::Resume(cursor) => {
                    wire.transmit(cx, stream, &Message::Resumed(cursor))?;
                    stream.outflow.resumed();
                }
                Step::BeginRock { at, info } => {
                    let message = Message::Rock { at, bytes: info.bytes, digest: info.digest };
                    wire.transmit(cx, stream, &message)?;
                    stream.outflow.rock_begun(at, info);
                    cx.report.rocks_sent += 1;
                }
                Step::Chunk { aeon, index } => match self.disk.rows().chunk(aeon, index) {
                    Some(chunk) => {
                        wire.transmit(cx, stream, &Message::Chunk(Cow::Borrowed(chunk)))?;
                        stream.outflow.chunk_sent(chunk.len() as u64);
                    }
                    None => {
                        cx.report.rocks_gone += 1;
                        stream.outflow.rock_gone();
                    }
                },
                Step::Waves { first, last } => wire.waves(cx, tide, stream, first, last)?,
                Step::CaughtUp(aeon) => {
                    wire.transmit(cx, stream, &Message::CaughtUp(aeon))?;
                    stream.outflow.told_caught_up();
                }
                Step::Wait => return Ok(()),
                Step::Ahead => {
                    cx.report.aheads += 1;
                    run.wants_epoch = !cx.has(Bug::IgnoreAhead);
                    return self.renew_if_wanted(cx);
                }
            }
        }
        cx.after(50, Event::Pump { subscriber, connection });
        Ok(())
    }
}

impl Stream {
    /// What this stream is to be told now. Who may read comes before anything else.
    fn looked_up(
        &self,
        cx: &Context,
        tide: Option<&Tide>,
        access: &Access<usize>,
        subscriber: usize,
    ) -> Result<Standing, Broken> {
        let differs = self.surf.lake != lake::id(false)?;
        let may_read = access.allows(&subscriber)
            || (cx.has(Bug::AccessAfterLake) && differs)
            || (cx.has(Bug::LookOnce) && self.standing == Standing::Served);
        Ok(match tide.filter(|_| may_read) {
            None => Standing::NotAvailable,
            Some(_) if differs => Standing::LakeDiffers,
            Some(_) => Standing::Served,
        })
    }
}

/// The way to one subscriber.
struct Wire<'a> {
    link: &'a mut Link,
    publisher: usize,
    subscriber: usize,
    connection: u64,
    disk: &'a Disk,
}

impl Wire<'_> {
    /// Says why a stream is not served, once; it goes on from where its reader stands.
    fn park(&mut self, cx: &mut Context, stream: &mut Stream, why: Standing) -> Result<(), Broken> {
        if stream.standing == why && !(cx.has(Bug::TellAgain) && cx.rng.chance(30)) {
            return Ok(());
        }
        cx.report.interruptions += u64::from(stream.standing == Standing::Served);
        let stands = if cx.has(Bug::ResumeFromStart) { stream.surf.cursor } else { stream.outflow.cursor() };
        stream.outflow = Outflow::new(stands);
        stream.standing = why;
        match why {
            Standing::LakeDiffers => {
                self.send(cx, &Message::Refused(Refusal::LakeDiffers { published: lake::id(false)? }))
            }
            _ => self.send(cx, &Message::NotAvailable),
        }
    }

    fn waves(
        &mut self,
        cx: &mut Context,
        tide: &Tide,
        stream: &mut Stream,
        first: Aeon,
        last: Aeon,
    ) -> Result<(), Broken> {
        if cx.has(Bug::EarlyCaughtUp) && cx.rng.chance(10) {
            return self.transmit(cx, stream, &Message::CaughtUp(first.back(1)));
        }
        let recent = tide.recent_from(first, READ_BATCH_BYTES);
        cx.report.read_from_disk += u64::from(recent.is_none());
        let waves = recent.unwrap_or_else(|| self.disk.rows().waves(first, last));
        if waves.is_empty() {
            return Err(Law::Storage.broken(format!("the wave {first} is kept, and is not stored")));
        }
        let batch = 1 + cx.rng.index(4);
        for (aeon, wave) in (first.0..=last.0).map(Aeon).zip(waves).take(batch) {
            let message = Message::Wave { aeon, digest: tide.digest_at(aeon), wave: Cow::Borrowed(&wave) };
            if !(cx.has(Bug::SkipWave) && cx.rng.chance(5)) {
                self.transmit(cx, stream, &message)?;
            }
            if cx.has(Bug::RepeatWave) && cx.rng.chance(5) {
                self.transmit(cx, stream, &message)?;
            }
            stream.outflow.waves_sent(aeon);
            cx.report.waves_sent += 1;
        }
        Ok(())
    }

    /// Hands a message of the path's state to the network, past the checkers.
    fn transmit(&mut self, cx: &mut Context, stream: &Stream, message: &Message<'_>) -> Result<(), Broken> {
        let epoch = stream.outflow.cursor().map(|cursor| cursor.epoch);
        cx.checkers.transmitted(epoch, message, self.disk.rows())?;
        self.send(cx, message)
    }

    fn send(&mut self, cx: &mut Context, message: &Message<'_>) -> Result<(), Broken> {
        cx.checkers.sent(self.publisher, self.subscriber, self.connection, message)?;
        let mut frame = Vec::new();
        encode_frame(message, &mut frame).map_err(|error| Law::Protocol.broken(error.to_string()))?;
        self.link.send(cx, Side::Subscriber, self.connection, frame);
        Ok(())
    }
}

/// Wakes every stream.
pub(crate) fn wake(cx: &mut Context, run: &Run) {
    for &(subscriber, connection) in run.streams.keys() {
        if !(cx.has(Bug::LostWakeup) && cx.rng.chance(20)) {
            cx.after(300, Event::Pump { subscriber, connection });
        }
    }
}
