//! The tests of the node, in one program: each module is named after what it shows.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not inside a #[test], and fail as one

mod absent;
mod access;
mod bad_input;
mod behaviour;
mod burden;
mod chat;
mod common;
mod damaged_rock;
mod dropped;
mod edges;
mod endings;
mod follow;
mod giving;
mod golden_data;
mod hogs;
mod hostile_peer;
#[cfg(feature = "iroh-docs")]
mod iroh_traps;
mod json_patch;
mod kv;
mod lake_laws;
mod once;
mod programs;
mod regressions;
mod retention;
mod rolling_update;
mod simple_agent;
mod stalled;
mod strangers;
mod surfing;
mod versions;
