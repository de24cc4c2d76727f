use groundswell_core::kv::{Envelope, Stamp};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::{
    StorageError,
    ids::IdError,
    kv::{DocumentRow, docs::NamespaceSecret, new_view},
};

const NUMBER: u64 = 1;

fn key() -> KvKey {
    KvKey::new("key").unwrap()
}

fn keeper(dir: &TempDir) -> (Keeper, Arc<Document>) {
    let storage = Arc::new(Storage::open(dir.path()));
    let (signer, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
    let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
    let standing = Standing::Paired { peer, author: theirs.id().to_bytes() };
    let row = DocumentRow { secret: [3; 32], standing };
    let identity = Identity::new(NUMBER, &row, KvAuthor::Machine, signer.id());
    let document = Document::new(KvAuthor::Machine, identity, new_view(), [0; 2]);
    let desks = HashMap::from([(NUMBER, Desk::new())]);
    let (wall_clock, unknown) = (Arc::new(|| 1_000), HashSet::new());
    let uncertain = Arc::default();
    let (metrics, used) = (Arc::default(), Used::new(KvBudget::default()));
    let keeper =
        Keeper { storage, metrics, signer, wall_clock, max_value_bytes: 1_024, used, desks, unknown, uncertain };
    (keeper, document)
}

fn write(document: &Arc<Document>, change: Change) -> (Command, oneshot::Receiver<Result<Written, KvError>>) {
    let (reply, answer) = oneshot::channel();
    let (document, space) = (document.clone(), SpaceName::default());
    (Command::Write { document, space, key: key(), change, id: None, reply }, answer)
}

/// An older delete of the manager's, as it comes from there.
fn older_delete(document: &Arc<Document>) -> Command {
    let (stamp, change) = (Stamp { wall_ms: 1, count: 0 }, Change::Delete);
    let envelope = Envelope { space: SpaceName::default(), key: key(), stamp, timestamp: 1, change };
    let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
    let secret = NamespaceSecret::from_bytes(&[3; 32]);
    let theirs = Author::from_bytes(&[2; 32]);
    let sealed = Sealed::sign(&secret, &theirs, KvAuthor::Manager, place, 1, bytes.into());
    let (reply, _) = oneshot::channel();
    let identity = document.identity();
    Command::Take { document: document.clone(), identity, entries: vec![(sealed, envelope)], upto: None, reply }
}

/// Whether there is a value is what the winner says, and not who came last.
#[test]
fn a_delete_in_one_batch_with_an_older_delete_of_the_other_side_counts() {
    for put_before in [true, false] {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let mut batch = Batch::default();
        let (put, mut stored) = write(&document, Change::Put("value".into()));
        keeper.stage(put, &mut batch);
        if put_before {
            keeper.finish(std::mem::take(&mut batch));
            assert!(stored.try_recv().unwrap().is_ok());
        }
        keeper.stage(older_delete(&document), &mut batch);
        let (delete, mut deleted) = write(&document, Change::Delete);
        keeper.stage(delete, &mut batch);
        keeper.finish(batch);
        let deleted = deleted.try_recv().unwrap();
        assert!(matches!(deleted, Ok(Written::Deleted(true))), "put before: {put_before}");
    }
}

/// A write that may have been done is not said to be undone by its repetition, until a later one has taken it back.
#[test]
fn a_write_of_unknown_outcome_stays_unknown_while_its_repetitions_fail() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let done = |keeper: &mut Keeper, text: &'static str, id: &str| {
        let (reply, mut answer) = oneshot::channel();
        let (document, space, id) = (document.clone(), SpaceName::default(), Some(WriteId::new(id).unwrap()));
        let change = Change::Put(text.into());
        let mut batch = Batch::default();
        keeper.stage(Command::Write { document, space, key: key(), change, id, reply }, &mut batch);
        keeper.finish(batch);
        answer.try_recv().unwrap()
    };
    keeper.storage.fail_with(Some(OutcomeUnknown::new("by a test").into()));
    assert!(matches!(done(&mut keeper, "1", "one"), Err(KvError::Unknown(_))));
    assert!(keeper.uncertain.load(Ordering::SeqCst));
    keeper.storage.fail(true);
    let again = done(&mut keeper, "1", "one");
    assert!(matches!(&again, Err(KvError::Unknown(_))), "{:?}", again.err());
    assert!(matches!(done(&mut keeper, "2", "two"), Err(KvError::Storage(_))));
    keeper.storage.fail(false);
    assert!(done(&mut keeper, "3", "three").is_ok());
    assert!(!keeper.uncertain.load(Ordering::SeqCst));
    keeper.storage.fail(true);
    assert!(matches!(done(&mut keeper, "1", "one"), Err(KvError::Storage(_))), "it was taken back");
    let (reply, mut answer) = oneshot::channel();
    let (space, change) = (SpaceName::default(), Change::Delete);
    keeper.unknown.insert((NUMBER, WriteId::new("late").unwrap()));
    let id = Some(WriteId::new("late").unwrap());
    keeper.refuse(Command::Write { document: document.clone(), space, key: key(), change, id, reply });
    assert!(matches!(answer.try_recv().unwrap(), Err(KvError::Unknown(_))), "refused by a keeper that stops");
}

