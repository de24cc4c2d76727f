//! The tests of the tool, one program: real processes over real sockets, and the page in a real browser.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

mod access;
mod away;
mod bench_browser;
mod browser;
mod browser_look;
mod clock;
mod common;
mod contract;
mod crash;
mod data_files;
mod demo;
mod doctor;
mod ending;
mod faults;
mod forms;
mod gate;
mod hostile;
mod http;
mod kv;
mod kv_faults;
mod kv_not_known;
mod kv_pairing;
mod kv_partition;
mod lan;
mod once;
mod printing;
#[path = "../../../groundswell/tests/it/common/raw.rs"]
mod raw;
mod retention;
mod revocation;
mod socket;
mod strangers;
mod streams;
mod tool;
mod watch;
