//! The tests of the core, one program: properties, golden files, and bytes of every kind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

mod bounded_history;
mod common;
mod hostile_bytes;
mod kv_envelope;
mod kv_golden;
mod kv_pairing;
mod kv_stamps;
mod kv_sync;
mod kv_view;
mod kv_wire;
mod lake_laws;
mod paths;
mod reconstruction;
mod text;
mod tide_properties;
mod versions;
mod whole_paths;
mod wire_golden;
