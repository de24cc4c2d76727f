//! The claims of this run: a manager's, and those that a machine is asked. Each has a task, from its PIN to its end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use groundswell::{
    ClaimError, ClaimFailure, ClaimPin, ClaimTicket, IncomingClaim, Machine, Manager, Moment, PeerId, PendingClaim,
};
use serde::Serialize;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::{CLAIM_DEADLINE, MAX_CLAIMS, MAX_PENDING_CLAIMS},
    problem::{self, Kind, Problem},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClaimState {
    /// Its PIN is to be compared.
    Pending,
    /// It was confirmed here, and not yet at the other side.
    Answered,
    Claimed,
    /// Somebody here has said no.
    Refused,
    Failed,
}

impl ClaimState {
    fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Answered)
    }
}

/// A claim as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ClaimView {
    pub(crate) claim: u64,
    pub(crate) state: ClaimState,
    pub(crate) pin: String,
    machine: Option<String>,
    manager: Option<String>,
    begun_ms: Moment,
    pub(crate) reason: Option<String>,
}

struct Claim {
    view: ClaimView,
    /// Which change of all claims was this one's last.
    changed: u64,
    answer: Option<oneshot::Sender<bool>>,
    /// What a machine is asked, until somebody beside the interface has taken it.
    asked: Option<(ClaimPin, PeerId)>,
    /// What became of it.
    ended: Option<Result<PeerId, ClaimError>>,
}

const CLOSED: &str = "the interface was shut down: look at the machines whether both sides have said yes";

/// How a claim ended.
struct Outcome {
    state: ClaimState,
    /// With the manager, if it came to a pair.
    ended: Result<PeerId, ClaimError>,
    reason: Option<String>,
}

impl Outcome {
    /// What came of an answer, which was given here or not.
    fn new(ended: Result<PeerId, ClaimError>, refused_here: bool) -> Self {
        let (state, reason) = match &ended {
            Ok(_) => (ClaimState::Claimed, None),
            Err(ClaimError::Claim(ClaimFailure::DeclinedHere)) if refused_here => (ClaimState::Refused, None),
            Err(error) => (ClaimState::Failed, Some(error.to_string())),
        };
        Self { state, ended, reason }
    }

    /// The interface was shut down under it.
    fn closed() -> Self {
        Self { state: ClaimState::Failed, ended: Err(ClaimError::ShutDown), reason: Some(CLOSED.to_owned()) }
    }
}

/// The claims of this run.
pub(crate) struct Claims {
    table: Mutex<BTreeMap<u64, Claim>>,
    changes: watch::Sender<u64>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Claims {
    pub(crate) fn new(tasks: TaskTracker, closing: CancellationToken) -> Self {
        Self { table: Mutex::default(), changes: watch::Sender::new(0), tasks, closing }
    }

    /// Counts the changes, for who waits for one.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn list(&self) -> Vec<ClaimView> {
        self.locked().values().map(|claim| claim.view.clone()).collect()
    }

    pub(crate) fn get(&self, claim: u64) -> Result<ClaimView, Problem> {
        self.locked().get(&claim).map(|claim| claim.view.clone()).ok_or_else(|| unknown(claim))
    }

    /// Those that changed after this change, and which change was the last.
    pub(crate) fn changed_since(&self, change: u64) -> (Vec<ClaimView>, u64) {
        let table = self.locked();
        let changed = table.values().filter(|claim| claim.changed > change).map(|claim| claim.view.clone()).collect();
        let last = table.values().map(|claim| claim.changed).max().unwrap_or_default();
        (changed, last.max(change))
    }

    /// Claims the machine of a ticket, up to its PIN.
    pub(crate) async fn begin(self: &Arc<Self>, manager: &Manager, ticket: &str) -> Result<ClaimView, Problem> {
        let ticket: ClaimTicket = problem::ticket(ticket)?;
        let pending = self.locked().values().filter(|claim| !claim.view.state.is_over()).count();
        if pending >= MAX_PENDING_CLAIMS {
            let detail = format!("{pending} claims wait for an answer: answer them, or wait a minute");
            return Err(Problem::new(Kind::TooManyClaims, detail));
        }
        let deadline = Instant::now() + CLAIM_DEADLINE;
        let begun = manager.begin_claim(&ticket).await?;
        let (view, answer) = self.add(begun.pin, begun.machine, None);
        let (claims, number, own) = (self.clone(), view.claim, manager.id());
        self.tasks.spawn(async move {
            let outcome = claims.managers_side(number, begun, answer, deadline, own).await;
            claims.end(number, outcome);
        });
        Ok(view)
    }

