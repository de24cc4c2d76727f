//! The way from a command to the node: JSON lines over a Unix domain socket in the data directory.
//!
//! Who may write to the socket may do all that its node can, so only its user may.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;

mod give;
mod kv;
mod pairing;
mod read;
mod session;
mod surf;
mod watch;
