//! Bodies of requests, within a size and a time; and answers as JSON.

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Serialize, Serializer, de::DeserializeOwned, ser::SerializeMap};

use crate::{
    limits::{BODY_TIMEOUT, DRAIN_BYTES, DRAIN_TIMEOUT},
    problem::{Kind, Problem},
};

/// The whole body; `beyond` is what it is to one that is larger.
pub(crate) async fn read(body: Body, limit: usize, beyond: Kind) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(beyond, format!("the body has more than the {limit} bytes that are allowed here"));
    let announced = body.size_hint().lower();
    let reading = async {
        let (mut parts, mut whole) = (body.into_data_stream(), BytesMut::new());
        if announced > limit as u64 {
            drain(parts).await;
            return Err(too_large());
        }
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| Problem::bad(format!("the body did not arrive whole: {error}")))?;
            if whole.len() + part.len() > limit {
                drain(parts).await;
                return Err(too_large());
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    };
    let slow = |_| Problem::new(Kind::TooSlow, format!("the body took more than {} s", BODY_TIMEOUT.as_secs()));
    tokio::time::timeout(BODY_TIMEOUT, reading).await.map_err(slow)?
}

/// Takes a little more of what is refused, so that who is still sending it gets to read why.
async fn drain(mut parts: BodyDataStream) {
    let draining = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(part)) = parts.next().await {
            left = left.saturating_sub(part.len());
            if left == 0 {
                return;
            }
        }
    };
    // Whether there is more makes no difference.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, draining).await;
}

/// The same as JSON.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, Problem> {
    let bytes = read(body, limit, Kind::TooLarge).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad(format!("the body is not the JSON that goes here: {error}")))
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
