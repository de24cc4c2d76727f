//! A machine and its manager, as real processes, through kills, ends, and wrong clocks: nothing that was
//! acknowledged is lost, watches go on, and the two agree. Partitions are in `process_kv_partition.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::common::{Node, PATIENCE, Surfing, World, faketime, kv, signal, tool, until};
use serde_json::{Value, json};

/// What "by itself, and soon" is promised to be.
const SOON: Duration = Duration::from_secs(10);

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn place(machine: Option<&str>) -> Value {
    json!({"machine": machine, "space": null, "hex": false})
}

/// Writes as the tool does, without starting a process for it; whether it was acknowledged before the
/// node ended.
pub(crate) fn set(dir: &Path, machine: Option<&str>, key: &str, value: &str) -> bool {
    let acknowledged = || {
        let mut socket = UnixStream::connect(dir.join("control.sock")).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = json!({"set": {"key": hex(key), "bytes": value.len()}});
        let request = json!({"request": "kv", "place": place(machine), "ask": ask});
        socket.write_all(format!("{request}\n\"{}\"\n", hex(value)).as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).ok().filter(|_| answer.ends_with('\n'))?;
        let entry: Value = serde_json::from_str(&answer).unwrap();
        // A node that is ending says so.
        (entry["value"] == value).then_some(())
    };
    acknowledged().is_some()
}

/// All entries whose keys begin so, as `key=value`.
fn entries(node: &Node, machine: Option<&str>, prefix: &str) -> BTreeSet<String> {
    let ask = json!({"ls": {"prefix": hex(prefix)}});
    let lines = node.ask(&json!({"request": "kv", "place": place(machine), "ask": ask}));
    lines.iter().map(|line| format!("{}={}", line["key"].as_str().unwrap(), line["value"].as_str().unwrap())).collect()
}

/// The sides of a pair, each with how the machine is named there.
struct Sides {
    world: World,
    nodes: [Node; 2],
    id: String,
}

const NAMES: [&str; 2] = ["machine", "manager"];

impl Sides {
    fn new() -> Self {
        let world = World::new();
        let (machine, manager) = world.pair();
        kv::online(&machine, &manager);
        Self { id: machine.id.clone(), world, nodes: [machine, manager] }
    }

    fn named(&self, side: usize) -> Option<&str> {
        (side == 1).then_some(&*self.id)
    }

    fn set(&self, side: usize, key: &str, value: &str) {
        assert!(set(&self.nodes[side].dir, self.named(side), key, value), "{key} at the {}", NAMES[side]);
    }

    fn entries(&self, side: usize) -> BTreeSet<String> {
        entries(&self.nodes[side], self.named(side), "")
    }

    fn watch(&self, side: usize, key: &str) -> Surfing {
        self.nodes[side].kv_lines(self.named(side), &["watch", key])
    }

    /// How the other side is seen from here.
    fn link(&self, side: usize) -> Value {
        match side {
            0 => self.nodes[0].status()["manager"].clone(),
            _ => self.nodes[1].machine_status(&self.id),
        }
    }

    fn up(&mut self, side: usize) {
        self.nodes[side] = self.world.up(NAMES[side]);
    }
}

