//! Peers on a local network find each other by mDNS, on demand: a node asks for a peer while it dials it, the peer answers
//! with its addresses, and a node whose addresses are new says so. Nobody asks who is there.
//!
//! Whatever is sent to the port, a node keeps nothing of peers that it does not look for at that moment. A peer signs its answers,
//! so that nobody else on the network can have others dial where it is not. Whoever is reached at an address proves its
//! identity in the handshake all the same.

mod book;
mod links;
mod message;
#[cfg(test)]
mod tests;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use futures_util::{Stream, stream};
use iroh::{
    Endpoint, EndpointId,
    address_lookup::{AddressLookup, AddressLookupBuilder, AddressLookupBuilderError, EndpointData, Error, Item},
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    book::{Book, Meter},
    links::Links,
};
use crate::{limits::MAX_LAN_PACKET_BYTES, sync::lock};

type Answers = Pin<Box<dyn Stream<Item = Result<Item, Error>> + Send>>;

/// Makes the look-up of an endpoint.
#[derive(Debug)]
pub(crate) struct LanLookupBuilder;

impl AddressLookupBuilder for LanLookupBuilder {
    fn into_address_lookup(self, endpoint: &Endpoint) -> Result<impl AddressLookup, AddressLookupBuilderError> {
        let shared =
            Arc::new(Shared { book: Mutex::new(Book::new(endpoint.secret_key().clone())), changed: Notify::new() });
        let task = AbortOnDropHandle::new(tokio::spawn(run(shared.clone())));
        Ok(LanLookup { shared, _task: task })
    }
}

/// The look-up. Its task ends with it, and it with the endpoint, which drops it when it is closed.
#[derive(Debug)]
struct LanLookup {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// Told of each change of the book that the task has not made itself.
    changed: Notify,
}

impl AddressLookup for LanLookup {
    fn publish(&self, data: &EndpointData) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        lock(&self.shared.book).publish(data, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        self.shared.changed.notify_one();
    }

    fn resolve(&self, id: EndpointId) -> Option<Answers> {
        let begun = lock(&self.shared.book).look_for(id, Instant::now());
        let Some((key, answers)) = begun else { return Some(Box::pin(stream::empty())) };
        self.shared.changed.notify_one();
        Some(Box::pin(Lookup { key, answers, shared: self.shared.clone() }))
    }
}

impl Drop for LanLookup {
    fn drop(&mut self) {
        lock(&self.shared.book).end();
    }
}

/// The answers that a look-up gets. It ends when this is dropped, or after its time.
struct Lookup {
    key: u64,
    answers: mpsc::Receiver<Item>,
    shared: Arc<Shared>,
}

impl Stream for Lookup {
    type Item = Result<Item, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answers.poll_recv(cx).map(|answer| answer.map(Ok))
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        lock(&self.shared.book).forget(self.key);
    }
}

/// Sends what the book has to say, and tells it what comes.
async fn run(shared: Arc<Shared>) {
    let (mut links, mut meter) = (Links::default(), Meter::default());
    // One byte more shows a packet that is too long.
    let mut buffer = vec![0; MAX_LAN_PACKET_BYTES + 1];
    loop {
        let now = Instant::now();
        let (next, in_use) = {
            let book = lock(&shared.book);
            (book.next(now), book.is_in_use())
        };
        if in_use && next.into_iter().chain([links.next_look(now)]).any(|at| at <= now) {
            if links.is_stale(now) && links.look(now).await {
                lock(&shared.book).announce();
            }
            let packets = lock(&shared.book).packets(now);
            for packet in packets {
                links.send(&packet, now).await;
            }
            continue;
        }
        let pause = meter.pause(now);
        let look = in_use.then(|| links.next_look(now));
        let until = next.into_iter().chain(look).chain(pause).min();
        let due = async {
            match until {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.changed.notified() => {}
            () = due => {}
            received = links.receive(&mut buffer), if pause.is_none() => {
                let begun = Instant::now();
                let packet = buffer.get(..received.bytes).unwrap_or_default();
                lock(&shared.book).take(packet, received.interface, begun);
                meter.count(begun, begun.elapsed());
            }
        }
    }
}
