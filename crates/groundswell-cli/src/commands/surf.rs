//! `surf`: follows a state.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use groundswell::Name;
use tokio::time::{Instant, timeout};

use crate::{
    args::Surf,
    builtin::Builtin,
    control::{
        client::{self, Answers},
        protocol::{Request, Rocks, SeenKind, SeenLine, Surfed},
    },
    error::ToolError,
    output::{Output, OutputReader, shorten},
    stop::{Stop, last_words},
};

/// How long a peer may be out of reach before `--no-wait` gives up.
const NO_WAIT_PATIENCE: Duration = Duration::from_secs(15);

/// How long the node may take to undo what a `--no-wait` that gives up began.
const UNDO_PATIENCE: Duration = Duration::from_secs(5);

/// How much of a rock is shown to people, in characters.
const SHOWN_ROCK_CHARACTERS: usize = 200;

/// Prints what comes until the stream ends, or is asked to.
pub(super) async fn run(surf: Surf, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let mut stop = Stop::new()?;
    let rocks = match (surf.rock, surf.bare) {
        (true, _) => Rocks::Always,
        (_, true) => Rocks::Never,
        _ => Rocks::WhereNeeded,
    };
    let request = Request::Surf {
        peer: surf.peer.to_string(),
        path: surf.path.clone(),
        lake: surf.kind.lake,
        agent: surf.agent.clone(),
        rocks,
        from: surf.from.map(|cursor| cursor.to_string()),
        no_wait: surf.no_wait,
    };
    let mut reader = OutputReader::watch();
    let (sender, mut answers) = client::ask(&dir, &request).await?;
    let deadline = Instant::now() + NO_WAIT_PATIENCE;
    let mut updates = 0;
    let mut has_state = false;
    let mut caught_up = false;
    let one_shot = surf.once || surf.count.is_some() || surf.no_wait;
    loop {
        let line = tokio::select! {
            line = answers.next_line() => line?,
            () = stop.asked() => {
                let interrupted = Surfed::Ended { reason: "interrupted", detail: None };
                return last_words(say(&surf, &interrupted, output)).await.unwrap_or(Ok(()));
            }
            () = reader.gone() => return Ok(()),
            () = tokio::time::sleep_until(deadline), if surf.no_wait && !has_state => {
                say(&surf, &Surfed::NotAvailable, output).await?;
                drop(sender);
                rest(&mut answers).await;
                return Err(ToolError::NotReached { path: surf.path, seconds: NO_WAIT_PATIENCE.as_secs() });
            }
        };
        let Some(line) = line else { return output.flush().await };
        // Who asks for an end gets it, even while no one reads what is written.
        let Some(shown) = stop.unless(show(&surf, line, output)).await else { return Ok(()) };
        let Shown { kind, refused } = shown?;
        let enough = match kind {
            SeenKind::Update => {
                has_state = true;
                updates += 1;
                surf.count.is_some_and(|count| updates >= count)
            }
            SeenKind::CaughtUp => {
                has_state = true;
                caught_up = true;
                surf.once
            }
            _ => false,
        };
        let nothing = surf.no_wait && matches!(kind, SeenKind::NotAvailable | SeenKind::Killed);
        // Of another lake nothing comes. Another refusal may pass, which who does not want to wait waits for only where it
        // comes between.
        let refused = refused.filter(|why| match why {
            Refused::OtherLake(_) => one_shot,
            Refused::Other(_) => surf.no_wait && !caught_up,
        });
        if enough || nothing || refused.is_some() || !answers.has_next() {
            let Some(flushed) = stop.unless(output.flush()).await else { return Ok(()) };
            flushed?;
        }
        if nothing {
            rest(&mut answers).await;
            let path = surf.path;
            return Err(match kind {
                SeenKind::Killed => ToolError::HasEnded { path },
                _ => ToolError::NotAvailable { path },
            });
        }
        if let Some(why) = refused {
            drop(sender);
            rest(&mut answers).await;
            let (path, asked) = (surf.path, surf.kind.lake);
            return Err(match why {
                Refused::OtherLake(lake) => ToolError::OtherLake { path, lake, asked },
                Refused::Other(reason) => ToolError::SurfRefused { path, reason },
            });
        }
        if enough {
            return Ok(());
        }
    }
}

/// Waits until the node has answered all, and so has undone what is to be undone.
async fn rest(answers: &mut Answers) {
    // A node that has gone, or takes too long, has more to worry about.
    let all = async { while let Ok(Some(_)) = answers.next_line().await {} };
    let _ = timeout(UNDO_PATIENCE, all).await;
}

