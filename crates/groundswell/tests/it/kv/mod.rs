//! The tests of machines and managers: real nodes on loopback, each module named after what it shows. What the guide asks for has its title in the test's name.

mod application;
mod between;
mod claims;
mod common;
mod concurrency;
mod delivery;
mod door;
mod dropped;
mod entries_subscription;
mod errors;
mod hostile;
mod key_watch;
mod keys;
mod not_known;
mod once;
mod oversized;
mod pairing;
mod raw;
mod reconciling;
mod rolling_update;
mod shutdown;
mod soak;
mod strangers;
mod sync;
mod traps;
mod values;
