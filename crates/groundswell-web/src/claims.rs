//! The claims of this run: a manager's, and those that a machine is asked. Each has a task, from its PIN to its end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use groundswell::{ClaimFailure, ClaimPin, Machine, MachineState, Manager, PeerId, PeerTicket, PendingClaim};
use serde::Serialize;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::{CLAIM_DEADLINE, MAX_CLAIMS, MAX_PENDING_CLAIMS},
    problem::{Kind, Problem},
    views::now_ms,
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
    begun_ms: u64,
    pub(crate) reason: Option<String>,
}

struct Claim {
    view: ClaimView,
    /// Which change of all claims was this one's last.
    changed: u64,
    answer: Option<oneshot::Sender<bool>>,
}

const CLOSED: &str = "the interface was shut down: look at the machines whether both sides have said yes";

/// How a claim ended.
struct Outcome {
    state: ClaimState,
    manager: Option<PeerId>,
    reason: Option<String>,
}

impl Outcome {
    fn failed(reason: impl ToString) -> Self {
        Self { state: ClaimState::Failed, manager: None, reason: Some(reason.to_string()) }
    }

    fn refused() -> Self {
        Self { state: ClaimState::Refused, manager: None, reason: None }
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
    pub(crate) async fn begin(
        self: &std::sync::Arc<Self>,
        manager: &Manager,
        ticket: &str,
    ) -> Result<ClaimView, Problem> {
        let ticket: PeerTicket = ticket.trim().parse()?;
        let pending = self.locked().values().filter(|claim| !claim.view.state.is_over()).count();
        if pending >= MAX_PENDING_CLAIMS {
            let detail = format!("{pending} claims wait for an answer: answer them, or wait a minute");
            return Err(Problem::new(Kind::TooManyClaims, detail));
        }
        let deadline = Instant::now() + CLAIM_DEADLINE;
        let begun = manager.begin_claim(&ticket).await?;
        let (view, answer) = self.add(begun.pin, Some(begun.machine));
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
            () = self.closing.cancelled() => return Outcome::failed(CLOSED),
        };
        // Nobody has answered: then the other side knows already, and says so.
        let same = matches!(said, Ok(Ok(true)));
        if same {
            self.change(number, |view| view.state = ClaimState::Answered);
        }
        let answered = tokio::select! {
            answered = begun.answer(same) => answered,
            () = self.closing.cancelled() => return Outcome::failed(CLOSED),
        };
        match answered {
            Ok(_) => Outcome { state: ClaimState::Claimed, manager: Some(own), reason: None },
            Err(groundswell::ClaimError::Claim(ClaimFailure::DeclinedHere)) if matches!(said, Ok(Ok(false))) => {
                Outcome::refused()
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// Takes the claims that a machine is asked, until it or the interface is shut down.
    pub(crate) async fn take_incoming(self: std::sync::Arc<Self>, machine: Machine) {
        loop {
            let asked = tokio::select! {
                asked = machine.await_next_incoming_claim_request() => asked,
                () = self.closing.cancelled() => return,
            };
            let Some((pin, confirm)) = asked else { return };
            let (view, answer) = self.add(pin, Some(machine.id()));
            let (claims, machine) = (self.clone(), machine.clone());
            self.tasks.spawn(async move {
                let outcome = claims.machines_side(view.claim, &machine, confirm, answer).await;
                claims.end(view.claim, outcome);
            });
        }
    }

    async fn machines_side(
        &self,
        number: u64,
        machine: &Machine,
        mut confirm: oneshot::Sender<bool>,
        answer: oneshot::Receiver<bool>,
    ) -> Outcome {
        const OVER: &str = "the claim has ended before it was answered here: claim again";
        let same = tokio::select! {
            said = answer => said.unwrap_or(false),
            () = confirm.closed() => return Outcome::failed(OVER),
            () = self.closing.cancelled() => return Outcome::failed(CLOSED),
        };
        if confirm.send(same).is_err() {
            return Outcome::failed(OVER);
        }
        if !same {
            return Outcome::refused();
        }
        self.change(number, |view| view.state = ClaimState::Answered);
        let mut status = machine.status_changes();
        let claimed = async {
            loop {
                status.borrow_and_update();
                if let MachineState::Claimed { manager } = machine.get_machine_state() {
                    return Some(manager);
                }
                if status.changed().await.is_err() {
                    return None;
                }
            }
        };
        let claimed = tokio::select! {
            claimed = timeout_at(Instant::now() + CLAIM_DEADLINE, claimed) => claimed.ok().flatten(),
            () = self.closing.cancelled() => None,
        };
        match claimed {
            Some(manager) => Outcome { state: ClaimState::Claimed, manager: Some(manager), reason: None },
            None => Outcome::failed("it was not confirmed at the manager in time: claim again"),
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

    fn add(&self, pin: ClaimPin, machine: Option<PeerId>) -> (ClaimView, oneshot::Receiver<bool>) {
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
            machine: machine.map(|machine| machine.to_string()),
            manager: None,
            begun_ms: now_ms(),
            reason: None,
        };
        let (answer, answered) = oneshot::channel();
        table.insert(claim, Claim { view: view.clone(), changed: self.count(), answer: Some(answer) });
        drop(table);
        self.changes.send_modify(|_| {});
        (view, answered)
    }

    fn end(&self, number: u64, outcome: Outcome) {
        tracing::info!(claim = number, state = ?outcome.state, reason = outcome.reason, "a claim has ended");
        self.change(number, |view| {
            view.state = outcome.state;
            view.manager = outcome.manager.map(|manager| manager.to_string());
            view.reason = outcome.reason;
        });
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

fn unknown(claim: u64) -> Problem {
    Problem::new(Kind::UnknownClaim, format!("there is no claim {claim} in this run: GET /api/v1/claims lists them"))
}
