//! "On a local network nodes find each other by mDNS", as real processes in network namespaces of their own; and what strangers
//! on that network can make a node cost who send it invented names.

use std::{
    net::UdpSocket,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::common::{Node, World, net::Net, until};

/// Within this time nodes find each other that are there: the first question is answered, or the one after it.
const FOUND: Duration = Duration::from_secs(5);

/// How many forged packets there are, each with [`NAMES`] names in it, or with as many as a node looks at.
const FORGED: u32 = 30_000;
const NAMES: usize = 26;
const NAMES_TAKEN: usize = 12;

/// How much the memory of a node may grow meanwhile (2 MiB). A node that kept the names of the packets that it reads, a thousand a
/// second, would grow by more than 3.
const GROWTH_BYTES: u64 = 2 << 20;

/// Set in the process that floods.
const FLOODS: &str = "GROUNDSWELL_TEST_FLOODS";

fn publisher(net: &Net, world: &World, place: usize) -> Node {
    let publisher = net.up(place, &world.dir("publisher"), &[]);
    publisher.run(&["give", "/log/a", "first", "--lake", "log"]).well();
    publisher
}

/// Waits until a few dials have failed.
fn look_in_vain() {
    // Time is under test: so long nobody answers.
    thread::sleep(Duration::from_secs(3));
}

/// By its id alone, with no ticket and no other look-up.
#[test]
fn a_node_is_found_by_its_id_alone() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let publisher = publisher(&net, &world, 0);
    let follower = net.up(1, &world.dir("follower"), &[]);
    let begun = Instant::now();
    let mut surfing = follower.surf(&[&publisher.id, "/log/a", "--lake", "log"]);
    assert_eq!(surfing.next_of("caught_up")["aeon"], 1);
    let took = begun.elapsed();
    println!("found by its id {:.2} s later", took.as_secs_f64());
    assert!(took < FOUND, "{took:?}");
}

/// A node that is looked for already says that it is there when it starts.
#[test]
fn a_node_is_found_that_starts_while_it_is_looked_for() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let mut publisher = publisher(&net, &world, 0);
    publisher.kill();
    let follower = net.up(1, &world.dir("follower"), &[]);
    let mut surfing = follower.surf(&[&publisher.id, "/log/a", "--lake", "log"]);
    look_in_vain();
    let publisher = net.up(0, &world.dir("publisher"), &[]);
    assert_eq!(surfing.next_of("caught_up")["aeon"], 1);
    drop(publisher);
}

/// Both sides have other addresses than those that the other has seen of them, and neither could tell it.
#[test]
fn nodes_find_each_other_after_both_have_changed_their_address() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let publisher = publisher(&net, &world, 0);
    let follower = net.up(1, &world.dir("follower"), &[]);
    let mut surfing = follower.surf(&[&publisher.ticket, "/log/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    net.cut();
    net.change_address(0, 11);
    net.change_address(1, 12);
    let apart = |node: &Node| node.status()["peers"].as_array().is_some_and(Vec::is_empty);
    until("both to notice that they are apart", || apart(&publisher) && apart(&follower));
    publisher.run(&["give", "/log/a", "apart", "--lake", "log"]).well();
    net.heal();
    let healed = Instant::now();
    surfing.until_aeon(2);
    println!("found at another address {:.2} s later", healed.elapsed().as_secs_f64());
}

/// The interface of either node comes up only after the node was started.
#[test]
fn an_interface_that_comes_later_is_used() {
    for late in [0, 1] {
        let Some(net) = Net::new() else { return };
        let world = World::new();
        net.unplug(late);
        let publisher = publisher(&net, &world, 0);
        let follower = net.up(1, &world.dir("follower"), &[]);
        let mut surfing = follower.surf(&[&publisher.id, "/log/a", "--lake", "log"]);
        look_in_vain();
        net.plug(late, 20);
        let plugged = Instant::now();
        assert_eq!(surfing.next_of("caught_up")["aeon"], 1);
        let side = ["publisher", "follower"][late];
        println!("the {side}'s interface came later: found {:.2} s after it", plugged.elapsed().as_secs_f64());
    }
}

/// A name of DNS, whose first label is invented.
fn invented(n: u32, service: &str) -> Vec<u8> {
    let mut name = vec![52];
    name.extend(format!("{n:0>52}").replace(['0', '1', '8', '9'], "a").bytes());
    for label in [service, "_udp", "local"] {
        name.push(u8::try_from(label.len()).unwrap());
        name.extend(label.bytes());
    }
    name.push(0);
    name
}

/// An answer that nobody asked for, with addresses of peers that do not exist.
fn forged(first: u32, service: &str, names: usize) -> Vec<u8> {
    let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, u8::try_from(names).unwrap(), 0, 0, 0, 0];
    for n in 0..names {
        packet.extend(invented(first + u32::try_from(n).unwrap(), service));
        let text = b"addr=10.99.0.77:4000";
        // TXT, IN, for a day.
        packet.extend([0, 16, 0x80, 1, 0, 1, 0x51, 0x80, 0, u8::try_from(text.len() + 1).unwrap()]);
        packet.push(u8::try_from(text.len()).unwrap());
        packet.extend(text);
    }
    packet
}