    async fn managers_side(
        &self,
        number: u64,
        begun: PendingClaim,
        answer: oneshot::Receiver<bool>,
        deadline: Instant,
        own: PeerId,
    ) -> Outcome {
        let said = tokio::select! {
            said = timeout_at(deadline, answer) => said,
            () = self.closing.cancelled() => return Outcome::closed(),
        };
        // Nobody has answered: then the other side knows already, and says so.
        let same = matches!(said, Ok(Ok(true)));
        if same {
            self.change(number, |view| view.state = ClaimState::Answered);
        }
        let answered = tokio::select! {
            answered = begun.answer(same) => answered,
            () = self.closing.cancelled() => return Outcome::closed(),
        };
        Outcome::new(answered.map(|_| own), matches!(said, Ok(Ok(false))))
    }

    /// Takes the claims that a machine is asked, until it or the interface is shut down. It opens the machine for none.
    pub(crate) async fn take_incoming(self: Arc<Self>, machine: Machine) {
        loop {
            let asked = tokio::select! {
                asked = machine.await_admitted_claim() => asked,
                () = self.closing.cancelled() => return,
            };
            let Some(asked) = asked else { return };
            let (view, answer) = self.add(asked.pin, machine.id(), Some(asked.manager));
            let claims = self.clone();
            self.tasks.spawn(async move {
                let outcome = claims.machines_side(view.claim, asked, answer).await;
                claims.end(view.claim, outcome);
            });
        }
    }

    async fn machines_side(&self, number: u64, mut asked: IncomingClaim, answer: oneshot::Receiver<bool>) -> Outcome {
        let same = tokio::select! {
            said = answer => said.unwrap_or(false),
            error = asked.over() => return Outcome::new(Err(error), false),
            () = self.closing.cancelled() => return Outcome::closed(),
        };
        if same {
            self.change(number, |view| view.state = ClaimState::Answered);
        }
        let answered = tokio::select! {
            answered = asked.answer(same) => answered,
            () = self.closing.cancelled() => return Outcome::closed(),
        };
        Outcome::new(answered, !same)
    }

