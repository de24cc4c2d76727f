//! A local reader: a cursor into a tide, as a stream of typed events.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use groundswell_core::{Aeon, Cursor, Lake, LakeId, encoding::decode, limits::READ_BATCH_BYTES, wire::Refusal};
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::{
    cell::{LocalNext, Standing, TideCell, stored_waves},
    error::ReadError,
    fold::{Held, RockSlot},
    freshness::{Ended, Freshness},
    metrics::Metrics,
    readers::Reader,
    source::Source,
};

/// What a stream of updates yields.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<W> {
    /// The state changed.
    Update(Update<W>),
    /// Everything that the source had when it was reached is here; what follows is live.
    /// It comes again after each time that the source was away.
    CaughtUp {
        /// The aeon of the state.
        aeon: Aeon,
    },
    /// What is known of the source changed.
    Freshness(Freshness),
    /// The stream ends here.
    Ended(Ended),
}

/// One change of a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Update<W> {
    /// Where the state comes from.
    pub source: Source,
    /// Where the state stands with this update. Give it to [`surf_from`] to go on here.
    ///
    /// [`surf_from`]: crate::Subscriptions::surf_from
    pub cursor: Cursor,
    /// The wave that led here from the update before. `None` where the state was replaced by a
    /// rock: at first, and where this reader was too far behind for the waves. Then the rock
    /// is to be read ([`Updates::with_rock`]).
    pub wave: Option<W>,
    /// Whether it happened after this reader had caught up.
    pub live: bool,
    /// Whether the state may be behind its source, as far as was known when this was read.
    pub stale: bool,
}

impl<W> Update<W> {
    /// The aeon of the state.
    pub fn aeon(&self) -> Aeon {
        self.cursor.aeon
    }
}

/// A stream of the updates of one source. It is a cursor, no buffer: a reader that pauses costs
/// nothing, skips the waves that are no longer kept, and never misses the newest state.
///
/// Dropping it ends it at once and frees all it held; the replica stays, and is kept up to date,
/// until the agent quits the source. [`Updates::next`] may be dropped while it waits (it is
/// cancel safe: no event is lost). When the node shuts down, the stream yields what was
/// committed (as far as it is among the newest waves, which are in memory), then
/// [`Event::Ended`], then nothing.
pub struct Updates<L: Lake> {
    source: Source,
    lake: LakeId,
    cell: Arc<TideCell>,
    changes: Reader,
    cursor: Option<Cursor>,
    /// Waves that were read and not yet handed out, with the aeon of the first.
    waves: VecDeque<Bytes>,
    /// An update whose rock is being waited for, so that nothing is lost if the wait is dropped.
    waiting: Option<Update<L::Wave>>,
    told_caught_up: bool,
    /// How often the source had been away when this reader looked last.
    away: u64,
    told: Option<Freshness>,
    ended: bool,
    /// Set when the agent has quit the source.
    quit: CancellationToken,
    metrics: Arc<Metrics>,
    /// Its place among the streams that a node may have open; a program's own takes none.
    _permit: Option<OwnedSemaphorePermit>,
    _lake: std::marker::PhantomData<fn() -> L>,
}

impl<L: Lake> Updates<L> {
    pub(crate) fn new(
        source: Source,
        lake: LakeId,
        cell: Arc<TideCell>,
        cursor: Option<Cursor>,
        quit: CancellationToken,
        metrics: Arc<Metrics>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        metrics.local_readers_now.add(1);
        Self {
            source,
            lake,
            changes: cell.watch(),
            cell,
            cursor,
            waves: VecDeque::new(),
            waiting: None,
            told_caught_up: false,
            away: 0,
            told: None,
            ended: false,
            quit,
            metrics,
            _permit: permit,
            _lake: std::marker::PhantomData,
        }
    }

    /// Where the updates come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where this reader stands, if it has had any state.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// What is known of the source right now.
    pub fn freshness(&self) -> Freshness {
        self.cell.standing().freshness
    }