/// A write that was done is not said to be undone by its repetition: in one batch with a write that fails, or whose outcome
/// is unknown, and by a keeper that stops.
#[test]
fn a_write_that_was_done_is_answered_with_that_whatever_becomes_of_others() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let once = |change: Change, id: &str| {
        let (reply, answer) = oneshot::channel();
        let (document, space, id) = (document.clone(), SpaceName::default(), Some(WriteId::new(id).unwrap()));
        (Command::Write { document, space, key: key(), change, id, reply }, answer)
    };
    let put = |text: &'static str, id: &str| once(Change::Put(text.into()), id);
    let mut batch = Batch::default();
    let (first, mut stored) = put("1", "put");
    let (second, mut deleted) = once(Change::Delete, "delete");
    keeper.stage(first, &mut batch);
    keeper.stage(second, &mut batch);
    assert!(stored.try_recv().is_err() && deleted.try_recv().is_err(), "they wait for the batch");
    keeper.finish(batch);
    assert!(stored.try_recv().unwrap().is_ok() && deleted.try_recv().unwrap().is_ok());
    let failures = [StorageError::new("by a test").into(), OutcomeUnknown::new("by a test").into()];
    for failure in failures.map(|error: WriteError| Some(error)).into_iter().chain([None]) {
        let stops = failure.is_none();
        keeper.storage.fail_with(failure);
        let mut batch = Batch::default();
        let (other, mut fails) = put("2", "other");
        let (again, mut stored) = put("1", "put");
        let (delete, mut deleted) = once(Change::Delete, "delete");
        let (reuse, mut reused) = put("3", "delete");
        if stops {
            [again, delete, reuse].into_iter().for_each(|command| keeper.refuse(command));
        } else {
            [other, again, delete, reuse].into_iter().for_each(|command| keeper.stage(command, &mut batch));
            keeper.finish(batch);
            assert!(matches!(fails.try_recv().unwrap(), Err(KvError::Storage(_) | KvError::Unknown(_))));
        }
        assert!(matches!(stored.try_recv().unwrap(), Ok(Written::Put(entry)) if entry.value == "1"));
        assert!(matches!(deleted.try_recv().unwrap(), Ok(Written::Deleted(true))));
        assert!(matches!(reused.try_recv().unwrap(), Err(KvError::Id(IdError::Reused(_)))));
    }
}

