//! A network of two places that a test can cut: two network namespaces, joined by a bridge in a third. A cut is
//! silent: neither place is told that anything has changed, as when a cable is pulled far away.

use std::{
    ffi::OsStr,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Node, tool};

/// How many networks this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

pub struct Net {
    name: String,
}

impl Net {
    /// Makes a network. Where that is not permitted the test is skipped, and says so.
    pub fn new() -> Option<Self> {
        let net = Self { name: format!("gs-{}-{}", process::id(), MADE.fetch_add(1, Ordering::SeqCst)) };
        match net.build() {
            Ok(()) => Some(net),
            Err(reason) => {
                println!("skipped: no network namespaces can be made here (root is needed, and iproute2): {reason}");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.namespace("bridge");
        for place in ["bridge", "0", "1"] {
            ip(&["netns", "add", &self.namespace(place)])?;
        }
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "bridge", "up"])?;
        for place in ["0", "1"] {
            let (there, port) = (self.namespace(place), format!("port{place}"));
            ip(&["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &there])?;
            ip(&["-n", &bridge, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &there, "link", "set", "lo", "up"])?;
            ip(&["-n", &there, "link", "set", "eth0", "up"])?;
        }
        ip(&["-n", &bridge, "link", "set", "port1", "type", "bridge_slave", "isolated", "on"])?;
        self.move_to(0, 1)?;
        self.move_to(1, 2)?;
        // A cut that can't be made is found out now.
        self.forward(false)?;
        self.forward(true)
    }

    fn namespace(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }

    /// Whether the bridge forwards between the two: never between ports that are both isolated.
    fn forward(&self, forward: bool) -> Result<(), String> {
        let (bridge, isolated) = (self.namespace("bridge"), if forward { "off" } else { "on" });
        ip(&["-n", &bridge, "link", "set", "port0", "type", "bridge_slave", "isolated", isolated])?;
        let shown = ip(&["-n", &bridge, "-details", "link", "show", "port0"])?;
        let done = shown.contains(&format!("isolated {isolated}"));
        if done { Ok(()) } else { Err(format!("port0 is not what it was set to: {shown}")) }
    }

    /// Nothing reaches the other place any more.
    #[track_caller]
    pub fn cut(&self) {
        self.forward(false).unwrap();
    }

    /// Everything does again.
    #[track_caller]
    pub fn heal(&self) {
        self.forward(true).unwrap();
    }

    fn move_to(&self, place: usize, host: u8) -> Result<(), String> {
        let there = self.namespace(&place.to_string());
        ip(&["-n", &there, "addr", "flush", "dev", "eth0"])?;
        ip(&["-n", &there, "addr", "add", &format!("10.99.0.{host}/24"), "dev", "eth0"])?;
        Ok(())
    }

    /// A place gets another address, in place of the one that it had.
    #[track_caller]
    pub fn change_address(&self, place: usize, host: u8) {
        self.move_to(place, host).unwrap();
    }

    /// The interface of a place goes down and has no address.
    #[track_caller]
    pub fn unplug(&self, place: usize) {
        let there = self.namespace(&place.to_string());
        ip(&["-n", &there, "link", "set", "eth0", "down"]).unwrap();
        ip(&["-n", &there, "addr", "flush", "dev", "eth0"]).unwrap();
    }

    /// It comes up, and gets an address.
    #[track_caller]
    pub fn plug(&self, place: usize, host: u8) {
        let there = self.namespace(&place.to_string());
        ip(&["-n", &there, "link", "set", "eth0", "up"]).unwrap();
        self.move_to(place, host).unwrap();
    }

    /// A command that runs at a place, and finds the way to multicast groups by the only interface.
    #[track_caller]
    pub fn command(&self, place: usize, program: &OsStr) -> Command {
        let there = self.namespace(&place.to_string());
        ip(&["-n", &there, "route", "replace", "224.0.0.0/4", "dev", "eth0"]).unwrap();
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &there]).arg(program);
        inside
    }

    /// Starts a node at a place, on all of its addresses.
    #[track_caller]
    pub fn up(&self, place: usize, dir: &Path, more: &[&str]) -> Node {
        let tool = tool();
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace(&place.to_string())]).arg(tool.get_program());
        for (name, value) in tool.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        Node::start(dir, inside, &[&["--bind", "0.0.0.0:0"], more].concat())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for place in ["0", "1", "bridge"] {
            // What could not be made need not go.
            let _ = ip(&["netns", "del", &self.namespace(place)]);
        }
    }
}

/// What it prints, where it does well.
fn ip(arguments: &[&str]) -> Result<String, String> {
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("ip: {error}")),
    }
}