    /// Waits for a claim that this machine is asked, and that nobody has answered or taken.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<AskedClaim> {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if let Some(taken) = self.take_now() {
                return Some(taken);
            }
            tokio::select! {
                // The sender lives as long as this table.
                _ = changes.changed() => {}
                () = self.closing.cancelled() => return None,
            }
        }
    }

    fn take_now(self: &Arc<Self>) -> Option<AskedClaim> {
        let mut table = self.locked();
        let mut open = table.values_mut().filter(|claim| claim.view.state == ClaimState::Pending);
        let claim = open.find(|claim| claim.asked.is_some())?;
        let (pin, manager) = claim.asked.take()?;
        Some(AskedClaim { pin, manager, number: claim.view.claim, claims: self.clone() })
    }

    /// Says whether the PINs are the same, if nobody has said it before.
    fn say(&self, number: u64, same: bool) {
        let answer = self.locked().get_mut(&number).and_then(|claim| claim.answer.take());
        // One that is over meanwhile says so itself.
        let _ = answer.map(|answer| answer.send(same));
    }

    /// Waits for the end of a claim.
    async fn ended(&self, number: u64) -> Result<PeerId, ClaimError> {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            match self.locked().get(&number).map(|claim| claim.ended.clone()) {
                Some(Some(ended)) => return ended,
                Some(None) => {}
                // It ended so long ago that it is forgotten.
                None => return Err(ClaimError::ShutDown),
            }
            // The sender lives as long as this table.
            let _ = changes.changed().await;
        }
    }

    /// Answers a claim, and waits for its end. Dropping the future does not take the answer back.
    pub(crate) async fn answer(&self, number: u64, same: bool) -> Result<ClaimView, Problem> {
        let mut changes = self.changes();
        {
            let mut table = self.locked();
            let claim = table.get_mut(&number).ok_or_else(|| unknown(number))?;
            let answer = claim.answer.take().filter(|_| !claim.view.state.is_over());
            let sent = answer.is_some_and(|answer| answer.send(same).is_ok());
            if !sent {
                let why = claim.view.reason.clone().unwrap_or_else(|| "it was answered before".to_owned());
                return Err(Problem::new(Kind::ClaimOver, format!("claim {number}: {why}")));
            }
        }
        loop {
            changes.borrow_and_update();
            let view = self.get(number)?;
            match view.state {
                ClaimState::Failed => return Err(Problem::new(Kind::ClaimFailed, view.reason.unwrap_or_default())),
                state if state.is_over() => return Ok(view),
                // The sender lives as long as this table.
                _ => drop(changes.changed().await),
            }
        }
    }

    /// A claim of a machine; with the manager, if it is this one that is asked.
    fn add(&self, pin: ClaimPin, machine: PeerId, asked_by: Option<PeerId>) -> (ClaimView, oneshot::Receiver<bool>) {
        let mut table = self.locked();
        while table.len() >= MAX_CLAIMS + MAX_PENDING_CLAIMS {
            let Some(oldest) = table.values().find(|claim| claim.view.state.is_over()) else { break };
            let number = oldest.view.claim;
            table.remove(&number);
        }
        let claim = table.keys().next_back().map_or(1, |last| last + 1);
        let view = ClaimView {
            claim,
            state: ClaimState::Pending,
            pin: pin.to_string(),
            machine: Some(machine.to_string()),
            manager: asked_by.map(|manager| manager.to_string()),
            begun_ms: Moment::now(),
            reason: None,
        };
        let (answer, answered) = oneshot::channel();
        let asked = asked_by.map(|manager| (pin, manager));
        let (view_kept, changed) = (view.clone(), self.count());
        table.insert(claim, Claim { view: view_kept, changed, answer: Some(answer), asked, ended: None });
        drop(table);
        self.changes.send_modify(|_| {});
        (view, answered)
    }

    fn end(&self, number: u64, outcome: Outcome) {
        tracing::info!(claim = number, state = ?outcome.state, reason = outcome.reason, "a claim has ended");
        let mut table = self.locked();
        if let Some(claim) = table.get_mut(&number) {
            claim.view.state = outcome.state;
            if let Ok(manager) = &outcome.ended {
                claim.view.manager = Some(manager.to_string());
            }
            claim.view.reason = outcome.reason;
            claim.ended = Some(outcome.ended);
            claim.changed = self.count();
        }
        drop(table);
        self.changes.send_modify(|_| {});
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut ClaimView)) {
        let mut table = self.locked();
        if let Some(claim) = table.get_mut(&number) {
            change(&mut claim.view);
            claim.changed = self.count();
        }
        drop(table);
        self.changes.send_modify(|_| {});
    }

    /// Counts a change; readers are woken when the table is unlocked.
    fn count(&self) -> u64 {
        let mut count = 0;
        self.changes.send_if_modified(|changes| {
            *changes += 1;
            count = *changes;
            false
        });
        count
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Claim>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim that this machine is asked, for a program that answers claims beside the interface: see
/// [`App::await_incoming_claim`](crate::App::await_incoming_claim). One that is dropped before anybody has answered it is
/// declined.
pub struct AskedClaim {
    /// The PIN, that the manager shows too if nobody is in between.
    pub pin: ClaimPin,
    /// The manager who claims.
    pub manager: PeerId,
    number: u64,
    claims: Arc<Claims>,
}

impl std::fmt::Debug for AskedClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pin, manager) = (&self.pin, &self.manager);
        f.debug_struct("AskedClaim").field("pin", pin).field("manager", manager).finish_non_exhaustive()
    }
}

impl AskedClaim {
    /// Waits for the end of the claim, whoever has answered it: through the interface, it may be. It returns the
    /// manager. Cancel safe.
    pub async fn ended(&mut self) -> Result<PeerId, ClaimError> {
        self.claims.ended(self.number).await
    }

    /// Says whether the PINs are the same, and waits for the end of the claim, a minute at most. An answer that was given
    /// before, through the interface, stands. Dropping the future does not take the answer back.
    pub async fn answer(self, same: bool) -> Result<PeerId, ClaimError> {
        self.claims.say(self.number, same);
        self.claims.ended(self.number).await
    }
}

impl Drop for AskedClaim {
    fn drop(&mut self) {
        self.claims.say(self.number, false);
    }
}

fn unknown(claim: u64) -> Problem {
    Problem::new(Kind::UnknownClaim, format!("there is no claim {claim} in this run: GET /api/v1/claims lists them"))
}
