//! What a watch knows: the entries, how pairs stand, whether the node is there, and what the person has chosen.
//! It draws nothing, so that it can be tried without a terminal.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    commands::{kv, machines::now_ms},
    control::protocol::{KvKind, KvLine, Pair, WatchedNode},
};

/// For how long a change stands out.
const FRESH: Duration = Duration::from_secs(1);

/// Over how long changes are counted.
const COUNTED: Duration = Duration::from_secs(5);

/// What comes from the connection.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// There is a connection, and all that follows is anew.
    Connected,
    /// There is none any more, for this reason.
    Lost(String),
    Line(Box<Line>),
}

/// A line of a watch.
#[derive(Debug, Clone)]
pub(super) enum Line {
    Node(WatchedNode),
    Pair(Pair),
    Entry(KvLine),
}

/// What is to happen after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Leave,
}

/// A machine, or nothing where there is one only, and a key as people are shown it.
pub(super) type Place = (String, String);

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) value: String,
    pub(super) author: String,
    pub(super) timestamp: u64,
    /// When it changed before our eyes.
    changed: Option<Instant>,
    /// Whether the node has said so since the connection began, or the stream was reset.
    pub(super) confirmed: bool,
}

impl Row {
    /// Whether it changed just now.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.changed.is_some_and(|changed| now.saturating_duration_since(changed) < FRESH)
    }
}

/// How a pair stood, and when that was told, by both clocks.
#[derive(Debug)]
pub(super) struct SeenPair {
    pub(super) pair: Pair,
    wall_ms: u64,
    at: Instant,
}

impl SeenPair {
    /// What the wall clock would show at this moment, had nobody set it since the pair was told: its times are by that
    /// clock.
    pub(super) fn wall_ms(&self, now: Instant) -> u64 {
        let since = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.saturating_add(since)
    }
}

/// There is no connection any more: why, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) why: String,
    pub(super) since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) node: Option<WatchedNode>,
    /// By their machines; the one without at a machine.
    pub(super) pairs: BTreeMap<String, SeenPair>,
    rows: BTreeMap<Place, Row>,
    /// Set where there was a connection, and is none.
    pub(super) lost: Option<Lost>,
    /// What happened last that no entry shows.
    pub(super) note: String,
    pub(super) selected: Option<Place>,
    pub(super) filter: String,
    /// Whether what is typed goes to the filter.
    pub(super) filtering: bool,
    /// How many entries fit on the screen.
    pub(super) page: usize,
    changes: VecDeque<(Instant, u32)>,
}

