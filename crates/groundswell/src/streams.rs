//! Hands each stream that a peer opens to whoever serves its kind.

use std::sync::Arc;

use groundswell_core::wire::StreamKind;
use tokio::time::timeout;

use crate::{
    kv,
    limits::HELLO_TIMEOUT,
    link::Stream,
    network::CloseCode,
    serve::Serving,
    shared::Shared,
    unknown::{Of, Share},
};

/// Serves one stream in a task of its own. Thousands of them are subscriptions that wait for news, so that each holds little
/// while it does: what it needs to read the request, to write and to end is in boxes that are gone by then.
pub(crate) fn take(shared: &Arc<Shared>, stream: Stream) {
    let begun = Box::pin(begin(shared.clone(), stream));
    shared.tasks.spawn(async move {
        let Some(mut serving) = begun.await else { return };
        let stop = loop {
            let parked = match Box::pin(serving.until_idle()).await {
                Ok(parked) => u64::from(parked),
                Err(stop) => break stop,
            };
            serving.metrics().parked_readers_now.add(parked);
            let stop = serving.news().await;
            serving.metrics().parked_readers_now.less(parked);
            if let Some(stop) = stop {
                break stop;
            }
        };
        Box::pin(serving.end(stop)).await;
    });
}

/// Reads what a stream is for. Returns it where it is a subscription.
async fn begin(shared: Arc<Shared>, mut stream: Stream) -> Option<Serving> {
    let share = match Share::take(&stream.peer, Of::Asking, 1, shared.knows(stream.peer.id)) {
        Ok(share) => share,
        Err(_) => {
            stream.refuse(CloseCode::Crowded);
            return None;
        }
    };
    let mut kind = [0];
    let read = tokio::select! {
        read = timeout(HELLO_TIMEOUT, stream.recv.read_exact(&mut kind)) => read,
        () = shared.closed.cancelled() => return None,
    };
    match read {
        Ok(Ok(())) => {}
        // The peer has let go of it.
        Ok(Err(_)) => return None,
        Err(_) => {
            shared.metrics.violations.add(1);
            stream.refuse(CloseCode::Hello);
            return None;
        }
    }
    match StreamKind::of(kind[0]) {
        Some(StreamKind::Subscription) => return Serving::begin(shared, stream, share).await,
        Some(kind) => kv::accept(&shared, kind, Stream { share: Some(share), ..stream }),
        None => {
            shared.metrics.violations.add(1);
            CloseCode::Violation.close(&stream.connection);
        }
    }
    None
}
