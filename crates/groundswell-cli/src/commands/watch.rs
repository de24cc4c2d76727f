//! `watch`: entries and machines as they change, in a table on the terminal, or as lines elsewhere.
//!
//! One task owns the connection and asks again whenever it breaks; what it hears it hands, through a bounded queue,
//! to the one that owns the terminal. The node waits for a terminal that is slow, and that costs it a cursor.

mod model;
mod screen;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;

use super::{kv, machines};
use crate::{
    args::Watch,
    control::{
        client,
        protocol::{KvKind, PairLine, Request, WatchKind},
    },
    error::ToolError,
    output::{self, Output},
    stop::Stop,
};
use model::{Line, Model, News, Next};

/// How many lines may be on their way from the connection to the terminal.
const QUEUE: usize = 1_024;

/// How many of them are taken before a key is looked at.
const TAKEN_AT_ONCE: usize = 256;

/// How soon the table is drawn again after a change (50 ms): faster than an eye follows.
const REDRAW: Duration = Duration::from_millis(50);

/// How often it is drawn anyway: ages are in seconds.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait before a node that has gone is asked for again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// Shows the table until it is left, or prints lines until the node ends.
pub(super) async fn run(watch: Watch, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let prefix = kv::prefix(watch.prefix.as_deref(), watch.place.hex)?;
    let request = Request::Watch { place: kv::place_of(&watch.place), prefix };
    if output.is_json() || !output::is_terminal() || !io::stdin().is_terminal() {
        return kv::follow(&dir, &request, None, output, say).await;
    }
    let mut stop = Stop::new()?;
    // What is wrong from the beginning is said as every command says it, and not on a table.
    let first = tokio::select! {
        first = connect(&dir, &request) => first?,
        () = stop.asked() => return Ok(()),
    };
    let (sender, mut news) = mpsc::channel(QUEUE);
    let connection = tokio::spawn(keep_connected(first, dir, request, sender));
    let shown = match ratatui::try_init() {
        Ok(mut terminal) => show(&mut terminal, &mut news, &mut stop).await,
        Err(error) => Err(error),
    };
    // A terminal that is gone needs nothing more.
    let _ = ratatui::try_restore();
    connection.abort();
    shown.map_err(ToolError::Output)
}

/// Writes a line as it came, or as people read it.
async fn say(line: &[u8], output: &mut Output) -> Result<Option<KvKind>, ToolError> {
    let seen = parsed(line)?;
    let said = match &seen {
        _ if output.is_json() => None,
        Line::Node(node) => Some(format!("-- {} {}", node.role, node.id)),
        Line::Pair(pair) => Some(format!("-- {}", machines::status_line(pair, machines::now_ms()))),
        Line::Entry(line) => Some(kv::event_line(line)),
    };
    match said {
        Some(said) => output.line(said).await?,
        None => output.json(line).await?,
    }
    Ok(if let Line::Entry(line) = seen { line.kind } else { None })
}

fn parsed(line: &[u8]) -> Result<Line, ToolError> {
    #[derive(serde::Deserialize)]
    struct Of {
        #[serde(rename = "type")]
        kind: WatchKind,
    }
    let parsed = |line: &[u8]| {
        Ok::<_, serde_json::Error>(match serde_json::from_slice::<Of>(line)?.kind {
            WatchKind::Node => Line::Node(serde_json::from_slice(line)?),
            WatchKind::Pair => Line::Pair(serde_json::from_slice::<PairLine>(line)?.pair),
            WatchKind::Entry => Line::Entry(serde_json::from_slice(line)?),
        })
    };
    parsed(line).map_err(|error| ToolError::Answer(error.to_string()))
}

/// A connection whose first line has come: the node knows what is asked.
struct Connection {
    _sender: client::Sender,
    answers: client::Answers,
    first: Line,
}

async fn connect(dir: &Path, request: &Request) -> Result<Connection, ToolError> {
    let (sender, mut answers) = client::ask(dir, request).await?;
    let first = parsed(answers.next_line().await?.ok_or(ToolError::Lost)?)?;
    Ok(Connection { _sender: sender, answers, first })
}

/// Hands on what comes, and asks again when that ends, until nobody listens.
async fn keep_connected(first: Connection, dir: PathBuf, request: Request, news: mpsc::Sender<News>) {
    let mut connected: Result<Connection, ToolError> = Ok(first);
    let mut wait = RETRY_FIRST;
    loop {
        let lost = match connected {
            Ok(mut connection) => {
                wait = RETRY_FIRST;
                for said in [News::Connected, News::Line(Box::new(connection.first))] {
                    if news.send(said).await.is_err() {
                        return;
                    }
                }
                loop {
                    let said = match connection.answers.next_line().await {
                        // It has said why.
                        Ok(None) => break None,
                        Ok(Some(line)) => parsed(line),
                        Err(error) => Err(error),
                    };
                    match said {
                        Ok(said) => {
                            if news.send(News::Line(Box::new(said))).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => break Some(error.to_string()),
                    }
                }
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = lost
            && news.send(News::Lost(why)).await.is_err()
        {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_LAST);
        connected = connect(&dir, &request).await;
    }
}

/// Draws what comes, until somebody leaves.
async fn show(terminal: &mut DefaultTerminal, news: &mut mpsc::Receiver<News>, stop: &mut Stop) -> io::Result<()> {
    let mut model = Model::default();
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(TICK);
    let (mut changed, mut next) = (true, tokio::time::Instant::now());
    loop {
        tokio::select! {
            // A key is heard while much comes.
            biased;
            () = stop.asked() => return Ok(()),
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if model.key(key) == Next::Leave {
                        return Ok(());
                    }
                    (changed, next) = (true, tokio::time::Instant::now());
                }
                Some(Ok(_)) => changed = true,
                // The terminal is gone.
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(next), if changed => {
                let now = Instant::now();
                terminal.draw(|frame| screen::draw(frame, &mut model, now, machines::now_ms()))?;
                (changed, next) = (false, tokio::time::Instant::now() + REDRAW);
            }
            first = news.recv() => {
                // The task that sends lives as long as this one listens.
                let Some(first) = first else { return Ok(()) };
                let now = Instant::now();
                model.take(first, now);
                for _ in 1..TAKEN_AT_ONCE {
                    let Ok(more) = news.try_recv() else { break };
                    model.take(more, now);
                }
                changed = true;
            }
            _ = tick.tick() => changed = true,
        }
    }
}