/// What [`a_flood_of_invented_names_costs_a_node_nothing`] runs at another place of its network.
#[test]
#[ignore = "it is a part of a_flood_of_invented_names_costs_a_node_nothing, and does nothing by itself"]
fn floods() {
    if std::env::var_os(FLOODS).is_none() {
        return;
    }
    // From another port it would be no mDNS.
    let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
    for n in 0..FORGED {
        let (service, names) =
            [("_irohv1", NAMES), ("_groundswell", NAMES), ("_groundswell", NAMES_TAKEN)][n as usize % 3];
        socket.send_to(&forged(n * 100, service, names), "224.0.0.251:5353").unwrap();
        if n % 3 == 0 {
            // Time is under test: three times as many as a node reads in a second, for as long as ten seconds.
            thread::sleep(Duration::from_millis(1));
        }
    }
    println!("flooded");
}

/// "30,000 forged packets with 26 invented names each: the memory of a private node grows by at most 2 MiB." Afterwards it finds
/// another node as before.
#[test]
fn a_flood_of_invented_names_costs_a_node_nothing() {
    let Some(net) = Net::new() else { return };
    let world = World::new();
    let private = net.up(0, &world.dir("private"), &["--private"]);
    // What a node takes once, it has taken.
    private.run(&["give", "/log/a", "first", "--lake", "log"]).well();
    private.status();
    let mut flood = net.command(1, std::env::current_exe().unwrap().as_os_str());
    flood.args(["lan::floods", "--exact", "--ignored", "--nocapture"]).env(FLOODS, "1");
    let (before, spent) = (resident(&private), processor_time(&private));
    let begun = Instant::now();
    let flooding = thread::spawn(move || flood.output().unwrap());
    let mut most = before;
    while !flooding.is_finished() {
        most = most.max(resident(&private));
        // Time is under test: what is held shows while it goes on.
        thread::sleep(Duration::from_millis(20));
    }
    let output = flooding.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("flooded"), "{output:?}");
    most = most.max(resident(&private));
    let took = begun.elapsed();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{FORGED} forged packets in {:.1} s: memory {:.1} MiB, at most {:.1} MiB more; {:.2} s of a processor",
        took.as_secs_f64(),
        mib(before),
        mib(most - before),
        (processor_time(&private) - spent).as_secs_f64(),
    );
    assert!(received(&net, 0) > u64::from(FORGED), "the flood did not reach the node");
    assert!(most - before <= GROWTH_BYTES, "the node has grown by {:.1} MiB", mib(most - before));
    let publisher = publisher(&net, &world, 1);
    let mut surfing = private.surf(&[&publisher.id, "/log/a", "--lake", "log"]);
    assert_eq!(surfing.next_of("caught_up")["aeon"], 1);
}

/// The memory of a node.
fn resident(node: &Node) -> u64 {
    crate::strangers::resident(node.process())
}

/// How long a node has kept a processor busy.
fn processor_time(node: &Node) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.process())).unwrap();
    // Behind the name, which may have spaces in it; in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// How many packets have come to a place.
fn received(net: &Net, place: usize) -> u64 {
    let mut command: Command = net.command(place, "cat".as_ref());
    let output = command.arg("/sys/class/net/eth0/statistics/rx_packets").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
