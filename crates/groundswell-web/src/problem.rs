//! What was not done, and why: a problem document (RFC 9457) for every error of the library.

use std::str::FromStr;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use groundswell::{ClaimError, CursorError, IdError, KvError, PathError, StorageError, TicketError, WriteError};
use serde::Serialize;

use crate::lakes::LakeError;

/// The beginning of every type of problem.
pub(crate) const TYPE_PREFIX: &str = "urn:groundswell:problem:";

macro_rules! kinds {
    ($($kind:ident, $word:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of problems. Their words do not change; docs/http.md lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($kind),* }

        impl Kind {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$kind => $word),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),* }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }
        }
    };
}

kinds! {
    BadRequest, "bad-request", BAD_REQUEST, "The request is malformed";
    NoToken, "no-token", UNAUTHORIZED, "No valid token or session";
    ForeignHost, "foreign-host", MISDIRECTED_REQUEST, "The request names another host";
    ForeignOrigin, "foreign-origin", FORBIDDEN, "The request comes from another site's page";
    BadCode, "bad-code", FORBIDDEN, "The link is used up, too old, or wrong";
    NotFound, "not-found", NOT_FOUND, "There is nothing at this address";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, "This cannot be done here";
    UnknownMachine, "unknown-machine", NOT_FOUND, "There is no such machine";
    UnknownClaim, "unknown-claim", NOT_FOUND, "There is no such claim";
    UnknownPeer, "unknown-peer", NOT_FOUND, "There is no way to such a peer";
    NoEntry, "no-entry", NOT_FOUND, "The key has no entry";
    NoState, "no-state", NOT_FOUND, "There is no state";
    NotFollowed, "not-followed", NOT_FOUND, "The source is not followed";
    WrongRole, "wrong-role", CONFLICT, "The node is not in the role for this";
    NotClaimed, "not-claimed", CONFLICT, "The machine is not claimed";
    ClaimOver, "claim-over", CONFLICT, "The claim has been answered, or has ended";
    ClaimFailed, "claim-failed", CONFLICT, "The claim came to nothing";
    TooManyClaims, "too-many-claims", TOO_MANY_REQUESTS, "Too many claims wait for an answer";
    Unreachable, "unreachable", CONFLICT, "The peer cannot be reached";
    KeyTooLong, "key-too-long", BAD_REQUEST, "The key is too long";
    ValueTooLarge, "value-too-large", PAYLOAD_TOO_LARGE, "The value is too large";
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "The request is too large";
    AddressTooLong, "address-too-long", URI_TOO_LONG, "The address of the request is too long";
    HeadTooLarge, "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large";
    TooSlow, "too-slow", REQUEST_TIMEOUT, "The request took too long to arrive";
    OverBudget, "over-budget", CONFLICT, "The keys and values take as many bytes as they may take";
    TooManyKeys, "too-many-keys", CONFLICT, "The document has as many keys as it may have";
    TooManyRequests, "too-many-requests", TOO_MANY_REQUESTS, "Too many requests";
    TooManyStreams, "too-many-streams", TOO_MANY_REQUESTS, "Too many streams";
    UnknownLake, "unknown-lake", NOT_FOUND, "There is no such lake here";
    LakeNeeded, "lake-needed", CONFLICT, "The lake has to be named";
    LakeDiffers, "lake-differs", CONFLICT, "The path holds another lake";
    Declared, "declared-elsewhere", CONFLICT, "Another part of the program has the path";
    NameTooLong, "name-too-long", NOT_FOUND, "There can be no such name";
    NotEmpty, "not-empty", CONFLICT, "The path is published already";
    WaveRefused, "wave-refused", CONFLICT, "A wave was refused";
    AccessRefused, "access-refused", CONFLICT, "The access cannot be changed so";
    IdReused, "id-reused", CONFLICT, "The idempotency key was used for another write";
    IdExpired, "id-expired", CONFLICT, "The idempotency key is older than those that are remembered";
    OutcomeUnknown, "outcome-unknown", INTERNAL_SERVER_ERROR, "It may have been done";
    Storage, "storage", INTERNAL_SERVER_ERROR, "Storage failed";
    Internal, "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    ShutDown, "shut-down", SERVICE_UNAVAILABLE, "The node is shut down";
}

