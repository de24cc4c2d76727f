//! A pair has one connection, whatever it carries, whoever dialled it, and however often either side was restarted.

use groundswell::{Freshness, KvLink, Machine, Node, Source, Updates, lakes::Log};
use tempfile::TempDir;

use crate::kv::common::{self, Pair, is_current, spawn_machine, spawn_manager, until, until_put, within};

/// Publishes a line, and follows the other side's.
async fn follow(here: &Node, there: &Node) -> Updates<Log> {
    let agent = here.agent("main").unwrap();
    let lines = agent.publications::<Log>("/log/*").await.unwrap();
    lines.give("/log/line", "a line".to_owned()).await.unwrap();
    let inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
    here.add_peer(&there.ticket()).await.unwrap();
    inbox.surf(Source::new(there.id(), "main", "/log/line").unwrap()).await.unwrap()
}

async fn until_live(updates: impl Iterator<Item = &mut Updates<Log>>) {
    for updates in updates {
        within("the other side's line", async {
            while updates.freshness() != Freshness::Live {
                updates.next().await.unwrap();
            }
        })
        .await;
    }
}

async fn until_one_connection(nodes: [&Node; 2]) {
    for node in nodes {
        until("one connection", async || {
            let (now, of) = (node.metrics().connections_now, node.connections());
            (now, of.known, of.strangers, of.followers) == (1, 1, 0, 0)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_also_follows_each_others_paths_has_one_connection_after_restarts_too() {
    let mut pair = Pair::new().await;
    let mut followed: [Option<Updates<Log>>; 2] = [None, None];
    for round in 0..4 {
        let nodes = [pair.machine.node(), pair.manager.node()];
        for side in 0..2 {
            if followed[side].is_none() {
                followed[side] = Some(follow(nodes[side], nodes[1 - side]).await);
            }
        }
        until_live(followed.iter_mut().flatten()).await;
        pair.online().await;
        until_one_connection(nodes).await;
        // The machine is restarted, its manager, and then both at once.
        let restarts = [round != 1, round != 0];
        if restarts[0] {
            pair.machine.shutdown().await.unwrap();
            followed[0] = None;
        }
        if restarts[1] {
            pair.manager.shutdown().await.unwrap();
            followed[1] = None;
        }
        let machine =
            async { if restarts[0] { spawn_machine(pair.machine_dir.path()).await } else { pair.machine.clone() } };
        let manager =
            async { if restarts[1] { spawn_manager(pair.manager_dir.path()).await } else { pair.manager.clone() } };
        (pair.machine, pair.manager) = tokio::join!(machine, manager);
        pair.online().await;
        until_one_connection([pair.machine.node(), pair.manager.node()]).await;
        let value = round.to_string();
        pair.machine.set_kv_value("round", &value).await.unwrap();
        until_put(&mut pair.manager.watch_kv_key(pair.id, "round").await.unwrap(), "round", &value).await;
    }
    pair.shutdown().await;
}

/// What a role has on the connection ends with the role, and nothing else does. The role comes back on the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_ends_leaves_the_connection_to_the_rest_of_the_node() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let loopback = "127.0.0.1:0".parse().unwrap();
    let node = Node::builder().data_dir(dirs[0].path()).offline().bind(loopback).spawn().await.unwrap();
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    let manager = spawn_manager(dirs[1].path()).await;
    let id = common::pair(&machine, &manager).await;
    let (mut here, mut there) = (follow(&node, manager.node()).await, follow(manager.node(), &node).await);
    until_live([&mut here, &mut there].into_iter()).await;
    until_one_connection([&node, manager.node()]).await;
    let sessions = manager.node().metrics().document_sessions;
    let mut status = manager.machine_status_changes(id).unwrap();
    machine.shutdown().await.unwrap();
    within("the manager to notice", status.wait_for(|status| !matches!(status.link, KvLink::Online))).await.unwrap();
    assert_eq!((here.freshness(), there.freshness()), (Freshness::Live, Freshness::Live));
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    within("the machine to be back", status.wait_for(is_current)).await.unwrap();
    machine.set_kv_value("back", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "back").await.unwrap(), "back", "1").await;
    assert!(manager.node().metrics().document_sessions > sessions);
    assert_eq!((here.freshness(), there.freshness()), (Freshness::Live, Freshness::Live));
    until_one_connection([&node, manager.node()]).await;
    machine.shutdown().await.unwrap();
    node.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
