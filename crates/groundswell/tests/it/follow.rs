//! Two nodes in one process, over real connections on loopback.

use crate::common::Pair;
use groundswell::{Aeon, Event, Source, lakes::Log};

#[tokio::test]
async fn a_follower_gets_the_rock_then_waves_then_live() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    for n in 0..5 {
        logs.give("/log/a", format!("line {n}")).await.unwrap();
    }
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log/a").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    let caught_up = crate::common::until_caught_up(&mut updates).await;
    assert_eq!(caught_up, Aeon(5));
    logs.give("/log/a", "live".to_owned()).await.unwrap();
    let update = crate::common::next_update(&mut updates).await;
    assert_eq!(update.wave.as_deref(), Some("live"));
    assert!(update.live && !update.stale);
    let lines = inbox.with_rock(&source, |rock, aeon| (rock.clone(), aeon)).await.unwrap();
    assert_eq!(lines.1, Aeon(6));
    assert_eq!(lines.0.last().map(String::as_str), Some("live"));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
    loop {
        match updates.next().await {
            Some(Event::Ended(_)) => break,
            Some(_) => {}
            None => panic!("the stream ended without a reason"),
        }
    }
}