    /// The next event; `None` after [`Event::Ended`].
    pub async fn next(&mut self) -> Option<Event<L::Wave>> {
        if let Some(update) = self.waiting.take() {
            return Some(Event::Update(update));
        }
        loop {
            match self.step() {
                Step::Event(event) => return Some(event),
                Step::Finished => return None,
                Step::Read { first, last, backing } => match stored_waves(backing, first, last, READ_BATCH_BYTES).await
                {
                    // They were pruned or replaced in this moment: the rock takes their place.
                    Ok(waves) if waves.is_empty() || !self.cursor.is_some_and(|at| self.cell.is_still(at.epoch)) => {
                        self.cursor = None;
                    }
                    Ok(waves) => self.waves = waves.into(),
                    Err(error) => {
                        self.ended = true;
                        let ended = self.cell.standing().ended;
                        return Some(Event::Ended(ended.unwrap_or_else(|| Ended::Storage(error.to_string()))));
                    }
                },
                Step::Wait => {
                    tokio::select! {
                        changed = self.changes.changed() => {
                            // The cell lives as long as this reader, so that its sender is never gone.
                            if changed.is_err() {
                                return None;
                            }
                        }
                        () = self.quit.cancelled() => {}
                    }
                }
            }
        }
    }

    /// The next update and, in the same moment, the rock that it led to: `look` gets both.
    /// A reader that has fallen behind gets the newest rock with no wave, in place of the
    /// updates between; so does the first call. Other events are given to `look` without
    /// a rock. `None` after the stream has ended. It is cancel safe, as [`Updates::next`] is.
    ///
    /// `look` must not take long: who gives a wave waits for it, up to 5 ms, before
    /// the rock is copied.
    pub async fn next_with_rock<T>(&mut self, look: impl FnOnce(Event<L::Wave>, Option<&L::Rock>) -> T) -> Option<T> {
        let event = self.next().await?;
        self.with_its_rock(event, look).await
    }

    /// The same, but only an update that comes with no wave comes with its rock. So every wave
    /// that is kept is seen, one by one, and no rock is looked at for it.
    pub async fn next_or_rock<T>(&mut self, look: impl FnOnce(Event<L::Wave>, Option<&L::Rock>) -> T) -> Option<T> {
        match self.next().await? {
            event @ Event::Update(Update { wave: None, .. }) => self.with_its_rock(event, look).await,
            event => Some(look(event, None)),
        }
    }

    async fn with_its_rock<T>(
        &mut self,
        event: Event<L::Wave>,
        look: impl FnOnce(Event<L::Wave>, Option<&L::Rock>) -> T,
    ) -> Option<T> {
        let Event::Update(update) = event else { return Some(look(event, None)) };
        let Ok(Some(slot)) = self.cell.slot::<L>() else { return Some(look(Event::Update(update), None)) };
        self.waiting = Some(update);
        let current = slot.current();
        let held = current.read().await;
        let mut update = self.waiting.take()?;
        // A rock that stands nowhere is no state: the path was killed meanwhile, or storage fails.
        let Some(at) = held.at else { return Some(look(Event::Update(update), None)) };
        if at != update.cursor {
            // The rock has moved on: the waves between are skipped, and so is this one.
            update = Update { cursor: at, wave: None, ..update };
            self.cursor = Some(at);
            self.waves.clear();
        }
        Some(look(Event::Update(update), Some(&held.rock)))
    }