/// A document that goes takes along what is written beside it, in the same batch and later.
#[test]
fn nothing_is_written_for_a_document_that_goes() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let mut batch = Batch::default();
    let (before, mut stored) = write(&document, Change::Put("before".into()));
    keeper.stage(before, &mut batch);
    keeper.stage(Command::Rows { rows: vec![Row::Drop { number: NUMBER }], reply: None }, &mut batch);
    let (beside, mut refused) = write(&document, Change::Put("beside".into()));
    keeper.stage(beside, &mut batch);
    keeper.finish(batch);
    assert!(stored.try_recv().unwrap().is_ok());
    assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
    let mut batch = Batch::default();
    let (later, mut refused) = write(&document, Change::Put("later".into()));
    keeper.stage(later, &mut batch);
    keeper.stage(older_delete(&document), &mut batch);
    keeper.finish(batch);
    assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
    assert_eq!(keeper.storage.load(NUMBER).unwrap().entries, []);
}

fn restand(document: &Arc<Document>, before: Arc<Identity>) -> (Command, oneshot::Receiver<Result<(), KvError>>) {
    let (reply, answer) = oneshot::channel();
    let Standing::Paired { peer, .. } = before.standing else { panic!("a pair") };
    let row = DocumentRow { standing: Standing::Released { peer }, ..before.row() };
    let signer = Author::from_bytes(&[1; 32]).id();
    let identity = Identity::new(before.number, &row, KvAuthor::Machine, signer);
    (Command::Restand { document: document.clone(), before, identity, reply }, answer)
}

/// Another standing that is stored late does not bring back what is gone: a document that was dropped,
/// in the same batch or before, or one that was renewed.
#[test]
fn a_document_that_is_gone_does_not_come_back_by_its_standing() {
    for renewed in [false, true] {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let before = document.identity();
        keeper.storage.write(Row::begin(NUMBER, before.row()).to_vec()).unwrap();
        let mut batch = Batch::default();
        if renewed {
            let row = DocumentRow { secret: [4; 32], standing: Standing::Unclaimed };
            let identity = Identity::new(NUMBER + 1, &row, KvAuthor::Machine, keeper.signer.id());
            let (reply, _) = oneshot::channel();
            let (document, before) = (document.clone(), before.clone());
            let along = Vec::new();
            let keeps = Contents::Kept;
            keeper.stage(Command::Renew { document, before, identity, keeps, along, reply }, &mut batch);
        } else {
            keeper.stage(Command::Rows { rows: vec![Row::Drop { number: NUMBER }], reply: None }, &mut batch);
        }
        for _ in 0..2 {
            let (late, mut refused) = restand(&document, before.clone());
            keeper.stage(late, &mut batch);
            assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
        }
        keeper.finish(batch);
        let left: Vec<u64> = keeper.storage.documents().unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(left, if renewed { vec![NUMBER + 1] } else { vec![] });
    }
}

/// And one that is not gone has it, durably, and who works for the one before ends.
#[test]
fn a_standing_is_stored_before_it_is_seen() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let before = document.identity();
    keeper.storage.write(Row::begin(NUMBER, before.row()).to_vec()).unwrap();
    keeper.storage.fail(true);
    let mut batch = Batch::default();
    let (change, mut failed) = restand(&document, before.clone());
    keeper.stage(change, &mut batch);
    assert!(matches!(failed.try_recv().unwrap(), Err(KvError::Storage(_))));
    assert!(!before.replaced.is_cancelled());
    keeper.storage.fail(false);
    let (change, mut done) = restand(&document, before.clone());
    keeper.stage(change, &mut batch);
    done.try_recv().unwrap().unwrap();
    assert!(before.replaced.is_cancelled());
    let standing = document.identity().standing.clone();
    assert!(matches!(standing, Standing::Released { .. }), "{standing:?}");
    assert_eq!(keeper.storage.documents().unwrap()[0].1.standing, standing);
}

fn take(
    document: &Arc<Document>,
    entries: Vec<Opened>,
    upto: Option<(KvAuthor, u64)>,
) -> (Command, oneshot::Receiver<Result<(), KvError>>) {
    let (reply, answer) = oneshot::channel();
    let (document, identity) = (document.clone(), document.identity());
    (Command::Take { document, identity, entries, upto, reply }, answer)
}

