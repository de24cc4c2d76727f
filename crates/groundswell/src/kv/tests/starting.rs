//! Peers that dial while a role starts or ends: at each of its awaits, whatever they ask for, no answer ends a pairing.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures_util::FutureExt;
use groundswell_core::{
    LakeId,
    kv::wire::{Held, KvHello, encode_kv_frame},
    wire::{BootId, Extension, Hello, PROTOCOL_VERSIONS, StreamKind, Surf, encode_frame},
};
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{Connection, ReadError, ReadExactError, RecvStream, SendStream, presets},
};
use tokio::time::timeout;

use super::*;
use crate::{
    MachineState, Node,
    network::{ALPN, CloseCode},
    sync::lock,
};

const SOURCE: &str = include_str!("../../kv.rs");

/// The body of a function of `Kv`.
fn body(begins: &str) -> &'static str {
    let (_, from) = SOURCE.split_once(begins).unwrap();
    from.split_once("\n    }\n").unwrap().0
}

const OPEN: &str = "pub(crate) async fn open(";
const SHUTDOWN: &str = "pub(crate) async fn shutdown(";

/// The names of the fault points.
fn points(body: &str) -> BTreeSet<&str> {
    body.lines().filter_map(|line| line.trim().strip_prefix("fault_point!(")?.split('"').nth(1)).collect()
}

#[test]
fn between_two_awaits_of_a_start_or_a_shutdown_there_is_a_fault_point() {
    for begins in [OPEN, SHUTDOWN] {
        let (mut since, mut nested) = (0, None);
        for line in body(begins).lines() {
            let indent = line.len() - line.trim_start().len();
            if line.contains("async {") || line.contains("async move {") {
                // What it awaits is awaited where its name is used.
                nested.get_or_insert(indent);
            } else if nested == Some(indent) {
                nested = None;
            }
            if line.trim().starts_with("fault_point!(") {
                since = 0;
            } else if nested.is_none() && line.contains(".await") {
                since += 1;
            }
            assert!(since < 2, "a second await without a fault point before it: {line}");
        }
        assert!(points(body(begins)).len() > 3, "the source was read");
    }
}

/// A peer that asks by hand, with an identity of its own or another's.
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) document: [u8; 32],
}

impl Dialler {
    /// With the identity of a machine or a manager, for the document that it shares.
    async fn of(dir: &Path, kv: &crate::kv::Kv) -> Self {
        let document = *kv.documents()[0].identity().namespace.as_bytes();
        let key = SecretKey::from_bytes(&std::fs::read(dir.join("secret.key")).unwrap().try_into().unwrap());
        let builder = Endpoint::builder(presets::Minimal).secret_key(key).clear_ip_transports();
        let endpoint = builder.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
        Self { endpoint, document }
    }

    /// A connection on which this side has said hello.
    async fn connect(&self, to: &EndpointAddr) -> Connection {
        let connection = timeout(PATIENCE, self.endpoint.connect(to.clone(), ALPN)).await.unwrap().unwrap();
        let hello = Hello { versions: PROTOCOL_VERSIONS, boot: BootId([7; 16]), extension: Extension::default() };
        let mut frame = Vec::new();
        encode_frame(&hello, &mut frame).unwrap();
        // It may have ended already.
        if let Ok(mut stream) = connection.open_uni().await {
            let _ = stream.write_all(&frame).await;
            let _ = stream.finish();
        }
        connection
    }

    /// A connection with a stream of the document, on which both sides have said hello.
    pub(super) async fn greeted(&self, to: &EndpointAddr) -> Connection {
        let connection = self.connect(to).await;
        let (send, recv) = timeout(PATIENCE, self.greet(&connection)).await.unwrap().unwrap();
        // Its streams stay open with it.
        tokio::spawn(async move {
            let _streams = (send, recv);
            std::future::pending::<()>().await;
        });
        connection
    }

    /// Asks for the document; the code with which that is refused.
    async fn greet(&self, connection: &Connection) -> Result<(SendStream, RecvStream), u64> {
        let hello =
            KvHello { document: self.document, wall_ms: 0, held: Held::default(), extension: Extension::default() };
        let mut words = vec![StreamKind::Document.byte()];
        encode_kv_frame(1_024, &hello, &mut words).unwrap();
        said(connection, &words).await
    }

    /// Asks for the document; the code with which that is refused, or nothing where it is answered.
    async fn ask(&self, to: &EndpointAddr) -> Option<u64> {
        loop {
            let connection = self.connect(to).await;
            let refused = timeout(PATIENCE, self.greet(&connection)).await.unwrap().err();
            connection.close(0u32.into(), b"");
            if refused != Some(LOST) {
                return refused;
            }
        }
    }

