//! The HTTP interface over real sockets, against real nodes.

mod common;
mod many;
mod reconnecting;
mod requests;
mod security;
mod streams;
mod tides;