/// The other side says that this one has written more than it has: what it writes next is not taken for old.
#[test]
fn the_other_side_does_not_say_how_far_this_one_has_written() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let mut batch = Batch::default();
    let (lie, mut taken) = take(&document, Vec::new(), Some((KvAuthor::Machine, u64::MAX)));
    keeper.stage(lie, &mut batch);
    keeper.finish(std::mem::take(&mut batch));
    taken.try_recv().unwrap().unwrap();
    let before = document.heads.borrow()[KvAuthor::Machine.index()];
    let (put, mut stored) = write(&document, Change::Put("value".into()));
    keeper.stage(put, &mut batch);
    keeper.finish(batch);
    assert!(stored.try_recv().unwrap().is_ok());
    assert!(document.heads.borrow()[KvAuthor::Machine.index()] > before, "it is new to who follows the log");
}

/// An entry of this side's own that came back with the greatest counter of all: writes fail, and nothing hangs.
#[test]
fn counters_that_are_used_up_are_an_error() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let (stamp, change) = (Stamp { wall_ms: 1, count: 0 }, Change::Delete);
    let envelope = Envelope { space: SpaceName::default(), key: key(), stamp, timestamp: 1, change };
    let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
    let secret = NamespaceSecret::from_bytes(&[3; 32]);
    let sealed = Sealed::sign(&secret, &keeper.signer, KvAuthor::Machine, place, u64::MAX, bytes.into());
    let mut batch = Batch::default();
    let (last, mut taken) = take(&document, vec![(sealed, envelope)], None);
    keeper.stage(last, &mut batch);
    let (put, mut refused) = write(&document, Change::Put("value".into()));
    keeper.stage(put, &mut batch);
    keeper.finish(batch);
    taken.try_recv().unwrap().unwrap();
    assert!(matches!(refused.try_recv().unwrap(), Err(KvError::Entry(_))));
}

/// A side that makes more keys than two honest ones could is refused, and what it sent is not stored.
#[test]
fn keys_beyond_what_two_sides_may_make_are_refused_and_not_stored() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, _) = keeper(&dir);
    let (mut view, stamp) = (new_view(), Stamp { wall_ms: 1, count: 0 });
    let envelope = |n: usize| Envelope {
        space: SpaceName::default(),
        key: KvKey::new(format!("{n}")).unwrap(),
        stamp,
        timestamp: 1,
        change: Change::Put("value".into()),
    };
    // Room for one.
    for n in 1..MAX_VIEW_KEYS {
        view.apply(KvAuthor::Manager, envelope(n)).unwrap();
    }
    let theirs = Author::from_bytes(&[2; 32]);
    let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
    let standing = Standing::Paired { peer, author: theirs.id().to_bytes() };
    let row = DocumentRow { secret: [3; 32], standing };
    let identity = Identity::new(NUMBER, &row, KvAuthor::Machine, keeper.signer.id());
    let document = Document::new(KvAuthor::Machine, identity, view, [0; 2]);
    let entry = |n: usize, counter| {
        let envelope = envelope(n);
        let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
        let secret = NamespaceSecret::from_bytes(&[3; 32]);
        let sealed = Sealed::sign(&secret, &theirs, KvAuthor::Manager, place, counter, bytes.into());
        (sealed, envelope)
    };
    let mut batch = Batch::default();
    let upto = |counter| Some((KvAuthor::Manager, counter));
    let (fits, mut taken) = take(&document, vec![entry(MAX_VIEW_KEYS, 1)], upto(1));
    let (more, mut refused) = take(&document, vec![entry(MAX_VIEW_KEYS + 1, 2)], upto(2));
    let (again, mut overwritten) = take(&document, vec![entry(MAX_VIEW_KEYS, 3)], None);
    for command in [fits, more, again] {
        keeper.stage(command, &mut batch);
    }
    keeper.finish(batch);
    taken.try_recv().unwrap().unwrap();
    assert!(matches!(refused.try_recv().unwrap(), Err(KvError::TooManyKeys(_))));
    overwritten.try_recv().unwrap().unwrap();
    assert_eq!(keeper.storage.load(NUMBER).unwrap().entries.len(), 1);
    assert_eq!(document.heads.borrow()[KvAuthor::Manager.index()], 1, "it is asked for again");
}

