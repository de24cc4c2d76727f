//! A machine and its manager, as real processes in network namespaces of their own, between which the line is
//! cut and healed, and whose addresses change; and the latter of a publisher and its follower.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crate::common::{Node, PATIENCE, Surfing, World, kv, net::Net, until};

/// Within this time of healing both sides agree, without a call.
const SOON: Duration = Duration::from_secs(10);

/// Within this time of a change of address under a connection both sides agree: half of what a dead connection takes to be
/// noticed by its silence.
const MOVED: Duration = Duration::from_secs(5);

fn pair(net: &Net, world: &World) -> [Node; 2] {
    let machine = net.up(0, &world.dir("machine"), &["--role", "machine"]);
    let manager = net.up(1, &world.dir("manager"), &["--role", "manager"]);
    kv::claim(&machine, &manager);
    kv::online(&machine, &manager);
    [machine, manager]
}

/// A stream of everything, and what it has shown so far: the newest value of each key, and when it came.
struct Follower {
    events: Surfing,
    shown: BTreeMap<String, (Option<String>, Instant)>,
}

impl Follower {
    fn new(node: &Node, machine: Option<&str>) -> Self {
        Self { events: node.kv_lines(machine, &["subscribe"]), shown: BTreeMap::new() }
    }

    /// Takes what has come until now.
    fn take(&mut self) {
        while let Some((at, line)) = self.events.lines.next_at_within(Duration::from_millis(5)) {
            match line["type"].as_str().unwrap() {
                "put" => {
                    let (key, value) = (line["key"].as_str().unwrap(), line["value"].as_str().unwrap());
                    self.shown.insert(key.to_owned(), (Some(value.to_owned()), at));
                }
                "delete" => {
                    self.shown.insert(line["key"].as_str().unwrap().to_owned(), (None, at));
                }
                "caught_up" => {}
                other => panic!("the absence of the other side ends and resets nothing: {other}"),
            }
        }
    }

    fn values(&self) -> BTreeMap<&str, Option<&str>> {
        self.shown.iter().map(|(key, (value, _))| (&**key, value.as_deref())).collect()
    }

    /// When the newest event came.
    fn newest(&self) -> Instant {
        self.shown.values().map(|(_, at)| *at).max().unwrap()
    }
}

/// "Writes made on both sides during a partition: converged within 10 s of healing, each watcher on either side has
/// seen the final value, with no call from the application." Short enough that nobody notices, and long enough that
/// both give the connection up; with the same keys, other keys, and deletions.
#[test]
fn writes_of_both_sides_in_a_partition_converge_within_10_s_of_its_end_by_themselves() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let nodes = pair(&net, &world);
    let id = nodes[0].id.clone();
    let named = [None, Some(&*id)];
    let mut followers = [Follower::new(&nodes[0], None), Follower::new(&nodes[1], Some(&id))];
    for (round, apart) in [1, 6, 14, 25].into_iter().enumerate() {
        let write = |side: usize, key: &str, value: &str| {
            nodes[side].kv(named[side], &["set", key, value]).well();
        };
        write(0, &format!("to be deleted/{round}"), "x");
        until("the other side to have it", || {
            followers.iter_mut().all(|follower| {
                follower.take();
                follower.shown.contains_key(&format!("to be deleted/{round}"))
            })
        });
        net.cut();
        let cut = Instant::now();
        let mut number = 0;
        while number < 5 || cut.elapsed() < Duration::from_secs(apart) {
            for side in [0, 1] {
                write(side, "both", &format!("{side}-{round}-{number}"));
                write(side, &format!("own/{side}/{round}/{number}"), "x");
            }
            number += 1;
            // Time is under test: a partition lasts.
            thread::sleep(Duration::from_millis(100));
        }
        nodes[1].kv(named[1], &["del", &format!("to be deleted/{round}")]).well();
        if apart > 20 {
            assert_eq!(nodes[0].status()["manager"]["link"], "offline");
            assert_eq!(nodes[1].machine_status(&id)["link"], "offline");
        }
        net.heal();
        let healed = Instant::now();
        // From here on nothing is called: only the streams are read.
        let finals = [0, 1].map(|side| format!("{side}-{round}-{}", number - 1));
        let mut agreed = None;
        while agreed.is_none() {
            assert!(
                healed.elapsed() < PATIENCE,
                "apart for {apart} s: {:?}",
                followers.each_ref().map(Follower::values)
            );
            followers.iter_mut().for_each(Follower::take);
            let [one, other] = followers.each_ref().map(Follower::values);
            let winner = one.get("both").copied().flatten();
            if one == other && winner.is_some_and(|winner| finals.iter().any(|last| last == winner)) {
                agreed = Some(followers[0].newest().max(followers[1].newest()));
            }
        }
        let took = agreed.unwrap().saturating_duration_since(healed);
        println!("apart for {apart} s: alike {:.2} s after the end of it", took.as_secs_f64());
        assert!(took < SOON, "apart for {apart} s: {took:?}");
        for (side, follower) in followers.iter().enumerate() {
            let values = follower.values();
            assert_eq!(values[&*format!("to be deleted/{round}")], None, "the deletion is there too");
            for own in [0, 1] {
                for write in 0..number {
                    let key = format!("own/{own}/{round}/{write}");
                    assert_eq!(values.get(&*key), Some(&Some("x")), "{key} at side {side}");
                }
            }
        }
        let ls = [0, 1].map(|side| nodes[side].kv(named[side], &["ls"]).objects());
        assert_eq!(ls[0], ls[1]);
    }
}