/// "Acknowledged writes survive `kill -9` 1 ms later: 200 of 200, here and, after reconnection, at the other
/// side." Of either side, with other writes under way, so that the kill cuts through some of them.
#[test]
fn acknowledged_writes_survive_kill_9_a_millisecond_later_200_of_200_of_either_side() {
    const KILLS: usize = 200;
    let mut sides = Sides::new();
    let begun = Instant::now();
    let (mut acknowledged, mut under_way) = (BTreeSet::new(), 0);
    for kill in 0..2 * KILLS {
        let side = kill % 2;
        let (dir, named) = (sides.nodes[side].dir.clone(), sides.named(side).map(str::to_owned));
        let busy = [0, 1].map(|writer| {
            let (dir, named) = (dir.clone(), named.clone());
            thread::spawn(move || {
                let keys = (0..).map(|number| format!("busy/{kill:03}/{writer}/{number:04}"));
                keys.take_while(|key| set(&dir, named.as_deref(), key, "x")).collect::<Vec<_>>()
            })
        });
        let last = format!("last/{kill:03}");
        sides.set(side, &last, "x");
        // The time is under test.
        thread::sleep(Duration::from_millis(1));
        sides.nodes[side].kill();
        let mut here: BTreeSet<String> = [last].into();
        for writer in busy {
            let keys = writer.join().unwrap();
            under_way += keys.len();
            here.extend(keys);
        }
        sides.up(side);
        let stored = sides.entries(side);
        for key in &here {
            assert!(stored.contains(&format!("{key}=x")), "{key} was acknowledged before kill {kill}, and is lost");
        }
        acknowledged.extend(here);
    }
    let taken = begun.elapsed();
    // After reconnection: everything at both sides, without a call.
    until("both sides to have everything", || {
        let both = [sides.entries(0), sides.entries(1)];
        both[0] == both[1] && acknowledged.iter().all(|key| both[0].contains(&format!("{key}=x")))
    });
    let of = |side: usize| {
        let numbers = acknowledged.iter().filter_map(|key| key.strip_prefix("last/")?.parse::<usize>().ok());
        numbers.filter(move |number| number % 2 == side)
    };
    assert_eq!([of(0).count(), of(1).count()], [KILLS; 2]);
    println!(
        "{KILLS} of {KILLS} at the machine and {KILLS} of {KILLS} at the manager, 1 ms before a kill -9, and {under_way} \
         that were acknowledged beside them: all there, at both sides; {:.0} s",
        taken.as_secs_f64()
    );
}

/// Large values fill the two halves of the journal again and again: a kill cuts through a write, through the change from
/// one half to the other, and through what brings the old half into the tables. Each key has one writer, whose
/// values count up.
#[test]
fn kill_9_amid_large_values_that_turn_the_journal_loses_nothing() {
    const KILLS: usize = 20;
    const WRITERS: usize = 4;
    const KEYS: usize = 6;
    const VALUE_BYTES: usize = 200_000;
    /// The sum of both halves, and a different place in them at each kill.
    const MEBIBYTES: [usize; 5] = [17, 19, 23, 29, 31];
    let mut sides = Sides::new();
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    let mut written = 0;
    let whole = |number: usize| format!("{number:08}{}", "x".repeat(VALUE_BYTES - 8));
    let check = |stored: &BTreeSet<String>, newest: &BTreeMap<String, usize>, when: &str| {
        let stored: BTreeMap<&str, &str> = stored.iter().filter_map(|entry| entry.split_once('=')).collect();
        for (key, number) in newest {
            let value = stored.get(&**key).unwrap_or_else(|| panic!("{key} is lost {when}"));
            let found: usize = value[..8].parse().unwrap();
            assert!(found >= *number, "{key} is back at {found} {when}, and {number} was acknowledged");
            assert!(*value == whole(found), "{key} has a value that nobody wrote {when}");
        }
    };
    for kill in 0..KILLS {
        let side = kill % 2;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (dir, named) = (sides.nodes[side].dir.clone(), sides.named(side).map(str::to_owned));
                let acknowledged = acknowledged.clone();
                thread::spawn(move || {
                    let mut newest = BTreeMap::new();
                    for number in kill * 1_000_000.. {
                        let key = format!("{side}/{writer}/{}", number % KEYS);
                        let value = format!("{number:08}{}", "x".repeat(VALUE_BYTES - 8));
                        if !set(&dir, named.as_deref(), &key, &value) {
                            break;
                        }
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                        newest.insert(key, number);
                    }
                    newest
                })
            })
            .collect();
        until("the journal to be full twice", || {
            acknowledged.load(Ordering::SeqCst) * VALUE_BYTES >= MEBIBYTES[kill % MEBIBYTES.len()] << 20
        });
        sides.nodes[side].kill();
        for writer in writers {
            newest.extend(writer.join().unwrap());
        }
        written += acknowledged.load(Ordering::SeqCst);
        sides.up(side);
        let of_side = newest.iter().filter(|(key, _)| key.starts_with(&format!("{side}/")));
        check(
            &sides.entries(side),
            &of_side.map(|(key, number)| (key.clone(), *number)).collect(),
            &format!("at kill {kill}"),
        );
    }
    until("both sides to be alike", || sides.entries(0) == sides.entries(1));
    check(&sides.entries(0), &newest, "in the end");
    println!("{KILLS} kills amid {written} acknowledged values of {VALUE_BYTES} bytes: nothing lost, nothing torn");
}