    /// The same events as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Event<L::Wave>> + Send + 'static {
        stream::unfold(self, |mut updates| async move { Some((updates.next().await?, updates)) })
    }

    /// Reads the newest rock and its aeon for the length of a closure. It may be newer than
    /// the last update that this stream has yielded.
    ///
    /// `look` must not take long: see [`Updates::next_with_rock`].
    pub async fn with_rock<T>(&self, look: impl FnOnce(&L::Rock, Aeon) -> T) -> Result<T, ReadError> {
        with_rock::<L, T>(&self.cell, look).await
    }

    /// Holds the newest rock, where there is one.
    pub(crate) async fn hold(&self) -> Option<OwnedRwLockReadGuard<Held<L>>> {
        let slot = self.cell.slot::<L>().ok().flatten()?;
        Some(slot.current().read_owned().await)
    }

    /// Whether the agent has quit the source.
    pub(crate) fn is_quit(&self) -> bool {
        self.quit.is_cancelled()
    }

    /// Whether the state may be behind its source now.
    pub(crate) fn is_stale(&self) -> bool {
        self.cell.standing().freshness.is_stale()
    }

    /// Goes on after this place, which is the newest.
    pub(crate) fn skip_to(&mut self, at: Cursor) {
        if self.cursor != Some(at) {
            self.cursor = Some(at);
            self.waves.clear();
        }
    }

    fn step(&mut self) -> Step<L::Wave> {
        if self.ended {
            return Step::Finished;
        }
        if self.quit.is_cancelled() {
            self.ended = true;
            return Step::Event(Event::Ended(Ended::Quit));
        }
        // Marked first, then looked: a change in between wakes once too often, never once too few.
        self.changes.borrow_and_update();
        // What was handed out before is taken, now that more is asked for.
        self.changes.has(self.cursor.map(|at| at.aeon));
        let standing = self.cell.standing();
        if std::mem::replace(&mut self.away, standing.away) != standing.away {
            self.told_caught_up = false;
        }
        if let Some(wave) = self.waves.pop_front() {
            return self.wave(&wave, &standing);
        }
        match self.cell.local_next(self.cursor, &self.lake) {
            LocalNext::Waves { recent: Some(waves), .. } if !waves.is_empty() => {
                self.waves = waves.into();
                match self.waves.pop_front() {
                    Some(wave) => self.wave(&wave, &standing),
                    None => Step::Wait,
                }
            }
            LocalNext::Waves { first, last, backing, .. } => Step::Read { first, last, backing },
            LocalNext::Rock(at) => {
                self.cursor = Some(at);
                self.told_caught_up = false;
                Step::Event(Event::Update(self.update(at, None, false, &standing.freshness)))
            }
            LocalNext::Wait | LocalNext::Nothing => self.stand(standing),
            LocalNext::LakeDiffers(published) => {
                self.changes.has_no_place();
                let freshness = Freshness::Refused(Refusal::LakeDiffers { published });
                self.stand(Standing { freshness, caught_up: None, ..standing })
            }
        }
    }

    fn wave(&mut self, wave: &Bytes, standing: &Standing) -> Step<L::Wave> {
        let Some(cursor) = &mut self.cursor else { return Step::Wait };
        cursor.aeon = cursor.aeon.next();
        let at = *cursor;
        let live = self.told_caught_up && standing.caught_up.is_some_and(|aeon| aeon < at.aeon);
        // A wave that the fold has washed decodes; if its type is another, the rock says it all.
        let wave = decode(wave).ok();
        Step::Event(Event::Update(self.update(at, wave, live, &standing.freshness)))
    }

    fn update(&self, cursor: Cursor, wave: Option<L::Wave>, live: bool, freshness: &Freshness) -> Update<L::Wave> {
        Update { source: self.source.clone(), cursor, wave, live, stale: freshness.is_stale() }
    }

    /// There is no more state to hand out: tell what else has changed.
    fn stand(&mut self, standing: Standing) -> Step<L::Wave> {
        if self.told.as_ref() != Some(&standing.freshness) {
            let first = self.told.is_none();
            self.told = Some(standing.freshness.clone());
            // That a source is live from the start is told by the caught-up that follows.
            if !(first && standing.freshness == Freshness::Live) {
                return Step::Event(Event::Freshness(standing.freshness));
            }
        }
        if !self.told_caught_up
            && standing.caught_up.is_some()
            && let Some(cursor) = self.cursor
        {
            self.told_caught_up = true;
            return Step::Event(Event::CaughtUp { aeon: cursor.aeon });
        }
        match standing.ended {
            Some(why) => {
                self.ended = true;
                Step::Event(Event::Ended(why))
            }
            None => Step::Wait,
        }
    }
}

enum Step<W> {
    Event(Event<W>),
    Read { first: Aeon, last: Aeon, backing: crate::store::Backing },
    Wait,
    Finished,
}

impl<L: Lake> Drop for Updates<L> {
    fn drop(&mut self) {
        self.metrics.local_readers_now.less(1);
    }
}

/// Reads the newest rock of a cell.
pub(crate) async fn with_rock<L: Lake, T>(
    cell: &TideCell,
    look: impl FnOnce(&L::Rock, Aeon) -> T,
) -> Result<T, ReadError> {
    let path = || cell.key().path().clone();
    let slot: Arc<RockSlot<L>> = match cell.slot::<L>() {
        Ok(Some(slot)) => slot,
        Ok(None) => return Err(ReadError::NoState(path())),
        Err(lake) => return Err(ReadError::LakeType { path: path(), lake }),
    };
    let current = slot.current();
    let held: tokio::sync::RwLockReadGuard<'_, Held<L>> = current.read().await;
    let at = held.at.ok_or_else(|| match cell.has_state() {
        true => ReadError::Unreadable(path()),
        false => ReadError::NoState(path()),
    })?;
    Ok(look(&held.rock, at.aeon))
}
