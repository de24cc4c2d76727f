//! The tests of machines and managers, in one program: real nodes on loopback, each module named after
//! what it shows. What the guide asks for has its title in the test's name.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not inside a #[test], and fail as one

mod application;
mod between;
mod claims;
mod common;
mod concurrency;
mod delivery;
mod entries_subscription;
mod errors;
mod hostile;
mod key_watch;
mod keys;
mod pairing;
mod raw;
mod shutdown;
mod strangers;
mod sync;
mod traps;
mod values;
