//! The subscriber's side on the wire: one task for each source that some agent follows.
//!
//! It waits for the peer's link, asks with the replica's cursor, hands what comes to the driver
//! in batches, and says how fresh the replica is. It ends when the last agent quits the source,
//! or with the node.

use std::{sync::Arc, time::Duration};

use groundswell_core::{
    LakeId,
    limits::{MAX_FRAME_BYTES, READ_BATCH_BYTES},
    subscriber::{Inflow, Intake},
    wire::{Message, Refusal, Retry, StreamKind, Surf, encode_frame},
};
use iroh::endpoint::{Connection, ReadError};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    cell::TideCell,
    driver::{ApplyError, Command, Manage},
    frames::{FrameReader, ReadFrameError},
    freshness::Freshness,
    limits::{BACKOFF_FIRST, BACKOFF_REFUSED},
    link::{Link, Refused, Want, jittered},
    metrics::Metrics,
    network::{CloseCode, lost_at},
    shared::Shared,
    source::Source,
};

/// How one stream ended.
enum End {
    /// The connection broke, or the publisher left.
    Lost,
    /// Something is wrong that time may mend: ask again after a wait.
    Later,
    /// The replica differs from its source: ask anew, with nothing, after a wait.
    Heal,
    /// The replica was quit.
    Gone,
}

/// Follows a source until `quit` is set.
pub(crate) fn spawn(shared: &Arc<Shared>, cell: Arc<TideCell>, source: Source, lake: LakeId, quit: CancellationToken) {
    let span = info_span!("follow", peer = %source.peer.fmt_short(), agent = %source.agent, path = %source.path);
    let task = shared.clone();
    shared.metrics.replicas_now.add(1);
    shared.tasks.spawn(
        async move {
            let following = Following { shared: task.clone(), cell, source, lake, heal: false, caught_up: false };
            tokio::select! {
                () = following.run() => {}
                () = quit.cancelled() => {}
                () = task.closing.cancelled() => {}
            }
            task.metrics.replicas_now.less(1);
        }
        .instrument(span),
    );
}

struct Following {
    shared: Arc<Shared>,
    cell: Arc<TideCell>,
    source: Source,
    lake: LakeId,
    /// Ask with no cursor: the replica differs from its source.
    heal: bool,
    /// The stream has caught up once: what ends it later is no failure to begin.
    caught_up: bool,
}

/// Counts a stream for as long as it is read.
struct Followed(Arc<Metrics>);

impl Followed {
    fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.streams_followed_now.add(1);
        Self(metrics.clone())
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.streams_followed_now.less(1);
    }
}

