//! `procscope-bench`: figures of speed, which `cargo xtask bench` asks for. Bounds are held here, never by timed tests.

fn main() {}
