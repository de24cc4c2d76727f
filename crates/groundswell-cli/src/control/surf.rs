//! Following a source for a command: each event is a line, written when the client reads.

use groundswell::{Cursor, Ended, Event, Freshness, Moment, Name, Refusal, Source, Updates};
use groundswell_web::lakes::rock_json;
use serde_json::value::RawValue;

use super::{
    protocol::{Rocks, Surfed},
    session::{Ending, Session},
};
use crate::{builtin::ToolLake, error::ToolError};

/// A rock as JSON, where one was looked at.
type Rock = Option<serde_json::Result<Box<RawValue>>>;

/// Follows a source until the stream ends or the client has gone; with `no_wait`, until there is
/// nothing to follow.
pub(super) async fn surf<L: ToolLake>(
    session: &mut Session,
    source: Source,
    rocks: Rocks,
    from: Option<&str>,
    no_wait: bool,
) -> Result<(), Ending> {
    let from: Option<Cursor> = from.map(str::parse).transpose()?;
    let mut updates = session.registry.surf::<L>(source.clone(), from).await?;
    let mut other_lake = false;
    let ended = follow(session, &mut updates, rocks, no_wait, &mut other_lake).await;
    // What never came is waited for, unless that was not wanted, or it is of another lake than was asked for.
    let keep = updates.cursor().is_some() || !(no_wait || other_lake);
    drop(updates);
    session.registry.end_surf(&source, keep).await?;
    ended
}

async fn follow<L: ToolLake>(
    session: &mut Session,
    updates: &mut Updates<L>,
    rocks: Rocks,
    no_wait: bool,
    other_lake: &mut bool,
) -> Result<(), Ending> {
    let mut unsent = false;
    loop {
        let next = tokio::select! {
            // What is to be said comes first, so that many lines are sent together.
            biased;
            next = next(updates, rocks) => next,
            sent = session.answers.flush(), if unsent => {
                sent?;
                unsent = false;
                continue;
            }
            () = session.lines.gone() => return Ok(()),
        };
        let Some((event, rock)) = next else { return Ok(()) };
        match &event {
            Event::Freshness(freshness) => *other_lake = published(freshness).is_some(),
            // A node that stops goes on with it when it is started again.
            Event::Ended(_) => *other_lake = false,
            _ => {}
        }
        let line = match event {
            Event::CaughtUp { aeon } if rocks == Rocks::Never => Surfed::CaughtUp { aeon: aeon.0, rock: None },
            // The rock may be newer than the last update; then so is the aeon that is told with it.
            Event::CaughtUp { .. } => {
                let (aeon, rock) = updates.with_rock(|rock, aeon| (aeon, rock_json::<L>(rock))).await?;
                Surfed::CaughtUp { aeon: aeon.0, rock: Some(made(rock)?) }
            }
            event => line::<L>(event, rock)?,
        };
        session.answers.line(&line).await?;
        if no_wait && matches!(line, Surfed::NotAvailable | Surfed::Killed) {
            return Ok(());
        }
        unsent = true;
    }
}

/// The next event, with the rock where it is wanted. It can be dropped while it waits.
async fn next<L: ToolLake>(updates: &mut Updates<L>, rocks: Rocks) -> Option<(Event<L::Wave>, Rock)> {
    let look = |event, rock: Option<&L::Rock>| (event, rock.map(rock_json::<L>));
    match rocks {
        Rocks::Never => updates.next().await.map(|event| (event, None)),
        Rocks::WhereNeeded => updates.next_or_rock(look).await,
        Rocks::Always => updates.next_with_rock(look).await,
    }
}

fn line<L: ToolLake>(event: Event<L::Wave>, rock: Rock) -> Result<Surfed, ToolError> {
    Ok(match event {
        Event::Update(update) => Surfed::Update {
            aeon: update.aeon().0,
            wave: update.wave.as_ref().map(|wave| made(L::wave_json(wave))).transpose()?,
            rock: rock.map(made).transpose()?,
            live: update.live,
            stale: update.stale,
            cursor: update.cursor.to_string(),
        },
        Event::CaughtUp { aeon } => Surfed::CaughtUp { aeon: aeon.0, rock: None },
        Event::Freshness(Freshness::NotAvailable) => Surfed::NotAvailable,
        Event::Freshness(Freshness::Killed) => Surfed::Killed,
        Event::Freshness(freshness) => told(&freshness),
        Event::Ended(ended) => {
            let (reason, detail) = match ended {
                Ended::Quit => ("quit", None),
                Ended::ShutDown => ("shut_down", None),
                Ended::Storage(reason) => ("storage", Some(reason)),
                other => ("other", Some(other.to_string())),
            };
            Surfed::Ended { reason, detail }
        }
        _ => return Err(ToolError::Answer("an event of a newer version".to_owned())),
    })
}

fn told(freshness: &Freshness) -> Surfed {
    let (since, detail) = match freshness {
        Freshness::Offline { since } => (Some(*since), None),
        Freshness::Refused(refusal) => (None, Some(refusal.to_string())),
        Freshness::Unusable { reason } => (None, Some(reason.clone())),
        _ => (None, None),
    };
    let lake = published(freshness).cloned();
    Surfed::Freshness { state: freshness.kind(), since_ms: since.map(Moment::unix_ms), detail, lake }
}

/// What is published, where a source is refused as another lake than was asked for.
fn published(freshness: &Freshness) -> Option<&Name> {
    match freshness {
        Freshness::Refused(Refusal::LakeDiffers { published }) => Some(&published.name),
        _ => None,
    }
}

fn made(json: serde_json::Result<Box<RawValue>>) -> Result<Box<RawValue>, ToolError> {
    json.map_err(|error| ToolError::Answer(error.to_string()))
}