/// Gives one wave of a sum as the tool does, without starting a process for it. Returns the aeon where it was acknowledged before the
/// node ended.
fn give(dir: &Path, path: &str) -> Option<u64> {
    let mut socket = UnixStream::connect(dir.join("control.sock")).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = json!({"request": "give", "path": path, "lake": "sum", "agent": "main"});
    socket.write_all(format!("{request}\n\"1\"\n").as_bytes()).ok()?;
    socket.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).ok().filter(|_| answer.ends_with('\n'))?;
    serde_json::from_str::<Value>(&answer).unwrap()["aeon"].as_u64()
}

/// A machine writes waves and keys at once, in the same records of its journal, and is killed at random moments: everything that was
/// acknowledged is there at the next start, and its manager has the same of both within 10 s.
fn kills_amid_waves_and_keys(kills: usize) {
    const PATHS: usize = 2;
    const KEYS: usize = 3;
    let mut sides = Sides::new();
    let id = sides.nodes[0].id.clone();
    let path = |n: usize| format!("/sum/{n}");
    // The manager follows before there is anything.
    let following: Vec<Surfing> = (0..PATHS).map(|n| sides.nodes[1].surf(&[&id, &path(n), "--lake", "sum"])).collect();
    let (mut aeons, mut newest) = ([0; PATHS], [0_usize; KEYS]);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for kill in 0..kills {
        let dir = sides.nodes[0].dir.clone();
        let givers = (0..PATHS).map(|n| {
            let (dir, path) = (dir.clone(), path(n));
            thread::spawn(move || std::iter::from_fn(|| give(&dir, &path)).last())
        });
        let givers: Vec<_> = givers.collect();
        let setters = newest.iter().enumerate().map(|(n, newest)| {
            let (dir, first) = (dir.clone(), newest + 1);
            let set = move |number: &usize| set(&dir, None, &format!("key/{n}"), &format!("{number:08}"));
            thread::spawn(move || (first..).take_while(set).last())
        });
        let setters: Vec<_> = setters.collect();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // A random point of a batch, a flush or an answer. Time is under test.
        thread::sleep(Duration::from_micros(20_000 + seed % 100_000));
        sides.nodes[0].kill();
        for (aeon, giver) in aeons.iter_mut().zip(givers) {
            *aeon = giver.join().unwrap().unwrap_or(*aeon);
        }
        for (newest, setter) in newest.iter_mut().zip(setters) {
            *newest = setter.join().unwrap().unwrap_or(*newest);
        }
        sides.up(0);
        for (n, aeon) in aeons.iter_mut().enumerate() {
            let stored = sides.nodes[0].aeon(&path(n)).unwrap_or(0);
            assert!(stored >= *aeon, "kill {kill}: {aeon} was acknowledged on {}, and {stored} is there", path(n));
            *aeon = stored;
        }
        let stored = sides.entries(0);
        for (n, newest) in newest.iter_mut().enumerate() {
            let of_key = stored.iter().find_map(|entry| entry.strip_prefix(&format!("key/{n}=")));
            let found: usize = of_key.map_or(0, |value| value.parse().unwrap());
            assert!(found >= *newest, "kill {kill}: {newest} was acknowledged of key/{n}, and {found} is there");
            *newest = found;
        }
    }
    let begun = Instant::now();
    until("the manager to have the keys", || sides.entries(0) == sides.entries(1));
    let keys_after = begun.elapsed();
    for (n, aeon) in aeons.iter().enumerate() {
        until("the manager to have the waves", || sides.nodes[1].aeon(&path(n)) == Some(*aeon));
        assert_eq!(sides.nodes[1].rock(&path(n)), aeon.to_string());
    }
    assert!(begun.elapsed() < SOON, "keys after {keys_after:?}, waves after {:?}", begun.elapsed());
    drop(following);
    println!(
        "{kills} kills amid {} waves and {} keys: nothing lost",
        aeons.iter().sum::<u64>(),
        newest.iter().sum::<usize>()
    );
}

#[test]
fn kill_9_amid_waves_and_keys_loses_nothing() {
    kills_amid_waves_and_keys(10);
}

#[test]
#[ignore = "takes minutes; `cargo xtask soak` runs it"]
fn soak_200_kills_amid_waves_and_keys_lose_nothing() {
    kills_amid_waves_and_keys(200);
}

