//! Machines and claims.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Part, node::Ticket};
use crate::{
    app::Inner,
    body::{Named, json, json_with, read_json},
    limits::MAX_JSON_BYTES,
    problem::{Kind, Problem},
    subject::Subject,
};

pub(super) async fn list(State(app): State<Arc<Inner>>) -> Answer {
    // One that was released in this moment is left out.
    let machines: Vec<_> = app.subject.machine_ids().into_iter().filter_map(|id| app.subject.view(id).ok()).collect();
    json(&Named("machines", &machines))
}

pub(super) async fn one(State(app): State<Arc<Inner>>, Part(machine): Part) -> Answer {
    json(&app.subject.view(app.subject.machine(&machine)?)?)
}

pub(super) async fn release(State(app): State<Arc<Inner>>, Part(machine): Part) -> Answer {
    app.subject.release(app.subject.machine(&machine)?).await?;
    json(&json!({ "released": true }))
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

fn number(claim: &str) -> Result<u64, Problem> {
    claim.parse().map_err(|_| Problem::new(Kind::UnknownClaim, format!("a claim is a number, and not `{claim}`")))
}