/// An entry of this side's own, as the other side sends it back.
fn own(value: &'static str, counter: u64, wall_ms: u64) -> Opened {
    let (stamp, change) = (Stamp { wall_ms, count: 0 }, Change::Put(value.into()));
    let envelope = Envelope { space: SpaceName::default(), key: key(), stamp, timestamp: 1, change };
    let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
    let (secret, signer) = (NamespaceSecret::from_bytes(&[3; 32]), Author::from_bytes(&[1; 32]));
    (Sealed::sign(&secret, &signer, KvAuthor::Machine, place, counter, bytes.into()), envelope)
}

fn came_back(keeper: &mut Keeper, document: &Arc<Document>, entry: Opened) {
    let (reply, _) = oneshot::channel();
    let (identity, mut batch) = (document.identity(), Batch::default());
    let upto = Some((KvAuthor::Machine, entry.0.counter));
    keeper.stage(Command::Take { document: document.clone(), identity, entries: vec![entry], upto, reply }, &mut batch);
    assert!(keeper.finish(batch).is_none());
}

/// The value and the counter of the key, as storage has them; the view has the same value.
fn stored(keeper: &Keeper, document: &Document) -> (Vec<u8>, u64) {
    let place = document_key_of();
    let entry = keeper.storage.entry(NUMBER, KvAuthor::Machine, place).unwrap().unwrap();
    let envelope = Envelope::decode(&place, &entry.envelope, 1_024).unwrap();
    let Change::Put(value) = envelope.change else { panic!("a delete") };
    let shown = document.with_view(|view| view.get(&SpaceName::default(), &key())).unwrap().value;
    assert_eq!(shown, value, "memory and disk have the same");
    (value.to_vec(), entry.counter)
}

fn document_key_of() -> [u8; 32] {
    groundswell_core::kv::document_key(&SpaceName::default(), &key())
}

/// Of two own entries the greater stamp stays, whatever their counters: in memory, on disk, and after a restart.
#[test]
fn what_comes_back_is_ranked_by_stamps_and_has_the_greatest_counter() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    assert!(keeper.went_back(&document, &document.identity(), 103).is_ok());
    assert!(document.agrees_first());
    let mut batch = Batch::default();
    let (put, _) = write(&document, Change::Put("777".into()));
    keeper.stage(put, &mut batch);
    assert!(keeper.finish(batch).is_none());
    let (value, written) = stored(&keeper, &document);
    assert_eq!(value, b"777");
    assert!(written > 103 + (1 << 28), "no counter is given again: {written}");
    came_back(&mut keeper, &document, own("102", 102, 900));
    assert_eq!(stored(&keeper, &document), (b"777".to_vec(), written), "an earlier one loses");
    came_back(&mut keeper, &document, own("103", 103, 5_000));
    let (value, counter) = stored(&keeper, &document);
    assert_eq!(value, b"103");
    assert!(counter > written, "documents go by counters");
    assert_eq!(document.status.borrow().went_back.unwrap().overruled, 1);
    assert_eq!(document.delivered.borrow().agreed, u64::MAX);
    assert!(keeper.agree(&document, &document.identity(), 103, &Default::default()).is_ok());
    assert!(!document.agrees_first());
    let loaded = keeper.storage.load(NUMBER).unwrap();
    assert_eq!((loaded.restored, loaded.sent), (None, Some(103)));
}

