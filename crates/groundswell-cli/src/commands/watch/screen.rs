//! What a watch looks like: who is watched, how pairs stand, the entries, the whole of the chosen one, and the keys.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Table, Wrap},
};

use groundswell::visible;

use super::model::{Model, Place, Row, SeenPair};
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
    // How long things had lasted when the connection was lost, where nothing newer is known.
    let pairs = pair_lines(model, model.lost.as_ref().map_or(now, |lost| lost.since));
    let chosen = if model.selected.is_some() { CHOSEN_LINES } else { 0 };
    let banner = banner(model, now);
    let height = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let [head, lost, of_pairs, of_entries, of_chosen, foot] = Layout::vertical([
        Constraint::Length(1),
        height(banner.as_ref().map_or(0, |banner| banner.line_count(frame.area().width))),
        height(pairs.len()),
        Constraint::Min(3),
        Constraint::Length(chosen),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(head_line(model, now), head);
    if let Some(banner) = banner {
        frame.render_widget(banner, lost);
    }
    frame.render_widget(Paragraph::new(pairs), of_pairs);
    entries(frame, of_entries, model, now, wall_ms);
    if let Some(((_, key), row)) = model.chosen() {
        let block = Block::new().borders(Borders::TOP).title(plain(&format!(" {key} ")));
        let text = Paragraph::new(plain(&shorten(&row.value, WHOLE_VALUE))).wrap(Wrap { trim: false });
        frame.render_widget(text.block(block), of_chosen);
    }
    frame.render_widget(foot_line(model), foot);
}

/// Says that the node is out of reach, and since when all else on the screen is from before.
fn banner(model: &Model, now: Instant) -> Option<Paragraph<'static>> {
    let lost = model.lost.as_ref()?;
    let since = ago(now.saturating_duration_since(lost.since).as_secs());
    let said = format!(
        "The node is out of reach, and is asked for again: {}. What is below is how it was {since} ago, not how it is.",
        lost.why
    );
    Some(Paragraph::new(plain(&said)).wrap(Wrap { trim: true }).style(Style::new().fg(Color::White).bg(Color::Red)))
}

fn head_line(model: &mut Model, now: Instant) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let rate = model.rate(now);
    let node = model.node.as_ref().map_or("the node".to_owned(), |node| format!("{} {}", node.role, short(&node.id)));
    let mut said = vec![Span::styled("groundswell", bold), Span::raw(plain(&format!("  {node}")))];
    if model.node.as_ref().is_some_and(|node| node.role == "manager") {
        let all = model.pairs.len();
        let online = model.pairs.values().filter(|seen| seen.pair.link == "online").count();
        said.push(Span::raw(match model.lost {
            None => format!("  {online} of {all} machines online"),
            Some(_) => format!("  {online} of {all} machines were online"),
        }));
    }
    said.push(Span::raw(format!("  {} entries  {rate:.1} changes/s", model.entries())));
    Line::from(said)
}

/// How pairs stand: those that are not well first, and how many more there are.
fn pair_lines(model: &Model, now: Instant) -> Vec<Line<'static>> {
    let mut pairs: Vec<&SeenPair> = model.pairs.values().collect();
    let is_well = |pair: &Pair| {
        let is_told = pair.undelivered_since_ms.is_some() || pair.problem.is_some() || pair.agreed == Some(false);
        pair.link == "online" && pair.current && !is_told
    };
    pairs.sort_by_key(|seen| is_well(&seen.pair));
    let more = pairs.len().saturating_sub(PAIRS);
    let style = |pair: &Pair| match &*pair.link {
        _ if model.lost.is_some() => Style::new().add_modifier(Modifier::DIM),
        "online" if is_well(pair) => Style::new().fg(Color::Green),
        "online" | "connecting" | "unclaimed" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red),
    };
    let line = |seen: &SeenPair| {
        let pair = &seen.pair;
        let other = pair.machine.as_deref().or(pair.manager.as_deref());
        let other = other.map(|id| format!("{}  ", short(id))).unwrap_or_default();
        // How it stands now, nobody here knows.
        let was = if model.lost.is_some() { "it was: " } else { "" };
        Line::styled(plain(&format!("{other}{was}{}", standing(pair, seen.wall_ms(now)))), style(pair))
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
    let texts = [short(machine), key, &shorten(&row.value, SHOWN_VALUE), &row.author, &ago];
    Cells::new(texts.map(|text| Cell::from(plain(text))))
}

/// Text as it may stand on the terminal, whoever wrote it.
fn plain(text: &str) -> String {
    visible(text).into_owned()
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
        return Line::raw(plain(&format!("filter: {}_   Enter keeps it, Esc ends it", model.filter)));
    }
    let filtered = match &*model.filter {
        "" => String::new(),
        filter => format!("filter: {filter}   "),
    };
    let back = match &model.selected {
        Some(_) => "  Esc closes the entry",
        None if !model.filter.is_empty() => "  Esc ends the filter",
        None => "",
    };
    let note = if model.note.is_empty() { String::new() } else { format!("   {}", model.note) };
    Line::raw(plain(&format!("{filtered}q leaves  / filters  arrows choose{back}{note}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    /// What a peer has said, or a node's error repeats, stands on the screen as text and nothing else.
    #[test]
    fn nothing_that_a_peer_says_acts_on_the_terminal() {
        let mut model = model();
        let hostile = "a\u{1b}[2Jb\nc\u{202e}d\u{200b}e\u{9b}f".to_owned();
        let pair = Pair { link: "online".to_owned(), problem: Some(hostile.clone()), ..Pair::default() };
        model.take(News::Line(Box::new(Said::Pair(pair))), Instant::now());
        model.filter = hostile.clone();
        model.take(News::Lost(hostile), Instant::now());
        let screen = drawn(&mut model, 400, 20);
        assert!(!screen.replace('\n', "").contains(groundswell::is_hidden), "{screen}");
        assert_eq!(screen.matches(r"a\u{1b}[2Jb\nc\u{202e}d\u{200b}e\u{9b}f").count(), 3, "{screen}");
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
    }

    /// What was seen of others is not said of now, and why there is nothing newer is said whole.
    #[test]
    fn a_screen_without_its_node_says_that_it_is_from_before() {
        let mut model = model();
        let now = Instant::now();
        let why = "no node runs there; ".repeat(8);
        model.take(News::Lost(why.trim().to_owned()), now.checked_sub(Duration::from_secs(70)).unwrap());
        let mut terminal = Terminal::new(TestBackend::new(60, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &mut model, now, 10_000)).unwrap();
        let screen = terminal.backend().to_string();
        let words: Vec<&str> = screen.split(['"', ' ', '\n']).filter(|word| !word.is_empty()).collect();
        assert_eq!(words.join(" ").matches("no node runs there").count(), 8, "wrapped, and not cut off:\n{screen}");
        for part in ["1 of 2 machines were online", "it was: online, current", "1 min ago, not how it is", "stock/0000"]
        {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
        model.take(News::Connected, now);
        assert!(!drawn(&mut model, 60, 24).contains("were"));
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
