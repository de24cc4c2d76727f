//! A watch for a command: whose node it is, how its pairs stand, and what happens to the entries, as lines
//! of one stream. What is not written yet is not taken from the streams either.

use futures_util::{
    StreamExt,
    stream::{BoxStream, SelectAll, unfold},
};
use groundswell::{LinkStatus, MachineState, Manager, PeerId};
use tokio::sync::watch::Receiver;

use super::{
    kv::{Entries, filter},
    protocol::{KvLine, KvPlace, Other, Pair, PairLine, WatchKind, WatchedNode},
    session::{Ending, Session},
};
use crate::{bytes::Hex, error::ToolError, registry::Registry, store::Store};

/// How the pairs stand that are watched: a line for each at first, and at each change.
type Pairs = SelectAll<BoxStream<'static, PairLine>>;

/// Writes lines until the streams end or the client has gone.
pub(super) async fn watch(session: &mut Session, place: KvPlace, prefix: &Hex) -> Result<(), Ending> {
    let registry = session.registry.clone();
    let (filter, hex) = (filter(prefix), place.hex);
    let mut pairs = Pairs::new();
    let mut machines = None;
    let mut entries = match registry.store() {
        Store::Manager(manager) if place.machine.is_none() => {
            if place.space.is_some() {
                return Err(ToolError::WhichMachine.into());
            }
            // Looked at once at the beginning.
            let mut changes = manager.machine_changes();
            changes.mark_changed();
            machines = Some((manager.clone(), changes));
            Entries::All(manager.subscribe_all_kv_entries(filter).await?)
        }
        store => {
            let space = registry.store().space(place.machine.as_deref(), place.space.as_deref())?;
            let machine = match store {
                Store::Manager(manager) => {
                    let id = crate::store::machine_of(manager, place.machine.as_deref().unwrap_or_default())?;
                    pairs.push(of_machine(manager, id)?);
                    Some(id)
                }
                _ => {
                    pairs.push(of_manager(&registry));
                    None
                }
            };
            Entries::Of(machine, space.subscribe(filter).await?)
        }
    };
    let (id, role) = (registry.id().to_string(), registry.store().role().to_owned());
    session.answers.line(&WatchedNode { kind: WatchKind::Node, id, role }).await?;
    let mut unsent = true;
    loop {
        tokio::select! {
            // What is to be said comes first, so that many lines are sent together; and how pairs stand before
            // entries, which may come without a pause.
            biased;
            Some(pair) = pairs.next() => session.answers.line(&pair).await?,
            Some(now) = changed(&mut machines) => {
                pairs = now;
                continue;
            }
            line = entries.next(hex) => match line {
                Some(line) => session.answers.line(&line?).await?,
                None => return session.answers.line(&KvLine::ended(entries.ended())).await,
            },
            sent = session.answers.flush(), if unsent => {
                sent?;
                unsent = false;
                continue;
            }
            () = session.lines.gone() => return Ok(()),
        }
        unsent = true;
    }
}

/// The pairs of a manager, when its machines have changed: all anew, as a machine that was claimed again has
/// another document.
async fn changed(machines: &mut Option<(Manager, Receiver<u64>)>) -> Option<Pairs> {
    let (manager, changes) = machines.as_mut()?;
    changes.changed().await.ok()?;
    // One that is gone again has no status.
    let pairs = manager.list_machine_ids().into_iter().filter_map(|id| of_machine(manager, id).ok());
    Some(pairs.collect())
}

/// A line now, and one at each change, for as long as the document lasts.
fn lines<F>(status: Receiver<LinkStatus>, pair: F) -> BoxStream<'static, PairLine>
where
    F: Fn(&LinkStatus) -> Option<Pair> + Send + 'static,
{
    let begin = (status, true, pair);
    let line = async |(mut status, first, pair): (Receiver<LinkStatus>, bool, F)| {
        if !first {
            status.changed().await.ok()?;
        }
        let now = status.borrow_and_update().clone();
        Some((PairLine { kind: WatchKind::Pair, pair: pair(&now)? }, (status, false, pair)))
    };
    unfold(begin, line).boxed()
}

fn of_machine(manager: &Manager, id: PeerId) -> Result<BoxStream<'static, PairLine>, ToolError> {
    let status = manager.machine_status_changes(id)?;
    let manager = manager.clone();
    Ok(lines(status, move |status| {
        // One that is released meanwhile is none any more.
        Some(Pair::new(Some(Other::machine(id)), status, manager.kv_usage(id).ok()?))
    }))
}

fn of_manager(registry: &Registry) -> BoxStream<'static, PairLine> {
    let Store::Machine(machine) = registry.store() else { return futures_util::stream::empty().boxed() };
    let machine = machine.clone();
    lines(machine.status_changes(), move |status| {
        let other = match machine.get_machine_state() {
            MachineState::Unclaimed => None,
            MachineState::Claimed { manager } => Some(Other::manager(manager)),
        };
        Some(Pair::new(other, status, machine.kv_usage()))
    })
}
