//! Sources that are off cost a node few dials: so many at a time, whatever they are dialled for.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use groundswell::{
    Source,
    lakes::Log,
    limits::{DIAL_TURN, DIALS_AT_ONCE},
};
use iroh::{EndpointAddr, SecretKey, TransportAddr};
use tokio::net::UdpSocket;

use crate::common::{Pair, next_update, spawn_node, until_caught_up, within};

/// More than twice as many as have a place.
const SOURCES: usize = 200;

/// The connection that a datagram begins, if it does: its id is new with each dial, and the same when a packet is repeated.
fn begun(datagram: &[u8]) -> Option<&[u8]> {
    // A long header with a version: RFC 9000, 17.2.
    let (first, rest) = datagram.split_first()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first()?;
    let is_long = first & 0xc0 == 0xc0 && *version != [0; 4];
    is_long.then(|| rest.get(..usize::from(*length))).flatten()
}

/// The dials that come to a socket which answers nothing, until then.
async fn dials_until(socket: &UdpSocket, end: Instant) -> usize {
    let mut dials = BTreeSet::new();
    let mut datagram = [0; 2_048];
    while let Ok(got) = tokio::time::timeout_at(end.into(), socket.recv(&mut datagram)).await {
        dials.extend(begun(&datagram[..got.unwrap()]).map(<[u8]>::to_vec));
    }
    dials.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sources_that_are_off_are_dialled_some_at_a_time_and_one_that_is_there_is_reached() {
    use iroh_tickets::Ticket as _;
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "line".to_owned()).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let mut updates = inbox.surf(Source::new(publisher.id(), "main", "/log/a").unwrap()).await.unwrap();
    until_caught_up(&mut updates).await;

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let mut sources = Vec::new();
    for number in 0..SOURCES {
        let id = SecretKey::from_bytes(&[number as u8; 32]).public();
        let addr = EndpointAddr::from_parts(id, [TransportAddr::Ip(at)]);
        let ticket = iroh_tickets::endpoint::EndpointTicket::new(addr).encode_string();
        follower.add_peer(&ticket.parse().unwrap()).await.unwrap();
        sources.push(Source::new(id, "main", "/log/a").unwrap());
    }
    let first = Instant::now();
    let mut off = Vec::new();
    for source in sources {
        off.push(inbox.surf(source).await.unwrap());
    }
    // Time is under test: that of less than one turn, by the first dial.
    let dials = dials_until(&silent, first + DIAL_TURN.mul_f64(0.9)).await;
    println!("{SOURCES} sources that are off: {dials} dials in {:?}", first.elapsed());
    assert!(dials > 0 && dials <= DIALS_AT_ONCE, "{dials} dials");

    // The publisher comes back while all places are taken: it says so itself, and does not wait for one.
    publisher.shutdown().await.unwrap();
    drop(publisher);
    let publisher = spawn_node(publisher_dir.path()).await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "back".to_owned()).await.unwrap();
    let back = within("the line of the publisher that is back", async {
        loop {
            let update = next_update(&mut updates).await;
            if update.wave.as_deref() == Some("back") {
                return Instant::now();
            }
        }
    })
    .await;
    println!("the publisher was back {:?} after the first dial", back - first);
    // Their tasks end, those too that wait for a place.
    let _ = tokio::time::timeout(Duration::from_secs(20), follower.shutdown()).await.expect("the end");
    publisher.shutdown().await.unwrap();
    drop(off);
}
