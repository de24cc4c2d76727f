//! Keys and values for a command: one answer, or a line an event, written when the client reads. What
//! is not written yet is not taken from the stream either, so that a client which does not read costs
//! a cursor and the few lines on their way.

use std::time::Duration;

use groundswell::{
    Cursor, KvEnded, KvError, KvFilter, KvFleetEvent, KvFleetSubscription, KvKey, KvSubscription, PeerId,
};
use tokio::time::timeout;

use super::{
    protocol::{Deleted, Delivered, KvAsk, KvKind, KvLine, KvPlace, MAX_VALUE_BYTES},
    session::{Ending, Session},
};
use crate::{
    bytes::{Hex, for_people, to_hex},
    error::ToolError,
    lines::LineError,
};

/// Answers what is asked of the keys and values.
pub(super) async fn kv(session: &mut Session, place: KvPlace, ask: KvAsk) -> Result<(), Ending> {
    let registry = session.registry.clone();
    let hex = place.hex;
    if let KvAsk::SubscribeAll { prefix } = &ask {
        let manager = registry.store().manager("`kv subscribe --all`")?;
        let fleet = manager.subscribe_all_kv_entries(filter(prefix)).await?;
        return follow(session, Entries::All(fleet), hex).await;
    }
    let space = registry.store().space(place.machine.as_deref(), place.space.as_deref())?;
    match ask {
        KvAsk::Get { key } => {
            let entry = space.get(&key.0).await?.ok_or_else(|| no_value(&key))?;
            session.answers.line(&KvLine::entry(&entry, hex)).await
        }
        KvAsk::Set { key, bytes, id } => {
            // What can't be written is refused before it is read.
            KvKey::new(&key.0)?;
            let value = value(session, bytes).await?;
            let entry = match id {
                None => space.set(&key.0, value).await?,
                Some(id) => space.set_once(&key.0, id, value).await?,
            };
            session.answers.line(&KvLine::entry(&entry, hex)).await
        }
        KvAsk::Del { key, id } => {
            let deleted = match id {
                None => space.delete(&key.0).await?,
                Some(id) => space.delete_once(&key.0, id).await?,
            };
            session.answers.line(&Deleted { deleted }).await
        }
        KvAsk::Ls { prefix } => {
            for entry in space.entries(filter(&prefix)).await? {
                session.answers.line(&KvLine::entry(&entry, hex)).await?;
            }
            Ok(())
        }
        KvAsk::Delivered { within_ms } => {
            let waiting = async {
                let delivered = space.until_delivered();
                match within_ms.map(Duration::from_millis) {
                    Some(within) => timeout(within, delivered).await.map_err(|_| ToolError::NotDelivered { within })?,
                    None => delivered.await,
                }
                .map_err(ToolError::from)
            };
            tokio::select! {
                delivered = waiting => delivered?,
                () = session.lines.gone() => return Ok(()),
            }
            session.answers.line(&Delivered { delivered: true }).await
        }
        KvAsk::Watch { key, cursor } => {
            let key = KvFilter::Key(KvKey::new(&key.0)?);
            let events = space.subscribe_from(key, parsed(cursor)?).await?;
            follow(session, Entries::Of(None, events), hex).await
        }
        KvAsk::Subscribe { prefix, cursor } => {
            let events = space.subscribe_from(filter(&prefix), parsed(cursor)?).await?;
            follow(session, Entries::Of(None, events), hex).await
        }
        // It was answered above.
        KvAsk::SubscribeAll { .. } => Ok(()),
    }
}

pub(super) fn filter(prefix: &Hex) -> KvFilter {
    if prefix.0.is_empty() { KvFilter::All } else { KvFilter::prefix(&prefix.0) }
}

fn parsed(cursor: Option<String>) -> Result<Option<Cursor>, ToolError> {
    Ok(cursor.as_deref().map(str::parse).transpose()?)
}

fn no_value(key: &Hex) -> ToolError {
    let text = std::str::from_utf8(&key.0).ok();
    ToolError::NoValue { key: for_people(text, Some(&to_hex(&key.0))) }
}

/// The value that follows a request, of so many bytes.
async fn value(session: &mut Session, bytes: usize) -> Result<Vec<u8>, Ending> {
    if bytes > MAX_VALUE_BYTES {
        return Err(KvError::ValueTooLarge { bytes, limit: MAX_VALUE_BYTES }.into());
    }
    let refused = |reason: String| Ending::from(ToolError::Request(reason));
    let line = tokio::select! {
        // Two digits a byte, and two quotation marks.
        line = session.lines.next(2 * bytes + 2) => line,
        () = session.closing.cancelled() => return Err(KvError::ShutDown.into()),
    };
    match line {
        Ok(Some(line)) => {
            let value: Hex = serde_json::from_slice(line).map_err(|error| refused(error.to_string()))?;
            if value.0.len() == bytes { Ok(value.0) } else { Err(refused("a value that was cut".to_owned())) }
        }
        Ok(None) => Err(Ending::Gone(std::io::ErrorKind::UnexpectedEof.into())),
        Err(LineError::Io(error)) => Err(Ending::Gone(error)),
        Err(error @ LineError::TooLong(_)) => Err(refused(error.to_string())),
    }
}

/// A stream of entries.
pub(super) enum Entries {
    /// Of every machine.
    All(KvFleetSubscription),
    /// Of one document, and whose it is, where that is to be said.
    Of(Option<PeerId>, KvSubscription),
}

impl Entries {
    /// The next line; `None` when there is no more. Cancel safe.
    pub(super) async fn next(&mut self, hex: bool) -> Option<Result<KvLine, ToolError>> {
        match self {
            Self::All(events) => events.next().await.map(|event| fleet_line(&event, hex)),
            Self::Of(machine, events) => {
                let update = events.next().await?;
                Some(Ok(KvLine { machine: machine.map(|id| id.to_string()), ..KvLine::update(&update, hex) }))
            }
        }
    }

    pub(super) fn ended(&self) -> Option<KvEnded> {
        match self {
            Self::All(events) => events.ended(),
            Self::Of(_, events) => events.ended(),
        }
    }
}

fn fleet_line(event: &KvFleetEvent, hex: bool) -> Result<KvLine, ToolError> {
    Ok(match event {
        KvFleetEvent::Update { machine, update } => {
            KvLine { machine: Some(machine.to_string()), ..KvLine::update(update, hex) }
        }
        KvFleetEvent::CaughtUp => KvLine::of(KvKind::CaughtUp),
        KvFleetEvent::Gone { machine } => KvLine { machine: Some(machine.to_string()), ..KvLine::of(KvKind::Gone) },
        _ => return Err(ToolError::Answer("an event of a newer version".to_owned())),
    })
}

/// Writes what happens to entries until the stream ends or the client has gone.
async fn follow(session: &mut Session, mut entries: Entries, hex: bool) -> Result<(), Ending> {
    let mut unsent = false;
    loop {
        let line = tokio::select! {
            // What is to be said comes first, so that many lines are sent together.
            biased;
            line = entries.next(hex) => line,
            sent = session.answers.flush(), if unsent => {
                sent?;
                unsent = false;
                continue;
            }
            () = session.lines.gone() => return Ok(()),
        };
        let Some(line) = line else { return session.answers.line(&KvLine::ended(entries.ended())).await };
        session.answers.line(&line?).await?;
        unsent = true;
    }
}