/// An own entry that the other side has not sent back, under a counter up to which it holds all, would never be sent.
#[test]
fn what_the_other_side_may_lack_is_signed_anew_and_all_or_none() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    let mut batch = Batch::default();
    let (put, _) = write(&document, Change::Put("777".into()));
    keeper.stage(put, &mut batch);
    assert!(keeper.finish(batch).is_none());
    let (_, before) = stored(&keeper, &document);
    assert!(keeper.went_back(&document, &document.identity(), before + 5).is_ok());
    keeper.storage.fail(true);
    assert!(keeper.agree(&document, &document.identity(), before + 5, &Default::default()).is_err());
    assert!(document.agrees_first(), "a crash here begins it again");
    assert!(keeper.storage.load(NUMBER).unwrap().restored.is_some());
    keeper.storage.fail(false);
    assert!(keeper.agree(&document, &document.identity(), before + 5, &Default::default()).is_ok());
    let (value, counter) = stored(&keeper, &document);
    assert_eq!(value, b"777");
    assert!(counter > before + 5);
    assert_eq!(document.delivered.borrow().agreed, counter, "it is delivered before anything counts");
}

/// The same backup was restored before: the other side holds counters of that run, beyond those that this one goes on from. What is
/// signed below them would never be sent, and count as delivered.
#[test]
fn what_is_signed_anew_is_beyond_all_that_the_other_side_holds() {
    let dir = TempDir::new().unwrap();
    let (mut keeper, document) = keeper(&dir);
    assert!(keeper.went_back(&document, &document.identity(), 5).is_ok());
    let mut batch = Batch::default();
    let (put, _) = write(&document, Change::Put("777".into()));
    keeper.stage(put, &mut batch);
    assert!(keeper.finish(batch).is_none());
    let held_there = stored(&keeper, &document).1 + 1_000_000;
    assert!(keeper.agree(&document, &document.identity(), held_there, &Default::default()).is_ok());
    let (value, counter) = stored(&keeper, &document);
    assert_eq!(value, b"777");
    assert!(counter > held_there, "{counter}");
    assert!(keeper.storage.load(NUMBER).unwrap().bound > held_there, "after a restart too");
    let mut batch = Batch::default();
    let (put, _) = write(&document, Change::Put("778".into()));
    keeper.stage(put, &mut batch);
    assert!(keeper.finish(batch).is_none());
    assert!(stored(&keeper, &document).1 > counter);
    // Nothing was shown of what the other side claimed to hold: it is not believed at once again.
    assert!(document.claimed_in_vain.lock().unwrap().is_some());
}

#[test]
fn the_mark_of_what_was_sent_does_not_go_back() {
    let dir = TempDir::new().unwrap();
    let (keeper, document) = keeper(&dir);
    let author = document.ours;
    for counter in [7, 5] {
        keeper.store(vec![Row::Mark { number: NUMBER, author, mark: Mark::Sent, counter }]).unwrap();
    }
    assert_eq!(keeper.storage.load(NUMBER).unwrap().sent, Some(7));
}

/// An entry that was lost comes back with a counter between two that are in memory: whoever lacks it finds it in storage.
#[test]
fn the_recent_entries_have_no_gap() {
    let dir = TempDir::new().unwrap();
    let (keeper, document) = keeper(&dir);
    let entry = |name: &str, counter| {
        let (space, key) = (SpaceName::default(), KvKey::new(name).unwrap());
        let stamp = Stamp { wall_ms: counter, count: 0 };
        let envelope = Envelope { space, key, stamp, timestamp: 1, change: Change::Put("value".into()) };
        let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
        let secret = NamespaceSecret::from_bytes(&[3; 32]);
        (Sealed::sign(&secret, &keeper.signer, KvAuthor::Machine, place, counter, bytes.into()), envelope)
    };
    let recent = |after| document.recent_after(KvAuthor::Machine, after).map(|entries| entries.len());
    drop(document.show(vec![entry("a", 1), entry("c", 9)], [9, 0]));
    drop(document.show(vec![entry("a", 1)], [9, 0]));
    assert_eq!(recent(0), Some(2), "one that is there already changes nothing");
    drop(document.show(vec![entry("b", 5)], [9, 0]));
    assert_eq!((recent(0), recent(4), recent(9)), (None, None, Some(0)));
}
