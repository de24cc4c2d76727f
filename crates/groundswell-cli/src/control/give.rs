//! Giving waves as they come, many at a time.

use std::io;

use groundswell::{Aeon, GiveError, Name, Path, Publications, limits::MAX_WAVES_AT_ONCE};

use super::{
    protocol::{Given, MAX_WAVE_LINE_BYTES},
    session::{Ending, Session},
};
use crate::{builtin::ToolLake, error::ToolError, lines::LineError};

/// How many waves are given at once at most, so that each acknowledgement comes soon.
const MAX_BATCH_WAVES: usize = 1_000;

/// How many bytes of lines are given at once at most (1 MiB), the last one not counted.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Gives the waves that follow the request. Each batch of them is acknowledged.
pub(super) async fn give<L: ToolLake>(session: &mut Session, agent: &Name, path: &Path) -> Result<(), Ending> {
    let registry = session.registry.clone();
    let publications = registry.publications::<L>(agent, path).await?;
    let kills = registry.kills_of(agent, path).await;
    let mut given = 0;
    loop {
        let (waves, problem) = match next_batch::<L>(session).await {
            Ok(waves) => (waves, None),
            Err((waves, problem)) => (waves, Some(problem)),
        };
        let ended = waves.is_empty();
        // Without any wave there is still a publication afterwards, of the default rock.
        if !ended || (given == 0 && problem.is_none()) {
            let count = waves.len() as u64;
            let _not_killed_meanwhile = registry.unless_killed(agent, path, kills).await?;
            match give_batch(&publications, path, waves).await {
                Ok(aeon) => session.answers.line(&Given { aeon: aeon.0 }).await?,
                Err(Stopped { index, error }) => {
                    let before = given + index.unwrap_or(0) as u64;
                    // A wave that was refused is named; of any other failure it is said what was done before.
                    let wave = index.filter(|_| !error.is_unknown()).map(|_| before + 1);
                    let error = if wave.is_some() { error } else { after(before, error) };
                    return Err(Ending::Failed { error, wave });
                }
            }
            session.answers.flush().await?;
            given += count;
        }
        match problem {
            Some(Problem::Wave(reason)) => {
                return Err(Ending::Failed { error: ToolError::Said(reason), wave: Some(given + 1) });
            }
            Some(Problem::ShutDown) => return Err(after(given, GiveError::ShutDown.into()).into()),
            Some(Problem::Gone(error)) => return Err(Ending::Gone(error)),
            None if ended => return Ok(()),
            None => {}
        }
    }
}

/// The error of who has given so many waves before it: all of them are not to be given again.
fn after(given: u64, error: ToolError) -> ToolError {
    if given == 0 { error } else { ToolError::GivenBefore { given, error: Box::new(error) } }
}

/// Gives all the waves that follow the request, together and once. If one is refused, none is given.
pub(super) async fn give_once<L: ToolLake>(
    session: &mut Session,
    agent: &Name,
    path: &Path,
    id: &str,
) -> Result<(), Ending> {
    let registry = session.registry.clone();
    let publications = registry.publications::<L>(agent, path).await?;
    let kills = registry.kills_of(agent, path).await;
    let mut waves = Vec::new();
    loop {
        match next_batch::<L>(session).await {
            Ok(more) if more.is_empty() => break,
            Ok(more) => waves.extend(more),
            Err((more, Problem::Wave(reason))) => {
                let number = (waves.len() + more.len()) as u64 + 1;
                return Err(Ending::Failed { error: ToolError::Said(reason), wave: Some(number) });
            }
            Err((_, Problem::ShutDown)) => return Err(GiveError::ShutDown.into()),
            Err((_, Problem::Gone(error))) => return Err(Ending::Gone(error)),
        }
        if waves.len() > MAX_WAVES_AT_ONCE {
            return Err(GiveError::TooMany.into());
        }
    }
    let _not_killed_meanwhile = registry.unless_killed(agent, path, kills).await?;
    let given = publications.give_all_once(path.as_str(), id, waves).await;
    let aeon = given.map_err(|error| match error {
        GiveError::Refused { index, reason } => {
            Ending::Failed { error: ToolError::Said(reason), wave: Some(index as u64 + 1) }
        }
        error => error.into(),
    })?;
    session.answers.line(&Given { aeon: aeon.0 }).await
}

