//! Runs the benchmarks.
#![forbid(unsafe_code)]

fn main() {}