impl Model {
    /// Takes in what has come.
    pub(super) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Connected => {
                self.lost = None;
                self.pairs.clear();
                self.doubt(None);
            }
            News::Lost(why) => self.lose(why, now),
            News::Line(line) => match *line {
                Line::Node(node) => self.node = Some(node),
                Line::Pair(pair) => {
                    let seen = SeenPair { wall_ms: now_ms(), at: now, pair };
                    self.pairs.insert(seen.pair.machine.clone().unwrap_or_default(), seen);
                }
                Line::Entry(line) => self.entry(line, now),
            },
        }
    }

    fn entry(&mut self, line: KvLine, now: Instant) {
        // Only events of entries are live or not.
        if line.live == Some(true) {
            self.count(now);
        }
        let (machine, key) = (line.machine.clone().unwrap_or_default(), kv::key_of(&line));
        match line.kind {
            Some(KvKind::Put) | None => {
                let row = Row {
                    value: kv::value_of(&line),
                    author: line.author.unwrap_or_default(),
                    timestamp: line.timestamp.unwrap_or_default(),
                    changed: (line.live == Some(true)).then_some(now),
                    confirmed: true,
                };
                self.rows.insert((machine, key), row);
            }
            Some(KvKind::Delete | KvKind::Left) => {
                self.note = kv::event_line(&line);
                self.rows.remove(&(machine, key));
            }
            // All that there is has come: what was not among it is not there any more.
            Some(KvKind::CaughtUp) => {
                let of = line.machine;
                self.rows.retain(|(machine, _), row| row.confirmed || of.as_ref().is_some_and(|of| of != machine));
            }
            Some(KvKind::Reset) => self.doubt(line.machine.as_deref()),
            Some(KvKind::Gone) => {
                self.note = kv::event_line(&line);
                self.pairs.remove(&machine);
                self.rows.retain(|(of, _), _| *of != machine);
            }
            Some(KvKind::Ended) => {
                self.lose(format!("the stream has ended: {}", line.reason.unwrap_or_default().replace('_', " ")), now);
            }
        }
    }

    /// The connection has gone, or is not back yet, for this reason.
    fn lose(&mut self, why: String, now: Instant) {
        let since = self.lost.take().map_or(now, |lost| lost.since);
        self.lost = Some(Lost { why, since });
    }

    /// What is here is from before, until it is said again.
    fn doubt(&mut self, machine: Option<&str>) {
        for ((of, _), row) in &mut self.rows {
            row.confirmed &= machine.is_some_and(|machine| machine != of);
        }
    }

    fn count(&mut self, now: Instant) {
        match self.changes.back_mut() {
            Some((at, count)) if now.saturating_duration_since(*at) < Duration::from_millis(100) => *count += 1,
            _ => self.changes.push_back((now, 1)),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while self.changes.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > COUNTED) {
            self.changes.pop_front();
        }
    }

    /// How many changes there were a second, of late.
    pub(super) fn rate(&mut self, now: Instant) -> f64 {
        self.forget(now);
        f64::from(self.changes.iter().map(|(_, count)| count).sum::<u32>()) / COUNTED.as_secs_f64()
    }

    /// The entry that is chosen, if it is there.
    pub(super) fn chosen(&self) -> Option<(&Place, &Row)> {
        self.rows.get_key_value(self.selected.as_ref()?)
    }

    /// How many entries there are, whatever the filter.
    pub(super) fn entries(&self) -> usize {
        self.rows.len()
    }

    /// The entries that the filter lets through, in order.
    pub(super) fn shown(&self) -> Vec<(&Place, &Row)> {
        let filter = self.filter.to_lowercase();
        let fits = |((machine, key), row): &(&Place, &Row)| {
            filter.is_empty() || [machine, key, &row.value].iter().any(|text| text.to_lowercase().contains(&filter))
        };
        self.rows.iter().filter(fits).collect()
    }

    /// Where the choice is among what is shown: where that entry is, or would be.
    pub(super) fn position(&self, shown: &[(&Place, &Row)]) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        Some(shown.partition_point(|(place, _)| *place < selected).min(shown.len().checked_sub(1)?))
    }

    /// Does what a key is for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match (key.code, self.filtering) {
            // In raw mode the terminal makes no signal of it.
            (KeyCode::Char('c'), _) if control => return Next::Leave,
            (KeyCode::Esc, true) => {
                self.filtering = false;
                self.filter.clear();
            }
            (KeyCode::Enter, true) => self.filtering = false,
            (KeyCode::Backspace, true) => drop(self.filter.pop()),
            (KeyCode::Char(typed), true) if !control => self.filter.push(typed),
            (KeyCode::Char('/'), false) => self.filtering = true,
            // One thing at a time, what was opened last first. It never ends the watch.
            (KeyCode::Esc, false) if self.selected.is_some() => self.selected = None,
            (KeyCode::Esc, false) => self.filter.clear(),
            (KeyCode::Char('q'), false) => return Next::Leave,
            (KeyCode::Up, _) | (KeyCode::Char('k'), false) => self.go(-1),
            (KeyCode::Down, _) | (KeyCode::Char('j'), false) => self.go(1),
            (KeyCode::PageUp, _) => self.go(-self.a_page()),
            (KeyCode::PageDown, _) => self.go(self.a_page()),
            (KeyCode::Home, _) => self.go(isize::MIN),
            (KeyCode::End, _) => self.go(isize::MAX),
            _ => {}
        }
        Next::Stay
    }

    fn a_page(&self) -> isize {
        isize::try_from(self.page.max(1)).unwrap_or(1)
    }

    fn go(&mut self, by: isize) {
        let shown = self.shown();
        let Some(last) = shown.len().checked_sub(1) else { return };
        let to = match self.position(&shown) {
            Some(at) => at.saturating_add_signed(by).min(last),
            None if by == isize::MAX => last,
            None => 0,
        };
        let place = shown[to].0.clone();
        self.selected = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINES: [&str; 2] = ["ae58ff8833", "0123456789"];

    fn model() -> (Model, Instant) {
        (Model::default(), Instant::now())
    }

    fn take(model: &mut Model, now: Instant, lines: &[String]) {
        for line in lines {
            model.take(News::Line(Box::new(Line::Entry(serde_json::from_str(line).unwrap()))), now);
        }
    }

    fn put(machine: &str, key: &str, value: &str, live: bool) -> String {
        format!(
            r#"{{"type":"put","machine":"{machine}","key":"{key}","value":"{value}","author":"machine","timestamp":7,"live":{live}}}"#
        )
    }

    fn of(kind: &str, machine: &str) -> String {
        format!(r#"{{"type":"{kind}","machine":"{machine}","key":"a"}}"#)
    }

    fn seen(model: &Model) -> Vec<String> {
        model.shown().iter().map(|((machine, key), row)| format!("{}/{key}={}", &machine[..2], row.value)).collect()
    }

    fn press(model: &mut Model, codes: &[KeyCode]) -> Vec<Next> {
        codes.iter().map(|code| model.key(KeyEvent::new(*code, KeyModifiers::NONE))).collect()
    }

    #[test]
    fn entries_come_change_and_go() {
        let (mut model, now) = model();
        let [one, other] = MACHINES;
        take(&mut model, now, &[put(one, "a", "1", false), put(other, "a", "2", false), put(one, "a", "3", true)]);
        assert_eq!(seen(&model), ["01/a=2", "ae/a=3"]);
        let fresh: Vec<bool> = model.shown().iter().map(|(_, row)| row.is_fresh(now)).collect();
        assert_eq!(fresh, [false, true], "what the snapshot had does not stand out");
        assert!(!model.shown()[1].1.is_fresh(now + FRESH));
        take(&mut model, now, &[of("delete", one)]);
        assert_eq!(seen(&model), ["01/a=2"]);
        assert!(model.note.starts_with("ae58ff8833  a is deleted"), "{}", model.note);
        take(&mut model, now, &[of("gone", other)]);
        assert_eq!(model.entries(), 0);
    }

    /// What went while there was no connection goes when all has come, and not before: nothing flickers.
    #[test]
    fn after_a_break_what_is_not_said_again_goes_when_all_has_come() {
        let (mut model, now) = model();
        let [one, other] = MACHINES;
        take(&mut model, now, &[put(one, "a", "1", false), put(one, "b", "2", false), put(other, "c", "3", false)]);
        model.take(News::Lost("why".to_owned()), now);
        model.take(News::Lost("another".to_owned()), now + FRESH);
        let lost = Some(Lost { why: "another".to_owned(), since: now });
        assert_eq!((&model.lost, model.entries()), (&lost, 3), "since the first");
        model.take(News::Connected, now);
        assert_eq!(model.lost, None);
        assert!(model.shown().iter().all(|(_, row)| !row.confirmed));
        take(&mut model, now, &[put(one, "a", "9", false)]);
        assert_eq!(model.entries(), 3);
        take(&mut model, now, &[of("caught_up", one)]);
        assert_eq!(seen(&model), ["01/c=3", "ae/a=9"], "the other machine's are still to come");
        take(&mut model, now, &[r#"{"type":"caught_up"}"#.to_owned()]);
        assert_eq!(seen(&model), ["ae/a=9"], "that machine has gone");
        take(&mut model, now, &[of("reset", one)]);
        assert_eq!(model.entries(), 1);
        take(&mut model, now, &[of("caught_up", one)]);
        assert_eq!(model.entries(), 0);
    }

    #[test]
    fn the_choice_stays_with_its_entry_and_near_it_when_that_goes() {
        let (mut model, now) = model();
        let machine = MACHINES[0];
        for key in ["b", "d", "f"] {
            take(&mut model, now, &[put(machine, key, "1", false)]);
        }
        press(&mut model, &[KeyCode::Down, KeyCode::Down]);
        let at = |model: &Model| model.position(&model.shown()).unwrap();
        assert_eq!((at(&model), model.selected.clone().unwrap().1), (1, "d".to_owned()));
        take(&mut model, now, &[put(machine, "c", "1", true)]);
        assert_eq!(at(&model), 2, "one came before it");
        take(&mut model, now, &[of("delete", machine).replace(r#""a""#, r#""d""#)]);
        assert_eq!(at(&model), 2, "where it was");
        press(&mut model, &[KeyCode::End, KeyCode::Down]);
        assert_eq!(model.selected.clone().unwrap().1, "f");
        press(&mut model, &[KeyCode::Home, KeyCode::Up]);
        assert_eq!(model.selected.clone().unwrap().1, "b");
    }

    #[test]
    fn a_filter_is_typed_kept_and_ended() {
        let (mut model, now) = model();
        take(&mut model, now, &[put(MACHINES[0], "price", "250", false), put(MACHINES[1], "stock", "q", false)]);
        let typed = [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Enter];
        assert_eq!(press(&mut model, &typed), [Next::Stay; 3]);
        assert_eq!(seen(&model), ["01/stock=q"]);
        press(&mut model, &[KeyCode::End, KeyCode::Esc]);
        assert_eq!((&model.selected, &*model.filter), (&None, "q"), "what was opened last is closed first");
        assert_eq!(press(&mut model, &[KeyCode::Esc, KeyCode::Esc]), [Next::Stay; 2], "it never ends the watch");
        assert_eq!(model.filter, "");
        press(&mut model, &[KeyCode::Char('/'), KeyCode::Char('P'), KeyCode::Char('R'), KeyCode::Char('x')]);
        assert!(model.shown().is_empty());
        assert_eq!(press(&mut model, &[KeyCode::Down, KeyCode::Backspace]), [Next::Stay; 2]);
        assert_eq!(seen(&model).len(), 1, "upper and lower case are alike");
        assert_eq!(press(&mut model, &[KeyCode::Enter, KeyCode::Char('q')]), [Next::Stay, Next::Leave]);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.key(control_c), Next::Leave);
    }

    #[test]
    fn only_what_happens_before_our_eyes_is_counted() {
        let (mut model, now) = model();
        let lines: Vec<String> = (0..10).map(|n| put(MACHINES[0], &format!("{n}"), "1", n % 2 == 0)).collect();
        take(&mut model, now, &lines);
        assert!((model.rate(now) - 1.0).abs() < 1e-9, "5 in 5 s");
        assert!(model.rate(now + COUNTED * 2) < 1e-9);
    }
}
