//! Watching one key, on either side.

use groundswell::{KvAuthor, KvError, KvEvent};

use crate::kv::common::{Pair, next, until_put, within};

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_initial_value() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let (author, key) = (side.author(), format!("initial/{}", side.author()));
        let set = side.set(&key, "12").await;
        let mut watch = side.watch(&key).await;
        let first = within("the initial value", watch.next()).await.unwrap();
        assert_eq!((first.event, first.live), (KvEvent::Put(set.clone()), false));
        assert_eq!(next(&mut watch).await, "caught up");
        assert_eq!(set.author, author);
        assert_eq!(side.get(&key).await, Some(set));
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_no_initial_value() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let key = format!("later/{}", side.author());
        let mut watch = side.watch(&key).await;
        assert_eq!(next(&mut watch).await, "caught up");
        side.set(&key, "").await;
        assert_eq!(next(&mut watch).await, format!("!put {key}= by {}", side.author()));
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_many_updates_of_one_key() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let key = format!("many/{}", side.author());
        let mut watch = side.watch(&key).await;
        assert_eq!(next(&mut watch).await, "caught up");
        // One that keeps up sees each.
        for value in 0..100 {
            side.set(&key, value.to_string()).await;
            assert_eq!(next(&mut watch).await, format!("!put {key}={value} by {}", side.author()));
        }
        // One that does not sees the newest, and none twice.
        for value in 100..200 {
            side.set(&key, value.to_string()).await;
        }
        assert_eq!(next(&mut watch).await, format!("!put {key}=199 by {}", side.author()));
        side.set(&key, "end").await;
        assert_eq!(next(&mut watch).await, format!("!put {key}=end by {}", side.author()));
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_deletion_of_the_watched_key_and_its_re_creation() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let (author, key) = (side.author(), format!("gone/{}", side.author()));
        side.set(&key, "1").await;
        let mut watch = side.watch(&key).await;
        assert_eq!(next(&mut watch).await, format!("put {key}=1 by {author}"));
        assert_eq!(next(&mut watch).await, "caught up");
        assert!(side.delete(&key).await);
        assert_eq!(next(&mut watch).await, format!("!delete {key} by {author}"));
        assert_eq!(side.get(&key).await, None);
        assert!(!side.delete(&key).await, "deleting what is not there is no error, and no event");
        side.set(&key, "2").await;
        assert_eq!(next(&mut watch).await, format!("!put {key}=2 by {author}"));
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_errors() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let error = side.try_watch(vec![7; 1_025]).await.unwrap_err();
        assert!(matches!(error, KvError::Key(_)), "{error}");
        side.watch(vec![7; 1_024]).await;
    }
    let unknown = pair.manager.watch_kv_key(pair.manager.id(), "key").await.unwrap_err();
    assert!(matches!(unknown, KvError::UnknownMachine(_)), "{unknown}");
    let [machine, manager] = pair.sides();
    pair.shutdown().await;
    for side in [machine, manager] {
        let error = side.try_watch("key").await.unwrap_err();
        assert!(matches!(error, KvError::ShutDown), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_a_value_that_the_other_side_writes() {
    let pair = Pair::new().await;
    for author in [KvAuthor::Machine, KvAuthor::Manager] {
        let (writer, reader) =
            (pair.side(author), pair.sides().into_iter().find(|side| side.author() != author).unwrap());
        let key = format!("from/{author}");
        let mut watch = reader.watch(&key).await;
        assert_eq!(next(&mut watch).await, "caught up");
        let set = writer.set(&key, "1").await;
        assert_eq!(next(&mut watch).await, format!("!put {key}=1 by {author}"));
        // No event before its value can be read.
        assert_eq!(reader.get(&key).await, Some(set));
        assert!(writer.delete(&key).await);
        assert_eq!(next(&mut watch).await, format!("!delete {key} by {author}"));
        reader.set(&key, "3").await;
        // Seen first: of two writes that know nothing of each other either may win.
        until_put(&mut writer.watch(&key).await, &key, "3").await;
        writer.set(&key, "4").await;
        until_put(&mut watch, &key, "4").await;
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_watch_only_the_watched_keys_events() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let mut watch = side.watch("a").await;
        while next(&mut watch).await != "caught up" {}
        for other in ["", "ab", "a/b", "b", "A"] {
            side.set(other, "1").await;
            side.delete(other).await;
        }
        side.set("a", "mine").await;
        assert_eq!(next(&mut watch).await, format!("!put a=mine by {}", side.author()));
        side.delete("a").await;
    }
    pair.shutdown().await;
}