impl Following {
    async fn run(mut self) {
        let want = Want::new(&self.shared, self.source.peer);
        let mut link = want.peer.link();
        let mut wait = BACKOFF_FIRST;
        let mut asked_on = None;
        loop {
            let now = link.borrow_and_update().clone();
            let connection = match now {
                Link::Up(connection) => connection,
                Link::Connecting | Link::Down { .. } => {
                    if let Link::Down { since, refused } = now {
                        self.cell.set_freshness(match refused {
                            Some(Refused::Versions(mismatch)) => Freshness::Unusable { reason: mismatch.to_string() },
                            _ => Freshness::Offline { since },
                        });
                    }
                    if link.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            // Whatever ended the streams before, it was on another connection, perhaps of an earlier run of the peer.
            if asked_on.replace(connection.stable_id()) != Some(connection.stable_id()) {
                wait = BACKOFF_FIRST;
            }
            let end = self.stream(&connection).await;
            let lost = connection.close_reason().is_some();
            match end {
                End::Gone => return,
                End::Heal => {
                    self.heal = true;
                    self.cell.set_freshness(Freshness::Diverged);
                }
                End::Lost => self.cell.set_freshness(Freshness::Offline { since: lost_at(&connection) }),
                End::Later => {}
            }
            if lost {
                // The registry learns of the loss in a moment; until then its link is this connection.
                let this = connection.stable_id();
                let other = |link: &Link| !matches!(link, Link::Up(other) if other.stable_id() == this);
                if link.wait_for(other).await.is_err() {
                    return;
                }
                continue;
            }
            if std::mem::take(&mut self.caught_up) {
                wait = BACKOFF_FIRST;
            }
            // The connection stands, so that asking again at once would be a busy loop.
            self.pause(&mut link, wait).await;
            wait = (wait * 2).min(BACKOFF_REFUSED);
        }
    }

    /// Waits, or until the link changes.
    async fn pause(&self, link: &mut tokio::sync::watch::Receiver<Link>, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(jittered(wait)) => {}
            _ = link.changed() => {}
        }
    }

    /// Runs one stream to its end.
    async fn stream(&mut self, connection: &Connection) -> End {
        if !matches!(
            self.cell.standing().freshness,
            Freshness::Diverged | Freshness::Refused(_) | Freshness::Unusable { .. }
        ) {
            self.cell.set_freshness(Freshness::Connecting);
        }
        let seen = self.cell.cursor();
        let cursor = if self.heal { None } else { seen };
        let surf =
            Surf { agent: self.source.agent.clone(), path: self.source.path.clone(), lake: self.lake.clone(), cursor };
        let mut frame = vec![StreamKind::Subscription.byte()];
        if encode_frame(&surf, &mut frame).is_err() {
            return End::Later;
        }
        let opened = async {
            let (mut send, recv) = connection.open_bi().await.ok()?;
            send.write_all(&frame).await.ok()?;
            Some((send, recv))
        };
        // The sending half is kept: ending it would end the subscription.
        let Some((_send, recv)) = opened.await else { return End::Lost };
        let _counted = Followed::begin(&self.shared.metrics);
        self.receive(FrameReader::new(recv, MAX_FRAME_BYTES), Inflow::new(cursor, seen)).await
    }

    async fn receive(&mut self, mut reader: FrameReader, mut inflow: Inflow) -> End {
        let mut pending: Vec<Intake> = Vec::new();
        let mut bytes = 0;
        loop {
            let intake = match reader.buffered() {
                Ok(Some(body)) => {
                    let decoded = decode_message(body).map(|message| inflow.handle(message));
                    match decoded {
                        Some(Ok(intake)) => Some(intake),
                        Some(Err(violation)) => return self.violated(pending, &violation).await,
                        None => return self.violated(pending, &"an undecodable message").await,
                    }
                }
                Ok(None) => None,
                Err(error) => return self.violated(pending, &error).await,
            };
            let Some(intake) = intake else {
                // Everything that has come is looked at: hand it on before waiting for more.
                if let Err(end) = self.apply(&mut pending).await {
                    return end;
                }
                bytes = 0;
                match reader.fill().await {
                    Ok(read) => self.shared.metrics.bytes_received.add(read as u64),
                    // It took so little, while others waited, that the publisher needs the room: all that came is applied.
                    Err(ReadFrameError::Stream(ReadError::Reset(code))) if code == CloseCode::Crowded.code() => {
                        self.cell.set_freshness(Freshness::Refused(Refusal::Crowded));
                        return End::Later;
                    }
                    Err(ReadFrameError::Stream(_) | ReadFrameError::Ended | ReadFrameError::Cut) => return End::Lost,
                    Err(ReadFrameError::Frame(error)) => return self.violated(pending, &error).await,
                }
                continue;
            };
            match intake {
                Intake::Nothing => {}
                Intake::Wave { ref wave, .. } => {
                    bytes += wave.len();
                    pending.push(intake);
                    if bytes >= READ_BATCH_BYTES {
                        bytes = 0;
                        if let Err(end) = self.apply(&mut pending).await {
                            return end;
                        }
                    }
                }
                Intake::Rock { .. } => {
                    if let Err(end) = self.apply(&mut pending).await {
                        return end;
                    }
                    // After a gap the replica is catching up again, until the publisher says otherwise.
                    if self.cell.standing().freshness == Freshness::Live {
                        self.cell.set_freshness(Freshness::Connecting);
                    }
                    pending.push(intake);
                    if let Err(end) = self.apply(&mut pending).await {
                        return end;
                    }
                    self.heal = false;
                }
                Intake::CaughtUp(aeon) => {
                    // Applied first, so that the waves before are the catch-up, and those after are live.
                    if let Err(end) = self.apply(&mut pending).await {
                        return end;
                    }
                    if self.cell.is_killed() {
                        self.note_killed(false).await;
                    }
                    self.cell.caught_up(aeon);
                    self.caught_up = true;
                }
                Intake::NotAvailable if self.cell.is_killed() => self.cell.set_freshness(Freshness::Killed),
                Intake::NotAvailable => self.cell.set_freshness(Freshness::NotAvailable),
                Intake::Killed => {
                    // What came before it is not lost.
                    if let Err(end) = self.apply(&mut pending).await {
                        return end;
                    }
                    bytes = 0;
                    self.note_killed(true).await;
                    self.cell.set_freshness(Freshness::Killed);
                }
                Intake::Refused(refusal) => {
                    debug!(%refusal, "refused");
                    let retry = refusal.retry();
                    self.cell.set_freshness(Freshness::Refused(refusal));
                    if retry == Retry::Later {
                        return End::Later;
                    }
                }
                Intake::ShuttingDown => {
                    let _ = self.apply(&mut pending).await;
                    return End::Lost;
                }
            }
        }
    }

    /// Notes, for later runs too, that the source has ended for this node, or has begun again.
    async fn note_killed(&self, killed: bool) {
        self.cell.set_killed(killed);
        let cell = self.cell.clone();
        let noted = self.shared.driver.ask(|reply| Command::Manage(Manage::SourceKilled { cell, killed, reply })).await;
        if let Ok(Err(error)) = noted {
            warn!(%error, "a later run will not know whether the source had ended");
        }
    }

    /// Hands what has come to the driver, and waits until it is durable.
    async fn apply(&self, pending: &mut Vec<Intake>) -> Result<(), End> {
        if pending.is_empty() {
            return Ok(());
        }
        let (cell, intakes) = (self.cell.clone(), std::mem::take(pending));
        match self.shared.driver.ask(|reply| Command::Apply { cell, intakes, reply }).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ (ApplyError::Diverged(_) | ApplyError::Refused { .. } | ApplyError::BadRock { .. }))) => {
                let error = groundswell_core::Visible(error);
                warn!(%error, "this replica differs from its source, and is to be healed");
                Err(End::Heal)
            }
            Ok(Err(ApplyError::Gone)) => Err(End::Later),
            // What has an unknown outcome is repeated here, and asked for again from where the replica stands then.
            Ok(Err(error @ (ApplyError::Storage(_) | ApplyError::Unknown(_)))) => {
                warn!(%error, "the replica stands still until storage works again");
                self.cell.set_freshness(Freshness::Unusable { reason: error.to_string() });
                Err(End::Later)
            }
            Ok(Err(ApplyError::ShutDown)) | Err(_) => Err(End::Gone),
        }
    }

    async fn violated(&self, mut pending: Vec<Intake>, violation: &(dyn std::fmt::Display + Sync)) -> End {
        let violation = groundswell_core::Visible(violation);
        warn!(%violation, "the publisher's stream is closed, and tried again later");
        self.shared.metrics.violations.add(1);
        let applied = self.apply(&mut pending).await;
        self.cell.set_freshness(Freshness::Unusable { reason: violation.to_string() });
        applied.err().unwrap_or(End::Later)
    }
}

fn decode_message(body: &[u8]) -> Option<Message<'_>> {
    let (message, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(message)
}
