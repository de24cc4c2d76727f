//! The routes. `openapi.json` describes each of them; a test compares the two.

mod kv;
mod machines;
mod node;
mod streams;
mod tides;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
    response::Response,
    routing::{MethodRouter, get, patch, post},
};
use groundswell::WriteId;

use crate::{
    app::Inner,
    dashboard,
    problem::{Kind, Problem},
    query::Query,
};

/// What a handler answers.
type Answer = Result<Response, Problem>;

/// Where everything but the dashboard is.
const API: &str = "/api/v1";

/// A path, the methods that it takes, and what answers them.
type Route = (String, &'static [&'static str], MethodRouter<Arc<Inner>>);

/// Every route; the methods are named for the test that compares them with the document.
fn table() -> Vec<Route> {
    let api = |path: &str| format!("{API}{path}");
    vec![
        ("/".into(), &["get"], get(dashboard::page)),
        ("/assets/{file}".into(), &["get"], get(dashboard::asset)),
        ("/open".into(), &["get"], get(dashboard::open)),
        (api("/openapi.json"), &["get"], get(node::openapi)),
        (api("/node"), &["get"], get(node::node)),
        (api("/peers"), &["get", "post"], get(node::peers).post(node::add_peer)),
        (api("/machines"), &["get"], get(machines::list)),
        (api("/machines/{machine}"), &["get", "delete"], get(machines::one).delete(machines::release)),
        (api("/machines/{machine}/spaces"), &["get"], get(kv::spaces)),
        (api("/machines/{machine}/entries"), &["get"], get(kv::entries)),
        (api("/machines/{machine}/entry"), &["get", "put", "delete"], get(kv::get).put(kv::put).delete(kv::delete)),
        (api("/machines/{machine}/delivered"), &["get"], get(kv::delivered)),
        (api("/machines/{machine}/events"), &["get"], get(streams::entries)),
        (api("/claims"), &["get", "post"], get(machines::claims).post(machines::begin_claim)),
        (
            api("/pairing"),
            &["get", "post", "delete"],
            get(machines::pairing).post(machines::open_pairing).delete(machines::close_pairing),
        ),
        (api("/pairing/ticket"), &["post"], post(machines::claim_ticket)),
        (api("/claims/{claim}"), &["get"], get(machines::claim)),
        (api("/claims/{claim}/answer"), &["post"], post(machines::answer_claim)),
        (api("/publications"), &["get"], get(tides::publications)),
        (
            api("/publication"),
            &["get", "put", "delete"],
            get(tides::read_publication).put(tides::open).delete(tides::kill),
        ),
        (api("/publication/waves"), &["post"], post(tides::give)),
        (api("/publication/events"), &["get"], get(streams::publication)),
        (api("/publication/rule"), &["patch"], patch(tides::rule)),
        (api("/publication/wipe"), &["post"], post(tides::wipe)),
        (api("/publication/access"), &["post"], post(tides::access)),
        (api("/publication/fork"), &["post"], post(tides::fork)),
        (api("/subscriptions"), &["get"], get(tides::subscriptions)),
        (
            api("/subscription"),
            &["get", "put", "delete"],
            get(tides::read_subscription).put(tides::follow).delete(tides::quit),
        ),
        (api("/subscription/events"), &["get"], get(streams::subscription)),
        (api("/subscription/rule"), &["patch"], patch(tides::replica_rule)),
        (api("/subscription/wipe"), &["post"], post(tides::wipe_replica)),
        (api("/subscription/copy"), &["post"], post(tides::copy)),
        (api("/stream"), &["get"], get(streams::many)),
    ]
}

pub(crate) fn router() -> Router<Arc<Inner>> {
    let routes = table().into_iter().fold(Router::new(), |router, (path, _, methods)| router.route(&path, methods));
    routes.fallback(nothing).method_not_allowed_fallback(not_so)
}

async fn nothing() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing at this address: see /api/v1/openapi.json")
}

async fn not_so() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "this method is none of this address: see /api/v1/openapi.json")
}

/// The part of a path that a route leaves open.
pub(crate) struct Part(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let malformed = |_| Problem::bad("the path is malformed: percent-encode UTF-8");
        let open = RawPathParams::from_request_parts(parts, state).await.map_err(malformed)?;
        let part = open.iter().next().map(|(_, part)| part.to_owned());
        Ok(Self(part.ok_or_else(|| Problem::bad("the path is not whole"))?))
    }
}

/// The header that names a write, so that it has one effect however often it is asked for.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The id that a write is asked for with, if it is to happen once.
struct Once(Option<WriteId>);

impl<S: Send + Sync> FromRequestParts<S> for Once {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(Self(None)),
            (Some(_), Some(_)) => Err(Problem::bad("there is more than one Idempotency-Key: give one")),
            // Others are read in one way here and in another way there.
            (Some(key), None) if !key.as_bytes().iter().all(u8::is_ascii_graphic) => {
                Err(Problem::bad("an Idempotency-Key is 1 to 128 visible characters of ASCII, without spaces"))
            }
            (Some(key), None) => {
                let id = WriteId::new(key.as_bytes());
                Ok(Self(Some(id.map_err(|error| Problem::bad(format!("the Idempotency-Key: {error}")))?)))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_and_the_routes_are_the_same() {
        let document: serde_json::Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert(format!("{method} {path}"));
            }
        }
        let mut routed = BTreeSet::new();
        for (path, methods, _) in table() {
            routed.extend(methods.iter().map(|method| format!("{method} {path}")));
        }
        assert_eq!(described, routed);
    }

    /// What a stream may write is named twice in the document: as an event of its own, and as a name.
    #[test]
    fn the_document_names_every_event_of_a_stream() {
        let document: serde_json::Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let schemas = &document["components"]["schemas"];
        let named = schemas["ServerSentEvent"]["properties"]["event"]["enum"].as_array().unwrap();
        let named: BTreeSet<&str> = named.iter().map(|name| name.as_str().unwrap()).collect();
        let described = schemas["Event"]["oneOf"].as_array().unwrap().iter().map(|event| {
            let schema = document.pointer(event["$ref"].as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
            schema["properties"]["type"]["const"].as_str().unwrap()
        });
        assert_eq!(described.collect::<BTreeSet<_>>(), named);
    }

    #[test]
    fn the_document_has_every_problem_with_its_status() {
        const PREFIX: &str = crate::problem::TYPE_PREFIX;
        let document: serde_json::Value = serde_json::from_str(crate::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        let methods =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        for (status, response) in methods.flat_map(|method| method["responses"].as_object().unwrap()) {
            assert_ne!(status, "default", "each status is described");
            let Some(named) = response["$ref"].as_str() else { continue };
            let response = document.pointer(named.strip_prefix('#').unwrap()).unwrap();
            let problem = &response["content"]["application/problem+json"]["schema"]["properties"];
            assert_eq!(problem["status"]["const"].to_string(), *status, "{named}");
            let types =
                [&problem["type"]["const"]].into_iter().chain(problem["type"]["enum"].as_array().into_iter().flatten());
            for word in types.filter_map(|word| word.as_str()?.strip_prefix(PREFIX)) {
                let kind = Kind::ALL.iter().find(|kind| kind.word() == word).unwrap_or_else(|| panic!("{word}"));
                assert_eq!(kind.status().as_str(), status, "{word}");
                described.insert(word);
            }
        }
        // Those are of no operation.
        let apart = [Kind::MethodNotAllowed];
        for kind in Kind::ALL.iter().filter(|kind| !apart.contains(kind)) {
            assert!(described.contains(kind.word()), "no operation has {}", kind.word());
        }
    }
}