/// Why no more waves are read.
enum Problem {
    /// The next wave is none.
    Wave(String),
    ShutDown,
    Gone(io::Error),
}

/// Waits for a wave and takes along what else is here. None at the end; with a problem, those before it.
async fn next_batch<L: ToolLake>(session: &mut Session) -> Result<Vec<L::Wave>, (Vec<L::Wave>, Problem)> {
    let (mut waves, mut bytes) = (Vec::new(), 0);
    while waves.is_empty() || (waves.len() < MAX_BATCH_WAVES && bytes < MAX_BATCH_BYTES && session.lines.has_next()) {
        let next = tokio::select! {
            next = session.lines.next(MAX_WAVE_LINE_BYTES) => next,
            () = session.closing.cancelled() => return Err((waves, Problem::ShutDown)),
        };
        let line = match next {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error @ LineError::TooLong(_)) => return Err((waves, Problem::Wave(error.to_string()))),
            Err(LineError::Io(error)) => return Err((waves, Problem::Gone(error))),
        };
        bytes += line.len();
        let parsed = serde_json::from_slice::<String>(line).map_err(|error| error.to_string());
        match parsed.and_then(|text| L::parse_wave(&text)) {
            Ok(wave) => waves.push(wave),
            Err(reason) => return Err((waves, Problem::Wave(reason))),
        }
    }
    Ok(waves)
}

/// Not everything was given.
struct Stopped {
    /// The wave that was refused, from 0; those before it were given. `None` where the failure
    /// is of no one wave.
    index: Option<usize>,
    error: ToolError,
}

/// Gives a batch. Where a wave is refused, those before it are given.
async fn give_batch<L: ToolLake>(
    publications: &Publications<L>,
    path: &Path,
    mut waves: Vec<L::Wave>,
) -> Result<Aeon, Stopped> {
    let mut refused: Option<Stopped> = None;
    loop {
        // All or none are given, so that those before the refused one are given again without it.
        match publications.give_all(path.as_str(), waves.iter().cloned()).await {
            Ok(aeon) => return refused.map_or(Ok(aeon), Err),
            Err(GiveError::Refused { index, reason }) => {
                refused = Some(Stopped { index: Some(index), error: ToolError::Said(reason) });
                waves.truncate(index);
            }
            Err(error @ (GiveError::Panicked { index, .. } | GiveError::RoundTrip { index, .. })) => {
                refused = Some(Stopped { index: Some(index), error: error.into() });
                waves.truncate(index);
            }
            Err(error @ (GiveError::WaveTooLarge { .. } | GiveError::RockTooLarge { .. } | GiveError::Encode(_))) => {
                if waves.len() <= 1 {
                    return Err(Stopped { index: Some(0), error: error.into() });
                }
                return give_singly(publications, path, waves).await;
            }
            Err(error) => return Err(Stopped { index: None, error: error.into() }),
        }
        // Giving nothing would publish the path.
        if waves.is_empty()
            && let Some(refused) = refused.take()
        {
            return Err(refused);
        }
    }
}

/// Gives a batch one by one, since its error does not say which wave it is about.
async fn give_singly<L: ToolLake>(
    publications: &Publications<L>,
    path: &Path,
    waves: Vec<L::Wave>,
) -> Result<Aeon, Stopped> {
    let mut newest = Aeon::ZERO;
    for (index, wave) in waves.into_iter().enumerate() {
        let given = publications.give(path.as_str(), wave).await;
        newest = given.map_err(|error| Stopped { index: Some(index), error: error.into() })?;
    }
    Ok(newest)
}
