//! A lake whose waves and rocks are JSON, and what happens to a source of it as the interface tells it. Who implements
//! [`Lakes`](super::Lakes) for lakes of its own needs no more of them.

use futures_util::stream::{self, BoxStream, StreamExt};
use groundswell::{
    Cursor, Event, Lake, Source, Subscriptions, Updates,
    lakes::{Json, JsonDocument, JsonPatch, Log, Sum},
};
use serde_json::value::{RawValue, to_raw_value};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Begin, LakeError, LakeEvent, Rocks, Surf};

/// A lake whose waves and rocks have a form as JSON.
pub trait JsonLake: Lake<Wave: Clone> + Sized {
    /// A wave from its JSON; or why it is none, in words.
    fn wave(json: &RawValue) -> Result<Self::Wave, String>;

    /// A wave as JSON.
    fn wave_json(wave: &Self::Wave) -> serde_json::Result<Box<RawValue>>;

    /// A rock as JSON. It is called while who gives a wave waits, so that it is to make text at once.
    fn rock_json(rock: &Self::Rock) -> serde_json::Result<Box<RawValue>>;
}

/// A rock as JSON, which may take long for a large one: in a runtime of several threads, the tasks of this one go on
/// on another meanwhile.
pub fn rock_json<L: JsonLake>(rock: &L::Rock) -> serde_json::Result<Box<RawValue>> {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| L::rock_json(rock)),
        _ => L::rock_json(rock),
    }
}

impl JsonLake for Log {
    fn wave(json: &RawValue) -> Result<String, String> {
        serde_json::from_str(json.get()).map_err(|error| format!("a wave of a log is a string ({error})"))
    }

    fn wave_json(wave: &String) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(wave)
    }

    fn rock_json(rock: &Vec<String>) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(rock)
    }
}

impl JsonLake for Sum {
    fn wave(json: &RawValue) -> Result<i64, String> {
        serde_json::from_str(json.get())
            .map_err(|error| format!("a wave of a sum is a whole number of 64 bits ({error})"))
    }

    fn wave_json(wave: &i64) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(wave)
    }

    fn rock_json(rock: &i64) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(rock)
    }
}

impl JsonLake for Json {
    fn wave(json: &RawValue) -> Result<JsonPatch, String> {
        let refused = |error| {
            format!("a wave of json is a JSON Patch ({error}), as [{{\"op\":\"add\",\"path\":\"\",\"value\":{{}}}}] is")
        };
        json.get().parse().map_err(refused)
    }

    fn wave_json(wave: &JsonPatch) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(&wave.0)
    }

    fn rock_json(rock: &JsonDocument) -> serde_json::Result<Box<RawValue>> {
        to_raw_value(&rock.0)
    }
}

/// Follows a source, as [`Lakes::surf`](super::Lakes::surf) is asked to. The stream ends after [`LakeEvent::Ended`];
/// dropping it ends it at once, and the source goes on being followed.
///
/// ```
/// # async fn example(node: groundswell::Node, source: groundswell::Source) -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt;
/// use groundswell_web::lakes::{Begin, LakeEvent, Rocks, Surf, surf};
///
/// let sums = node.agent("main")?.subscriptions::<groundswell::lakes::Sum>("/sum").await?;
/// let mut events = surf(&sums, &source, Surf { begin: Begin::Newest, rocks: Rocks::Needed }).await?;
/// while let Some(event) = events.next().await {
///     if let LakeEvent::CaughtUp { rock: Some(rock), .. } = event {
///         println!("it is {rock} now");
///         break;
///     }
/// }
/// # Ok(()) }
/// ```
pub async fn surf<L: JsonLake>(
    subscriptions: &Subscriptions<L>,
    source: &Source,
    surf: Surf,
) -> Result<BoxStream<'static, LakeEvent>, LakeError> {
    let from = match surf.begin {
        Begin::Newest => None,
        Begin::Cursor(cursor) => Some(cursor),
        Begin::Waves(waves) => {
            subscriptions.follow(source.clone()).await?;
            let newest = subscriptions.read().get(source).and_then(|state| state.cursor);
            newest.map(|newest| Cursor { aeon: newest.aeon.back(waves), ..newest })
        }
    };
    let updates = subscriptions.surf_from(source.clone(), from).await?;
    let events = stream::unfold(updates, move |mut updates| async move {
        let event = next::<L>(&mut updates, surf.rocks).await?;
        Some((event, updates))
    });
    Ok(events.boxed())
}

/// The next event, with the rock where it is wanted.
async fn next<L: JsonLake>(updates: &mut Updates<L>, rocks: Rocks) -> Option<LakeEvent> {
    loop {
        let look = |event, rock: Option<&L::Rock>| (event, rock.map(rock_json::<L>));
        let (event, rock) = match rocks {
            Rocks::Never => (updates.next().await?, None),
            Rocks::Needed => updates.next_or_rock(look).await?,
            Rocks::Always => updates.next_with_rock(look).await?,
        };
        // Text, numbers and JSON always make JSON.
        let rock = rock.and_then(Result::ok);
        return Some(match event {
            Event::Update(update) => LakeEvent::Update {
                cursor: update.cursor,
                wave: update.wave.as_ref().and_then(|wave| L::wave_json(wave).ok()),
                rock,
                live: update.live,
                stale: update.stale,
            },
            Event::CaughtUp { aeon } if rocks == Rocks::Never => LakeEvent::CaughtUp { aeon, rock: None },
            // The rock may be newer than the last update; then so is the aeon that is told with it.
            Event::CaughtUp { aeon } => match updates.with_rock(|rock, aeon| (aeon, rock_json::<L>(rock))).await {
                Ok((aeon, rock)) => LakeEvent::CaughtUp { aeon, rock: rock.ok() },
                Err(_) => LakeEvent::CaughtUp { aeon, rock: None },
            },
            Event::Freshness(freshness) => LakeEvent::Freshness(freshness),
            Event::Ended(ended) => LakeEvent::Ended(ended),
            // An event of a newer library, which says nothing that is told here.
            _ => continue,
        });
    }
}
