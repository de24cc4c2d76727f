//! The built-in lakes, for use without writing one: [`Log`], [`Sum`] and [`Json`].

mod json;
mod log;
mod sum;

pub use json::{Json, JsonDocument, JsonError, JsonPatch, MAX_JSON_DEPTH, MAX_JSON_WORK};
pub use log::Log;
pub use sum::{Sum, SumOverflow};
