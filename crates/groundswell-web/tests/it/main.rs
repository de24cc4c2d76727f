//! The HTTP interface over real sockets, against real nodes.
#![allow(clippy::unwrap_used)] // what is wrong in a test is to end it

mod common;
mod docs;
mod many;
mod once;
mod random;
mod reconnecting;
mod refused;
mod requests;
mod security;
mod streams;
mod tides;