/// "A machine killed between publishing an entry and serving its value: the manager shows the old value until it can
/// show the new one, and shows it within 10 s of the machine's return." The value is larger than what a manager that
/// stands still takes from the line, so that only part of it is there when the machine is killed.
#[test]
fn a_machine_killed_before_its_value_has_arrived_leaves_the_old_value_until_it_is_back() {
    let mut sides = Sides::new();
    let id = sides.id.clone();
    sides.set(0, "key", "old");
    let mut watch = sides.watch(1, "key");
    watch.until_event("put key=old by machine");
    for round in 0..3 {
        let large = format!("{round}{}", "v".repeat(700_000));
        let before = entries(&sides.nodes[1], Some(&id), "key");
        signal("STOP", sides.nodes[1].process());
        let written = set(&sides.nodes[0].dir, None, "key", &large);
        sides.nodes[0].kill();
        signal("CONT", sides.nodes[1].process());
        assert!(written, "it is acknowledged without the manager");
        // For as long as the machine is away: the old value, and no event.
        until("the manager to notice", || sides.link(1)["link"] == "offline");
        assert_eq!(entries(&sides.nodes[1], Some(&id), "key"), before, "the value has not arrived");
        let back = Instant::now();
        sides.up(0);
        let (at, line) = loop {
            let (at, line) = watch.lines.next_at_within(PATIENCE).expect("the new value");
            if line["type"] == "put" && line["live"] == true {
                break (at, line);
            }
        };
        assert_eq!(line["value"].as_str().unwrap(), large, "the next that it shows is the new one");
        let took = at.saturating_duration_since(back);
        println!("round {round}: shown {:.2} s after the machine was started again", took.as_secs_f64());
        assert!(took < SOON, "{took:?}");
        assert_eq!(entries(&sides.nodes[1], Some(&id), "key"), [format!("key={large}")].into());
    }
}

/// Either side ends, in order and by `kill -9`: the other's watch goes on, says that it is offline, shows its own
/// writes, and the two are together again by themselves, with everything.
#[test]
fn a_side_that_ends_cleanly_or_by_kill_9_leaves_the_others_watch_and_is_back_by_itself() {
    let mut sides = Sides::new();
    let mut expected = BTreeSet::new();
    for (round, (ending, cleanly)) in [(0, true), (0, false), (1, true), (1, false)].into_iter().enumerate() {
        let staying = 1 - ending;
        let how = format!("the {} ends {}", NAMES[ending], if cleanly { "cleanly" } else { "by kill -9" });
        let key = format!("key/{round}");
        let mut watch = sides.watch(staying, &key);
        assert_eq!(watch.event(), "caught_up", "{how}");
        sides.set(ending, &key, "before");
        assert_eq!(watch.event(), format!("!put {key}=before by {}", NAMES[ending]), "{how}");
        sides.set(ending, &format!("last/{round}"), "before the end");
        let ended = now_ms();
        if cleanly {
            signal("TERM", sides.nodes[ending].process());
            sides.nodes[ending].ended();
        } else {
            sides.nodes[ending].kill();
        }
        until("the end to be noticed", || sides.link(staying)["link"] == "offline");
        let link = sides.link(staying);
        assert!(
            link["current"] == false && link["current_at_ms"].is_u64() && link["offline_since_ms"].is_u64(),
            "{link}"
        );
        // Counted from the last that was heard of it, and not from when the silence was long enough to tell.
        for since in ["offline_since_ms", "current_at_ms"] {
            let after = link[since].as_i64().unwrap() - ended;
            assert!((-6_000..6_000).contains(&after), "{how}: {since} is {after} ms after it");
        }
        sides.set(staying, &key, "meanwhile");
        assert_eq!(watch.event(), format!("!put {key}=meanwhile by {}", NAMES[staying]), "{how}: the watch goes on");
        sides.up(ending);
        until("both to be together", || {
            [0, 1].into_iter().all(|side| sides.link(side)["link"] == "online" && sides.link(side)["current"] == true)
        });
        expected.extend([format!("{key}=meanwhile"), format!("last/{round}=before the end")]);
        until("both to have everything", || [0, 1].into_iter().all(|side| sides.entries(side) == expected));
        sides.set(ending, &key, "after");
        assert_eq!(watch.event(), format!("!put {key}=after by {}", NAMES[ending]), "{how}: and on");
        expected.remove(&format!("{key}=meanwhile"));
        expected.insert(format!("{key}=after"));
    }
}

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// "Two hours' wall-clock difference either way, a clock at 1970, and one set back by an hour in mid-run: no write
/// refused or lost, both sides show the same winner, the skew is reported." By the clock of the process itself.
#[test]
fn wrong_clocks_lose_nothing_agree_on_the_winner_and_are_reported() {
    let Some(library) = faketime() else {
        println!("skipped: libfaketime is not installed; `cargo xtask test` installs it where apt-get can");
        return;
    };
    // What the clock shows at first, what after it was set back by an hour, and how far off that is.
    let at_1970 = -(now_ms() - 24 * HOUR_MS);
    let cases = [
        ("+7200s", "+3600s", 2 * HOUR_MS),
        ("-7200s", "-10800s", -2 * HOUR_MS),
        ("@1970-01-02 00:00:00", "@1970-01-01 23:00:00", at_1970),
    ];
    for (wrong, set_back, off) in cases {
        for whose in [0, 1] {
            wrong_clock(&library, whose, wrong, set_back, off);
        }
    }
}

