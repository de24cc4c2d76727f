//! The tests of the node, in one program: each module is named after what it shows.

mod bad_input;
mod behaviour;
mod common;
mod follow;
mod golden_data;
mod hostile_peer;
mod lake_laws;
mod regressions;
