//! The node and its peers.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use groundswell::PeerTicket;
use serde::Deserialize;
use serde_json::json;

use super::Answer;
use crate::{
    app::Inner,
    body::{json, read_json},
    limits::MAX_JSON_BYTES,
    problem,
};

pub(super) async fn openapi() -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], crate::OPENAPI).into_response()
}

pub(super) async fn node(State(app): State<Arc<Inner>>) -> Answer {
    json(&app.node_view(app.sampler.fresh().status.peers))
}

pub(super) async fn peers(State(app): State<Arc<Inner>>) -> Answer {
    let status = app.sampler.fresh().status;
    let followed = status.replicas.into_iter().map(|replica| (replica.peer, false));
    let mut peers: BTreeMap<String, bool> = followed.collect();
    peers.extend(status.peers.into_iter().map(|peer| (peer, true)));
    let peers: Vec<_> = peers.iter().map(|(id, connected)| json!({ "id": id, "connected": connected })).collect();
    json(&json!({ "peers": peers }))
}

/// A ticket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ticket {
    pub(super) ticket: String,
}

pub(super) async fn add_peer(State(app): State<Arc<Inner>>, body: Body) -> Answer {
    let Ticket { ticket } = read_json(body, MAX_JSON_BYTES).await?;
    let ticket: PeerTicket = problem::ticket(&ticket)?;
    let peer = app.subject.node().add_peer(&ticket).await?;
    json(&json!({ "peer": peer.to_string() }))
}