fn wrong_clock(library: &Path, whose: usize, wrong: &str, set_back: &str, off: i64) {
    let what = format!("the {}'s clock at {wrong}", NAMES[whose]);
    let world = World::new();
    let clock = world.dir("clock");
    let show = |to: &str| fs::write(&clock, format!("{to}\n")).unwrap();
    show(wrong);
    let up = |side: usize| {
        let mut tool = tool();
        if side == whose {
            tool.env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", &clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        Node::start(&world.dir(NAMES[side]), tool, &["--role", NAMES[side]])
    };
    let nodes = [up(0), up(1)];
    kv::claim(&nodes[0], &nodes[1]);
    kv::online(&nodes[0], &nodes[1]);
    let id = nodes[0].id.clone();
    let mut sides = Sides { world, nodes, id };
    // Each is told how far the other's clock is off.
    let skew_is = |sides: &Sides, off: i64| {
        for side in [0, 1] {
            let expected = if side == whose { -off } else { off };
            let skew = sides.link(side)["skew_ms"].as_i64().unwrap();
            assert!((skew - expected).abs() < 600_000, "{what}: {skew} is reported, and not {expected}");
        }
    };
    skew_is(&sides, off);
    let mut watches = [sides.watch(0, "key"), sides.watch(1, "key")];
    for turn in 0..12 {
        let writer = turn % 2;
        if turn == 6 {
            show(set_back);
        }
        let entry = sides.nodes[writer].kv(sides.named(writer), &["set", "key", &turn.to_string()]).only();
        let expected = now_ms()
            + if writer != whose {
                0
            } else if turn < 6 {
                off
            } else {
                off - HOUR_MS
            };
        let timestamp = entry["timestamp"].as_i64().unwrap();
        assert!((timestamp - expected).abs() < 600_000, "{what}: the node sees that clock: {timestamp}");
        // It follows on what its writer has seen, and so wins on both sides.
        for watch in &mut watches {
            watch.until_event(&format!("put key={turn} by {}", NAMES[writer]));
        }
    }
    // Both at once: whichever wins, it is the same on both sides, and the last that watches show.
    let mut contested = [sides.watch(0, "contested"), sides.watch(1, "contested")];
    thread::scope(|scope| {
        for side in [0, 1] {
            let sides = &sides;
            scope.spawn(move || {
                for number in 0..20 {
                    sides.set(side, "contested", &format!("{}-{number}", NAMES[side]));
                    sides.set(side, &format!("own/{side}/{number:02}"), "x");
                }
            });
        }
    });
    until("both sides to be alike", || sides.entries(0) == sides.entries(1));
    let all = sides.entries(0);
    assert_eq!(all.iter().filter(|entry| entry.starts_with("own/")).count(), 40, "{what}: no write is lost");
    let winner = all.iter().find(|entry| entry.starts_with("contested=")).unwrap();
    assert!(winner.ends_with("-19"), "{what}: the last write of a side wins: {winner}");
    let author = if winner.contains("machine") { "machine" } else { "manager" };
    for watch in &mut contested {
        watch.until_event(&format!("put {winner} by {author}"));
    }
    // The skew is measured when the two meet, so that it is right again after the next time.
    let right = 1 - whose;
    let (dir, named) = (sides.nodes[right].dir.clone(), NAMES[right]);
    sides.nodes[right].kill();
    sides.nodes[right] = Node::start(&dir, tool(), &["--role", named]);
    kv::online(&sides.nodes[0], &sides.nodes[1]);
    skew_is(&sides, off - HOUR_MS);
    assert_eq!(sides.entries(right), all, "{what}: nothing is lost by the restart");
}