    /// Asks for a path; the code with which that is refused, or nothing where it is not.
    async fn surf(&self, to: &EndpointAddr) -> Option<u64> {
        let (agent, path, lake) =
            ("main".parse().unwrap(), "/path".parse().unwrap(), LakeId::of::<crate::lakes::Sum>().unwrap());
        let mut words = vec![StreamKind::Subscription.byte()];
        encode_frame(&Surf { agent, path, lake, cursor: None }, &mut words).unwrap();
        loop {
            let connection = self.connect(to).await;
            let refused = timeout(PATIENCE, said(&connection, &words)).await.unwrap().err();
            connection.close(0u32.into(), b"");
            if refused != Some(LOST) {
                return refused;
            }
        }
    }

    /// Begins a claim, and goes away; the code with which that is refused, or nothing where it is not.
    async fn claim(&self, to: &EndpointAddr) -> Option<u64> {
        loop {
            let connection = self.connect(to).await;
            // The machine waits for the first words of a claim, and gets invalid ones.
            let words = [StreamKind::Claim.byte(), 1, 0, 0, 0, 255];
            let refused = timeout(PATIENCE, said(&connection, &words)).await.unwrap().err();
            connection.close(0u32.into(), b"");
            if refused != Some(LOST) {
                return refused;
            }
        }
    }
}

/// In place of a code: the connection has ended, since the real owner of the identity has connected too.
const LOST: u64 = u64::MAX;

/// Says this on a stream; the code with which it is refused.
async fn said(connection: &Connection, words: &[u8]) -> Result<(SendStream, RecvStream), u64> {
    let Ok((mut send, mut recv)) = connection.open_bi().await else { return Err(LOST) };
    let _ = send.write_all(words).await;
    match recv.read_exact(&mut [0]).await {
        Ok(()) => Ok((send, recv)),
        Err(ReadExactError::ReadError(ReadError::Reset(code))) => Err(code.into_inner()),
        Err(ReadExactError::ReadError(ReadError::ConnectionLost(_))) => Err(LOST),
        Err(other) => panic!("{other}"),
    }
}

async fn node_at(dir: &Path) -> Node {
    let builder = Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap());
    builder.private().spawn().await.unwrap()
}

/// Has both diallers ask at each fault point, and notes the points.
fn ask_at_each(node: &Node, diallers: &Arc<Vec<Dialler>>, reached: &Arc<Mutex<BTreeSet<&'static str>>>) {
    let (to, diallers, reached) = (node.ticket().0.clone(), diallers.clone(), reached.clone());
    node.shared().kv.at_fault_points(Arc::new(move |point| {
        let (to, diallers, reached) = (to.clone(), diallers.clone(), reached.clone());
        async move {
            for dialler in diallers.iter() {
                let refused = [dialler.ask(&to).await, dialler.claim(&to).await];
                let not_paired = Some(CloseCode::NotPaired as u64);
                assert_ne!(refused[0], not_paired, "the document at {point:?}");
                let refused = dialler.surf(&to).await;
                assert_ne!(refused, Some(CloseCode::Private as u64), "a path at {point:?}");
                lock(&reached).insert(point);
            }
        }
        .boxed()
    }));
}

/// Two machines ask their manager at each await of its start and its shutdown, so that one is not loaded yet when the
/// other is.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_dial_at_any_moment_of_their_managers_start_or_end_stay_paired() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair().await;
    let second_dir = TempDir::new().unwrap();
    let second = machine_at(second_dir.path()).await;
    let second_id = claim(&second, &manager).await;
    manager.shutdown().await.unwrap();
    let (first, other) = (Dialler::of(machine_dir.path(), machine.kv()), Dialler::of(second_dir.path(), second.kv()));
    let diallers = Arc::new(vec![first.await, other.await]);
    let reached = Arc::default();
    let node = node_at(manager_dir.path()).await;
    for dialler in diallers.iter() {
        // Its files say that it is to be a manager.
        assert_eq!(dialler.ask(&node.ticket().0).await, Some(CloseCode::Later as u64));
        assert_eq!(dialler.claim(&node.ticket().0).await, Some(CloseCode::Later as u64));
    }
    ask_at_each(&node, &diallers, &reached);
    let manager = Manager::builder().node(node.clone()).spawn().await.unwrap();
    manager.shutdown().await.unwrap();
    let manager = Manager::builder().node(node.clone()).spawn().await.unwrap();
    let all = &points(body(OPEN)) | &points(body(SHUTDOWN));
    let of_a_first_start: BTreeSet<&str> = all.iter().copied().filter(|point| point.starts_with("first")).collect();
    assert_eq!(*lock(&reached), &all - &of_a_first_start);
    for (machine, id) in [(&machine, id), (&second, second_id)] {
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
        machine.set_kv_value("after", "1").await.unwrap();
        until_value(&manager, id, "after", "1").await;
        machine.shutdown().await.unwrap();
    }
    node.shutdown().await.unwrap();
}

