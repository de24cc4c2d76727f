//! Bodies of requests, within a size and a time; and answers as JSON.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error},
    ser::SerializeMap,
};
use serde_json::Value;

use crate::{
    limits::{BODY_TIMEOUT, DRAIN_BYTES, DRAIN_TIMEOUT},
    problem::{Kind, Problem},
};

/// The body of a request, which its handler takes and of which what the handler leaves is read all the same.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Taken>>);

struct Taken {
    body: Body,
    /// Somebody has asked for it, so that who waits with it (`Expect: 100-continue`) has been told to send it.
    begun: bool,
    ended: bool,
}

impl Shared {
    pub(crate) fn new(body: Body) -> Self {
        let ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(Taken { body, begun: false, ended })))
    }

    /// Reads what is left, within [`DRAIN_BYTES`] and [`DRAIN_TIMEOUT`]: who writes a whole request before it reads the
    /// answer would find a closed connection in place of it. Whether the body has come to its end, and another request
    /// can follow it.
    pub(crate) async fn drain(self, waits: bool) -> bool {
        let (begun, ended) = {
            let taken = self.locked();
            (taken.begun, taken.ended)
        };
        if ended || (waits && !begun) {
            return ended;
        }
        let draining = async {
            let (mut parts, mut left) = (Body::new(self).into_data_stream(), DRAIN_BYTES);
            while let Some(part) = parts.next().await {
                left = left.saturating_sub(part?.len());
                if left == 0 {
                    return Ok(false);
                }
            }
            Ok::<_, axum::Error>(true)
        };
        matches!(tokio::time::timeout(DRAIN_TIMEOUT, draining).await, Ok(Ok(true)))
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut taken = self.locked();
        taken.begun = true;
        let polled = Pin::new(&mut taken.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            taken.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.locked().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.locked().body.size_hint()
    }
}

/// The whole body; `beyond` is what it is to one that is larger.
pub(crate) async fn read(body: Body, limit: usize, beyond: Kind) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(beyond, format!("the body has more than the {limit} bytes that are allowed here"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let reading = async {
        let (mut parts, mut whole) = (body.into_data_stream(), BytesMut::new());
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| Problem::bad(format!("the body did not arrive whole: {error}")))?;
            if whole.len() + part.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    };
    let slow = |_| Problem::new(Kind::TooSlow, format!("the body took more than {} s", BODY_TIMEOUT.as_secs()));
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(slow)?
}

/// The same as JSON.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, Problem> {
    let bytes = read(body, limit, Kind::TooLarge).await?;
    if bytes.is_empty() {
        return Err(Problem::bad("there is no body: JSON goes here"));
    }
    parse(&bytes)
}

/// The same where all of it may be left out: no body is `{}`.
pub(crate) async fn read_json_if_any<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, Problem> {
    let bytes = read(body, limit, Kind::TooLarge).await?;
    parse(if bytes.is_empty() { &b"{}"[..] } else { &bytes[..] })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A structure would be read from a list of its fields too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::bad("the body is not the JSON that goes here: an object goes here, in braces"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad(format!("the body is not the JSON that goes here: {error}")))
}

/// A whole number, which JSON may write as `1.0`, too.
pub(crate) fn whole(number: &Value) -> Option<u64> {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    let float = || number.as_f64().filter(|float| (0.0..BEYOND).contains(float) && float.fract() == 0.0);
    number.as_u64().or_else(|| float().map(|float| float as u64))
}

/// The same as a field of a body.
pub(crate) fn whole_field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = Value::deserialize(deserializer)?;
    whole(&number).ok_or_else(|| D::Error::custom(format!("a whole number goes here, and not {number}")))
}

/// Something under a name, as lists are answered: `{"machines":[…]}`.
pub(crate) struct Named<'a, T>(pub(crate) &'static str, pub(crate) &'a T);

impl<T: Serialize> Serialize for Named<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

/// An answer as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Response, Problem> {
    json_with(StatusCode::OK, value)
}

/// The same with another status.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let mut text = serde_json::to_vec(value).map_err(|error| Problem::new(Kind::Internal, error))?;
    text.push(b'\n');
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((status, [kind], text).into_response())
}
