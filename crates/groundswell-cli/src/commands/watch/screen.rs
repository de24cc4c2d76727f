//! What a watch looks like: who is watched, how pairs stand, the entries, the whole of the chosen one, and the keys.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Table, Wrap},
};

use super::model::{Model, Place, Row};
use crate::{commands::machines::standing, control::protocol::Pair, output::shorten, peer_name::shown as short};

/// How many pairs are listed at most: those that are not well come first.
const PAIRS: usize = 6;

/// How much of a value stands in the table and below it, in characters.
const SHOWN_VALUE: usize = 400;
const WHOLE_VALUE: usize = 4_000;

/// How high the place of the chosen entry is.
const CHOSEN_LINES: u16 = 4;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Instant, wall_ms: u64) {
    let pairs = pair_lines(model, wall_ms);
    let chosen = if model.selected.is_some() { CHOSEN_LINES } else { 0 };
    let banner = u16::from(model.lost.is_some());
    let height = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let [head, lost, of_pairs, of_entries, of_chosen, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(banner),
        height(pairs.len()),
        Constraint::Min(3),
        Constraint::Length(chosen),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(head_line(model, now), head);
    if let Some(why) = &model.lost {
        let said = format!(" The node is out of reach, and is asked for again: {why}. What is below is from before. ");
        frame.render_widget(Line::styled(said, Style::new().fg(Color::White).bg(Color::Red)), lost);
    }
    frame.render_widget(Paragraph::new(pairs), of_pairs);
    entries(frame, of_entries, model, now, wall_ms);
    if let Some(((_, key), row)) = model.chosen() {
        let block = Block::new().borders(Borders::TOP).title(format!(" {key} "));
        let text = Paragraph::new(shorten(&row.value, WHOLE_VALUE)).wrap(Wrap { trim: false });
        frame.render_widget(text.block(block), of_chosen);
    }
    frame.render_widget(foot_line(model), foot);
}

fn head_line(model: &mut Model, now: Instant) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let rate = model.rate(now);
    let node = model.node.as_ref().map_or("the node".to_owned(), |node| format!("{} {}", node.role, short(&node.id)));
    let mut said = vec![Span::styled("groundswell", bold), Span::raw(format!("  {node}"))];
    if model.node.as_ref().is_some_and(|node| node.role == "manager") {
        let online = model.pairs.values().filter(|pair| pair.link == "online").count();
        said.push(Span::raw(format!("  {online} of {} machines online", model.pairs.len())));
    }
    said.push(Span::raw(format!("  {} entries  {rate:.1} changes/s", model.entries())));
    Line::from(said)
}

/// How pairs stand: those that are not well first, and how many more there are.
fn pair_lines(model: &Model, wall_ms: u64) -> Vec<Line<'static>> {
    let mut pairs: Vec<&Pair> = model.pairs.values().collect();
    pairs.sort_by_key(|pair| pair.link == "online" && pair.current && pair.problem.is_none());
    let more = pairs.len().saturating_sub(PAIRS);
    let style = |pair: &Pair| match (&*pair.link, pair.current) {
        _ if model.lost.is_some() => Style::new().add_modifier(Modifier::DIM),
        ("online", true) => Style::new().fg(Color::Green),
        ("online" | "connecting" | "unclaimed", _) => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    };
    let line = |pair: &Pair| {
        let other = pair.machine.as_deref().or(pair.manager.as_deref());
        let other = other.map(|id| format!("{}  ", short(id))).unwrap_or_default();
        Line::styled(format!("{other}{}", standing(pair, wall_ms)), style(pair))
    };
    let mut lines: Vec<Line<'static>> = pairs.into_iter().take(PAIRS).map(line).collect();
    if more > 0 {
        lines.push(Line::raw(format!("and {more} more, which are as well or better")));
    }
    lines
}

fn entries(frame: &mut Frame<'_>, area: Rect, model: &mut Model, now: Instant, wall_ms: u64) {
    // One line is the head of the table.
    model.page = usize::from(area.height.saturating_sub(1));
    let shown = model.shown();
    let position = model.position(&shown);
    // What is chosen stays in the middle, as far as there is something around it.
    let most = shown.len().saturating_sub(model.page);
    let first = position.map_or(0, |at| at.saturating_sub(model.page / 2)).min(most);
    let rows = shown.iter().enumerate().skip(first).take(model.page).map(|(at, (place, row))| {
        let style = match row {
            row if !row.confirmed || model.lost.is_some() => Style::new().add_modifier(Modifier::DIM),
            row if row.is_fresh(now) => Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD),
            _ => Style::new(),
        };
        let chosen = if Some(at) == position { style.add_modifier(Modifier::REVERSED) } else { style };
        cells(place, row, wall_ms).style(chosen)
    });
    let widths = [
        // At a machine there is only its own.
        Constraint::Length(if shown.first().is_some_and(|((machine, _), _)| machine.is_empty()) { 0 } else { 10 }),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(7),
        Constraint::Length(6),
    ];
    let head = Cells::new(["machine", "key", "value", "by", "ago"]).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(1), area);
}

