//! The benchmarks work and print what they say.

mod kv;
mod per_wave;
