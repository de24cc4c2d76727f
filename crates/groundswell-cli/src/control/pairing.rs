//! Claims for a command: the PIN, the answer, and what came of it. A client that leaves before it has
//! answered has said no.

use std::{io, time::Duration};

use groundswell::{ClaimError, ClaimFailure, ClaimTicket, KvError, Machine, MachineState, PeerId};

use super::{
    protocol::{Claimed, MAX_ANSWER_BYTES, NoPair, NumberedAnswer, OneTimeTicket, Other, ShownPin},
    session::{Ending, Session},
};
use crate::{error::ToolError, lines::LineError, web::Web};

/// How long a ticket with a one-time secret is good (1 h): to be carried to the manager and typed there.
const TICKET_VALID: Duration = Duration::from_secs(3_600);

/// Claims the machine of a ticket.
pub(super) async fn claim(session: &mut Session, ticket: &str) -> Result<(), Ending> {
    let registry = session.registry.clone();
    let manager = registry.store().manager("`claim`")?;
    let ticket: ClaimTicket = ticket.parse()?;
    let mut claim = tokio::select! {
        claim = manager.begin_claim(ticket) => claim?,
        () = session.lines.gone() => return Err(gone()),
    };
    let shown = ShownPin::new(claim.pin, Other::machine(claim.machine), None);
    let same = tokio::select! {
        biased;
        over = claim.over() => return Err(over.into()),
        same = ask(session, &shown) => same?,
    };
    let machine = end(session, claim.answer(same), None).await??;
    session.answers.line(&Claimed { claimed: true, other: Other::machine(machine) }).await
}

/// Opens this machine for claims, waits for one, and answers it. Where there is an HTTP interface, the claim is on the
/// dashboard too, and the first answer counts. With `next`, a claim that comes to nothing is followed by the next one: a
/// stranger's is not to be in the manager's way. The machine is opened once for all of them, so that those in vain are counted.
pub(super) async fn claims(session: &mut Session, ticket: bool, next: bool) -> Result<(), Ending> {
    let (registry, web) = (session.registry.clone(), session.web.clone());
    let machine = registry.store().machine("`claims`")?;
    let _open = if ticket {
        let ticket = machine.claim_ticket(TICKET_VALID).to_string();
        session.answers.line(&OneTimeTicket { ticket, seconds: TICKET_VALID.as_secs() }).await?;
        None
    } else {
        Some(machine.hold_claims_open())
    };
    session.answers.flush().await?;
    let before = machine.get_machine_state();
    for number in 1.. {
        let number = next.then_some(number);
        let one = async {
            match &web {
                Some(web) => on_both(session, web, number).await,
                None => here_alone(session, machine, number).await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = one => outcome?,
            // Another claim was answered elsewhere.
            manager = claimed_since(machine, before), if next => Ok(manager),
        };
        match (outcome, number) {
            (Ok(manager), _) => {
                let other = Other::manager(manager);
                return session.answers.line(&Claimed { claimed: true, other }).await;
            }
            (Err(error), Some(claim)) if goes_on_after(&error) => {
                session.answers.line(&NoPair { claim, no_pair: error.to_string() }).await?;
                session.answers.flush().await?;
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns true if `claims` waits for the next claim after this error. Failing storage would fail that one too.
fn goes_on_after(error: &ClaimError) -> bool {
    matches!(error, ClaimError::Claim(why) if !matches!(why, ClaimFailure::Storage))
}

/// Waits until the machine has a manager that it had not before.
async fn claimed_since(machine: &Machine, before: MachineState) -> PeerId {
    let mut changes = machine.status_changes();
    loop {
        changes.borrow_and_update();
        match machine.get_machine_state() {
            now @ MachineState::Claimed { manager } if now != before => return manager,
            _ => {}
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// One claim, that is on the dashboard too.
async fn on_both(session: &mut Session, web: &Web, number: Option<u64>) -> Result<Result<PeerId, ClaimError>, Ending> {
    let claim = tokio::select! {
        claim = web.app().await_incoming_claim() => claim,
        () = left(session, number) => return Err(gone()),
    };
    let mut claim = claim.ok_or(KvError::ShutDown)?;
    let shown = ShownPin::new(claim.pin, Other::manager(claim.manager), number);
    let same = tokio::select! {
        biased;
        ended = claim.ended() => return Ok(ended),
        same = ask(session, &shown) => same?,
    };
    end(session, claim.answer(same), number).await
}

async fn here_alone(
    session: &mut Session,
    machine: &Machine,
    number: Option<u64>,
) -> Result<Result<PeerId, ClaimError>, Ending> {
    let claim = tokio::select! {
        claim = machine.await_admitted_claim() => claim,
        () = left(session, number) => return Err(gone()),
    };
    let mut claim = claim.ok_or(KvError::ShutDown)?;
    let shown = ShownPin::new(claim.pin, Other::manager(claim.manager), number);
    let same = tokio::select! {
        biased;
        over = claim.over() => return Ok(Err(over)),
        same = ask(session, &shown) => same?,
    };
    end(session, claim.answer(same), number).await
}

/// Shows the PIN, and waits for the answer of the person.
async fn ask(session: &mut Session, shown: &ShownPin) -> Result<bool, Ending> {
    session.answers.line(shown).await?;
    session.answers.flush().await?;
    loop {
        let line = match session.lines.next(MAX_ANSWER_BYTES).await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(gone()),
            Err(LineError::Io(error)) => return Err(Ending::Gone(error)),
            Err(error @ LineError::TooLong(_)) => return Err(ToolError::Request(error.to_string()).into()),
        };
        let wrong = |error: serde_json::Error| ToolError::Request(error.to_string());
        let Some(number) = shown.claim else { return Ok(serde_json::from_slice(line).map_err(wrong)?) };
        let NumberedAnswer { claim, same } = serde_json::from_slice(line).map_err(wrong)?;
        // One to an earlier claim was given when that was over already.
        if claim == number {
            return Ok(same);
        }
    }
}

/// Waits for what came of an answer. The answer stands, whether the client waits or not.
async fn end(
    session: &mut Session,
    outcome: impl Future<Output = Result<PeerId, ClaimError>>,
    number: Option<u64>,
) -> Result<Result<PeerId, ClaimError>, Ending> {
    tokio::select! {
        outcome = outcome => Ok(outcome),
        () = left(session, number) => Err(gone()),
    }
}

/// Waits until the client leaves. Where claims have numbers, an answer may come late, and says nothing.
async fn left(session: &mut Session, number: Option<u64>) {
    match number {
        None => session.lines.gone().await,
        Some(_) => while let Ok(Some(_)) = session.lines.next(MAX_ANSWER_BYTES).await {},
    }
}

fn gone() -> Ending {
    Ending::Gone(io::ErrorKind::UnexpectedEof.into())
}