fn cells((machine, key): &Place, row: &Row, wall_ms: u64) -> Cells<'static> {
    let ago = ago(wall_ms.saturating_sub(row.timestamp) / 1_000);
    let texts = [short(machine).to_owned(), key.clone(), shorten(&row.value, SHOWN_VALUE), row.author.clone(), ago];
    Cells::new(texts.map(Cell::from))
}

/// Seconds as people say them, in few characters.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn foot_line(model: &Model) -> Line<'static> {
    if model.filtering {
        return Line::raw(format!("filter: {}_   Enter keeps it, Esc ends it", model.filter));
    }
    let filtered = match &*model.filter {
        "" => String::new(),
        filter => format!("filter: {filter} (Esc ends it)   "),
    };
    let note = if model.note.is_empty() { String::new() } else { format!("   {}", model.note) };
    Line::raw(format!("{filtered}q leaves  / filters  arrows choose{note}"))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{
        super::model::{Line as Said, News},
        *,
    };
    use crate::control::protocol::{WatchKind, WatchedNode};

    fn drawn(model: &mut Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, Instant::now(), 10_000)).unwrap();
        terminal.backend().to_string()
    }

    fn model() -> Model {
        let mut model = Model::default();
        let now = Instant::now();
        model.take(News::Connected, now);
        let (kind, id, role) = (WatchKind::Node, "ae58ff8833241a".to_owned(), "manager".to_owned());
        model.take(News::Line(Box::new(Said::Node(WatchedNode { kind, id, role }))), now);
        for (machine, link) in [("0123456789ab", "online"), ("ff23456789ab", "offline")] {
            let (machine, link, current) = (Some(machine.to_owned()), link.to_owned(), link == "online");
            model.take(News::Line(Box::new(Said::Pair(Pair { machine, link, current, ..Pair::default() }))), now);
        }
        for n in 0..1_000 {
            let line = format!(
                r#"{{"type":"put","machine":"0123456789ab","key":"stock/{n:04}","value":"{n}","author":"machine","timestamp":7000,"live":false}}"#
            );
            model.take(News::Line(Box::new(Said::Entry(serde_json::from_str(&line).unwrap()))), now);
        }
        model
    }

    #[test]
    fn it_says_who_and_how_they_stand_and_what_there_is() {
        let mut model = model();
        let screen = drawn(&mut model, 100, 20);
        for part in
            ["manager ae58ff8833", "1 of 2 machines online", "1000 entries", "stock/0000", "machine 3 s", "q leaves"]
        {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
        let line = |text: &str| screen.lines().position(|line| line.contains(text)).unwrap();
        assert!(line("offline") < line("online, current"), "who is not well comes first:\n{screen}");
        assert!(!screen.contains("out of reach"));
        model.take(News::Lost("why".to_owned()), Instant::now());
        assert!(drawn(&mut model, 100, 20).contains("The node is out of reach, and is asked for again: why."));
    }

    #[test]
    fn the_chosen_entry_is_on_the_screen_wherever_it_is_and_whole_below() {
        let mut model = model();
        model.selected = Some(("0123456789ab".to_owned(), "stock/0777".to_owned()));
        let screen = drawn(&mut model, 100, 20);
        assert_eq!(screen.matches("stock/0777").count(), 2, "in the table, and below it:\n{screen}");
        assert!(!screen.contains("stock/0000"));
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        for (width, height) in [(1, 1), (10, 3), (20, 200), (400, 2)] {
            let mut model = model();
            model.selected = Some(("0123456789ab".to_owned(), "stock/0777".to_owned()));
            model.take(News::Lost("why".to_owned()), Instant::now());
            drawn(&mut model, width, height);
        }
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([0, 59, 60, 7_200, 90_000].map(ago), ["0 s", "59 s", "1 min", "2 h", "1 d"]);
    }
}
