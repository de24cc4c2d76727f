//! Traps of the iroh stack, reproduced on iroh-docs itself, without anything of ours: each test shows that
//! the trap is there, in the version that we use. docs/iroh.md says how each is handled; a test that fails
//! after an update of iroh-docs says that a trap has gone, or changed.

mod live;
mod store;