/// An error as the client gets it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    /// Which wave was refused.
    pub(crate) index: Option<usize>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string(), index: None }
    }

    /// A malformed request, and what would be right.
    pub(crate) fn bad(detail: impl ToString) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    /// The problem document, as a line of JSON.
    pub(crate) fn document(&self) -> String {
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{}", self.kind.word()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            index: self.index,
        };
        // Strings and numbers always make JSON.
        serde_json::to_string(&document).unwrap_or_default() + "\n"
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        if status.is_server_error() {
            tracing::warn!(kind = self.kind.word(), detail = self.detail, "a request failed");
        }
        let mut response = (status, self.document()).into_response();
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::NoToken {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<KvError> for Problem {
    fn from(error: KvError) -> Self {
        let kind = match &error {
            KvError::Key(_) => Kind::KeyTooLong,
            KvError::ValueTooLarge { .. } => Kind::ValueTooLarge,
            KvError::OverBudget(_) => Kind::OverBudget,
            KvError::TooManyKeys(_) => Kind::TooManyKeys,
            KvError::Space(error) => kind_of(error),
            KvError::UnknownMachine(_) => Kind::UnknownMachine,
            KvError::NotClaimed => Kind::NotClaimed,
            KvError::TooManySubscriptions => Kind::TooManyStreams,
            KvError::Storage(_) => Kind::Storage,
            KvError::Unknown(_) => Kind::OutcomeUnknown,
            KvError::Id(error) => Kind::of_id(error),
            KvError::ShutDown => Kind::ShutDown,
            _ => Kind::Internal,
        };
        Self::new(kind, error)
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        let kind = match &error {
            ClaimError::Unreachable(_) | ClaimError::NotReady => Kind::Unreachable,
            ClaimError::ShutDown => Kind::ShutDown,
            _ => Kind::ClaimFailed,
        };
        Self::new(kind, error)
    }
}

impl From<LakeError> for Problem {
    fn from(error: LakeError) -> Self {
        let kind = match &error {
            LakeError::UnknownLake { .. } => Kind::UnknownLake,
            LakeError::LakeNeeded(_) => Kind::LakeNeeded,
            LakeError::LakeDiffers { .. } => Kind::LakeDiffers,
            LakeError::Declared(_) => Kind::Declared,
            LakeError::NotEmpty(_) => Kind::NotEmpty,
            LakeError::NotFollowed(_) => Kind::NotFollowed,
            LakeError::NoState(_) => Kind::NoState,
            LakeError::UnknownPeer(_) => Kind::UnknownPeer,
            LakeError::Refused { index, .. } => {
                let index = Some(*index);
                return Self { index, ..Self::new(Kind::WaveRefused, error) };
            }
            LakeError::Access(_) => Kind::AccessRefused,
            LakeError::Invalid(_) => Kind::BadRequest,
            LakeError::TooLarge(_) => Kind::TooLarge,
            LakeError::TooManyStreams(_) => Kind::TooManyStreams,
            LakeError::Storage(_) => Kind::Storage,
            LakeError::Unknown(_) => Kind::OutcomeUnknown,
            LakeError::Id(error) => Kind::of_id(error),
            LakeError::ShutDown => Kind::ShutDown,
            LakeError::Other(_) => Kind::Internal,
        };
        Self::new(kind, error)
    }
}

impl Kind {
    fn of_id(error: &IdError) -> Self {
        match error {
            IdError::Reused(_) => Self::IdReused,
            IdError::Expired { .. } => Self::IdExpired,
            _ => Self::BadRequest,
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Storage(_) => Kind::Storage,
            WriteError::Unknown(_) => Kind::OutcomeUnknown,
            WriteError::ShutDown => Kind::ShutDown,
            _ => Kind::Internal,
        };
        Self::new(kind, error)
    }
}

/// A name or a path that only has too many bytes is well-formed, and nothing is called so.
fn kind_of(error: &PathError) -> Kind {
    match error {
        PathError::SegmentTooLong { .. } => Kind::NameTooLong,
        PathError::BadName(name) if !name.is_empty() && !name.chars().any(|c| c == '/' || c.is_control()) => {
            Kind::NameTooLong
        }
        _ => Kind::BadRequest,
    }
}

impl From<PathError> for Problem {
    fn from(error: PathError) -> Self {
        Self::new(kind_of(&error), error)
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        Self::new(Kind::Storage, error)
    }
}

macro_rules! bad_requests {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::bad(error)
            }
        }
    )*};
}

bad_requests!(CursorError);

/// The ticket, or the id, that a request names. What looks like one and leads to nobody is well-formed: it was copied with
/// a mistake.
pub(crate) fn ticket<T: FromStr<Err = TicketError>>(text: &str) -> Result<T, Problem> {
    let text = text.trim();
    text.parse().map_err(|error| {
        let kind = if looks_like_a_ticket(text) { Kind::UnknownPeer } else { Kind::BadRequest };
        Problem::new(kind, error)
    })
}

/// Whether a text has the form of a ticket or an id, as `openapi.json` describes it.
fn looks_like_a_ticket(text: &str) -> bool {
    let base32 = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'2'..=b'7'));
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // A ticket for a claim may have a secret behind it.
    let text = match text.split_once('.') {
        Some((text, secret)) if secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()) => text,
        Some(_) => return false,
        None => text,
    };
    match text.len() {
        64 if hex(text) => true,
        52 if base32(text) => true,
        _ => text.strip_prefix("endpoint").is_some_and(|rest| !rest.is_empty() && base32(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_with_a_mistake_is_told_from_what_is_no_ticket() {
        let kind_of = |text: &str| ticket::<groundswell::ClaimTicket>(text).map(drop).map_err(|problem| problem.kind);
        // No point of the curve has this y, so that it is nobody's id.
        let (hex, base32, secret) =
            (format!("02{}", "0".repeat(62)), format!("ai{}", "a".repeat(50)), "0Aa".repeat(11).split_off(1));
        for mistaken in ["endpointaaaa", &hex, &base32, &format!("{hex}.{secret}"), &format!("endpointab2.{secret}")] {
            assert_eq!(kind_of(mistaken), Err(Kind::UnknownPeer), "{mistaken}");
        }
        for other in
            ["", "x", "endpoint", "endpoint!", &hex[1..], &format!("{hex}."), &format!("{hex}.{}", &secret[1..])]
        {
            assert_eq!(kind_of(other), Err(Kind::BadRequest), "{other}");
        }
    }

    #[test]
    fn every_kind_has_a_word_of_its_own_that_the_page_lists() {
        let page = include_str!("../../../docs/http.md");
        let mut words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        for kind in Kind::ALL {
            let row = format!("| `{}` | {} |", kind.word(), kind.status().as_u16());
            assert!(page.contains(&row), "docs/http.md does not list {row}");
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kind::ALL.len());
    }
}
