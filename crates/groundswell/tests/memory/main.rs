//! Measures what a process holds, in a program of its own: each test counts every allocation, thread and file handle
//! of its process, so no other test may work in that process meanwhile.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not inside a #[test], and fail as one

#[path = "../it/common/mod.rs"]
mod common;
mod idle;
mod kv;
#[allow(dead_code, reason = "the tests of machines and managers use the rest")]
#[path = "../it/kv/common.rs"]
mod kv_common;

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by the test that counts: `cargo test` runs the tests of a program beside each other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
