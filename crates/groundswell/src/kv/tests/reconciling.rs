//! A machine that grants its manager nothing on its connection, and what that costs the others.

use iroh::{
    Endpoint, SecretKey,
    endpoint::{QuicTransportConfig, presets},
};
use tokio::time::sleep;

use super::{starting::Dialler, *};
use crate::limits::{KV_RECONCILE_AFTER, KV_RECONCILES_AT_ONCE};

/// It grants no stream, so that no reconciliation can begin with it. It holds none of the turns meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_grants_no_stream_holds_no_turn_of_reconciliation() {
    let Pair { machine, manager, id, machine_dir, .. } = pair().await;
    let other_dir = TempDir::new().unwrap();
    let other = machine_at(other_dir.path()).await;
    let other_id = claim(&other, &manager).await;
    other.shutdown().await.unwrap();
    let document = *machine.kv().own().unwrap().identity().namespace.as_bytes();
    machine.shutdown().await.unwrap();
    // There is one turn for all.
    assert_eq!(manager.kv().reconciling.forget_permits(KV_RECONCILES_AT_ONCE - 1), KV_RECONCILES_AT_ONCE - 1);
    let key = std::fs::read(machine_dir.path().join("secret.key")).unwrap();
    let transport = QuicTransportConfig::builder().max_concurrent_bidi_streams(0u32.into()).build();
    let builder = Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&key.try_into().unwrap()));
    let builder = builder.transport_config(transport).clear_ip_transports().bind_addr("127.0.0.1:0").unwrap();
    let hostile = Dialler { endpoint: builder.bind().await.unwrap(), document };
    let connection = hostile.greeted(&crate::network::own_address(&manager.node().shared().endpoint().unwrap())).await;
    until("the hostile machine to be online", || manager.machine_status(id).unwrap().link == KvLink::Online).await;
    // Time is under test: after it, the manager has asked for the turn of this connection.
    sleep(KV_RECONCILE_AFTER).await;
    assert_eq!(connection.close_reason(), None);
    let other = machine_at(other_dir.path()).await;
    until("the others to reconcile", || manager.machine_status(other_id).unwrap().reconciled > 0).await;
    assert_eq!(connection.close_reason(), None, "it is still there");
    other.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The pause grows with each reconciliation that is begun, whatever becomes of it. One in which the other side says at once that
/// both are alike does not end that.
#[tokio::test(flavor = "multi_thread")]
async fn the_pause_before_the_next_reconciliation_is_not_the_other_sides_to_shorten() {
    let Pair { machine, manager, id, .. } = pair().await;
    machine.shutdown().await.unwrap();
    let document = manager.kv().of_peer(id).unwrap();
    document.until_no_session().await;
    document.reconciles_later();
    let first = document.reconciles_in();
    let before = document.reconciles_later();
    let second = document.reconciles_in();
    assert!(second > first + KV_RECONCILE_AFTER / 2, "{first:?}, and then {second:?}");
    document.reconciled(before);
    assert!(document.reconciles_in() <= first);
    assert_eq!(document.reconciles_later(), before);
    assert!(document.reconciles_in() > first + KV_RECONCILE_AFTER / 2, "as if nothing had been said");
    manager.shutdown().await.unwrap();
}
