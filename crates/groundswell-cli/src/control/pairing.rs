//! Claims for a command: the PIN, the answer, and what came of it. A client that leaves before it has
//! answered has said no.

use std::{io, time::Duration};

use groundswell::{ClaimError, ClaimTicket, KvError, Machine, PeerId};

use super::{
    protocol::{Claimed, MAX_ANSWER_BYTES, OneTimeTicket, Other, ShownPin},
    session::{Ending, Session},
};
use crate::{error::ToolError, lines::LineError};

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
    let shown = ShownPin::new(claim.pin, Other::machine(claim.machine));
    let same = tokio::select! {
        biased;
        over = claim.over() => return Err(over.into()),
        same = ask(session, &shown) => same?,
    };
    end(session, claim.answer(same), Other::machine).await
}

/// Opens this machine for claims, waits for one, and answers it. Where there is an HTTP interface, the claim is on the
/// dashboard too, and the first answer counts.
pub(super) async fn claims(session: &mut Session, ticket: bool) -> Result<(), Ending> {
    let (registry, web) = (session.registry.clone(), session.web.clone());
    let machine = registry.store().machine("`claims`")?;
    let _open = if ticket {
        let ticket = machine.claim_ticket(TICKET_VALID).to_string();
        session.answers.line(&OneTimeTicket { ticket }).await?;
        None
    } else {
        Some(machine.hold_claims_open())
    };
    session.answers.flush().await?;
    let Some(web) = web else { return claims_here_alone(session, machine).await };
    let claim = tokio::select! {
        claim = web.app().await_incoming_claim() => claim,
        () = session.lines.gone() => return Err(gone()),
    };
    let mut claim = claim.ok_or(KvError::ShutDown)?;
    let shown = ShownPin::new(claim.pin, Other::manager(claim.manager));
    let same = tokio::select! {
        biased;
        ended = claim.ended() => {
            let manager = ended?;
            return session.answers.line(&Claimed { claimed: true, other: Other::manager(manager) }).await;
        }
        same = ask(session, &shown) => same?,
    };
    end(session, claim.answer(same), Other::manager).await
}

async fn claims_here_alone(session: &mut Session, machine: &Machine) -> Result<(), Ending> {
    let claim = tokio::select! {
        claim = machine.await_admitted_claim() => claim,
        () = session.lines.gone() => return Err(gone()),
    };
    let mut claim = claim.ok_or(KvError::ShutDown)?;
    let shown = ShownPin::new(claim.pin, Other::manager(claim.manager));
    let same = tokio::select! {
        biased;
        over = claim.over() => return Err(over.into()),
        same = ask(session, &shown) => same?,
    };
    end(session, claim.answer(same), Other::manager).await
}

/// Shows the PIN, and waits for the answer of the person.
async fn ask(session: &mut Session, shown: &ShownPin) -> Result<bool, Ending> {
    session.answers.line(shown).await?;
    session.answers.flush().await?;
    match session.lines.next(MAX_ANSWER_BYTES).await {
        Ok(Some(line)) => Ok(serde_json::from_slice(line).map_err(|error| ToolError::Request(error.to_string()))?),
        Ok(None) => Err(gone()),
        Err(LineError::Io(error)) => Err(Ending::Gone(error)),
        Err(error @ LineError::TooLong(_)) => Err(ToolError::Request(error.to_string()).into()),
    }
}

/// Waits for what came of an answer, and says it. The answer stands, whether the client waits or not.
async fn end(
    session: &mut Session,
    outcome: impl Future<Output = Result<PeerId, ClaimError>>,
    other: impl Fn(PeerId) -> Other,
) -> Result<(), Ending> {
    let id = tokio::select! {
        outcome = outcome => outcome?,
        () = session.lines.gone() => return Err(gone()),
    };
    session.answers.line(&Claimed { claimed: true, other: other(id) }).await
}

fn gone() -> Ending {
    Ending::Gone(io::ErrorKind::UnexpectedEof.into())
}
