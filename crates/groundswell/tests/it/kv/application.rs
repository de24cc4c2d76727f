//! What a vending application asks of the store, which had no watches: a manager configures machines and
//! collects what they sold. Entries, spaces, authors, restarts, claims that compete.

use groundswell::{KvAuthor, KvEntry, KvFilter, Machine, MachineState, Manager, PeerId};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::kv::common::{Pair, Side, spawn_machine, spawn_manager, until, within};

/// Waits until both sides have the same, and returns it.
async fn alike(pair: &Pair) -> Vec<KvEntry> {
    let [machine, manager] = pair.sides();
    within("both sides to be alike", async {
        loop {
            let both = machine.entries(KvFilter::All).await;
            if both == manager.entries(KvFilter::All).await {
                return both;
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn expect(pair: &Pair, key: &[u8], value: &[u8], author: KvAuthor) {
    alike(pair).await;
    for side in pair.sides() {
        let entry = side.get(key).await.unwrap();
        assert_eq!((&entry.value[..], entry.author), (value, author));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn application_a_new_machine_has_nothing_and_keeps_what_it_is_given() {
    let (pair, untouched) = (Pair::new().await, Pair::new().await);
    for side in pair.sides() {
        assert_eq!(side.entries(KvFilter::All).await, []);
    }
    pair.machine.set_kv_value("greeting", "hello").await.unwrap();
    expect(&pair, b"greeting", b"hello", KvAuthor::Machine).await;
    for side in pair.sides() {
        assert_eq!(side.get("farewell").await, None);
    }
    for side in untouched.sides() {
        assert_eq!(side.get("greeting").await, None, "what another machine has is not here");
    }
    pair.shutdown().await;
    untouched.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_many_entries_are_listed_and_found_at_both_sides() {
    let pair = Pair::new().await;
    let products = [("cola", "250"), ("crisps", "180"), ("water", "100")];
    for (product, price) in products {
        pair.machine.set_kv_value(product, price).await.unwrap();
    }
    let listed = alike(&pair).await;
    let listed: Vec<_> = listed.iter().map(|entry| (entry.key.to_string(), entry.value.clone())).collect();
    let expected: Vec<_> = products.iter().map(|(product, price)| (product.to_string(), (*price).into())).collect();
    assert_eq!(listed, expected);
    for (product, price) in products {
        expect(&pair, product.as_bytes(), price.as_bytes(), KvAuthor::Machine).await;
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_an_existing_key_is_updated_by_the_other_side_and_back() {
    let pair = Pair::new().await;
    pair.machine.set_kv_value("price", "1").await.unwrap();
    expect(&pair, b"price", b"1", KvAuthor::Machine).await;
    pair.manager.set_kv_value(pair.id, "price", "a longer one by the manager").await.unwrap();
    expect(&pair, b"price", b"a longer one by the manager", KvAuthor::Manager).await;
    pair.machine.set_kv_value("price", "2").await.unwrap();
    expect(&pair, b"price", b"2", KvAuthor::Machine).await;
    assert_eq!(alike(&pair).await.len(), 1, "it is one entry all along");
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_what_it_keeps_in_spaces_is_not_among_the_users_entries() {
    let pair = Pair::new().await;
    let configured = pair.manager.space(pair.id, "configuration").unwrap();
    let configuration = pair.machine.space("configuration").unwrap();
    let (earned, collected) =
        (pair.machine.space("contracts").unwrap(), pair.manager.space(pair.id, "contracts").unwrap());
    assert_eq!(configuration.get("machine").await.unwrap(), None, "nobody has configured it yet");
    // The manager configures, and does so again.
    for version in ["first", "second"] {
        configured.set("machine", version).await.unwrap();
        until("the configuration", async || {
            configuration.get("machine").await.unwrap().is_some_and(|entry| entry.value == version)
        })
        .await;
    }
    // A sale that is recorded twice is one.
    for _ in 0..2 {
        earned.set("sale/1", "contract").await.unwrap();
    }
    earned.set("sale/2", "another").await.unwrap();
    until("both sales", async || collected.entries(KvFilter::All).await.unwrap().len() == 2).await;
    pair.machine.set_kv_value("machine", "a key of its users").await.unwrap();
    let users = alike(&pair).await;
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].value, "a key of its users");
    // What the manager has claimed it takes away, and only that.
    for entry in collected.entries(KvFilter::All).await.unwrap() {
        assert!(collected.delete(entry.key.as_bytes()).await.unwrap());
    }
    until("no sale to be left", async || earned.entries(KvFilter::All).await.unwrap().is_empty()).await;
    assert_eq!(configuration.get("machine").await.unwrap().unwrap().value, "second");
    assert_eq!(alike(&pair).await, users);
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_each_entry_says_who_wrote_it() {
    let pair = Pair::new().await;
    let (ours, theirs) = tokio::join!(
        pair.machine.set_kv_value("by the machine", "m"),
        pair.manager.set_kv_value(pair.id, "by the manager", "M"),
    );
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!((ours.author, theirs.author), (KvAuthor::Machine, KvAuthor::Manager));
    until("both", async || pair.machine.get_kv_entries().await.unwrap().len() == 2).await;
    assert_eq!(alike(&pair).await, [ours.clone(), theirs.clone()], "the same entries, timestamps included");
    for side in pair.sides() {
        assert_eq!(side.entries(KvFilter::Author(KvAuthor::Machine)).await, std::slice::from_ref(&ours));
        assert_eq!(side.entries(KvFilter::Author(KvAuthor::Manager)).await, std::slice::from_ref(&theirs));
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn application_binary_keys_and_values_are_what_they_were() {
    let pair = Pair::new().await;
    let key = [&[0, 1, 2][..], b"binary", &[0xff, 0xfe]].concat();
    let every_byte: Vec<u8> = (0..=255).collect();
    let zeros_and_ones = [[0; 64], [0xff; 64]].concat();
    pair.machine.set_kv_value(&key, &every_byte).await.unwrap();
    expect(&pair, &key, &every_byte, KvAuthor::Machine).await;
    pair.manager.set_kv_value(pair.id, &key, &zeros_and_ones).await.unwrap();
    expect(&pair, &key, &zeros_and_ones, KvAuthor::Manager).await;
    pair.shutdown().await;
}

/// Identity, pairing, configuration and entries are there after a restart of either side, and of both.
#[tokio::test(flavor = "multi_thread")]
async fn application_everything_is_there_after_restarts() {
    let Pair { mut machine, mut manager, id, machine_dir, manager_dir } = Pair::new().await;
    let manager_id = manager.id();
    manager.space(id, "configuration").unwrap().set("machine", "as configured").await.unwrap();
    machine.set_kv_value("stock", "0").await.unwrap();
    for (round, (restart_machine, restart_manager)) in [(true, false), (false, true), (true, true)].iter().enumerate() {
        if *restart_machine {
            machine.shutdown().await.unwrap();
        }
        if *restart_manager {
            manager.shutdown().await.unwrap();
        }
        if *restart_machine {
            machine = spawn_machine(machine_dir.path()).await;
        }
        if *restart_manager {
            manager = spawn_manager(manager_dir.path()).await;
        }
        assert_eq!((machine.id(), manager.id()), (id, manager_id));
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager_id });
        assert_eq!(manager.list_machine_ids(), [id]);
        let configuration = manager.space(id, "configuration").unwrap().get("machine").await.unwrap();
        assert_eq!(configuration.unwrap().value, "as configured");
        let before = machine.get_kv_value("stock").await.unwrap().unwrap();
        assert_eq!(before.value, round.to_string());
        let stock = (round + 1).to_string();
        machine.set_kv_value("stock", &stock).await.unwrap();
        until("the stock at the manager", async || {
            manager.get_kv_value(id, "stock").await.unwrap().is_some_and(|entry| entry.value == stock)
        })
        .await;
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn application_a_manager_without_machines_and_unknown_ids() {
    let dir = TempDir::new().unwrap();
    let manager = spawn_manager(dir.path()).await;
    assert_eq!(manager.list_machine_ids(), []);
    let nobody: PeerId = iroh::SecretKey::from_bytes(&[1; 32]).public();
    assert!(manager.space(nobody, "configuration").is_err());
    assert!(manager.get_kv_entries(nobody).await.is_err());
    let unknown = Side::Manager(manager.clone(), nobody);
    assert!(unknown.try_set("key", "value").await.is_err());
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn application_shutting_down_twice_is_the_same_as_once() {
    let Pair { machine, manager, id: _, machine_dir: _one, manager_dir: _two } = Pair::new().await;
    assert!(!machine.is_shutdown() && !manager.is_shutdown());
    for _ in 0..3 {
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
        assert!(machine.is_shutdown() && manager.is_shutdown());
        let request = within("no request", machine.await_next_incoming_claim_request()).await;
        assert!(request.is_none(), "there are no claims of a machine that is shut down");
    }
}

/// Of managers who claim one machine at once, exactly one gets it, whichever; the machine shows few PINs, the winner's
/// among them.
#[tokio::test(flavor = "multi_thread")]
async fn application_of_twenty_managers_who_claim_at_once_one_gets_the_machine() {
    let dir = TempDir::new().unwrap();
    let machine = spawn_machine(dir.path()).await;
    let (mut managers, mut dirs) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        managers.push(spawn_manager(dir.path()).await);
        dirs.push(dir);
    }
    let person = tokio::spawn(says_yes(machine.clone()));
    let mut claims = JoinSet::new();
    for manager in managers.clone() {
        let ticket = machine.ticket();
        claims.spawn(async move {
            let claim = manager.begin_claim(&ticket).await.ok()?;
            let pin = claim.pin;
            claim.answer(true).await.ok().map(|_| (pin, manager.id()))
        });
    }
    let claimed: Vec<_> = within("the claims", claims.join_all()).await.into_iter().flatten().collect();
    let [(pin, winner)] = claimed[..] else { panic!("one claim, and not {claimed:?}") };
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: winner });
    let with_machine = |manager: &&Manager| manager.list_machine_ids() == [machine.id()];
    let having: Vec<PeerId> = managers.iter().filter(with_machine).map(Manager::id).collect();
    assert_eq!(having, [winner]);
    machine.shutdown().await.unwrap();
    let shown = within("the person", person).await.unwrap();
    assert!(shown.contains(&pin) && shown.len() <= 20, "{shown:?}");
    for manager in managers {
        manager.shutdown().await.unwrap();
    }
}

/// Confirms whatever is shown, until the machine is shut down.
async fn says_yes(machine: Machine) -> Vec<groundswell::ClaimPin> {
    let mut shown = Vec::new();
    while let Some((pin, answer)) = machine.await_next_incoming_claim_request().await {
        shown.push(pin);
        // A claim that is over already needs no answer.
        let _ = answer.send(true);
    }
    shown
}
