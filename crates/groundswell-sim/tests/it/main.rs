//! The tests of the seeded world.
#![forbid(unsafe_code)]

mod deliberate_bugs;
mod kv;
mod seeds;