/// A side that is restarted while the two are apart.
#[test]
fn a_side_that_restarts_in_a_partition_converges_within_10_s_of_its_end() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let mut nodes = pair(&net, &world);
    let id = nodes[0].id.clone();
    let named = [None, Some(&*id)];
    for restarting in [0, 1] {
        let staying = 1 - restarting;
        let mut watch = nodes[staying].kv_lines(named[staying], &["watch", &format!("key/{restarting}")]);
        assert_eq!(watch.event(), "caught_up");
        net.cut();
        nodes[restarting].kv(named[restarting], &["set", &format!("key/{restarting}"), "apart"]).well();
        nodes[restarting].kill();
        let role = ["machine", "manager"][restarting];
        nodes[restarting] = net.up(restarting, &world.dir(role), &["--role", role]);
        nodes[staying].kv(named[staying], &["set", &format!("back/{restarting}"), "apart"]).well();
        until("it to be missed", || {
            let link = if staying == 0 { nodes[0].status()["manager"].clone() } else { nodes[1].machine_status(&id) };
            link["link"] == "offline"
        });
        let mut back = nodes[restarting].kv_lines(named[restarting], &["watch", &format!("back/{restarting}")]);
        assert_eq!(back.event(), "caught_up");
        net.heal();
        let healed = Instant::now();
        assert_eq!(watch.event(), format!("!put key/{restarting}=apart by {role}"));
        assert_eq!(back.event(), format!("!put back/{restarting}=apart by {}", ["machine", "manager"][staying]));
        let took = healed.elapsed();
        println!("the {role} was restarted meanwhile: alike {:.2} s after the end of it", took.as_secs_f64());
        assert!(took < SOON, "{took:?}");
    }
}

/// A change of the address of one of the two, and what comes of it: both write, and both have it. How long it took.
fn change_address(net: &Net, world: &World, nodes: &mut [Node; 2], changing: usize, down: bool, host: u8) -> Duration {
    let id = nodes[0].id.clone();
    let named = [None, Some(&*id)];
    let roles = ["machine", "manager"];
    if down {
        nodes[changing].kill();
    }
    net.change_address(changing, host);
    let changed = Instant::now();
    if down {
        nodes[changing] = net.up(changing, &world.dir(roles[changing]), &[]);
    }
    let mut watches = [0, 1].map(|side| nodes[side].kv_lines(named[side], &["watch", "key"]));
    for writer in [0, 1] {
        let value = format!("{host}-{writer}");
        nodes[writer].kv(named[writer], &["set", "key", &value]).well();
        for watch in &mut watches {
            watch.until_event(&format!("put key={value} by {}", roles[writer]));
        }
    }
    let took = changed.elapsed();
    let when = if down { "while it was down" } else { "while they were connected" };
    println!(
        "the {}'s address changed {when}: writes of both are at both {:.2} s later",
        roles[changing],
        took.as_secs_f64()
    );
    took
}

/// Either side's address changes while they are connected, or while it is down: the two find each other again, without
/// any look-up.
#[test]
fn an_address_that_changes_is_found_out() {
    for (changing, down) in [(0, false), (1, false), (0, true), (1, true)] {
        let Some(net) = Net::new() else { return };
        let world = World::new();
        let mut nodes = pair(&net, &world);
        let took = change_address(&net, &world, &mut nodes, changing, down, 11);
        assert!(took < if down { SOON } else { MOVED }, "{took:?}");
    }
}

/// The same of a path that one node publishes and the other follows.
#[test]
fn waves_go_on_when_the_address_of_the_publisher_or_of_the_follower_changes() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let nodes = [net.up(0, &world.dir("publisher"), &[]), net.up(1, &world.dir("follower"), &[])];
    nodes[0].run(&["give", "/log", "0", "--lake", "log"]).well();
    let mut surfing = nodes[1].surf(&[&nodes[0].ticket, "/log", "--lake", "log"]);
    surfing.until(|line| line["type"] == "caught_up");
    for (round, changing) in [0, 1, 0].into_iter().enumerate() {
        net.change_address(changing, 20 + u8::try_from(round).unwrap());
        let changed = Instant::now();
        let wave = format!("after {round}");
        nodes[0].run(&["give", "/log", &wave, "--lake", "log"]).well();
        surfing.until(|line| line["wave"] == wave);
        let took = changed.elapsed();
        println!(
            "the {}'s address changed: the wave came {:.2} s later",
            ["publisher", "follower"][changing],
            took.as_secs_f64()
        );
        // After the first, neither side is where it was when the two met, and the ways that are dead are tried too.
        assert!(took < if round == 0 { MOVED } else { SOON }, "{took:?}");
    }
}

/// One side's address changes while they are connected, and then the other's while that is down: it has to know the
/// new one.
#[test]
fn an_address_that_changed_while_they_were_connected_is_remembered() {
    for first in [0, 1] {
        let Some(net) = Net::new() else { return };
        let world = World::new();
        let mut nodes = pair(&net, &world);
        change_address(&net, &world, &mut nodes, first, false, 11);
        change_address(&net, &world, &mut nodes, 1 - first, true, 12);
    }
}