/// Writes a line of this command's own.
async fn say(surf: &Surf, line: &Surfed, output: &mut Output) -> Result<(), ToolError> {
    let line = serde_json::to_vec(line).map_err(unknown)?;
    show(surf, &line, output).await?;
    output.flush().await
}

/// What a line was.
struct Shown {
    kind: SeenKind,
    refused: Option<Refused>,
}

/// Why the source does not serve this node.
enum Refused {
    /// It is of this lake.
    OtherLake(Name),
    /// For this reason.
    Other(String),
}

/// Writes a line as it came, or as people read it.
async fn show(surf: &Surf, line: &[u8], output: &mut Output) -> Result<Shown, ToolError> {
    let seen: SeenLine<'_> = serde_json::from_slice(line).map_err(unknown)?;
    if output.is_json() {
        output.json(line).await?;
    } else {
        output.line(for_people(surf.kind.lake, &seen)).await?;
    }
    let refused = match (seen.state.as_deref(), seen.lake) {
        (Some("refused"), Some(lake)) => Some(Refused::OtherLake(lake)),
        (Some("refused"), None) => Some(Refused::Other(seen.detail.unwrap_or_default())),
        _ => None,
    };
    Ok(Shown { kind: seen.kind, refused })
}

fn for_people(lake: Builtin, seen: &SeenLine<'_>) -> String {
    let aeon = seen.aeon;
    let rock =
        || seen.rock.map(|rock| format!(" = {}", shorten(rock.get(), SHOWN_ROCK_CHARACTERS))).unwrap_or_default();
    match seen.kind {
        SeenKind::Update => {
            let wave = seen.wave.map(|wave| match lake {
                Builtin::Log => serde_json::from_str(wave.get()).unwrap_or_else(|_| wave.to_string()),
                Builtin::Sum if !wave.get().starts_with('-') => format!("+{wave}"),
                Builtin::Sum | Builtin::Json => wave.to_string(),
            });
            let wave = wave.map(|wave| format!(" {wave}")).unwrap_or_default();
            let stale = if seen.stale { "  (stale)" } else { "" };
            format!("{aeon}:{wave}{}{stale}", rock())
        }
        SeenKind::CaughtUp => format!("-- caught up at {aeon}{}", rock()),
        SeenKind::NotAvailable => "-- not available (yet); waiting for it".to_owned(),
        SeenKind::Killed => "-- killed, or no longer open to this node; waiting for it to come back".to_owned(),
        SeenKind::Freshness => {
            let state = seen.state.as_deref().unwrap_or_default().replace('_', " ");
            let since = seen.since_ms.and_then(ago).map(|ago| format!(" for {} s", ago.as_secs())).unwrap_or_default();
            format!("-- {state}{since}{}", detail(seen))
        }
        SeenKind::Ended => {
            let reason = seen.reason.as_deref().unwrap_or_default().replace('_', " ");
            format!("-- ended: {reason}{}", detail(seen))
        }
    }
}

fn detail(seen: &SeenLine<'_>) -> String {
    seen.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default()
}

/// How long ago a moment in milliseconds since 1970 was, if it is past.
fn ago(since_ms: u64) -> Option<Duration> {
    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(since_ms);
    SystemTime::now().duration_since(since).ok()
}

fn unknown(error: serde_json::Error) -> ToolError {
    ToolError::Answer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lake: Builtin, line: &str) -> String {
        for_people(lake, &serde_json::from_str(line).unwrap())
    }

    #[test]
    fn lines_are_short_for_people() {
        let log = r#"{"type":"update","aeon":3,"wave":"a \"b\"","live":true,"stale":false,"cursor":"c"}"#;
        assert_eq!(shown(Builtin::Log, log), "3: a \"b\"");
        let sum = r#"{"type":"update","aeon":3,"wave":5,"rock":8,"live":true,"stale":true,"cursor":"c"}"#;
        assert_eq!(shown(Builtin::Sum, sum), "3: +5 = 8  (stale)");
        assert_eq!(shown(Builtin::Sum, r#"{"type":"caught_up","aeon":3,"rock":8}"#), "-- caught up at 3 = 8");
        assert_eq!(shown(Builtin::Sum, r#"{"type":"ended","reason":"shut_down"}"#), "-- ended: shut down");
    }
}