/// The other way round: a manager asks its machine, which takes claims too.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_dials_at_any_moment_of_its_machines_start_or_end_stays_paired() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair().await;
    machine.shutdown().await.unwrap();
    let diallers = Arc::new(vec![Dialler::of(manager_dir.path(), manager.kv()).await]);
    let reached = Arc::default();
    let node = node_at(machine_dir.path()).await;
    assert_eq!(diallers[0].claim(&node.ticket().0).await, Some(CloseCode::Later as u64));
    ask_at_each(&node, &diallers, &reached);
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    machine.shutdown().await.unwrap();
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
    assert!(matches!(manager.machine_status(id).unwrap().link, KvLink::Online | KvLink::Offline { .. }));
    machine.set_kv_value("after", "1").await.unwrap();
    until_value(&manager, id, "after", "1").await;
    node.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    // A machine's first start has points of its own, and nobody is paired with it.
    let dir = TempDir::new().unwrap();
    let node = node_at(dir.path()).await;
    let noted = reached.clone();
    node.shared().kv.at_fault_points(Arc::new(move |point| {
        lock(&noted).insert(point);
        std::future::ready(()).boxed()
    }));
    Machine::builder().node(node.clone()).spawn().await.unwrap();
    node.shutdown().await.unwrap();
    assert_eq!(*lock(&reached), &points(body(OPEN)) | &points(body(SHUTDOWN)));
}

/// A start that is dropped, as by a timeout of its program, leaves no role behind that nobody could end.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_dropped_at_any_await_can_be_made_again() {
    for point in points(body(OPEN)) {
        let dir = TempDir::new().unwrap();
        let node = node_at(dir.path()).await;
        if !point.starts_with("first") {
            // There is a document already.
            Machine::builder().node(node.clone()).spawn().await.unwrap().shutdown().await.unwrap();
        }
        let (reached, held) = (Arc::new(tokio::sync::Notify::new()), point);
        let there = reached.clone();
        node.shared().kv.at_fault_points(Arc::new(move |point| {
            let there = there.clone();
            async move {
                if point == held {
                    there.notify_one();
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
        }));
        tokio::select! {
            _ = Machine::builder().node(node.clone()).spawn() => panic!("it has passed {point:?}"),
            () = reached.notified() => {}
        }
        node.shared().kv.at_fault_points(Arc::new(|_| std::future::ready(()).boxed()));
        let begun = std::time::Instant::now();
        let machine = loop {
            match Machine::builder().node(node.clone()).spawn().await {
                // Its threads let go of the files in a moment.
                Err(crate::KvOpenError::Node(crate::OpenError::InUse { .. })) if begun.elapsed() < PATIENCE => {
                    tokio::task::yield_now().await;
                }
                started => break started.unwrap_or_else(|error| panic!("{point:?}: {error}")),
            }
        };
        machine.shutdown().await.unwrap();
        node.shutdown().await.unwrap();
    }
}

/// A claim that comes before the machine takes any is to be made again, and one of what is no machine is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_machine_that_starts_is_to_be_made_again() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let manager = manager_at(manager_dir.path()).await;
    let node = node_at(machine_dir.path()).await;
    let refused = manager.begin_claim(&node.ticket()).await;
    assert!(matches!(refused, Err(crate::ClaimError::NoMachine)), "{refused:?}");
    let (ticket, claiming) = (node.ticket(), manager.clone());
    node.shared().kv.at_fault_points(Arc::new(move |point| {
        let (ticket, claiming) = (ticket.clone(), claiming.clone());
        async move {
            if points(body(OPEN)).contains(point) {
                let refused = claiming.begin_claim(&ticket).await;
                assert!(matches!(refused, Err(crate::ClaimError::NotReady)), "{point}: {refused:?}");
            }
        }
        .boxed()
    }));
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    claim(&machine, &manager).await;
    node.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
