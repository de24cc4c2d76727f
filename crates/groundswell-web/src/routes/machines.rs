//! Machines and claims.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::State, http::StatusCode};
use groundswell::limits::{MAX_CLAIM_SECRET_MS, MAX_CLAIMS_OPEN_MS};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Part, node::Ticket};
use crate::{
    app::Inner,
    body::{Named, json, json_with, read_json, read_json_if_any, whole_field},
    limits::{CLAIM_TICKET_SECONDS, MAX_JSON_BYTES, PAIRING_OPEN_SECONDS},
    problem::{Kind, Problem},
    query::Query,
    subject::Subject,
    views::PairingView,
};

pub(super) async fn list(State(app): State<Arc<Inner>>) -> Answer {
    // One that was released in this moment is left out.
    let machines: Vec<_> = app.subject.machine_ids().into_iter().filter_map(|id| app.subject.view(id).ok()).collect();
    json(&Named("machines", &machines))
}

pub(super) async fn one(State(app): State<Arc<Inner>>, Part(machine): Part) -> Answer {
    json(&app.subject.view(app.subject.machine(&machine)?)?)
}

pub(super) async fn release(State(app): State<Arc<Inner>>, Part(machine): Part, query: Query) -> Answer {
    query.only(&["wipe"])?;
    let wipe = query.flag("wipe")?;
    app.subject.release(app.subject.machine(&machine)?, wipe).await?;
    json(&if wipe { json!({ "released": true, "wiped": true }) } else { json!({ "released": true }) })
}

pub(super) async fn claims(State(app): State<Arc<Inner>>) -> Answer {
    if matches!(app.subject, Subject::Node(_)) {
        return Err(Problem::new(Kind::WrongRole, "this node is neither a machine nor a manager: it has no claims"));
    }
    json(&Named("claims", &app.claims.list()))
}

pub(super) async fn begin_claim(State(app): State<Arc<Inner>>, body: Body) -> Answer {
    let manager = app.subject.manager()?;
    let Ticket { ticket } = read_json(body, MAX_JSON_BYTES).await?;
    json_with(StatusCode::CREATED, &app.claims.begin(manager, &ticket).await?)
}

pub(super) async fn claim(State(app): State<Arc<Inner>>, Part(claim): Part) -> Answer {
    json(&app.claims.get(number(&claim)?)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    same: bool,
}

pub(super) async fn answer_claim(State(app): State<Arc<Inner>>, Part(claim): Part, body: Body) -> Answer {
    let claim = number(&claim)?;
    let Said { same } = read_json(body, MAX_JSON_BYTES).await?;
    json(&app.claims.answer(claim, same).await?)
}

pub(super) async fn pairing(State(app): State<Arc<Inner>>) -> Answer {
    json(&PairingView::from(app.subject.own_machine()?.claims_open()))
}

/// For how long a machine is opened, in seconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenFor {
    #[serde(default = "usually_open", deserialize_with = "whole_field")]
    seconds: u64,
}

fn usually_open() -> u64 {
    PAIRING_OPEN_SECONDS
}

/// For how long a ticket with a one-time secret is good, in seconds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketFor {
    #[serde(default = "usually_good", deserialize_with = "whole_field")]
    seconds: u64,
}

fn usually_good() -> u64 {
    CLAIM_TICKET_SECONDS
}

/// The time, within its limit.
fn within(seconds: u64, most: u64) -> Result<Duration, Problem> {
    if (1..=most).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Problem::bad(format!("`seconds` is a number from 1 to {most}")))
}

pub(super) async fn open_pairing(State(app): State<Arc<Inner>>, body: Body) -> Answer {
    let machine = app.subject.own_machine()?;
    let OpenFor { seconds } = read_json_if_any(body, MAX_JSON_BYTES).await?;
    machine.open_claims(within(seconds, MAX_CLAIMS_OPEN_MS / 1_000)?);
    json(&PairingView::from(machine.claims_open()))
}

pub(super) async fn close_pairing(State(app): State<Arc<Inner>>) -> Answer {
    let machine = app.subject.own_machine()?;
    machine.close_claims();
    json(&PairingView::from(machine.claims_open()))
}

pub(super) async fn claim_ticket(State(app): State<Arc<Inner>>, body: Body) -> Answer {
    let machine = app.subject.own_machine()?;
    let TicketFor { seconds } = read_json_if_any(body, MAX_JSON_BYTES).await?;
    let ticket = machine.claim_ticket(within(seconds, MAX_CLAIM_SECRET_MS / 1_000)?);
    json_with(StatusCode::CREATED, &json!({ "ticket": ticket.to_string() }))
}

fn number(claim: &str) -> Result<u64, Problem> {
    claim.parse().map_err(|_| Problem::new(Kind::UnknownClaim, format!("a claim is a number, and not `{claim}`")))
}
